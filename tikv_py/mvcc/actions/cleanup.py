"""Rolling a transaction back on one key, and finding out what became of it where its lock is gone.

A rollback record keeps a late message of the transaction (a prewrite that was delayed in the network) from succeeding after all.
It is *protected* where the outcome of the whole transaction depends on it: on the primary, and where a check found nothing and
answered "rolled back". Any other may be collapsed: it goes when the next rollback of the key is written above it.

Where another transaction's commit record already sits at commit_ts == start_ts, a protected rollback is a mark on that record, and
an unprotected one is nothing. The mark rewrites the record, maybe after garbage collection has decided to take it; the fence on
it lets readers find that out. Where another transaction holds the key with an asynchronous commit, its commit_ts may still turn
out to be our start_ts, so the rollback is noted in its lock too and becomes the mark when it commits.
"""

from __future__ import annotations

from dataclasses import replace

from core_py.codec import ts as tso
from tikv_py.mvcc import keys
from tikv_py.mvcc.actions.rollback_marks import mark_rollback_on
from tikv_py.mvcc.errors import Committed, KeyIsLocked
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.reader import CommitRecord, MvccReader, OverlappedWrite
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.mvcc.write import Write, WriteType


def is_expired(lock: Lock, current_ts: int) -> bool:
    """Whether the lock's time to live has passed at `current_ts`."""
    return tso.physical_ms(lock.start_ts) + lock.ttl_ms < tso.physical_ms(current_ts)


def rollback_lock(
    txn: MvccTxn,
    reader: MvccReader,
    key: bytes,
    lock: Lock,
    *,
    collapse: bool = True,
) -> CommitRecord | None:
    """Undo a prewrite or pessimistic lock of this transaction and leave a rollback record, protected on the primary.

    A lock of a transaction that ended on this key before (a late lock request) is only removed; how it ended is returned.
    """
    record = reader.commit_record_or_overlap(key, txn.start_ts)
    txn.unlock(key)
    if isinstance(record, CommitRecord) and record.committed:
        return record  # the value of this start_ts is the committed one
    if lock.lock_type is LockType.PUT and lock.short_value is None:
        txn.delete_value(key)
    if isinstance(record, CommitRecord):
        return record
    is_primary = key == keys.data_key(lock.primary)
    _put_rollback(txn, key, record, protected=is_primary or lock.generation > 0)
    if collapse:
        _collapse_previous(txn, reader, key)
    return None


def write_rollback(
    txn: MvccTxn,
    reader: MvccReader,
    key: bytes,
    overlapped: OverlappedWrite | None,
    *,
    protected: bool,
    collapse: bool,
    foreign_lock: Lock | None = None,
) -> None:
    """Leave a rollback record where the transaction has neither a prewritten lock nor a record.

    `overlapped` is the record in its place (see `MvccReader.commit_record_or_overlap`), `foreign_lock` the lock that another
    transaction holds on the key; `collapse` deletes the unprotected rollback record right under it.
    """
    if protected and overlapped is None:
        mark_rollback_on(txn, key, foreign_lock)
    _put_rollback(txn, key, overlapped, protected=protected)
    if collapse:
        _collapse_previous(txn, reader, key)


def _put_rollback(txn: MvccTxn, key: bytes, overlapped: OverlappedWrite | None, *, protected: bool) -> None:
    if overlapped is None:
        txn.put_write(key, txn.start_ts, Write.rollback(txn.start_ts, protected=protected))
    elif protected:
        marked = replace(overlapped.write, has_overlapped_rollback=True, gc_fence=overlapped.gc_fence)
        txn.put_write(key, txn.start_ts, marked)


def _collapse_previous(txn: MvccTxn, reader: MvccReader, key: bytes) -> None:
    """Delete the unprotected rollback record right under this one."""
    found = reader.seek_write(key, txn.start_ts)
    if found is not None and found[1].write_type is WriteType.ROLLBACK and not found[1].is_protected:
        txn.delete_write(key, found[0])


def cleanup(txn: MvccTxn, reader: MvccReader, user_key: bytes, current_ts: int, *, protect_rollback: bool) -> None:
    """Roll back one key: always when `current_ts` is 0, else only when the lock has expired.

    `protect_rollback` protects the record where no lock is found, and keeps earlier records uncollapsed.
    Raises KeyIsLocked (alive), Committed.
    """
    key = keys.data_key(user_key)
    lock = reader.load_lock(key)
    if lock is not None and lock.start_ts == txn.start_ts:
        if current_ts and not is_expired(lock, current_ts):
            raise KeyIsLocked(user_key, lock)
        rollback_lock(txn, reader, key, lock, collapse=not protect_rollback)
        return
    record = reader.commit_record_or_overlap(key, txn.start_ts)
    if not isinstance(record, CommitRecord):
        protected = protect_rollback
        write_rollback(txn, reader, key, record, protected=protected, collapse=not protected, foreign_lock=lock)
    elif record.committed:
        raise Committed(user_key, txn.start_ts, record.commit_ts)
