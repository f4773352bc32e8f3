"""Which locks hold a region back, also when changes arrive while the lock family is being read."""

from __future__ import annotations

import random

import pytest

from core_py.errors import InvariantViolation
from tikv_py.engine.port import CF_LOCK, CF_WRITE
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.txn import Modify
from tikv_py.resolved_ts.resolver import LOOK_AT, Resolver, lock_bound


def lock(start_ts: int, kind: LockType = LockType.PUT, **fields: object) -> bytes:
    return Lock(kind, b"p", start_ts, 3000, **fields).to_bytes()  # type: ignore[arg-type]


def put(key: bytes, start_ts: int) -> Modify:
    return Modify(CF_LOCK, key, lock(start_ts))


def remove(key: bytes) -> Modify:
    return Modify(CF_LOCK, key, None)


def loaded(*modifies: Modify) -> Resolver:
    resolver = Resolver(1)
    resolver.load({})
    resolver.apply(modifies, [])
    return resolver


def test_locks_count_by_what_their_owner_can_still_commit_at() -> None:
    assert lock_bound(lock(7)) == 7
    assert lock_bound(lock(7, LockType.DELETE)) == 7
    assert lock_bound(lock(7, min_commit_ts=20)) == 7
    assert lock_bound(lock(7, use_async_commit=True, min_commit_ts=20)) == 19
    assert lock_bound(lock(7, use_async_commit=True)) == 7
    assert lock_bound(lock(7, LockType.PESSIMISTIC, for_update_ts=9)) is None
    assert lock_bound(b"what a raw client wrote") is None


def test_the_oldest_lock_decides_until_it_is_released() -> None:
    resolver = loaded(put(b"a", 30), put(b"b", 20), put(b"c", 20))
    assert resolver.resolve(10) == 10
    assert resolver.resolve(100) == 20
    assert resolver.held() == (3, 2)
    resolver.apply([remove(b"b")], [])
    assert resolver.resolve(100) == 20
    resolver.apply([remove(b"c"), Modify(CF_WRITE, b"a", b"x")], [])
    assert resolver.resolve(100) == 30
    resolver.apply([put(b"a", 50)], [])
    assert resolver.resolve(100) == 50
    resolver.apply([Modify(CF_LOCK, b"a", lock(50, LockType.PESSIMISTIC))], [])
    assert resolver.resolve(100) == 100


def test_changes_while_the_view_is_read_come_after_what_it_held() -> None:
    resolver = Resolver(1)
    resolver.apply([remove(b"released"), put(b"new", 40), put(b"relocked", 60)], [])
    resolver.apply([], [(CF_LOCK, b"x", b"y"), (CF_WRITE, b"a", b"z")])
    resolver.apply([put(b"xx", 55)], [])
    assert not resolver.is_current()
    resolver.load({b"released": 5, b"relocked": 6, b"x0": 7, b"kept": 50})
    assert resolver.held() == (4, 4)
    assert resolver.resolve(100) == 40
    resolver.apply([remove(b"new")], [])
    assert resolver.resolve(100) == 50
    resolver.apply([], [(CF_LOCK, b"a", b"z")])
    assert resolver.resolve(100) == 100


def test_too_many_locks_give_no_answer() -> None:
    early = Resolver(1, limit=3)
    early.apply([put(b"%d" % n, 9) for n in range(4)], [])
    assert early.overflowed
    early.load({b"x": 1})
    assert not early.is_current()
    assert len(early) == 0

    late = Resolver(1, limit=3)
    late.load({b"x": 1})
    late.apply([put(b"%d" % n, 9) for n in range(3)], [])
    assert not late.is_current()
    with pytest.raises(InvariantViolation):
        late.resolve(100)


def test_kept_changes_are_looked_at_before_they_become_too_many() -> None:
    resolver = Resolver(1, limit=LOOK_AT * 2)
    resolver.load({})
    for n in range(LOOK_AT * 4):
        resolver.apply([put(b"%d" % n, n + 1)], [])
        resolver.apply([remove(b"%d" % n)], [])
    assert len(resolver) < LOOK_AT
    assert resolver.resolve(100) == 100


@pytest.mark.parametrize("seed", range(20))
def test_like_looking_at_all_locks(seed: int) -> None:
    rng = random.Random(seed)
    locks: dict[bytes, int] = {}
    resolver: Resolver | None = None
    frozen: dict[bytes, int] = {}
    for _ in range(300):
        key = b"%d" % rng.randrange(8)
        change: list[Modify] = []
        cleared: list[tuple[str, bytes, bytes]] = []
        choice = rng.random()
        if choice < 0.4:
            locks[key] = rng.randrange(1, 50)
            change = [put(key, locks[key])]
        elif choice < 0.8:
            locks.pop(key, None)
            change = [remove(key)]
        elif choice < 0.85:
            cleared = [(CF_LOCK, b"2", b"5")]
            locks = {one: ts for one, ts in locks.items() if not b"2" <= one < b"5"}
        elif resolver is None or rng.random() < 0.2:
            resolver, frozen = Resolver(1), dict(locks)
        elif not resolver.ready:
            resolver.load(frozen)
        if resolver is not None:
            resolver.apply(change, cleared)
            if resolver.ready and rng.random() < 0.5:
                assert resolver.resolve(40) == min([40, *locks.values()])
