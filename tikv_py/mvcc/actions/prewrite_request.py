"""A whole prewrite request: its keys one after the other, and what their answers mean together.

All keys are locked or none is. Foreign locks are collected, so that the client settles them in one go; any other refusal ends the
request. When one key cannot be committed fast (its timestamp would be above the client's limit, or it was prewritten without
before), the whole request falls back to two phases: what was prepared for one phase becomes ordinary locks, and the client is
answered zero timestamps, the protocol's way to say so.

A request that arrives again after its transaction was committed succeeds and names the commit timestamp: with one-phase and async
commit the client has no other way to learn it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tikv_py.mvcc import keys
from tikv_py.mvcc.actions.prewrite import Mutation, PrewriteProps, prewrite
from tikv_py.mvcc.errors import (
    AssertionFailed,
    CommitTsTooLarge,
    KeyIsLocked,
    PessimisticLockNotFound,
    TxnError,
    WriteConflict,
)
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.mvcc.write import committed_write


@dataclass(frozen=True, slots=True)
class Prewritten:
    """What came of a request. With errors nothing is written; timestamps are 0 where two phases are to follow."""

    errors: tuple[TxnError, ...] = ()
    min_commit_ts: int = 0
    one_pc_commit_ts: int = 0


def prewrite_all(txn: MvccTxn, reader: MvccReader, props: PrewriteProps, mutations: Sequence[Mutation]) -> Prewritten:
    """Decide on all keys; the changes are in `txn`."""
    locked: list[TxnError] = []
    assertion: AssertionFailed | None = None
    wished = props.fast
    commit_ts = 0
    for mutation in mutations:
        try:
            least = prewrite(txn, reader, props, mutation)
        except (KeyIsLocked, CommitTsTooLarge, WriteConflict, PessimisticLockNotFound) as error:
            if committed_ts := _committed_before(reader, props, mutation):
                txn.clear()
                return _answer(wished is not None and wished.one_pc, wished is not None, committed_ts)
            if isinstance(error, KeyIsLocked):
                locked.append(error)
            elif isinstance(error, CommitTsTooLarge):
                props, commit_ts = _fall_back(txn, props), 0
            else:
                txn.clear()
                return _refused(error)
        except AssertionFailed as error:
            assertion = assertion or error  # anything else says more about the cause
        except TxnError as error:
            txn.clear()
            return _refused(error)
        else:
            if props.fast is not None and not least:
                props, commit_ts = _fall_back(txn, props), 0
            commit_ts = max(commit_ts, least) if props.fast is not None else 0
    if assertion is not None and not locked:
        locked.append(assertion)
    if locked:
        txn.clear()
        return Prewritten(tuple(locked))
    fast = props.fast
    if fast is not None and fast.one_pc:
        _commit_at_once(txn, commit_ts)
    return _answer(fast is not None and fast.one_pc, fast is not None, commit_ts)


def _refused(error: TxnError) -> Prewritten:
    return Prewritten((error,))


def _answer(one_pc: bool, fast: bool, commit_ts: int) -> Prewritten:
    if one_pc:
        return Prewritten(one_pc_commit_ts=commit_ts)
    return Prewritten(min_commit_ts=commit_ts if fast else 0)


def _fall_back(txn: MvccTxn, props: PrewriteProps) -> PrewriteProps:
    """From here on two phases: nobody needs the locks before they are in the log, and prepared keys get ordinary ones.

    Locks with async commit that are written already keep their mark: a reader who resolves them finds a key without it and takes
    the transaction for an ordinary one.
    """
    for key, lock, _ in txn.one_pc_locks:
        txn.put_lock(key, replace(lock, use_async_commit=False, secondaries=()))
    txn.one_pc_locks.clear()
    txn.memory_locks.clear()
    return replace(props, fast=None)


def _commit_at_once(txn: MvccTxn, commit_ts: int) -> None:
    """One phase: commit records in the place of locks. They cannot hide a rollback: none is written above `max_ts`."""
    for key, lock, was_pessimistic in txn.one_pc_locks:
        txn.put_write(key, commit_ts, committed_write(lock))
        if was_pessimistic:
            txn.unlock(key)


def _committed_before(reader: MvccReader, props: PrewriteProps, mutation: Mutation) -> int:
    """The commit timestamp of this transaction on the key; 0 when it has none."""
    record = reader.commit_record(keys.data_key(mutation.user_key), props.start_ts)
    return record.commit_ts if record is not None and record.committed else 0
