"""Testing one's own code without any server: a cluster in memory that can be made to misbehave.

python -m pytest examples/client/unit_test.py    or    python -m examples.client.unit_test
"""

from __future__ import annotations

import asyncio

from core_py.region_errors import ServerIsBusy
from tikv_py.client.testing.cluster import memory_cluster
from tikv_py.client.testing.faults import Delay, once
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.transaction import Transaction


async def register(client: TxnClient, name: bytes) -> int:
    """The code under test: a number for every name, given once."""

    async def work(txn: Transaction) -> int:
        known = await txn.get(b"names/" + name)
        if known is not None:
            return int(known)
        number = int(await txn.get(b"next") or 1)
        txn.put(b"names/" + name, b"%d" % number)
        txn.put(b"next", b"%d" % (number + 1))
        return number

    return await client.run_in_transaction(work, retries=50)


async def test_numbers_are_given_once() -> None:
    """Many at a time, over two regions."""
    async with memory_cluster(split_at=[b"next"]) as cluster:
        client = await cluster.txn_client()
        names = [b"n%d" % (number % 7) for number in range(20)]
        numbers = await asyncio.gather(*(register(client, name) for name in names))
        assert {dict(zip(names, numbers, strict=True))[name] for name in names} == set(range(1, 8))


async def test_a_busy_store_and_a_lost_answer() -> None:
    """Faults are hooks: before a command runs, or after it has taken effect."""
    async with memory_cluster() as cluster:
        client = await cluster.txn_client()
        cluster.before.append(once("KvGet", ServerIsBusy("overloaded", backoff_ms=10)))
        cluster.before.append(once("KvPrewrite", Delay(0.05)))
        cluster.after.append(once("KvPrewrite"))  # the connection breaks: what became of it?
        assert await register(client, b"name") == 1
        assert await register(client, b"name") == 1


async def main() -> None:
    """Run both without pytest."""
    await test_numbers_are_given_once()
    await test_a_busy_store_and_a_lost_answer()
    print("both tests pass")


if __name__ == "__main__":
    asyncio.run(main())
