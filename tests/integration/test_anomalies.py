"""The named anomalies, and the verdict of snapshot isolation on each: at the client, over real stores.

The same names in SQL: tests/integration/test_sql_anomalies.py; on the bare rules: tests/unit/mvcc/test_anomalies.py.

Snapshot isolation forbids all of them but write skew, which is shown to happen (and to be prevented by FOR UPDATE). A blocked
statement is a task that has not ended after `SOON_S` of virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.sql_cluster import SqlFront, with_sql
from tests.support.storage_cluster import StorageCluster
from tikv_py.client.errors import WriteConflictError
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.transaction import Transaction

SOON_S = 0.3
X, Y = b"x", b"y"
MODES = pytest.mark.parametrize("pessimistic", [False, True], ids=["optimistic", "pessimistic"])


async def blocked(task: asyncio.Task[Any]) -> bool:
    """Whether a task still waits."""
    await asyncio.sleep(SOON_S)
    return not task.done()


def spawn(work: Awaitable[Any]) -> asyncio.Task[Any]:
    """Run beside the test."""

    async def run() -> Any:
        return await work

    return asyncio.get_running_loop().create_task(run())


# ---- client -----------------------------------------------------------------------------------------------------------


def with_client(test: Callable[[TxnClient], Awaitable[None]]) -> None:
    """Run with x = y = 50, each in a region of its own."""

    async def body(_cluster: StorageCluster, front: SqlFront) -> None:
        await front.client.split_region([b"y"])
        async with front.client.begin() as txn:
            txn.put(X, b"50")
            txn.put(Y, b"50")
        await test(front.client)

    with_sql(body)


async def values(client: TxnClient) -> list[bytes | None]:
    """x and y now."""
    found = await client.snapshot(await client.timestamp()).batch_get([X, Y])
    return [found.get(X), found.get(Y)]


async def outcome(txn: Transaction) -> str:
    """How a commit ends."""
    try:
        await txn.commit()
    except WriteConflictError:
        return "conflict"
    return "committed"


@MODES
def test_dirty_write(pessimistic: bool) -> None:
    async def body(client: TxnClient) -> None:
        one, two = [await client.begin(pessimistic=pessimistic) for _ in range(2)]
        if pessimistic:
            await one.lock_keys([X])
            second = spawn(two.lock_keys([X, Y], for_update_ts=await client.timestamp()))
            assert await blocked(second)
        for key in (X, Y):
            one.put(key, b"1")
            two.put(key, b"2")
        assert await outcome(one) == "committed"
        if pessimistic:
            with pytest.raises(WriteConflictError):
                await second
            await two.rollback()
        else:
            assert await outcome(two) == "conflict"
        assert await values(client) == [b"1", b"1"]

    with_client(body)


@MODES
def test_dirty_read(pessimistic: bool) -> None:
    async def body(client: TxnClient) -> None:
        one = await client.begin(pessimistic=pessimistic)
        one.put(X, b"1")
        if pessimistic:
            await one.lock_keys([X])
        assert await values(client) == [b"50", b"50"]
        await one.rollback()
        assert await values(client) == [b"50", b"50"]

    with_client(body)


@MODES
def test_lost_update(pessimistic: bool) -> None:
    async def body(client: TxnClient) -> None:
        async def add(amount: int) -> str:
            txn = await client.begin(pessimistic=pessimistic)
            if pessimistic:
                while True:
                    try:
                        found = await txn.lock_keys([X], return_values=True)
                        break
                    except WriteConflictError:
                        continue
            else:
                found = dict(await txn.batch_get([X]))
            await asyncio.sleep(0.05)
            txn.put(X, b"%d" % (int(found[X] or b"") + amount))
            return await outcome(txn)

        ends = await asyncio.gather(add(1), add(10), add(100))
        if pessimistic:
            assert list(ends) == ["committed"] * 3
            assert (await values(client))[0] == b"161"
        else:
            assert sorted(ends) == ["committed", "conflict", "conflict"]
            assert (await values(client))[0] == b"%d" % (50 + (1, 10, 100)[ends.index("committed")])

    with_client(body)


def test_read_skew() -> None:
    async def body(client: TxnClient) -> None:
        reader = await client.begin()
        assert await reader.get(X) == b"50"
        async with client.begin() as writer:
            writer.put(X, b"0")
            writer.put(Y, b"100")
        assert await reader.get(Y) == b"50"
        assert await values(client) == [b"0", b"100"]

    with_client(body)


def test_fuzzy_read() -> None:
    async def body(client: TxnClient) -> None:
        reader = await client.begin()
        assert await reader.get(X) == b"50"
        for number in (b"1", b"2"):
            async with client.begin() as writer:
                writer.put(X, number)
            assert await reader.get(X) == b"50"
            assert await reader.batch_get([X]) == {X: b"50"}
        assert (await values(client))[0] == b"2"

    with_client(body)


def test_phantom() -> None:
    """A range over two regions, read twice while keys come into it and leave it."""

    async def body(client: TxnClient) -> None:
        async def keys_of(ts: int) -> list[bytes]:
            return [key async for key, _ in client.snapshot(ts).scan(X, b"z")]

        ts = await client.timestamp()
        assert await keys_of(ts) == [X, Y]
        async with client.begin() as writer:
            writer.put(b"xx", b"1")
            writer.put(b"yy", b"1")
            writer.delete(X)
        assert await keys_of(ts) == [X, Y]
        assert await keys_of(await client.timestamp()) == [b"xx", Y, b"yy"]

    with_client(body)


def test_read_between_the_phases_of_a_commit() -> None:
    """The primary is committed, the secondary still locked: readers that began later see both."""

    async def body(client: TxnClient) -> None:
        send = client.sender.send

        async def hold_secondaries(region: Any, name: str, request: Any, **options: Any) -> Any:
            if name == "KvCommit" and X not in request.keys:
                await asyncio.sleep(60)
            return await send(region, name, request, **options)

        client.sender.send = hold_secondaries  # type: ignore[method-assign,assignment]
        async with client.begin() as writer:
            writer.put(X, b"0")
            writer.put(Y, b"100")
        assert await client.snapshot((1 << 64) - 1).get(Y) == b"100"
        assert await values(client) == [b"0", b"100"]
        assert [pair async for pair in client.snapshot(await client.timestamp()).scan(b"", b"")][-2:] == [
            (X, b"0"), (Y, b"100"),
        ]  # fmt: skip

    with_client(body)


def test_write_skew_is_allowed_and_locking_what_was_read_prevents_it() -> None:
    async def body(client: TxnClient) -> None:
        one, two = await client.begin(), await client.begin()
        for txn, key in ((one, X), (two, Y)):
            found = await txn.batch_get([X, Y])
            assert sum(map(int, found.values())) == 100
            txn.put(key, b"-50")
        assert [await outcome(one), await outcome(two)] == ["committed", "committed"]
        assert await values(client) == [b"-50", b"-50"]
        one, two = [await client.begin(pessimistic=True) for _ in range(2)]
        await one.lock_keys([X, Y])
        second = spawn(two.lock_keys([X, Y], for_update_ts=await client.timestamp()))
        assert await blocked(second)
        one.put(X, b"0")
        await one.commit()
        with pytest.raises(WriteConflictError):
            await second
        await two.rollback()

    with_client(body)


def test_long_fork() -> None:
    """Two independent writes are seen in one order by everybody."""

    async def body(client: TxnClient) -> None:
        seen: list[tuple[int, int]] = []
        stop = False

        async def write(key: bytes) -> None:
            for number in range(1, 30):
                async with client.begin() as txn:
                    txn.put(key, b"%d" % number)
                await asyncio.sleep(0.003)

        async def read() -> None:
            while not stop:
                found = await values(client)
                seen.append((int(found[0] or b"") % 50, int(found[1] or b"") % 50))
                await asyncio.sleep(0.001)

        readers = [spawn(read()) for _ in range(4)]
        await asyncio.gather(write(X), write(Y))
        stop = True
        await asyncio.gather(*readers)
        assert len(set(seen)) > 5
        for a in seen:
            for b in seen:
                assert not (a[0] > b[0] and a[1] < b[1]), f"{a} and {b} saw the writes in different orders"

    with_client(body)
