"""The life of a session's transaction: BEGIN, autocommit, savepoints, and one writing statement with its retries.

A statement outside a transaction gets an optimistic one of its own; when it loses against another it is run again in a pessimistic
one (unless the session wants optimistic ones), so that it waits for its turn. In a pessimistic transaction a statement locks what
it changes and is run again at a newer timestamp. A statement that fails hands no writes
over, so it leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from core_py.errors import DbError, RetryClass
from tidb_py.errors import SavepointMissing, SchemaChanged, WriteConflict
from tidb_py.executor.writer import WriteContext
from tidb_py.session.overlay import OverlayReader
from tidb_py.session.state import SessionState
from tidb_py.session.storage import Transaction

T = TypeVar("T")
MAX_ATTEMPTS = 20  # of one statement; then the conflict is the client's
MAX_LOCK_ATTEMPTS = (
    256  # of one statement that locks, each after somebody else's commit (pessimistic-txn.max-retry-count)
)


def is_conflict(error: DbError) -> bool:
    """Whether running again at a newer timestamp may help."""
    return isinstance(error, (WriteConflict, SchemaChanged)) or (
        error.retry is RetryClass.RESTART_TXN and error.mysql_code != 1213
    )


async def _commit(state: SessionState, txn: Transaction) -> None:
    """Commit, unless a table with writes is not any more what the writing statements knew: a new index would miss entries.

    The look at the schema comes after the writes are locked and the commit timestamp is taken, so a schema change is either
    seen by it or is later than it, and then its index building, which reads at a newer timestamp, meets the writes.
    """

    async def check() -> None:
        newest = await state.server.catalog.reload()
        for table_id, known in txn.written_tables.items():
            if newest.by_id(table_id) != known:
                raise SchemaChanged(
                    "Information schema is changed during the execution of the statement [try again later]"
                )

    if (
        not txn.dirty and txn.written_tables
    ):  # nothing matched: that must not be because the index that was read is gone
        await check()
    await txn.commit(check)


async def begin(state: SessionState, mode: str = "") -> None:
    """BEGIN: what was open is committed."""
    await commit(state)
    state.txn_schema = state.schema
    chosen = mode or state.variables.get("tidb_txn_mode") or "optimistic"
    state.txn = await state.server.storage.begin(pessimistic=chosen == "pessimistic")


async def commit(state: SessionState) -> None:
    """COMMIT."""
    txn, state.txn = state.txn, None
    state.savepoints.clear()
    if txn is not None:
        try:
            await _commit(state, txn)
        except BaseException:
            await txn.rollback()  # locks and heart beat must not outlive it
            raise


async def rollback(state: SessionState) -> None:
    """ROLLBACK."""
    txn, state.txn = state.txn, None
    state.savepoints.clear()
    if txn is not None:
        await txn.rollback()


async def ensure(state: SessionState) -> None:
    """With autocommit off, the first statement opens a transaction."""
    if state.txn is None and not state.autocommit:
        await begin(state)


def savepoint(state: SessionState, name: str) -> None:
    """SAVEPOINT."""
    if state.txn is None:
        return
    state.savepoints = [s for s in state.savepoints if s[0].lower() != name.lower()]
    state.savepoints.append((name, state.txn.savepoint()))


def _find(state: SessionState, name: str) -> int:
    for i, (known, _) in enumerate(state.savepoints):
        if known.lower() == name.lower():
            return i
    raise SavepointMissing(f"SAVEPOINT {name} does not exist")


def rollback_to(state: SessionState, name: str) -> None:
    """ROLLBACK TO."""
    at = _find(state, name)
    assert state.txn is not None
    state.txn.rollback_to(state.savepoints[at][1])
    del state.savepoints[at + 1 :]


def release(state: SessionState, name: str) -> None:
    """RELEASE SAVEPOINT."""
    del state.savepoints[_find(state, name) :]


async def write(state: SessionState, body: Callable[[WriteContext], Awaitable[T]]) -> T:
    """Run a writing statement."""
    await ensure(state)
    if state.txn is not None:
        return await _in_transaction(state, state.txn, body)
    attempt = 0
    while True:
        locking = attempt > 0 and state.variables.get("tidb_txn_mode") == "pessimistic"
        txn = await state.server.storage.begin(pessimistic=locking)
        try:
            result = await (_in_transaction if locking else _once)(state, txn, body)
            await _commit(state, txn)
            return result
        except DbError as error:
            await txn.rollback()
            attempt += 1
            if not is_conflict(error) or attempt >= MAX_ATTEMPTS:
                raise
            state.warnings.clear()
        except BaseException:
            await txn.rollback()
            raise


async def _in_transaction(state: SessionState, txn: Transaction, body: Callable[[WriteContext], Awaitable[T]]) -> T:
    attempt = 0
    while True:
        if txn.pessimistic:
            await txn.refresh_for_update_ts()
        try:
            return await _once(state, txn, body)
        except DbError as error:
            attempt += 1
            if not txn.pessimistic or not is_conflict(error) or attempt >= MAX_LOCK_ATTEMPTS:
                raise
            state.warnings.clear()


async def _once(state: SessionState, txn: Transaction, body: Callable[[WriteContext], Awaitable[T]]) -> T:
    ts = txn.for_update_ts if txn.pessimistic else txn.ts
    reader = OverlayReader(state.server.storage.snapshot(ts), txn)
    ctx = WriteContext(txn=txn, reader=reader, zone=state.zone(), warn=state.warn)
    txn.lock_wait_ms = int(state.variables.get("innodb_lock_wait_timeout")) * 1000
    result = await body(ctx)
    mark = txn.savepoint()
    try:
        txn.write(ctx.changes, ctx.unread)
    except BaseException:
        txn.rollback_to(mark)  # a transaction or an entry that is too large shows half-way
        raise
    for table_id, table in ctx.tables.items():
        txn.written_tables.setdefault(table_id, table)
    return result
