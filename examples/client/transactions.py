"""Transactions: all writes at once or none, reads of one moment, and what happens when two want the same key.

python -m examples.client.transactions --pd 127.0.0.1:2379
"""

from __future__ import annotations

import asyncio

from examples.client.arguments import pd_endpoints
from tikv_py.client.connect import connect_txn
from tikv_py.client.errors import WriteConflictError
from tikv_py.client.txn.client import TxnClient

KEY = b"txn-example/k"


async def run(client: TxnClient) -> None:
    """Commit, roll back, meet a conflict, and read the past."""
    async with client.begin() as txn:  # commits at the end
        txn.put(KEY, b"1")
        txn.put(KEY + b"2", b"2")
        print("own writes are seen:", await txn.get(KEY))
    before = await client.timestamp()

    try:
        async with client.begin() as txn:
            txn.put(KEY, b"never")
            raise RuntimeError("an exception rolls back")
    except RuntimeError as error:
        print(error)

    first, second = await client.begin(), await client.begin()
    for number, txn in enumerate((first, second)):
        value = await txn.get(KEY) or b"0"
        txn.put(KEY, b"%d" % (int(value) + 10 + number))
    await first.commit()
    try:
        await second.commit()
    except WriteConflictError:
        print("the second to commit has to begin again")

    print("now:", await client.snapshot(await client.timestamp()).get(KEY))
    print("a moment ago:", await client.snapshot(before).batch_get([KEY, KEY + b"2"]))


async def main(endpoints: list[str]) -> None:
    """Connect, run, close."""
    async with await connect_txn(endpoints) as client:
        await run(client)


if __name__ == "__main__":
    asyncio.run(main(pd_endpoints("transactions")))
