"""The transaction of a schema change or of a batch of an index: optimistic, and run again from its start after a conflict.

DDL reads little and conflicts seldom, so it takes no locks beforehand. What a body reads, it reads in the transaction it is
given, so a repetition sees what the faster one wrote.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tidb_py.errors import WriteConflict
from tidb_py.session.storage import Storage, Transaction

MAX_RETRIES = 30  # of one transaction; what changes more often than that stops the statement


async def run_in_transaction(storage: Storage, body: Callable[[Transaction], Awaitable[None]]) -> None:
    """Run `body` in a transaction and commit. Raises WriteConflict after `MAX_RETRIES`, and whatever `body` raises."""
    for attempt in range(MAX_RETRIES):
        txn = await storage.begin(pessimistic=False)
        try:
            await body(txn)
            await txn.commit()
        except WriteConflict:
            await txn.rollback()
            if attempt == MAX_RETRIES - 1:
                raise
        except BaseException:
            await txn.rollback()
            raise
        else:
            return
