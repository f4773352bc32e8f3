"""An optimistic transaction that meets the lock of one that began later gives way at once.

It cannot commit: the other one commits after its start, or is rolled back too late to matter. If it waits instead, two
transactions that prewrote their keys in different orders wait for each other until a lock expires, 3 s later. In every
circle somebody older meets somebody newer, so giving way there ends all of them. client-go does the same.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.test_anomalies import SOON_S, X, Y, blocked, spawn, with_client
from tikv_py.client.errors import WriteConflictError
from tikv_py.client.txn.client import TxnClient


def test_the_older_transaction_gives_way_at_once() -> None:
    async def test(client: TxnClient) -> None:
        older = await client.begin()
        newer = await client.begin()
        go_on = asyncio.Event()
        newer.put(X, b"new")
        held = spawn(newer.commit(before_commit=go_on.wait))  # type: ignore[arg-type]
        assert await blocked(held), "the newer one holds its lock"
        older.put(X, b"old")
        older.put(Y, b"old")
        giving_way = spawn(older.commit())
        is_waiting = await blocked(giving_way)
        go_on.set()
        await held
        with pytest.raises(WriteConflictError):
            await giving_way
        assert not is_waiting, f"still waiting after {SOON_S} s"

    with_client(test)
