"""The PyPI wheel and our client on the same keys at the same time: no update is lost, each finishes what the other left."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tidb_py.testing.playground import PlaygroundCluster
from tikv_py.client.connect import connect_raw, connect_txn
from tikv_py.client.raw.client import RawClient
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.transaction import Transaction

tikv_client = pytest.importorskip("tikv_client", reason="the wheel exists for CPython 3.11 and older")
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("processes")]

ROUNDS = 15
ACCOUNTS = 6
START_BALANCE = 100
KEYS_OF_THE_DEAD = 300


@pytest_asyncio.fixture
async def ours(cluster: PlaygroundCluster) -> AsyncIterator[TxnClient]:
    async with await connect_txn([cluster.pd]) as client:
        yield client


@pytest_asyncio.fixture
async def wheel(cluster: PlaygroundCluster) -> Any:
    return await tikv_client.asynchronous.TransactionClient.connect([cluster.pd])


@pytest_asyncio.fixture
async def our_raw(cluster: PlaygroundCluster) -> AsyncIterator[RawClient]:
    async with await connect_raw([cluster.pd], cf="default") as client:
        yield client


async def now(ours: TxnClient, key: bytes) -> bytes | None:
    return await ours.snapshot(await ours.timestamp()).get(key)


async def wheel_now(wheel: Any) -> Any:
    return wheel.snapshot(await wheel.current_timestamp(), pessimistic=False)


async def with_wheel(wheel: Any, work: Any, *, pessimistic: bool) -> None:
    """Run a transaction of the wheel again until it commits, as its users have to."""
    pause = random.Random(1)
    for _ in range(200):
        txn = await wheel.begin(pessimistic=pessimistic)
        try:
            await work(txn)
            await txn.commit()
            return
        except Exception as error:  # it has one type for everything
            if not any(word in str(error) for word in ("onflict", "ocked", "eadlock", "esolve")):
                raise
            if pessimistic:
                await txn.rollback()
            await asyncio.sleep(pause.random() * 0.02)
    raise AssertionError("no commit in 200 attempts")


async def test_raw_keys(cluster: PlaygroundCluster, our_raw: RawClient) -> None:
    theirs = await tikv_client.asynchronous.RawClient.connect([cluster.pd])
    await theirs.put(b"beside-a", b"theirs")
    await our_raw.put(b"beside-b", b"ours")
    assert await our_raw.get(b"beside-a") == b"theirs"
    assert await theirs.get(b"beside-b") == b"ours"
    pairs = [(b"beside-a", b"theirs"), (b"beside-b", b"ours")]
    assert await our_raw.scan(b"beside-", b"beside-z") == await theirs.scan(b"beside-", b"beside-z", 10) == pairs
    await theirs.delete_range(b"beside-", b"beside-z")
    assert await our_raw.scan(b"beside-", b"beside-z") == []


async def test_each_sees_the_others_commits(ours: TxnClient, wheel: Any) -> None:
    txn = await wheel.begin(pessimistic=False)
    await txn.put(b"seen-by-us", b"1")
    await txn.commit()
    assert await now(ours, b"seen-by-us") == b"1"
    async with ours.begin() as own:
        own.put(b"seen-by-them", b"2")
    assert await (await wheel_now(wheel)).get(b"seen-by-them") == b"2"


@pytest.mark.parametrize("pessimistic", [True, False])
async def test_a_counter_both_increment(ours: TxnClient, wheel: Any, *, pessimistic: bool) -> None:
    key = b"counter-%d" % pessimistic

    async def our_increment(txn: Transaction) -> None:
        if pessimistic:
            value = (await txn.lock_keys([key], return_values=True))[key]
        else:
            value = await txn.get(key)
        txn.put(key, b"%d" % (int(value or 0) + 1))

    async def their_increment(txn: Any) -> None:
        value = await (txn.get_for_update(key) if pessimistic else txn.get(key))
        await txn.put(key, b"%d" % (int(value or 0) + 1))

    async def we() -> None:
        for _ in range(ROUNDS):
            await ours.run_in_transaction(our_increment, retries=200, pessimistic=pessimistic)

    async def they() -> None:
        for _ in range(ROUNDS):
            await with_wheel(wheel, their_increment, pessimistic=pessimistic)

    await asyncio.gather(we(), we(), they(), they())
    assert await now(ours, key) == await (await wheel_now(wheel)).get(key) == b"%d" % (4 * ROUNDS)


async def test_transfers(ours: TxnClient, wheel: Any) -> None:
    """Money moves between accounts in both clients' transactions; every snapshot of either has all of it."""
    accounts = [b"account-%d" % number for number in range(ACCOUNTS)]
    async with ours.begin() as txn:
        for account in accounts:
            txn.put(account, b"%d" % START_BALANCE)
    working = True

    async def transfer(txn: Any, source: bytes, target: bytes, amount: int) -> None:
        balances = {account: int(await txn.get(account)) for account in (source, target)}
        for account, change in ((source, -amount), (target, amount)):
            written = txn.put(account, b"%d" % (balances[account] + change))
            if written is not None:
                await written

    async def we(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(ROUNDS):
            source, target = rng.sample(accounts, 2)
            amount = rng.randint(1, 20)
            await ours.run_in_transaction(lambda txn: transfer(txn, source, target, amount), retries=200)  # noqa: B023

    async def they(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(ROUNDS):
            source, target = rng.sample(accounts, 2)
            amount = rng.randint(1, 20)
            await with_wheel(wheel, lambda txn: transfer(txn, source, target, amount), pessimistic=False)  # noqa: B023

    async def watch() -> int:
        looks = 0
        while working:
            mine = await ours.snapshot(await ours.timestamp()).batch_get(accounts)
            other = dict(await (await wheel_now(wheel)).batch_get(accounts))
            for seen in (mine, other):
                assert sum(int(value) for value in seen.values()) == ACCOUNTS * START_BALANCE
            looks += 1
            await asyncio.sleep(0.01)
        return looks

    watching = asyncio.get_running_loop().create_task(watch())
    await asyncio.gather(we(1), we(2), they(3), they(4))
    working = False
    assert await watching > 3


async def dying(*arguments: str) -> asyncio.subprocess.Process:
    """A client that is about to die; returns when it says how far it is."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.compat.leave_locks", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    while (line := await process.stdout.readline()).strip() not in (b"locked", b"committing"):
        assert line, f"{arguments} said nothing"
    return process


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def patient_scan(wheel: Any, prefix: bytes) -> Any:
    """The wheel gives up on locks before their time is up, and its users ask again."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await (await wheel_now(wheel)).scan(prefix, prefix + b"z", KEYS_OF_THE_DEAD + 1)
            except Exception as error:
                if "resolve lock" not in str(error):
                    raise
                await asyncio.sleep(0.1)


async def all_or_nothing(cluster: PlaygroundCluster, ours: TxnClient, wheel: Any, whose: str) -> None:
    """Killed at different moments of its commit; what it left locked is settled by whoever reads first."""
    prefixes = [b"dead-%s-%d/" % (whose.encode(), number) for number in range(3)]
    for number, prefix in enumerate(prefixes):
        process = await dying(whose, "commit", cluster.pd, prefix.decode(), str(KEYS_OF_THE_DEAD))
        if number < 2:
            await asyncio.sleep(0.02 + 0.05 * number)
            await end(process)
        else:
            assert await process.wait() == 0  # it committed, and ended before its secondaries were told
    counts = []
    for prefix in prefixes:
        if whose == "wheel":
            snapshot = ours.snapshot(await ours.timestamp())
            found = [pair async for pair in snapshot.scan(prefix, prefix + b"z")]
        else:
            found = await patient_scan(wheel, prefix)
        counts.append(len(list(found)))
    assert set(counts) <= {0, KEYS_OF_THE_DEAD}
    assert counts[2] == KEYS_OF_THE_DEAD


async def taken_over(cluster: PlaygroundCluster, ours: TxnClient, wheel: Any) -> None:
    """Each takes over a key that a killed process of the other reserved, once its time is up."""
    theirs = await dying("wheel", "reserve", cluster.pd, "reserved-by-them")
    own = await dying("ours", "reserve", cluster.pd, "reserved-by-us")
    await end(theirs)
    await end(own)

    async def we() -> None:
        async with ours.begin(pessimistic=True) as txn:
            await txn.lock_keys([b"reserved-by-them"], wait_ms=40_000)
            txn.put(b"reserved-by-them", b"taken over")

    async def they() -> None:
        async def take(txn: Any) -> None:
            await txn.get_for_update(b"reserved-by-us")
            await txn.put(b"reserved-by-us", b"taken over")

        async with asyncio.timeout(40):
            while True:
                try:
                    await with_wheel(wheel, take, pessimistic=True)
                    return
                except AssertionError:
                    continue

    await asyncio.gather(we(), they())
    assert await now(ours, b"reserved-by-us") == await now(ours, b"reserved-by-them") == b"taken over"


async def test_what_dead_clients_left(cluster: PlaygroundCluster, ours: TxnClient, wheel: Any) -> None:
    """At once, because reservations live for 20 seconds."""
    await asyncio.gather(
        taken_over(cluster, ours, wheel),
        all_or_nothing(cluster, ours, wheel, "wheel"),
        all_or_nothing(cluster, ours, wheel, "ours"),
    )
