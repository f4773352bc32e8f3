"""Rolling a transaction back on one key, and finding out what became of it where its lock is gone.

Rollback records are *protected* when a later message of the transaction could otherwise still succeed (a prewrite that was delayed
in the network): the primary of a pessimistic transaction, and every rollback written where no lock was found by a check.
An unprotected one may be collapsed into the next rollback of the key. Where another transaction's commit record already sits at
commit_ts == start_ts, the rollback is a mark on that record.
"""

from __future__ import annotations

from dataclasses import replace

from core_py.codec import ts as tso
from core_py.codec.ts import TS_MAX
from tikv_py.mvcc import keys
from tikv_py.mvcc.errors import Committed, KeyIsLocked
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.mvcc.write import Write, WriteType


def is_expired(lock: Lock, current_ts: int) -> bool:
    """Whether the lock's time to live has passed at `current_ts`."""
    return tso.physical_ms(lock.start_ts) + lock.ttl_ms < tso.physical_ms(current_ts)


def rollback_lock(txn: MvccTxn, reader: MvccReader, key: bytes, lock: Lock, *, is_primary_of_pessimistic: bool) -> None:
    """Undo a prewrite or pessimistic lock of this transaction and leave a rollback record."""
    if lock.lock_type is LockType.PUT and lock.short_value is None:
        txn.delete_value(key)
    write_rollback(txn, reader, key, protected=is_primary_of_pessimistic)
    txn.unlock(key)


def write_rollback(txn: MvccTxn, reader: MvccReader, key: bytes, *, protected: bool) -> None:
    """Leave a rollback record at the transaction's start_ts, unless one is there."""
    found = reader.seek_write(key, txn.start_ts)
    if found is not None and found[0] == txn.start_ts:
        write = found[1]
        if write.start_ts != txn.start_ts and protected and not write.has_overlapped_rollback:
            txn.put_write(key, txn.start_ts, _with_fence(reader, key, write, txn.start_ts))
        return
    if found is not None and not protected and _is_collapsible(found[1]):
        txn.delete_write(key, found[0])
    txn.put_write(key, txn.start_ts, Write.rollback(txn.start_ts, protected=protected))


def _is_collapsible(write: Write) -> bool:
    return write.write_type is WriteType.ROLLBACK and not write.is_protected


def _with_fence(reader: MvccReader, key: bytes, write: Write, commit_ts: int) -> Write:
    """Mark the overlapped rollback; the fence is the next newer change, so that GC may still drop this version by then."""
    fence = 0
    newer = reader.newest_change(key, TS_MAX)
    while newer is not None and newer[0] > commit_ts:
        fence = newer[0]
        newer = reader.newest_change(key, newer[0] - 1)
    return replace(write, has_overlapped_rollback=True, gc_fence=fence)


def cleanup(txn: MvccTxn, reader: MvccReader, user_key: bytes, current_ts: int, *, protect_rollback: bool) -> None:
    """Roll back one key: always when `current_ts` is 0, else only when the lock has expired.

    Raises KeyIsLocked (alive), Committed.
    """
    key = keys.data_key(user_key)
    lock = reader.load_lock(key)
    if lock is not None and lock.start_ts == txn.start_ts:
        if current_ts and not is_expired(lock, current_ts):
            raise KeyIsLocked(user_key, lock)
        primary = lock.is_pessimistic_txn and lock.primary == user_key
        rollback_lock(txn, reader, key, lock, is_primary_of_pessimistic=primary or protect_rollback)
        return
    record = reader.commit_record(key, txn.start_ts)
    if record is None:
        write_rollback(txn, reader, key, protected=protect_rollback)
    elif record.committed:
        raise Committed(user_key, txn.start_ts, record.commit_ts)
