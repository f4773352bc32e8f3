"""Pessimistic locks: reserve a key before writing it, keep the reservation alive, give it back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core_py.codec.ts import TS_MAX
from tikv_py.mvcc import keys
from tikv_py.mvcc.errors import (
    AlreadyExist,
    KeyIsLocked,
    PessimisticLockNotFound,
    PessimisticLockRolledBack,
    TxnNotFound,
    WriteConflict,
)
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.mvcc.write import WriteType


@dataclass(frozen=True, slots=True)
class LockProps:
    """What all keys of a lock request share. `for_update_ts` is the snapshot the statement works on."""

    primary: bytes
    start_ts: int
    for_update_ts: int
    lock_ttl_ms: int
    min_commit_ts: int = 0
    lock_only_if_exists: bool = False


def acquire(
    txn: MvccTxn, reader: MvccReader, props: LockProps, user_key: bytes, *, should_not_exist: bool
) -> bytes | None:
    """Lock a key; return its newest committed value (None when it has none).

    Raises KeyIsLocked, WriteConflict (PessimisticRetry), PessimisticLockRolledBack, AlreadyExist, PessimisticLockNotFound.
    """
    key = keys.data_key(user_key)
    lock = reader.load_lock(key)
    if lock is not None and lock.start_ts != props.start_ts:
        raise KeyIsLocked(user_key, lock)
    if lock is not None and not lock.is_pessimistic:
        raise PessimisticLockNotFound(user_key, props.start_ts, "the key is prewritten already")
    if lock is None:
        _check_writes(reader, key, props, user_key)
    found = reader.get_data_write(key, TS_MAX)
    if should_not_exist and found is not None:
        raise AlreadyExist(user_key, found[1].start_ts)
    value = None if found is None else reader.value_of(key, found[1])
    if lock is not None:
        if props.for_update_ts > lock.for_update_ts:
            txn.put_lock(key, _renewed(lock, props))
    elif value is not None or not props.lock_only_if_exists:
        txn.put_lock(key, _new_lock(props))
    return value


def _renewed(lock: Lock, props: LockProps) -> Lock:
    """A reservation taken again; the primary may be another one when the first statement that locked was given up."""
    return replace(
        lock,
        primary=props.primary,
        for_update_ts=props.for_update_ts,
        ttl_ms=max(lock.ttl_ms, props.lock_ttl_ms),
        min_commit_ts=max(lock.min_commit_ts, props.min_commit_ts),
    )


def _new_lock(props: LockProps) -> Lock:
    return Lock(
        LockType.PESSIMISTIC,
        props.primary,
        props.start_ts,
        props.lock_ttl_ms,
        for_update_ts=props.for_update_ts,
        min_commit_ts=props.min_commit_ts,
    )


def _check_writes(reader: MvccReader, key: bytes, props: LockProps, user_key: bytes) -> None:
    found = reader.seek_write(key, TS_MAX)
    if found is None:
        return
    commit_ts, write = found
    if commit_ts >= props.start_ts:
        record = reader.commit_record(key, props.start_ts)
        if record is not None and not record.committed:
            raise PessimisticLockRolledBack(user_key, props.start_ts)
    while write.write_type in (WriteType.ROLLBACK, WriteType.LOCK) and commit_ts > props.for_update_ts:
        if write.write_type is WriteType.LOCK:
            break
        found = reader.seek_write(key, commit_ts - 1)
        if found is None:
            return
        commit_ts, write = found
    if commit_ts > props.for_update_ts:
        raise WriteConflict(
            user_key,
            props.primary,
            start_ts=props.start_ts,
            conflict=(write.start_ts, commit_ts),
            reason="PessimisticRetry",
        )


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


def heart_beat(txn: MvccTxn, reader: MvccReader, primary: bytes, advise_ttl_ms: int) -> int:
    """Raise the time to live of the primary's lock; return what it is now (ms). Raises TxnNotFound."""
    key = keys.data_key(primary)
    lock = reader.load_lock(key)
    if lock is None or lock.start_ts != txn.start_ts:
        raise TxnNotFound(primary, txn.start_ts)
    if lock.ttl_ms >= advise_ttl_ms:
        return lock.ttl_ms
    txn.put_lock(key, replace(lock, ttl_ms=advise_ttl_ms))
    return advise_ttl_ms
