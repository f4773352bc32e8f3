"""Flashback: bringing a key range back to what it was at an older timestamp, as one transaction of two steps.

Prepare: every lock in the range is rolled back, then the first changed key is prewritten; its lock keeps the resolved timestamp,
and with it every reader of the past, from moving over the work that follows. Finish: every other key that changed since `version`
gets what it was then (its value, or a DELETE) as a new version at `commit_ts`, and at last the first key is committed.
History stays: a reader below `commit_ts` sees what it saw before.

Both steps work in batches and may be sent again from their start at any time, also after a crash between two batches: locks that
are rolled back are gone, keys that have a version at `commit_ts` are skipped, and the first key says whether all is done.

Invariant: from before the first call until after the last nothing else writes the range. This decides nothing about who may; the
store refuses everybody else while the region is in flashback.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from tikv_py.engine.port import CF_LOCK, CF_WRITE
from tikv_py.mvcc import keys
from tikv_py.mvcc.actions.cleanup import rollback_lock
from tikv_py.mvcc.errors import CommitTsNotAfterStart, KeyIsLocked, TxnLockNotFound, WrittenInFlashback
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import Modify, MvccTxn
from tikv_py.mvcc.write import SHORT_VALUE_MAX, Write, WriteType

BATCH_KEYS = 256
BATCH_BYTES = 32 << 10
SCAN_CHUNK = 1024
_PAST_VERSIONS = b"\xff" * keys.TS_SIZE + b"\x00"


@dataclass(frozen=True, slots=True)
class Flashback:
    """What to do: the data keys [start, end) as they were at `version`, by the transaction `start_ts`, seen from `commit_ts` on.

    `commit_ts` is of no concern to the first step and may be 0 there.
    """

    start: bytes
    end: bytes
    version: int
    start_ts: int
    commit_ts: int = 0


@dataclass(slots=True)
class FlashbackBatch:
    """What to write together, and where to go on (None: this step is at its end)."""

    modifies: list[Modify] = field(default_factory=list)
    next_key: bytes | None = None


class Progress(enum.Enum):
    """How far a flashback is, as its first key tells."""

    NOT_PREPARED = enum.auto()
    PREPARED = enum.auto()
    FINISHED = enum.auto()


def roll_back_locks(
    reader: MvccReader, flashback: Flashback, start: bytes, max_keys: int = BATCH_KEYS
) -> FlashbackBatch:
    """Roll back the locks from data key `start` on, but not the flashback's own."""
    batch = FlashbackBatch()
    pairs = reader.engine.scan(CF_LOCK, start, flashback.end, max_keys)
    for key, data in pairs:
        lock = Lock.from_bytes(data)
        if lock.start_ts == flashback.start_ts:
            continue
        txn = MvccTxn(lock.start_ts)
        rollback_lock(txn, reader, key, lock)
        batch.modifies += txn.modifies
    if len(pairs) == max_keys:
        batch.next_key = pairs[-1][0] + b"\x00"
    return batch


def first_changed_key(reader: MvccReader, flashback: Flashback) -> bytes | None:
    """The first data key that changed after `version`: the same one at every call, also when all is done. None: nothing to do."""
    return next((key for key, _ in _changed(reader, flashback, flashback.start)), None)


def prewrite_first_key(txn: MvccTxn, reader: MvccReader, flashback: Flashback, key: bytes) -> None:
    """Lock the first changed key with its old value. Raises KeyIsLocked when a lock was not rolled back before."""
    lock = reader.load_lock(key)
    user_key = keys.user_key(key)
    if lock is not None:
        if lock.start_ts != flashback.start_ts:
            raise KeyIsLocked(user_key, lock)
        return
    value = reader.get(key, flashback.version)
    if value is not None and len(value) > SHORT_VALUE_MAX:
        txn.put_value(key, value)
    kind = LockType.DELETE if value is None else LockType.PUT
    txn.put_lock(key, Lock(kind, user_key, flashback.start_ts, 0, _short(value), txn_size=1))


def progress(reader: MvccReader, flashback: Flashback, key: bytes) -> Progress:
    """How far the flashback is; `key` is its first changed key."""
    lock = reader.load_lock(key)
    if lock is not None:
        return Progress.PREPARED if lock.start_ts == flashback.start_ts else Progress.NOT_PREPARED
    found = reader.seek_write(key, flashback.commit_ts)
    if found is not None and found[0] == flashback.commit_ts and found[1].start_ts == flashback.start_ts:
        return Progress.FINISHED
    return Progress.NOT_PREPARED


def write_old_versions(
    reader: MvccReader,
    flashback: Flashback,
    first_key: bytes,
    start: bytes,
    max_keys: int = BATCH_KEYS,
    max_bytes: int = BATCH_BYTES,
) -> FlashbackBatch:
    """Write the old versions of the changed keys from data key `start` on, all but the first.

    One batch is at least one key. Raises CommitTsNotAfterStart, WrittenInFlashback.
    """
    if flashback.commit_ts <= max(flashback.start_ts, flashback.version):
        raise CommitTsNotAfterStart(flashback.start_ts, flashback.commit_ts)
    txn = MvccTxn(flashback.start_ts)
    taken = size = 0
    for key, changed_ts in _changed(reader, flashback, start):
        if key == first_key or changed_ts == flashback.commit_ts:
            continue
        if changed_ts > flashback.commit_ts:
            raise WrittenInFlashback(keys.user_key(key), flashback.commit_ts, changed_ts)
        if taken == max_keys or size >= max_bytes:
            return FlashbackBatch(txn.modifies, next_key=key)
        value = reader.get(key, flashback.version)
        if value is not None and len(value) > SHORT_VALUE_MAX:
            txn.put_value(key, value)
        kind = WriteType.DELETE if value is None else WriteType.PUT
        txn.put_write(key, flashback.commit_ts, Write(kind, flashback.start_ts, _short(value)))
        taken += 1
        size += len(key) + (0 if value is None else len(value))
    return FlashbackBatch(txn.modifies)


def commit_first_key(txn: MvccTxn, reader: MvccReader, flashback: Flashback, key: bytes) -> None:
    """The end: the first key's lock becomes its version at `commit_ts`. Raises TxnLockNotFound."""
    lock = reader.load_lock(key)
    if lock is None or lock.start_ts != flashback.start_ts:
        raise TxnLockNotFound(keys.user_key(key), flashback.start_ts, flashback.commit_ts)
    txn.put_write(
        key, flashback.commit_ts, Write(WriteType(lock.lock_type.value), flashback.start_ts, lock.short_value)
    )
    txn.unlock(key)


def _short(value: bytes | None) -> bytes | None:
    return value if value is not None and len(value) <= SHORT_VALUE_MAX else None


def _changed(reader: MvccReader, flashback: Flashback, start: bytes) -> Iterator[tuple[bytes, int]]:
    """(data key, commit_ts of its newest PUT or DELETE) of the keys whose newest is newer than `version`, in order."""
    decided = b""
    while True:
        pairs = reader.engine.scan(CF_WRITE, start, flashback.end, SCAN_CHUNK)
        for versioned_key, data in pairs:
            if versioned_key[: -keys.TS_SIZE] == decided:
                continue
            key, commit_ts = keys.split_version(versioned_key)
            if commit_ts <= flashback.version:
                decided = key
            elif data[:1] in (WriteType.PUT.value, WriteType.DELETE.value):
                decided = key
                yield key, commit_ts
        if len(pairs) < SCAN_CHUNK:
            return
        last = pairs[-1][0]
        start = decided + _PAST_VERSIONS if last[: -keys.TS_SIZE] == decided else last + b"\x00"
