"""Asking a secondary key of an async-commit transaction: still locked, committed, or (then it is made sure) rolled back."""

from __future__ import annotations

from dataclasses import dataclass

from tikv_py.mvcc import keys
from tikv_py.mvcc.actions.cleanup import write_rollback
from tikv_py.mvcc.actions.rollback_marks import mark_rollback_on
from tikv_py.mvcc.lock import Lock
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import MvccTxn


@dataclass(frozen=True, slots=True)
class SecondaryStatus:
    """A prewritten lock, or None with the commit timestamp (0 = rolled back)."""

    lock: Lock | None
    commit_ts: int = 0


def check_secondary_lock(txn: MvccTxn, reader: MvccReader, user_key: bytes) -> SecondaryStatus:
    """Check one key; where the transaction left nothing, a protected rollback keeps a late prewrite out."""
    key = keys.data_key(user_key)
    lock = reader.load_lock(key)
    if lock is not None and lock.start_ts == txn.start_ts:
        if not lock.is_pessimistic:
            return SecondaryStatus(lock)
        txn.unlock(key)
        write_rollback(txn, reader, key, protected=True)
        return SecondaryStatus(None)
    record = reader.commit_record(key, txn.start_ts)
    if record is None:
        mark_rollback_on(txn, key, lock)
        write_rollback(txn, reader, key, protected=True)
        return SecondaryStatus(None)
    return SecondaryStatus(None, record.commit_ts if record.committed else 0)
