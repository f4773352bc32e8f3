"""The second phase on one key: the lock becomes a write record at commit_ts."""

from __future__ import annotations

from dataclasses import replace

from tikv_py.mvcc import keys
from tikv_py.mvcc.errors import CommitTsExpired, TxnLockNotFound
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.mvcc.write import committed_write


def commit(txn: MvccTxn, reader: MvccReader, user_key: bytes, commit_ts: int) -> None:
    """Commit one key; committing it again succeeds. Raises TxnLockNotFound, CommitTsExpired.

    A pessimistic lock that was never prewritten is removed: its transaction's outcome does not concern the key.
    """
    key = keys.data_key(user_key)
    lock = reader.load_lock(key)
    if lock is None or lock.start_ts != txn.start_ts:
        record = reader.commit_record(key, txn.start_ts)
        if record is None or not record.committed:
            raise TxnLockNotFound(user_key, txn.start_ts, commit_ts)
        return
    if commit_ts < lock.min_commit_ts:
        raise CommitTsExpired(user_key, txn.start_ts, commit_ts, lock.min_commit_ts)
    if not lock.is_pessimistic:
        write = committed_write(lock)
        if commit_ts in lock.rollback_ts:
            write = replace(write, has_overlapped_rollback=True)
        txn.put_write(key, commit_ts, write)
    txn.unlock(key)
