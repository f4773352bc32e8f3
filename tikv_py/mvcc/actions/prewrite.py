"""The first phase of a commit on one key: check, then lock (Percolator, section 2.2; pessimistic variants as in TiKV).

Optimistic: no newer commit and no foreign lock may be there. Pessimistic: the key was locked before, so only that lock is
checked; if it
got lost in the meantime it is re-taken when nothing newer was written. Duplicate requests succeed: messages may arrive twice.
This store declines async commit and one-phase commit by answering min_commit_ts 0, the protocol's way to say "use two phases".
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from core_py.codec.ts import TS_MAX
from tikv_py.mvcc import keys
from tikv_py.mvcc.errors import AlreadyExist, AssertionFailed, KeyIsLocked, PessimisticLockNotFound, WriteConflict
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


@dataclass(frozen=True, slots=True)
class Mutation:
    """One key of a prewrite."""

    op: MutationOp
    user_key: bytes
    value: bytes = b""
    assertion: Assertion = Assertion.NONE
    pessimistic_action: PessimisticAction = PessimisticAction.SKIP


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
    check_assertions: bool = False


_LOCK_TYPES = {
    MutationOp.PUT: LockType.PUT,
    MutationOp.INSERT: LockType.PUT,
    MutationOp.DELETE: LockType.DELETE,
    MutationOp.LOCK: LockType.LOCK,
}


def prewrite(txn: MvccTxn, reader: MvccReader, props: PrewriteProps, mutation: Mutation) -> None:
    """Lock one key for the transaction.

    Raises KeyIsLocked, WriteConflict, AlreadyExist, AssertionFailed, PessimisticLockNotFound.
    """
    key = keys.data_key(mutation.user_key)
    lock = reader.load_lock(key)
    own_pessimistic: Lock | None = None
    if lock is not None:
        own_pessimistic = _check_lock(lock, props, mutation)
        if own_pessimistic is None:
            return  # prewritten before: the request is a duplicate
    elif mutation.pessimistic_action is PessimisticAction.DO_PESSIMISTIC_CHECK:
        _amend_lost_lock(reader, key, props, mutation)
    if _needs_constraint_check(props, mutation) or own_pessimistic is None:
        _check_newest_write(reader, key, props, mutation)
    if mutation.op in (MutationOp.INSERT, MutationOp.CHECK_NOT_EXISTS) and _should_check_existence(props, mutation):
        _check_not_exists(reader, key, mutation.user_key)
    if props.check_assertions and mutation.assertion is not Assertion.NONE:
        _check_assertion(reader, key, props, mutation)
    if mutation.op is not MutationOp.CHECK_NOT_EXISTS:
        _write_lock(txn, key, props, mutation, own_pessimistic)


def _check_lock(lock: Lock, props: PrewriteProps, mutation: Mutation) -> Lock | None:
    """The transaction's own pessimistic lock, or None when the key is prewritten by it already."""
    if lock.start_ts != props.start_ts:
        if mutation.pessimistic_action is PessimisticAction.DO_PESSIMISTIC_CHECK:
            raise PessimisticLockNotFound(
                mutation.user_key, props.start_ts, f"transaction {lock.start_ts} holds the key now"
            )
        # A pessimistic transaction that did not lock this key before must not wait for an optimistic one's owner forever:
        # it resolves a pessimistic lock of a finished transaction at once.
        unconditional = props.is_pessimistic and lock.is_pessimistic and lock.for_update_ts < props.for_update_ts
        raise KeyIsLocked(mutation.user_key, lock, resolve_unconditionally=unconditional)
    return lock if lock.is_pessimistic else None


def _amend_lost_lock(reader: MvccReader, key: bytes, props: PrewriteProps, mutation: Mutation) -> None:
    """A pessimistic lock was lost (a leader change before it was replicated): go on only when nothing happened since."""
    found = reader.seek_write(key, TS_MAX)
    if found is not None and found[0] >= props.start_ts:
        raise PessimisticLockNotFound(mutation.user_key, props.start_ts, f"a record at {found[0]} is newer")


def _needs_constraint_check(props: PrewriteProps, mutation: Mutation) -> bool:
    if props.is_pessimistic:
        return mutation.pessimistic_action is PessimisticAction.DO_CONSTRAINT_CHECK
    return not props.skip_constraint_check


def _should_check_existence(props: PrewriteProps, mutation: Mutation) -> bool:
    """A pessimistic lock with the existence check was taken before, so only unlocked keys are checked here."""
    return mutation.pessimistic_action is not PessimisticAction.DO_PESSIMISTIC_CHECK or not props.is_pessimistic


def _check_newest_write(reader: MvccReader, key: bytes, props: PrewriteProps, mutation: Mutation) -> None:
    """Refuse when something newer than the transaction, or its own rollback, is there."""
    found = reader.seek_write(key, TS_MAX)
    if found is None:
        return
    commit_ts, write = found
    if _needs_constraint_check(props, mutation) and commit_ts > props.start_ts:
        reason = "LazyUniquenessCheck" if props.is_pessimistic else "Optimistic"
        raise WriteConflict(
            mutation.user_key,
            props.primary,
            start_ts=props.start_ts,
            conflict=(write.start_ts, commit_ts),
            reason=reason,
        )
    record = reader.commit_record(key, props.start_ts) if commit_ts >= props.start_ts else None
    if record is not None and not record.committed:
        raise WriteConflict(
            mutation.user_key,
            props.primary,
            start_ts=props.start_ts,
            conflict=(record.write.start_ts, record.commit_ts),
            reason="SelfRolledBack",
        )
    if record is not None and props.is_pessimistic:
        raise PessimisticLockNotFound(
            mutation.user_key, props.start_ts, f"the transaction committed it at {record.commit_ts}"
        )


def _check_not_exists(reader: MvccReader, key: bytes, user_key: bytes) -> None:
    found = reader.get_data_write(key, TS_MAX)
    if found is not None:
        raise AlreadyExist(user_key, found[1].start_ts)


def _check_assertion(reader: MvccReader, key: bytes, props: PrewriteProps, mutation: Mutation) -> None:
    found = reader.get_data_write(key, TS_MAX)
    must_exist = mutation.assertion is Assertion.EXIST
    if (found is not None) != must_exist:
        existing = (0, 0) if found is None else (found[1].start_ts, found[0])
        raise AssertionFailed(mutation.user_key, props.start_ts, must_exist=must_exist, existing=existing)


def _write_lock(txn: MvccTxn, key: bytes, props: PrewriteProps, mutation: Mutation, own: Lock | None) -> None:
    short_value: bytes | None = None
    lock_type = _LOCK_TYPES[mutation.op]
    if lock_type is LockType.PUT:
        if len(mutation.value) <= SHORT_VALUE_MAX:
            short_value = mutation.value
        else:
            txn.put_value(key, mutation.value)
    txn.put_lock(
        key,
        Lock(
            lock_type,
            props.primary,
            props.start_ts,
            max(props.lock_ttl_ms, own.ttl_ms if own else 0),
            short_value,
            for_update_ts=props.for_update_ts,
            txn_size=props.txn_size,
            min_commit_ts=max(props.min_commit_ts, own.min_commit_ts if own else 0),
        ),
    )


def write_type_of(lock: Lock) -> WriteType:
    """The write record type a prewritten lock turns into."""
    return WriteType(lock.lock_type.value)


def committed_write(lock: Lock) -> Write:
    """The write record a prewritten lock turns into."""
    return Write(write_type_of(lock), lock.start_ts, lock.short_value)
