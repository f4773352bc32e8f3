"""Remembering a rollback on another transaction's lock.

The commit timestamp of an async-commit transaction is calculated, not taken from PD, so it may equal the start_ts of another
transaction. The commit record would then lie exactly where that transaction's protected rollback is to lie, and overwrite it.
While the lock is still there the rollback's timestamp is noted on it, and the commit puts the mark into its record.
"""

from __future__ import annotations

from dataclasses import replace

from tikv_py.mvcc.lock import Lock
from tikv_py.mvcc.txn import MvccTxn


def mark_rollback_on(txn: MvccTxn, key: bytes, lock: Lock | None) -> None:
    """Note `txn`'s protected rollback on the foreign lock that the key has (None = it has none)."""
    if lock is None or not lock.use_async_commit or lock.min_commit_ts > txn.start_ts:
        return  # its commit cannot come to lie on this rollback
    if txn.start_ts not in lock.rollback_ts:
        txn.put_lock(key, replace(lock, rollback_ts=(*lock.rollback_ts, txn.start_ts)))
