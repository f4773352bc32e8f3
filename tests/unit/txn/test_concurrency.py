"""The greatest timestamp read at, and the locks that are only in memory."""

from __future__ import annotations

import pytest

from core_py.codec import ts as tso
from core_py.codec.ts import TS_MAX
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from tikv_py.mvcc import keys
from tikv_py.mvcc.errors import KeyIsLocked, MaxTsRefused
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.txn.concurrency import ALLOWANCE_MS, ConcurrencyManager


def lock(start_ts: int, min_commit_ts: int) -> Lock:
    return Lock(LockType.PUT, b"p", start_ts, 3000, b"v", min_commit_ts=min_commit_ts, use_async_commit=True)


def key(name: bytes) -> bytes:
    return keys.data_key(name)


def manager() -> ConcurrencyManager:
    made: list[ConcurrencyManager] = []

    async def main() -> None:
        made.append(ConcurrencyManager(LoopClock()))

    run_virtual(main())
    return made[0]


def test_max_ts_only_grows_and_ignores_the_largest_timestamp() -> None:
    concurrency = manager()
    for ts in (5, 3, TS_MAX, 9, 0):
        concurrency.read_at(ts)
    assert concurrency.max_ts == 9


def test_a_timestamp_from_the_future_is_refused() -> None:
    async def main() -> None:
        concurrency = ConcurrencyManager(LoopClock())
        concurrency.learn_pd_ts(tso.compose(1_000_000, 7))
        assert concurrency.max_ts == tso.compose(1_000_000, 7)
        concurrency.read_at(tso.compose(1_000_000 + ALLOWANCE_MS, 0))
        with pytest.raises(MaxTsRefused):
            concurrency.read_at(tso.compose(1_000_000 + ALLOWANCE_MS + 1000, 0))
        assert concurrency.max_ts == tso.compose(1_000_000 + ALLOWANCE_MS, 0)

    run_virtual(main())


def test_reads_meet_locks_in_memory_by_their_least_commit_timestamp() -> None:
    concurrency = manager()
    concurrency.publish([(key(b"b"), lock(10, 15)), (key(b"d"), lock(11, 21))])
    concurrency.check_key(key(b"a"), b"a", 99)
    concurrency.check_key(key(b"b"), b"b", 14)
    with pytest.raises(KeyIsLocked):
        concurrency.check_key(key(b"b"), b"b", 15)
    concurrency.check_key(key(b"b"), b"b", 15, {10})
    concurrency.check_range(key(b"c"), key(b"d"), 99)
    concurrency.check_range(key(b"b"), key(b"e"), 14)
    with pytest.raises(KeyIsLocked) as met:
        concurrency.check_range(key(b"b"), key(b"e"), 20)
    assert met.value.user_key == b"b"
    assert concurrency.least_commit_ts(key(b"a"), key(b"z")) == 15
    assert concurrency.least_commit_ts(key(b"c"), key(b"z")) == 21
    assert concurrency.least_commit_ts(key(b"e"), key(b"z")) == TS_MAX
    found = concurrency.oldest_lock(key(b"a"), key(b"z"), 10)
    assert found is not None
    assert found[0] == b"b"
    assert concurrency.oldest_lock(key(b"a"), key(b"z"), 9) is None


def test_withdrawn_locks_are_gone_and_withdrawing_twice_is_harmless() -> None:
    concurrency = manager()
    locks = [(key(name), lock(10, 15)) for name in (b"x", b"a", b"m")]
    concurrency.publish(locks)
    assert len(concurrency) == 3
    concurrency.withdraw(locks[:2])
    concurrency.withdraw(locks)
    assert len(concurrency) == 0
    concurrency.check_range(key(b"a"), key(b"z"), 99)
