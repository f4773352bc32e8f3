"""A hot counter: pessimistic locks make tasks wait for each other instead of failing at commit.

python -m examples.client.counter --pd 127.0.0.1:2379
"""

from __future__ import annotations

import asyncio

from examples.client.arguments import pd_endpoints
from tikv_py.client.connect import connect_txn
from tikv_py.client.txn.client import TxnClient

KEY = b"counter-example"
TASKS, ROUNDS = 8, 10


async def increment(client: TxnClient) -> None:
    """Lock, read, add one."""
    async with client.begin(pessimistic=True) as txn:
        value = (await txn.lock_keys([KEY], return_values=True))[KEY]  # the newest value, and nobody changes it now
        txn.put(KEY, b"%d" % (int(value or 0) + 1))


async def run(client: TxnClient) -> None:
    """Let many tasks count at once."""

    async def count() -> None:
        for _ in range(ROUNDS):
            await increment(client)

    async with client.begin() as txn:
        txn.delete(KEY)
    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(count())
    print("counted:", int(await client.snapshot(await client.timestamp()).get(KEY) or 0), "of", TASKS * ROUNDS)


async def main(endpoints: list[str]) -> None:
    """Connect, run, close."""
    async with await connect_txn(endpoints) as client:
        await run(client)


if __name__ == "__main__":
    asyncio.run(main(pd_endpoints("a pessimistic counter")))
