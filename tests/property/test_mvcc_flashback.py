"""Flashback of a range, cut off and begun again anywhere: afterwards the past is the present, and history is what it was."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from tests.property.test_mvcc_gc import BASE, Versions, build, histories, reads
from tests.property.test_mvcc_reads import user_key
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE
from tikv_py.mvcc import keys
from tikv_py.mvcc.actions import flashback as fb
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import Modify, MvccTxn
from tikv_py.mvcc.write import Write, WriteType

START_TS, COMMIT_TS = BASE + 1000, BASE + 1001


def steps(engine: MemoryEngine, flashback: fb.Flashback, max_keys: int) -> Iterator[list[Modify]]:
    """The batches of both steps as a store drives them; nothing is kept from batch to batch but where to go on."""
    reader = MvccReader(engine)
    at: bytes | None = flashback.start
    while at is not None:
        batch = fb.roll_back_locks(reader, flashback, at, max_keys)
        yield batch.modifies
        at = batch.next_key
    reader = MvccReader(engine)
    first = fb.first_changed_key(reader, flashback)
    if first is None:
        return
    if fb.progress(reader, flashback, first) is fb.Progress.FINISHED:
        return
    txn = MvccTxn(flashback.start_ts)
    fb.prewrite_first_key(txn, reader, flashback, first)
    yield txn.modifies
    assert fb.progress(MvccReader(engine), flashback, first) is fb.Progress.PREPARED
    at = flashback.start
    while at is not None:
        batch = fb.write_old_versions(MvccReader(engine), flashback, first, at, max_keys, max_bytes=8)
        yield batch.modifies
        at = batch.next_key
    txn = MvccTxn(flashback.start_ts)
    fb.commit_first_key(txn, MvccReader(engine), flashback, first)
    yield txn.modifies
    assert fb.progress(MvccReader(engine), flashback, first) is fb.Progress.FINISHED


def write(engine: MemoryEngine, modifies: list[Modify]) -> None:
    batch = engine.batch()
    for cf, key, value in modifies:
        if value is None:
            batch.delete(cf, key)
        else:
            batch.put(cf, key, value)
    engine.write(batch)


@given(
    histories(),
    st.lists(st.tuples(user_key, st.sampled_from(list(LockType))), max_size=4, unique_by=lambda lock: lock[0]),
    st.integers(0, 450),
    st.lists(st.integers(0, 6), max_size=3),
    st.integers(1, 3),
)
def test_the_past_comes_back(
    versions: Versions, locks: list[tuple[bytes, LockType]], at: int, crashes: list[int], max_keys: int
) -> None:
    engine = build(
        [(key, slot, kind, value * 100 if long else value, long) for key, slot, kind, value, long in versions]
    )
    batch = engine.batch()
    for number, (key, kind) in enumerate(locks):
        data_key, start_ts = keys.data_key(key), BASE + 900 + number
        batch.put(CF_LOCK, data_key, Lock(kind, key, start_ts, 10).to_bytes())
        if kind is LockType.PUT:
            batch.put(CF_DEFAULT, keys.versioned(data_key, start_ts), b"x" * 300)
    engine.write(batch)
    flashback = fb.Flashback(b"z", b"{", BASE + at, START_TS, COMMIT_TS)
    user_keys = {entry[0] for entry in versions} | {key for key, _ in locks}
    history = [BASE + at, *range(BASE, BASE + 451, 7), COMMIT_TS - 1]
    before = reads(engine, user_keys, history)

    with patch.object(fb, "SCAN_CHUNK", 2):
        for crash in crashes:
            for modifies, _ in zip(steps(engine, flashback, max_keys), range(crash), strict=False):
                write(engine, modifies)
        for modifies in steps(engine, flashback, max_keys):
            write(engine, modifies)
        assert not any(modifies for modifies in steps(engine, flashback, max_keys))

    assert reads(engine, user_keys, history) == before
    assert {key: value for (key, _), value in reads(engine, user_keys, [COMMIT_TS]).items()} == {
        key: before[key, BASE + at] for key in user_keys
    }
    assert not engine.scan(CF_LOCK, b"z", b"{")
    values = {key for key, _ in engine.items(CF_DEFAULT)}
    for key, data in engine.items(CF_WRITE):
        record = Write.from_bytes(data)
        if record.write_type is WriteType.PUT and record.short_value is None:
            values.remove(keys.versioned(keys.split_version(key)[0], record.start_ts))
    assert not values, "a value without its write record"
