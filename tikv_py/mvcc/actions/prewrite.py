"""The first phase of a commit on one key: check, then lock (Percolator, section 2.2; pessimistic variants as in TiKV).

Optimistic: no newer commit and no foreign lock may be there. Pessimistic: the key was locked before, so only that lock is
checked; if it got lost in the meantime it is taken again when nothing newer was written. Duplicate requests succeed: messages
may arrive twice.

Async commit and one-phase commit (`FastCommit`) fix the least timestamp the key can be committed at: above every read this store
has served, so that no reader has missed the write, and above what the client asks for. The lock that carries it is handed out in
`MvccTxn.memory_locks`: whoever writes it shows it to readers from this moment on, before it is in the log.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from core_py.codec.ts import TS_MAX
from tikv_py.mvcc import keys
from tikv_py.mvcc.errors import (
    AlreadyExist,
    AssertionFailed,
    CommitTsTooLarge,
    KeyIsLocked,
    LockTypeNotMatch,
    PessimisticLockNotFound,
    WriteConflict,
)
from tikv_py.mvcc.last_change import UNKNOWN, LastChange, last_change_above
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.mvcc.write import SHORT_VALUE_MAX, Write, WriteType


class MutationOp(enum.Enum):
    """What the client wants with a key."""

    PUT = "put"
    DELETE = "delete"
    LOCK = "lock"
    INSERT = "insert"
    CHECK_NOT_EXISTS = "check not exists"


class PessimisticAction(enum.Enum):
    """How a pessimistic transaction wants the key checked."""

    SKIP = 0
    DO_PESSIMISTIC_CHECK = 1
    DO_CONSTRAINT_CHECK = 2


class Assertion(enum.Enum):
    """The client's belief about the key's existence."""

    NONE = 0
    EXIST = 1
    NOT_EXIST = 2


class AssertionLevel(enum.Enum):
    """Which assertions are checked: none, those that cost no further read, all."""

    OFF = 0
    FAST = 1
    STRICT = 2


@dataclass(frozen=True, slots=True)
class Mutation:
    """One key of a prewrite. `expected_for_update_ts` (0 = any) is what the client knows of its pessimistic lock."""

    op: MutationOp
    user_key: bytes
    value: bytes = b""
    assertion: Assertion = Assertion.NONE
    pessimistic_action: PessimisticAction = PessimisticAction.SKIP
    expected_for_update_ts: int = 0


@dataclass(frozen=True, slots=True)
class FastCommit:
    """The wish to decide the transaction with this prewrite alone.

    `max_ts` is the greatest timestamp this store has served a read at, known in the same moment; a commit above
    `max_commit_ts` (0 = no limit) is not wanted. `secondaries` is None when only one-phase commit is wished for.
    """

    max_ts: int
    max_commit_ts: int = 0
    secondaries: tuple[bytes, ...] | None = None
    one_pc: bool = False


@dataclass(frozen=True, slots=True)
class PrewriteProps:
    """What all keys of a prewrite request share."""

    primary: bytes
    start_ts: int
    lock_ttl_ms: int
    txn_size: int = 0
    min_commit_ts: int = 0
    for_update_ts: int = 0
    is_pessimistic: bool = False
    skip_constraint_check: bool = False
    assertion_level: AssertionLevel = AssertionLevel.OFF
    txn_source: int = 0
    fast: FastCommit | None = None


_LOCK_TYPES = {
    MutationOp.PUT: LockType.PUT,
    MutationOp.INSERT: LockType.PUT,
    MutationOp.DELETE: LockType.DELETE,
    MutationOp.LOCK: LockType.LOCK,
}
MUST_NOT_EXIST = (MutationOp.INSERT, MutationOp.CHECK_NOT_EXISTS)


def prewrite(txn: MvccTxn, reader: MvccReader, props: PrewriteProps, mutation: Mutation) -> int:
    """Lock one key for the transaction; returns the least timestamp it can commit at, 0 without async or one-phase commit.

    0 although it was asked for: the key had been prewritten without. Raises KeyIsLocked, WriteConflict, AlreadyExist,
    AssertionFailed, PessimisticLockNotFound, LockTypeNotMatch, CommitTsTooLarge (then the key is prewritten for two phases).
    """
    key = keys.data_key(mutation.user_key)
    lock = reader.load_lock(key)
    own_pessimistic: Lock | None = None
    if lock is not None:
        own_pessimistic = _check_lock(lock, props, mutation)
        if (
            own_pessimistic is None
        ):  # prewritten before: the request is a duplicate, and one phase is not enough any more
            is_async = lock.use_async_commit and not (props.fast is not None and props.fast.one_pc)
            return lock.min_commit_ts if is_async else 0
    elif mutation.pessimistic_action is PessimisticAction.DO_PESSIMISTIC_CHECK:
        _amend_lost_lock(reader, key, props, mutation)
    looked = own_pessimistic is None or _constrained(props, mutation)
    if looked:
        _check_newer(reader, key, props, mutation, constrained=_constrained(props, mutation))
    if mutation.op in MUST_NOT_EXIST and _should_check_existence(props, mutation):
        _check_not_exists(reader, key, mutation.user_key)
    if mutation.assertion is not Assertion.NONE:
        _check_assertion(reader, key, props, mutation, looked=looked)
    if mutation.op is MutationOp.CHECK_NOT_EXISTS:
        return max(props.min_commit_ts, props.start_ts + 1) if props.fast is not None else 0
    change = UNKNOWN
    if mutation.op is MutationOp.LOCK:
        change = _last_change(reader, key, own_pessimistic)
    return _write_lock(txn, key, props, mutation, own_pessimistic, change)


def _last_change(reader: MvccReader, key: bytes, own: Lock | None) -> LastChange:
    """What a LOCK record will carry; a pessimistic lock knows it already. Other records are changes themselves."""
    if own is not None:
        return LastChange(own.last_change_ts, own.versions_to_last_change)
    return last_change_above(reader, key, reader.seek_write(key, TS_MAX))


def _check_lock(lock: Lock, props: PrewriteProps, mutation: Mutation) -> Lock | None:
    """The transaction's own pessimistic lock, or None when the key is prewritten by it already."""
    if lock.start_ts != props.start_ts:
        if mutation.pessimistic_action is PessimisticAction.DO_PESSIMISTIC_CHECK:
            raise PessimisticLockNotFound(
                mutation.user_key, props.start_ts, f"transaction {lock.start_ts} holds the key now"
            )
        # A pessimistic transaction locks rows and unique keys beforehand, and other index keys only here. The row's lock keeps
        # everybody else off them, so the owner of a lock found on one of them has ended: the client need not wait for it.
        unconditional = props.is_pessimistic and mutation.pessimistic_action is PessimisticAction.SKIP
        raise KeyIsLocked(mutation.user_key, lock, resolve_unconditionally=unconditional)
    if not lock.is_pessimistic:
        return None
    if not props.is_pessimistic:
        raise LockTypeNotMatch(mutation.user_key, props.start_ts, pessimistic=True)
    expected = mutation.expected_for_update_ts
    if expected and lock.for_update_ts != expected:
        raise PessimisticLockNotFound(
            mutation.user_key, props.start_ts, f"it was locked at {lock.for_update_ts}, not at {expected}"
        )
    return lock


def _amend_lost_lock(reader: MvccReader, key: bytes, props: PrewriteProps, mutation: Mutation) -> None:
    """A pessimistic lock was lost (a leader change before it was replicated): go on only when nothing happened since.

    The lock was taken at the transaction's start or later, so nothing since the start is nothing since the lock. That the client
    may know the lock's for_update_ts does not help: a commit whose timestamp a store has calculated may lie below it, and yet
    have come after the lock was lost.
    """
    found = reader.seek_write(key, TS_MAX)
    if found is not None and found[0] >= props.start_ts:
        raise PessimisticLockNotFound(mutation.user_key, props.start_ts, f"a record at {found[0]} is newer")


def _constrained(props: PrewriteProps, mutation: Mutation) -> bool:
    """Whether a commit after start_ts is a conflict."""
    if props.is_pessimistic:
        return mutation.pessimistic_action is PessimisticAction.DO_CONSTRAINT_CHECK
    return not props.skip_constraint_check


def _should_check_existence(props: PrewriteProps, mutation: Mutation) -> bool:
    """A pessimistic lock with the existence check was taken before, so only unlocked keys are checked here."""
    return mutation.pessimistic_action is not PessimisticAction.DO_PESSIMISTIC_CHECK or not props.is_pessimistic


def _check_newer(
    reader: MvccReader, key: bytes, props: PrewriteProps, mutation: Mutation, *, constrained: bool
) -> None:
    """Refuse when something newer than the transaction, or its own rollback, is there."""
    found = reader.seek_write(key, TS_MAX)
    while found is not None:
        commit_ts, write = found
        if commit_ts == props.start_ts and (write.write_type is WriteType.ROLLBACK or write.has_overlapped_rollback):
            raise _conflict(props, mutation, commit_ts, write, "SelfRolledBack")
        if constrained:
            if commit_ts > props.start_ts:
                _raise_if_rolled_back(reader, key, props, mutation)
                reason = "LazyUniquenessCheck" if props.is_pessimistic else "Optimistic"
                raise _conflict(props, mutation, commit_ts, write, reason)
            return
        if not props.is_pessimistic:
            return
        if commit_ts > props.for_update_ts and write.write_type is not WriteType.ROLLBACK:
            # No pessimistic transaction writes an index key whose row it has not locked: this request is a late duplicate.
            raise PessimisticLockNotFound(mutation.user_key, props.start_ts, f"a commit at {commit_ts} is newer")
        if commit_ts <= props.start_ts:
            return
        found = reader.seek_write(key, commit_ts - 1)


def _raise_if_rolled_back(reader: MvccReader, key: bytes, props: PrewriteProps, mutation: Mutation) -> None:
    """Being rolled back is final, a conflict is not: it is told first."""
    record = reader.commit_record(key, props.start_ts)
    if record is not None and not record.committed:
        raise _conflict(props, mutation, record.commit_ts, record.write, "SelfRolledBack")


def _conflict(props: PrewriteProps, mutation: Mutation, commit_ts: int, write: Write, reason: str) -> WriteConflict:
    return WriteConflict(
        mutation.user_key,
        props.primary,
        start_ts=props.start_ts,
        conflict=(write.start_ts, commit_ts),
        reason=reason,
    )


def _check_not_exists(reader: MvccReader, key: bytes, user_key: bytes) -> None:
    found = reader.get_data_write(key, TS_MAX)
    if found is not None:
        raise AlreadyExist(user_key, found[1].start_ts)


def _check_assertion(reader: MvccReader, key: bytes, props: PrewriteProps, mutation: Mutation, *, looked: bool) -> None:
    level = props.assertion_level
    if level is AssertionLevel.OFF or (level is AssertionLevel.FAST and not looked):
        return
    found = reader.newest_change(key, TS_MAX)
    must_exist = mutation.assertion is Assertion.EXIST
    if (found is not None and found[1].write_type is WriteType.PUT) != must_exist:
        # A rollback or a conflict that was not looked for explains the failure better.
        _check_newer(
            reader, key, props, mutation, constrained=not props.is_pessimistic or _constrained(props, mutation)
        )
        existing = (0, 0) if found is None else (found[1].start_ts, found[0])
        raise AssertionFailed(mutation.user_key, props.start_ts, must_exist=must_exist, existing=existing)


def _write_lock(
    txn: MvccTxn, key: bytes, props: PrewriteProps, mutation: Mutation, own: Lock | None, change: LastChange
) -> int:
    short_value: bytes | None = None
    lock_type = _LOCK_TYPES[mutation.op]
    if lock_type is LockType.PUT:
        if len(mutation.value) <= SHORT_VALUE_MAX:
            short_value = mutation.value
        else:
            txn.put_value(key, mutation.value)
    fast = props.fast
    wanted = max(props.min_commit_ts, own.min_commit_ts if own else 0)
    least = 0 if fast is None else max(wanted, fast.max_ts + 1, props.start_ts + 1, props.for_update_ts + 1)
    too_late = fast is not None and 0 < fast.max_commit_ts < least
    if too_late:
        fast, least = None, 0
    lock = Lock(
        lock_type,
        props.primary,
        props.start_ts,
        max(props.lock_ttl_ms, own.ttl_ms if own else 0),
        short_value,
        for_update_ts=max(props.for_update_ts, own.for_update_ts if own else 0),
        txn_size=props.txn_size,
        min_commit_ts=least or wanted,
        use_async_commit=fast is not None and fast.secondaries is not None,
        secondaries=_secondaries(fast, props, mutation),
        last_change_ts=change.ts,
        versions_to_last_change=change.versions,
        txn_source=props.txn_source,
    )
    if fast is None:
        txn.put_lock(key, lock)
    else:
        txn.memory_locks.append((key, lock))
        if fast.one_pc:
            txn.one_pc_locks.append((key, lock, own is not None))
        else:
            txn.put_lock(key, lock)
    if too_late:
        raise CommitTsTooLarge(mutation.user_key, props.start_ts)
    return least


def _secondaries(fast: FastCommit | None, props: PrewriteProps, mutation: Mutation) -> tuple[bytes, ...]:
    """The primary's lock lists all others: with it alone the transaction's outcome can be found."""
    if fast is None or fast.secondaries is None or mutation.user_key != props.primary:
        return ()
    return fast.secondaries
