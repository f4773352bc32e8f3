"""Asking a transaction's primary what became of it, and ending it when its time is up (wire facts 3.3)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from core_py.codec.ts import TS_MAX
from tikv_py.mvcc import keys
from tikv_py.mvcc.actions.cleanup import is_expired, rollback_lock, write_rollback
from tikv_py.mvcc.errors import PrimaryMismatch, TxnNotFound
from tikv_py.mvcc.lock import Lock
from tikv_py.mvcc.reader import CommitRecord, MvccReader
from tikv_py.mvcc.txn import MvccTxn


class StatusAction(enum.Enum):
    """What the check did; values are kvrpcpb.Action."""

    NO_ACTION = 0
    TTL_EXPIRE_ROLLBACK = 1
    LOCK_NOT_EXIST_ROLLBACK = 2
    MIN_COMMIT_TS_PUSHED = 3
    TTL_EXPIRE_PESSIMISTIC_ROLLBACK = 4
    LOCK_NOT_EXIST_DO_NOTHING = 5


@dataclass(frozen=True, slots=True)
class TxnStatusRequest:
    """The question. `caller_start_ts` is the reader that is in the lock's way, `current_ts` a recent timestamp."""

    primary: bytes
    lock_ts: int
    caller_start_ts: int
    current_ts: int
    rollback_if_not_exist: bool = False
    force_sync_commit: bool = False
    resolving_pessimistic_lock: bool = False
    verify_is_primary: bool = False


@dataclass(frozen=True, slots=True)
class TxnStatus:
    """The answer: a live lock, a commit timestamp, or neither (rolled back)."""

    action: StatusAction
    lock: Lock | None = None
    commit_ts: int = 0


def check_txn_status(txn: MvccTxn, reader: MvccReader, request: TxnStatusRequest) -> TxnStatus:
    """Answer for the transaction `request.lock_ts`. Raises PrimaryMismatch, TxnNotFound."""
    key = keys.data_key(request.primary)
    lock = reader.load_lock(key)
    if lock is not None and lock.start_ts == request.lock_ts:
        if request.verify_is_primary and lock.primary != request.primary:
            if not lock.is_pessimistic or request.resolving_pessimistic_lock:
                raise PrimaryMismatch(request.primary, lock)
            txn.unlock(key)  # a stale lock of a transaction whose primary moved; go on as if it were not there
            return _without_lock(txn, reader, request, key, None)
        return _with_lock(txn, reader, request, key, lock)
    return _without_lock(txn, reader, request, key, lock)


def _with_lock(txn: MvccTxn, reader: MvccReader, request: TxnStatusRequest, key: bytes, lock: Lock) -> TxnStatus:
    if lock.use_async_commit and not request.force_sync_commit:
        return TxnStatus(StatusAction.NO_ACTION, lock)
    if lock.is_pessimistic and lock.locked_with_conflict:
        record = reader.commit_record(key, request.lock_ts)
        if record is not None:  # a late lock request took it after the transaction had ended
            txn.unlock(key)
            return _ended(record)
    if is_expired(lock, request.current_ts):
        if lock.is_pessimistic and request.resolving_pessimistic_lock:
            txn.unlock(key)
            return TxnStatus(StatusAction.TTL_EXPIRE_PESSIMISTIC_ROLLBACK)
        ended = rollback_lock(txn, reader, key, lock)
        return TxnStatus(StatusAction.TTL_EXPIRE_ROLLBACK) if ended is None else _ended(ended)
    pushed = request.caller_start_ts == TS_MAX
    if lock.min_commit_ts and request.caller_start_ts != TS_MAX and lock.min_commit_ts <= request.caller_start_ts:
        lock = replace(lock, min_commit_ts=max(request.caller_start_ts + 1, request.current_ts))
        txn.put_lock(key, lock)
    if lock.min_commit_ts > request.caller_start_ts > 0:
        pushed = True
    return TxnStatus(StatusAction.MIN_COMMIT_TS_PUSHED if pushed else StatusAction.NO_ACTION, lock)


def _without_lock(
    txn: MvccTxn, reader: MvccReader, request: TxnStatusRequest, key: bytes, foreign: Lock | None
) -> TxnStatus:
    record = reader.commit_record_or_overlap(key, request.lock_ts)
    if isinstance(record, CommitRecord):
        return _ended(record)
    if not request.rollback_if_not_exist:
        raise TxnNotFound(request.primary, request.lock_ts)
    if request.resolving_pessimistic_lock:
        return TxnStatus(StatusAction.LOCK_NOT_EXIST_DO_NOTHING)
    write_rollback(txn, reader, key, record, protected=True, collapse=False, foreign_lock=foreign)
    return TxnStatus(StatusAction.LOCK_NOT_EXIST_ROLLBACK)


def _ended(record: CommitRecord) -> TxnStatus:
    return TxnStatus(StatusAction.NO_ACTION, commit_ts=record.commit_ts if record.committed else 0)
