"""Flashback refuses what is not in order; its way through a range is held by tests/property/test_mvcc_flashback.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_LOCK, CF_WRITE
from tikv_py.mvcc import keys
from tikv_py.mvcc.actions import flashback as fb
from tikv_py.mvcc.errors import CommitTsNotAfterStart, KeyIsLocked, TxnLockNotFound, WrittenInFlashback
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.mvcc.write import Write, WriteType

A, B = keys.data_key(b"a"), keys.data_key(b"b")
ALL = fb.Flashback(b"z", b"{", version=10, start_ts=100, commit_ts=110)


def reader_of(*versions: tuple[bytes, int], lock: Lock | None = None) -> MvccReader:
    engine = MemoryEngine()
    batch = engine.batch()
    for key, commit_ts in versions:
        batch.put(CF_WRITE, keys.versioned(key, commit_ts), Write(WriteType.PUT, commit_ts - 1, b"v").to_bytes())
    if lock is not None:
        batch.put(CF_LOCK, A, lock.to_bytes())
    engine.write(batch)
    return MvccReader(engine)


@pytest.mark.parametrize(("start_ts", "commit_ts", "version"), [(100, 100, 10), (100, 99, 10), (100, 110, 110)])
def test_a_commit_timestamp_must_be_after_the_start_and_the_version(
    start_ts: int, commit_ts: int, version: int
) -> None:
    flashback = replace(ALL, start_ts=start_ts, commit_ts=commit_ts, version=version)
    with pytest.raises(CommitTsNotAfterStart):
        fb.write_old_versions(reader_of((A, 20), (B, 20)), flashback, A, b"z")


def test_a_version_newer_than_the_flashback_is_refused() -> None:
    with pytest.raises(WrittenInFlashback):
        fb.write_old_versions(reader_of((A, 20), (B, 111)), ALL, A, b"z")


def test_the_first_key_must_be_free_to_prewrite_and_prewritten_to_commit() -> None:
    other = Lock(LockType.PUT, b"a", 50, 10, b"v")
    reader = reader_of((A, 20), lock=other)
    with pytest.raises(KeyIsLocked):
        fb.prewrite_first_key(MvccTxn(100), reader, ALL, A)
    assert fb.progress(reader, ALL, A) is fb.Progress.NOT_PREPARED
    for unprepared in (reader, reader_of((A, 20))):
        with pytest.raises(TxnLockNotFound):
            fb.commit_first_key(MvccTxn(100), unprepared, ALL, A)
        assert fb.progress(unprepared, ALL, A) is fb.Progress.NOT_PREPARED


def test_nothing_newer_than_the_version_is_nothing_to_do() -> None:
    reader = reader_of((A, 9), (B, 10))
    assert fb.first_changed_key(reader, ALL) is None
    assert fb.write_old_versions(reader, ALL, A, b"z") == fb.FlashbackBatch()


def test_old_values_end_a_batch_by_their_size() -> None:
    reader = reader_of((A, 9), (A, 20), (B, 9), (B, 20))
    first = fb.write_old_versions(reader, ALL, b"z", b"z", max_bytes=1)
    assert len(first.modifies) == 1
    assert first.next_key == B
