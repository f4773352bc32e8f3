"""Pessimistic locks: reserve a key before writing it, keep the reservation alive, give it back.

A lock is taken at `for_update_ts`, the timestamp of what the statement read. A record of a newer transaction on the key means that
the statement has worked with an old state: it is refused with a write conflict and runs again at a newer timestamp. A client may
ask to be given the lock in spite of it (`allow_lock_with_conflict`); then the lock is for the newest state, whose timestamp and
value are in the answer, and the client repairs its statement itself. Of such a lock it may turn out that its transaction had ended
on the key before, so it says of itself that it was taken so.

Every request may arrive twice: a lock that is there already is answered with the value at its timestamp. The primary may be another
one then, when the first statement that locked was given up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from core_py.codec.ts import TS_MAX
from tikv_py.mvcc import keys
from tikv_py.mvcc.errors import (
    AlreadyExist,
    KeyIsLocked,
    LockIfExistsFailed,
    LockTypeNotMatch,
    PessimisticLockRolledBack,
    TxnNotFound,
    WriteConflict,
)
from tikv_py.mvcc.last_change import last_change_above
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.mvcc.write import Write, WriteType


@dataclass(frozen=True, slots=True)
class LockProps:
    """What all keys of a lock request share. `for_update_ts` is the snapshot the statement works on.

    `need_value` and `need_existence` say what the answer is to tell about the key. When either is set, or a key must not exist, the
    request reads, and the caller has seen to it that nothing commits below `for_update_ts` any more.
    """

    primary: bytes
    start_ts: int
    for_update_ts: int
    lock_ttl_ms: int
    min_commit_ts: int = 0
    need_value: bool = True
    need_existence: bool = False
    lock_only_if_exists: bool = False
    allow_lock_with_conflict: bool = False


@dataclass(frozen=True, slots=True)
class LockedKey:
    """A key after a successful request.

    `exists` is None when nothing asked for it, `value` is None when the key has none or nothing asked for it. With `conflict_ts`
    the lock was taken over a newer commit at that timestamp, or had been: it is the lock's for_update_ts now, and the value is
    of it.
    `locked` is False when the key was to be locked only if it existed, and does not.
    """

    value: bytes | None = None
    exists: bool | None = None
    conflict_ts: int = 0
    locked: bool = True


def acquire(
    txn: MvccTxn, reader: MvccReader, props: LockProps, user_key: bytes, *, should_not_exist: bool
) -> LockedKey:
    """Lock a key.

    Raises KeyIsLocked, WriteConflict (PessimisticRetry), PessimisticLockRolledBack, AlreadyExist, LockTypeNotMatch,
    LockIfExistsFailed.
    """
    if props.lock_only_if_exists and not props.need_value:
        raise LockIfExistsFailed(user_key, props.start_ts)
    key = keys.data_key(user_key)
    lock = reader.load_lock(key)
    if lock is None:
        return _lock_anew(txn, reader, props, user_key, should_not_exist=should_not_exist)
    if lock.start_ts != props.start_ts:
        raise KeyIsLocked(user_key, lock)
    if not lock.is_pessimistic:
        raise LockTypeNotMatch(user_key, props.start_ts, pessimistic=False)
    return _lock_again(txn, reader, props, user_key, lock, should_not_exist=should_not_exist)


def _lock_anew(
    txn: MvccTxn, reader: MvccReader, props: LockProps, user_key: bytes, *, should_not_exist: bool
) -> LockedKey:
    key = keys.data_key(user_key)
    newest = reader.seek_write(key, TS_MAX)
    conflict: WriteConflict | None = None
    if newest is not None and newest[0] > props.for_update_ts:
        conflict = _conflict(props, user_key, newest)
        if not props.allow_lock_with_conflict:
            raise conflict
    if newest is not None and _is_rolled_back(reader, key, newest, props.start_ts):
        raise PessimisticLockRolledBack(user_key, props.start_ts)
    exists, value = None, None
    if should_not_exist or props.need_value or props.need_existence or conflict is not None:
        change = _newest_put(reader, key, newest)
        if change is not None and should_not_exist:
            raise conflict or AlreadyExist(user_key, change.start_ts)
        exists = change is not None
        if change is not None and (props.need_value or conflict is not None):
            value = reader.value_of(key, change)
    if props.lock_only_if_exists and not exists:
        if conflict is not None:
            raise conflict
        return LockedKey(exists=False, locked=False)
    last_change = last_change_above(reader, key, newest)
    conflict_ts = 0 if conflict is None else conflict.conflict_commit_ts
    txn.put_lock(
        key,
        Lock(
            LockType.PESSIMISTIC,
            props.primary,
            props.start_ts,
            props.lock_ttl_ms,
            for_update_ts=conflict_ts or props.for_update_ts,
            min_commit_ts=props.min_commit_ts,
            last_change_ts=last_change.ts,
            versions_to_last_change=last_change.versions,
            locked_with_conflict=conflict is not None,
        ),
    )
    return LockedKey(value, exists, conflict_ts)


def _lock_again(
    txn: MvccTxn, reader: MvccReader, props: LockProps, user_key: bytes, lock: Lock, *, should_not_exist: bool
) -> LockedKey:
    """The lock is there: a repeated request, or the statement running again at a newer timestamp."""
    key = keys.data_key(user_key)
    conflict_ts = 0
    if props.allow_lock_with_conflict and props.for_update_ts < lock.for_update_ts:
        conflict_ts = lock.for_update_ts
    exists, value = None, None
    if should_not_exist or props.need_value or props.need_existence or conflict_ts:
        found = reader.get_data_write(key, conflict_ts or props.for_update_ts)
        if found is not None and should_not_exist:
            if found[0] > props.for_update_ts:
                raise _conflict(props, user_key, found)
            raise AlreadyExist(user_key, found[1].start_ts)
        exists = found is not None
        if found is not None and (props.need_value or conflict_ts):
            value = reader.value_of(key, found[1])
    if props.for_update_ts > lock.for_update_ts:
        renewed = replace(
            lock,
            primary=props.primary,
            for_update_ts=props.for_update_ts,
            ttl_ms=max(lock.ttl_ms, props.lock_ttl_ms),
            min_commit_ts=max(lock.min_commit_ts, props.min_commit_ts),
        )
        txn.put_lock(key, renewed)
    return LockedKey(value, exists, conflict_ts)


def _conflict(props: LockProps, user_key: bytes, found: tuple[int, Write]) -> WriteConflict:
    commit_ts, write = found
    return WriteConflict(
        user_key,
        props.primary,
        start_ts=props.start_ts,
        conflict=(write.start_ts, commit_ts),
        reason="PessimisticRetry",
    )


def _is_rolled_back(reader: MvccReader, key: bytes, newest: tuple[int, Write], start_ts: int) -> bool:
    """Whether a rollback of the transaction is on the key: a record of its own at start_ts, or a mark on another's."""
    found: tuple[int, Write] | None = newest
    if newest[0] > start_ts:
        found = reader.seek_write(key, start_ts)
    if found is None or found[0] != start_ts:
        return False
    return found[1].write_type is WriteType.ROLLBACK or found[1].has_overlapped_rollback


def _newest_put(reader: MvccReader, key: bytes, newest: tuple[int, Write] | None) -> Write | None:
    """The PUT that a reader of the newest state finds."""
    if newest is None or newest[1].write_type is WriteType.DELETE:
        return None
    if newest[1].write_type is WriteType.PUT:
        return None if newest[1].is_fenced_off(TS_MAX) else newest[1]
    found = reader.get_data_write(key, TS_MAX)
    return None if found is None else found[1]


def rollback(txn: MvccTxn, reader: MvccReader, user_key: bytes, for_update_ts: int) -> None:
    """Give a reservation back; a prewritten or newer lock, or none, is left alone."""
    key = keys.data_key(user_key)
    lock = reader.load_lock(key)
    if (
        lock is not None
        and lock.is_pessimistic
        and lock.start_ts == txn.start_ts
        and lock.for_update_ts <= for_update_ts
    ):
        txn.unlock(key)


def heart_beat(txn: MvccTxn, reader: MvccReader, primary: bytes, advise_ttl_ms: int, min_commit_ts: int = 0) -> int:
    """Raise the time to live of the primary's lock; return what it is now (ms). Raises TxnNotFound.

    `min_commit_ts` raises the lock's, of a transaction that flushes its writes in generations: it is long, and its readers must
    not wait for it. A lock of any other kind keeps its own.
    """
    key = keys.data_key(primary)
    lock = reader.load_lock(key)
    if lock is None or lock.start_ts != txn.start_ts:
        raise TxnNotFound(primary, txn.start_ts)
    raised = replace(lock, ttl_ms=max(lock.ttl_ms, advise_ttl_ms))
    if lock.generation and not lock.use_async_commit:
        raised = replace(raised, min_commit_ts=max(lock.min_commit_ts, min_commit_ts))
    if raised != lock:
        txn.put_lock(key, raised)
    return raised.ttl_ms
