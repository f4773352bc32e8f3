"""Asking a secondary key of an async-commit transaction: still locked, committed, or (then it is made sure) rolled back."""

from __future__ import annotations

from dataclasses import dataclass

from tikv_py.mvcc import keys
from tikv_py.mvcc.actions.cleanup import write_rollback
from tikv_py.mvcc.lock import Lock
from tikv_py.mvcc.reader import CommitRecord, MvccReader
from tikv_py.mvcc.txn import MvccTxn


@dataclass(frozen=True, slots=True)
class SecondaryStatus:
    """A prewritten lock, or None with the commit timestamp (0 = rolled back)."""

    lock: Lock | None
    commit_ts: int = 0


def check_secondary_lock(txn: MvccTxn, reader: MvccReader, user_key: bytes) -> SecondaryStatus:
    """Check one key; where the transaction left nothing, a protected rollback keeps a late prewrite out.

    A pessimistic lock is no promise: it is removed. When the transaction has ended on the key before, that counts, and the
    lock came from a late request.
    """
    key = keys.data_key(user_key)
    lock = reader.load_lock(key)
    foreign_lock = lock
    if lock is not None and lock.start_ts == txn.start_ts:
        if not lock.is_pessimistic:
            return SecondaryStatus(lock)
        txn.unlock(key)
        foreign_lock = None
    record = reader.commit_record_or_overlap(key, txn.start_ts)
    if isinstance(record, CommitRecord):
        return SecondaryStatus(None, record.commit_ts if record.committed else 0)
    write_rollback(txn, reader, key, record, protected=True, collapse=True, foreign_lock=foreign_lock)
    return SecondaryStatus(None)
