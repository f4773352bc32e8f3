"""Transaction errors and lock records as kvrpcpb tells them to clients (wire facts 3.3)."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.deadlock.wire import deadlock_of
from tikv_py.mvcc import errors
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.txn.waiting.errors import DeadlockFound, LockWaitEnded

_OPS = {LockType.PUT: pb.Put, LockType.DELETE: pb.Del, LockType.LOCK: pb.Lock, LockType.PESSIMISTIC: pb.PessimisticLock}


def lock_info(user_key: bytes, lock: Lock) -> pb.LockInfo:
    """A lock as clients see it."""
    return pb.LockInfo(
        primary_lock=lock.primary,
        lock_version=lock.start_ts,
        key=user_key,
        lock_ttl=lock.ttl_ms,
        txn_size=lock.txn_size,
        lock_type=_OPS[lock.lock_type],
        lock_for_update_ts=lock.for_update_ts,
        use_async_commit=lock.use_async_commit,
        min_commit_ts=lock.min_commit_ts,
        secondaries=lock.secondaries,
    )


def key_error(error: errors.TxnError) -> pb.KeyError:
    """The wire form of a transaction rule's refusal."""
    out = pb.KeyError()
    if isinstance(error, errors.KeyIsLocked):
        out.locked.CopyFrom(lock_info(error.user_key, error.lock))
        if error.resolve_unconditionally:
            out.locked.lock_ttl = 0
        if isinstance(error, LockWaitEnded):
            out.locked.duration_to_last_update_ms = error.since_change_ms
    elif isinstance(error, DeadlockFound):
        out.deadlock.CopyFrom(deadlock_of(error.cycle))
    elif isinstance(error, errors.WriteConflict):
        _write_conflict(out, error)
    elif isinstance(error, errors.AlreadyExist):
        out.already_exist.key = error.user_key
    elif isinstance(error, errors.TxnLockNotFound):
        out.txn_lock_not_found.key = error.user_key
        out.retryable = error.message
    elif isinstance(error, errors.CommitTsExpired):
        expired = out.commit_ts_expired
        expired.start_ts, expired.attempted_commit_ts = error.start_ts, error.commit_ts
        expired.key, expired.min_commit_ts = error.user_key, error.min_commit_ts
    elif isinstance(error, errors.TxnNotFound):
        out.txn_not_found.start_ts, out.txn_not_found.primary_key = error.start_ts, error.user_key
    elif isinstance(error, errors.PrimaryMismatch):
        out.primary_mismatch.lock_info.CopyFrom(lock_info(error.user_key, error.lock))
    elif isinstance(error, errors.AssertionFailed):
        failed = out.assertion_failed
        failed.start_ts, failed.key = error.start_ts, error.user_key
        failed.assertion = pb.Exist if error.must_exist else pb.NotExist
        failed.existing_start_ts, failed.existing_commit_ts = error.existing_start_ts, error.existing_commit_ts
    else:
        out.abort = error.message
    return out


def refusal(response: type[Any], error: errors.TxnError) -> Message | None:
    """A response of this type that says no by `error` or one of `errors`; None when it has neither field."""
    fields = response.DESCRIPTOR.fields_by_name
    for name in ("error", "errors"):
        field = fields.get(name)
        if field is not None and field.message_type is pb.KeyError.DESCRIPTOR:
            answer: Message = response(**{name: [key_error(error)] if name == "errors" else key_error(error)})
            return answer
    return None


def _write_conflict(out: pb.KeyError, error: errors.WriteConflict) -> None:
    conflict = out.conflict
    conflict.start_ts, conflict.conflict_ts = error.start_ts, error.conflict_start_ts
    conflict.key, conflict.primary = error.user_key, error.primary
    conflict.conflict_commit_ts = error.conflict_commit_ts
    conflict.reason = getattr(pb.WriteConflict, error.reason)
    if error.reason == "Optimistic":
        out.retryable = error.message
