"""The rules of transactions on one key (snapshot isolation by Percolator, pessimistic locks, async commit), as pure functions.

Each takes a row as it is and returns the change, None for no change, or raises `Refused`. All may be repeated: messages
arrive twice. Written for reading, not for speed; a property test compares them with the stores' own actions.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from core_py.codec.ts import TS_MAX, physical_ms
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.client.testing import refusals
from tikv_py.client.testing.table import Change, Lock, Row, Version

CHECK = pb.PrewriteRequest.DO_PESSIMISTIC_CHECK
SKIP = pb.PrewriteRequest.SKIP_PESSIMISTIC_CHECK
CONSTRAINT = pb.PrewriteRequest.DO_CONSTRAINT_CHECK


def check_read(row: Row, key: bytes, read_ts: int, passed: Collection[int]) -> None:
    """Whether a snapshot at `read_ts` has to wait for the row's lock; `passed` are owners it may ignore."""
    lock = row.lock
    if lock is None or lock.kind in (pb.Lock, pb.PessimisticLock) or lock.start_ts > read_ts:
        return
    if lock.min_commit_ts > read_ts or lock.start_ts in passed:
        return
    if read_ts == TS_MAX and lock.primary == key and not lock.use_async_commit:
        return  # the newest committed value: the primary's own lock cannot have committed yet
    raise refusals.locked(key, lock)


def newest_record(row: Row) -> tuple[int, int]:
    """(start_ts, commit_ts) of the newest commit or rollback; zeros when there is none."""
    newest = (row.versions[0].start_ts, row.versions[0].commit_ts) if row.versions else (0, 0)
    rolled_back = max(row.rolled_back, default=0)
    return (rolled_back, rolled_back) if rolled_back > newest[1] else newest


# ---- first phase ----


def prewrite(row: Row, request: pb.PrewriteRequest, mutation: pb.Mutation, action: int, expected: int) -> Change | None:
    """Lock one key. `expected` (0 = any) is the for_update_ts the client believes its reservation has. Raises Refused."""
    lock, start_ts, key = row.lock, request.start_version, mutation.key
    if lock is not None and lock.start_ts != start_ts:
        if action == CHECK:
            raise refusals.lost(key, start_ts)
        raise refusals.locked(key, lock, resolve_unconditionally=request.for_update_ts > 0 and action == SKIP)
    if lock is not None:
        if not lock.is_pessimistic:
            return None
        if not request.for_update_ts:
            raise refusals.abort(f"transaction {start_ts} holds a pessimistic lock on key {key.hex()}")
        if expected and lock.for_update_ts != expected:
            raise refusals.lost(key, start_ts)
    elif action == CHECK and newest_record(row)[1] >= start_ts:
        raise refusals.lost(key, start_ts)
    looked = lock is None or _is_constrained(request, action)
    if looked:
        _check_newer(row, request, key, action)
    if mutation.op in (pb.Insert, pb.CheckNotExists) and action != CHECK and row.value_at() is not None:
        raise refusals.exists(key)
    _check_assertion(row, request, mutation, action, looked=looked)
    return None if mutation.op == pb.CheckNotExists else Change(key, _new_lock(request, mutation, lock))


def _is_constrained(request: pb.PrewriteRequest, action: int) -> bool:
    """Whether a commit after start_ts is a conflict."""
    return action == CONSTRAINT if request.for_update_ts else not request.skip_constraint_check


def _check_newer(row: Row, request: pb.PrewriteRequest, key: bytes, action: int) -> None:
    """Refuse when something newer than the transaction, or its own rollback, is there."""
    start_ts, newest = request.start_version, newest_record(row)
    constrained, pessimistic = _is_constrained(request, action), request.for_update_ts > 0
    if not constrained and pessimistic and any(v.commit_ts > request.for_update_ts for v in row.versions):
        raise refusals.lost(key, start_ts)
    if start_ts in row.rolled_back and (constrained or pessimistic or newest[1] == start_ts):
        raise refusals.conflict(key, request.primary_lock, start_ts, (start_ts, start_ts), "SelfRolledBack")
    if constrained and newest[1] > start_ts:
        reason = "LazyUniquenessCheck" if pessimistic else "Optimistic"
        raise refusals.conflict(key, request.primary_lock, start_ts, newest, reason)


def _check_assertion(
    row: Row, request: pb.PrewriteRequest, mutation: pb.Mutation, action: int, *, looked: bool
) -> None:
    if not mutation.assertion or not request.assertion_level or (request.assertion_level == pb.Fast and not looked):
        return
    if (row.value_at() is not None) != (mutation.assertion == pb.Exist):
        if not looked:
            _check_newer(row, request, mutation.key, action)  # a rollback or a conflict explains the failure better
        raise refusals.assertion(mutation.key, request.start_version, mutation.assertion)


def _new_lock(request: pb.PrewriteRequest, mutation: pb.Mutation, own: Lock | None) -> Lock:
    kind = pb.Put if mutation.op == pb.Insert else mutation.op
    is_primary = mutation.key == request.primary_lock
    return Lock(
        kind,
        request.primary_lock,
        request.start_version,
        max(request.lock_ttl, own.ttl_ms if own else 0),
        mutation.value if kind == pb.Put else b"",
        request.for_update_ts,
        request.txn_size,
        max(request.min_commit_ts, own.min_commit_ts if own else 0),
        request.use_async_commit,
        tuple(request.secondaries) if is_primary and request.use_async_commit else (),
    )


# ---- second phase ----


def commit(row: Row, key: bytes, start_ts: int, commit_ts: int) -> Change | None:
    """Turn the lock into a version; a reservation that was never prewritten is dropped."""
    lock = row.lock
    if lock is None or lock.start_ts != start_ts:
        if row.committed_by(start_ts) is None:
            raise refusals.lock_gone(key, start_ts)
        return None
    if commit_ts < lock.min_commit_ts:
        raise refusals.too_early(key, lock, commit_ts)
    return Change(key, None, None if lock.is_pessimistic else Version(commit_ts, start_ts, lock.kind, lock.value))


def is_expired(lock: Lock, current_ts: int) -> bool:
    """Whether the lock's time to live has passed at `current_ts`."""
    return physical_ms(lock.start_ts) + lock.ttl_ms < physical_ms(current_ts)


def roll_back(row: Row, key: bytes, start_ts: int, current_ts: int = 0) -> Change | None:
    """Undo the transaction on the key: always, or with `current_ts` only when its lock has expired."""
    lock = row.lock
    if lock is not None and lock.start_ts == start_ts:
        if current_ts and not is_expired(lock, current_ts):
            raise refusals.locked(key, lock)
        return _end(row, key, start_ts)
    done = row.committed_by(start_ts)
    if done is not None:
        raise refusals.abort(f"transaction {start_ts} committed key {key.hex()} at {done.commit_ts}")
    return None if start_ts in row.rolled_back else Change(key, lock, rollback=start_ts)


def _end(row: Row, key: bytes, start_ts: int) -> Change:
    """Remove the transaction's lock; a rollback is noted unless it had ended on the key before."""
    return Change(key, None, rollback=0 if row.committed_by(start_ts) else start_ts)


# ---- what became of a transaction ----


@dataclass(frozen=True, slots=True)
class Status:
    """A live lock, a commit timestamp, or neither (rolled back); `action` is kvrpcpb.Action."""

    action: int
    lock: Lock | None = None
    commit_ts: int = 0
    change: Change | None = None


def check_status(row: Row, request: pb.CheckTxnStatusRequest) -> Status:
    """What the primary says about a transaction; ends it when its time is up."""
    lock, key, start_ts = row.lock, request.primary_key, request.lock_ts
    dropped = None
    if lock is not None and lock.start_ts == start_ts:
        if not request.verify_is_primary or lock.primary == key:
            return _status_of_lock(row, lock, request)
        if not lock.is_pessimistic or request.resolving_pessimistic_lock:
            raise refusals.not_primary(key, lock)
        dropped, lock = Change(key, None), None
    done = row.committed_by(start_ts)
    if done is not None or start_ts in row.rolled_back:
        return Status(pb.NoAction, commit_ts=done.commit_ts if done else 0, change=dropped)
    if not request.rollback_if_not_exist:
        raise refusals.unknown(key, start_ts)
    if request.resolving_pessimistic_lock:
        return Status(pb.LockNotExistDoNothing, change=dropped)
    return Status(pb.LockNotExistRollback, change=Change(key, lock, rollback=start_ts))


def _status_of_lock(row: Row, lock: Lock, request: pb.CheckTxnStatusRequest) -> Status:
    key, caller = request.primary_key, request.caller_start_ts
    if lock.use_async_commit and not request.force_sync_commit:
        return Status(pb.NoAction, lock)
    done = row.committed_by(lock.start_ts)
    if lock.with_conflict and (done is not None or lock.start_ts in row.rolled_back):
        # a late request took it after the transaction had ended
        return Status(pb.NoAction, commit_ts=done.commit_ts if done else 0, change=Change(key, None))
    if is_expired(lock, request.current_ts):
        if lock.is_pessimistic and request.resolving_pessimistic_lock:
            return Status(pb.TTLExpirePessimisticRollback, change=Change(key, None))
        return Status(pb.TTLExpireRollback, change=_end(row, key, lock.start_ts))
    change = None
    if lock.min_commit_ts and caller != TS_MAX and lock.min_commit_ts <= caller:
        lock = replace(lock, min_commit_ts=max(caller + 1, request.current_ts))
        change = Change(key, lock)
    pushed = caller == TS_MAX or lock.min_commit_ts > caller > 0
    return Status(pb.MinCommitTSPushed if pushed else pb.NoAction, lock, change=change)


def check_secondary(row: Row, key: bytes, start_ts: int) -> Status:
    """Whether an async-commit transaction is prewritten here; where it is not, it never will be."""
    lock = row.lock
    own = lock is not None and lock.start_ts == start_ts
    if own and lock is not None and not lock.is_pessimistic:
        return Status(pb.NoAction, lock)
    left, done = (None if own else lock), row.committed_by(start_ts)
    if done is not None:
        return Status(pb.NoAction, commit_ts=done.commit_ts, change=Change(key, left))
    return Status(pb.NoAction, change=Change(key, left, rollback=start_ts))


def heart_beat(row: Row, key: bytes, start_ts: int, ttl_ms: int) -> Change:
    """Let the primary's lock live longer."""
    lock = row.lock
    if lock is None or lock.start_ts != start_ts:
        raise refusals.unknown(key, start_ts)
    return Change(key, replace(lock, ttl_ms=max(lock.ttl_ms, ttl_ms)))


# ---- pessimistic locks ----


@dataclass(frozen=True, slots=True)
class Acquired:
    """The newest committed value, the change, and the commit that came after `for_update_ts` (0 = none)."""

    value: bytes | None
    change: Change | None
    conflict_ts: int = 0


def acquire(row: Row, request: pb.PessimisticLockRequest, mutation: pb.Mutation) -> Acquired:
    """Reserve a key."""
    lock, start_ts = row.lock, request.start_version
    if request.lock_only_if_exists and not request.return_values:
        raise refusals.abort(f"transaction {start_ts} asks for a lock if the key exists without asking for the value")
    if lock is None:
        return _acquire_anew(row, request, mutation)
    if lock.start_ts != start_ts:
        raise refusals.locked(mutation.key, lock)
    if not lock.is_pessimistic:
        raise refusals.abort(f"key {mutation.key.hex()} of transaction {start_ts} is prewritten already")
    return _acquire_again(row, lock, request, mutation)


def _acquire_anew(row: Row, request: pb.PessimisticLockRequest, mutation: pb.Mutation) -> Acquired:
    key, start_ts, newest = mutation.key, request.start_version, newest_record(row)
    conflict = None
    if newest[1] > request.for_update_ts:
        conflict = refusals.conflict(key, request.primary_lock, start_ts, newest, "PessimisticRetry")
        if request.wake_up_mode != pb.WakeUpModeForceLock:
            raise conflict
    if start_ts in row.rolled_back:
        raise refusals.abort(f"transaction {start_ts} was rolled back and cannot lock key {key.hex()}")
    value = row.value_at()
    if mutation.assertion == pb.NotExist and value is not None:
        raise conflict or refusals.exists(key)
    if request.lock_only_if_exists and value is None:
        if conflict is not None:
            raise conflict
        return Acquired(None, None)
    conflict_ts = newest[1] if conflict is not None else 0
    made = Lock(
        pb.PessimisticLock,
        request.primary_lock,
        start_ts,
        request.lock_ttl,
        for_update_ts=conflict_ts or request.for_update_ts,
        min_commit_ts=request.min_commit_ts,
        with_conflict=conflict is not None,
    )
    return Acquired(value, Change(key, made), conflict_ts)


def _acquire_again(row: Row, lock: Lock, request: pb.PessimisticLockRequest, mutation: pb.Mutation) -> Acquired:
    """The request arrived again, or the statement runs again at a newer timestamp."""
    key, at = mutation.key, request.for_update_ts
    forced = request.wake_up_mode == pb.WakeUpModeForceLock
    conflict_ts = lock.for_update_ts if forced and at < lock.for_update_ts else 0
    found = row.newest_change(conflict_ts or at)
    value = found.value if found is not None and found.kind == pb.Put else None
    if mutation.assertion == pb.NotExist and found is not None and value is not None:
        if found.commit_ts > at:
            seen = (found.start_ts, found.commit_ts)
            raise refusals.conflict(key, request.primary_lock, request.start_version, seen, "PessimisticRetry")
        raise refusals.exists(key)
    if at <= lock.for_update_ts:
        return Acquired(value, None, conflict_ts)
    renewed = replace(
        lock,
        primary=request.primary_lock,
        for_update_ts=at,
        ttl_ms=max(lock.ttl_ms, request.lock_ttl),
        min_commit_ts=max(lock.min_commit_ts, request.min_commit_ts),
    )
    return Acquired(value, Change(key, renewed), conflict_ts)


def release(row: Row, key: bytes, start_ts: int, for_update_ts: int) -> Change | None:
    """Give a reservation back; any other lock is left alone."""
    lock = row.lock
    if lock is None or not lock.is_pessimistic or lock.start_ts != start_ts or lock.for_update_ts > for_update_ts:
        return None
    return Change(key, None)
