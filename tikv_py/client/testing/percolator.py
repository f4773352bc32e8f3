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
CONSTRAINT = pb.PrewriteRequest.DO_CONSTRAINT_CHECK


@dataclass(frozen=True, slots=True)
class CommittedAlready(Exception):
    """The prewrite's transaction is committed: the request arrived again."""

    commit_ts: int


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


def prewrite(row: Row, request: pb.PrewriteRequest, mutation: pb.Mutation, action: int) -> Change | None:
    """Lock one key. Raises Refused, CommittedAlready."""
    lock, start_ts = row.lock, request.start_version
    if lock is not None and lock.start_ts != start_ts:
        if action == CHECK:
            raise refusals.abort(f"transaction {start_ts} lost its lock on key {mutation.key.hex()}")
        dead = request.for_update_ts > 0 and lock.is_pessimistic and lock.for_update_ts < request.for_update_ts
        raise refusals.locked(mutation.key, lock, resolve_unconditionally=dead)
    if lock is not None and not lock.is_pessimistic:
        return None
    if lock is None and action == CHECK and newest_record(row)[1] >= start_ts:
        _raise_if_committed(row, request)
        raise refusals.abort(f"transaction {start_ts} lost its lock on key {mutation.key.hex()}")
    if lock is None or action == CONSTRAINT:
        _check_newest(row, request, mutation.key, action)
    if mutation.op in (pb.Insert, pb.CheckNotExists) and action != CHECK and row.value_at() is not None:
        raise refusals.exists(mutation.key)
    if (
        request.assertion_level
        and mutation.assertion
        and (row.value_at() is not None) != (mutation.assertion == pb.Exist)
    ):
        raise refusals.assertion(mutation.key, start_ts, mutation.assertion)
    return None if mutation.op == pb.CheckNotExists else Change(mutation.key, _new_lock(request, mutation, lock))


def _raise_if_committed(row: Row, request: pb.PrewriteRequest) -> None:
    done = row.committed_by(request.start_version)
    if done is not None and (request.use_async_commit or request.try_one_pc):
        raise CommittedAlready(done.commit_ts)


def _check_newest(row: Row, request: pb.PrewriteRequest, key: bytes, action: int) -> None:
    _raise_if_committed(row, request)
    start_ts, found = request.start_version, newest_record(row)
    pessimistic = request.for_update_ts > 0
    constrained = action == CONSTRAINT if pessimistic else not request.skip_constraint_check
    if constrained and found[1] > start_ts:
        reason = "LazyUniquenessCheck" if pessimistic else "Optimistic"
        raise refusals.conflict(key, request.primary_lock, start_ts, found, reason)
    if start_ts in row.rolled_back:
        raise refusals.conflict(key, request.primary_lock, start_ts, (start_ts, start_ts), "SelfRolledBack")
    if pessimistic and row.committed_by(start_ts) is not None:
        raise refusals.abort(f"transaction {start_ts} committed key {key.hex()} already")


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
        return Change(key, None, rollback=start_ts)
    done = row.committed_by(start_ts)
    if done is not None:
        raise refusals.abort(f"transaction {start_ts} committed key {key.hex()} at {done.commit_ts}")
    return None if start_ts in row.rolled_back else Change(key, lock, rollback=start_ts)


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
            return _status_of_lock(lock, request)
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


def _status_of_lock(lock: Lock, request: pb.CheckTxnStatusRequest) -> Status:
    key, caller = request.primary_key, request.caller_start_ts
    if lock.use_async_commit and not request.force_sync_commit:
        return Status(pb.NoAction, lock)
    if is_expired(lock, request.current_ts):
        if lock.is_pessimistic and request.resolving_pessimistic_lock:
            return Status(pb.TTLExpirePessimisticRollback, change=Change(key, None))
        return Status(pb.TTLExpireRollback, change=Change(key, None, rollback=lock.start_ts))
    change = None
    if lock.min_commit_ts and caller != TS_MAX and lock.min_commit_ts <= caller:
        lock = replace(lock, min_commit_ts=max(caller + 1, request.current_ts))
        change = Change(key, lock)
    pushed = caller == TS_MAX or lock.min_commit_ts > caller > 0
    return Status(pb.MinCommitTSPushed if pushed else pb.NoAction, lock, change=change)


def check_secondary(row: Row, key: bytes, start_ts: int) -> Status:
    """Whether an async-commit transaction is prewritten here; where it is not, it never will be."""
    lock = row.lock
    if lock is not None and lock.start_ts == start_ts:
        if not lock.is_pessimistic:
            return Status(pb.NoAction, lock)
        return Status(pb.NoAction, change=Change(key, None, rollback=start_ts))
    done = row.committed_by(start_ts)
    if done is not None:
        return Status(pb.NoAction, commit_ts=done.commit_ts)
    return Status(pb.NoAction, change=Change(key, lock, rollback=start_ts))


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
    lock, key, start_ts = row.lock, mutation.key, request.start_version
    if lock is not None and lock.start_ts != start_ts:
        raise refusals.locked(key, lock)
    if lock is not None and not lock.is_pessimistic:
        raise refusals.abort(f"key {key.hex()} of transaction {start_ts} is prewritten already")
    conflict_ts = 0
    if lock is None:
        if start_ts in row.rolled_back:
            raise refusals.abort(f"transaction {start_ts} was rolled back and cannot lock key {key.hex()}")
        newest = row.versions[0] if row.versions else None
        if newest is not None and newest.commit_ts > request.for_update_ts:
            if request.wake_up_mode != pb.WakeUpModeForceLock:
                found = (newest.start_ts, newest.commit_ts)
                raise refusals.conflict(key, request.primary_lock, start_ts, found, "PessimisticRetry")
            conflict_ts = newest.commit_ts
    value = row.value_at()
    if mutation.assertion == pb.NotExist and value is not None and not conflict_ts:
        raise refusals.exists(key)
    if lock is None and value is None and request.lock_only_if_exists:
        return Acquired(value, None, conflict_ts)
    return Acquired(value, _reservation(lock, request, key, conflict_ts), conflict_ts)


def _reservation(lock: Lock | None, request: pb.PessimisticLockRequest, key: bytes, conflict_ts: int) -> Change | None:
    at = max(request.for_update_ts, conflict_ts)
    if lock is not None and at <= lock.for_update_ts:
        return None
    return Change(
        key,
        Lock(
            pb.PessimisticLock,
            request.primary_lock,
            request.start_version,
            max(request.lock_ttl, lock.ttl_ms if lock else 0),
            for_update_ts=at,
            min_commit_ts=max(request.min_commit_ts, lock.min_commit_ts if lock else 0),
        ),
    )


def release(row: Row, key: bytes, start_ts: int, for_update_ts: int) -> Change | None:
    """Give a reservation back; any other lock is left alone."""
    lock = row.lock
    if lock is None or not lock.is_pessimistic or lock.start_ts != start_ts or lock.for_update_ts > for_update_ts:
        return None
    return Change(key, None)
