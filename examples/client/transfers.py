"""Money transfers with `run_in_transaction`: conflicts are met by running the function again, so it must be repeatable.

python -m examples.client.transfers --pd 127.0.0.1:2379
"""

from __future__ import annotations

import asyncio
from functools import partial

from examples.client.arguments import pd_endpoints
from tikv_py.client.connect import connect_txn
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.transaction import Transaction

ACCOUNTS = [b"transfer-example/%d" % number for number in range(5)]


async def transfer(source: bytes, target: bytes, amount: int, txn: Transaction) -> bool:
    """Move money unless the source has too little; nothing but the transaction is touched."""
    balances = await txn.batch_get([source, target])
    if int(balances[source]) < amount:
        return False
    txn.put(source, b"%d" % (int(balances[source]) - amount))
    txn.put(target, b"%d" % (int(balances[target]) + amount))
    return True


async def run(client: TxnClient) -> None:
    """Twenty transfers at once; the sum stays what it was."""
    async with client.begin() as txn:
        for account in ACCOUNTS:
            txn.put(account, b"100")
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            source, target = ACCOUNTS[number % 5], ACCOUNTS[(number * 2 + 1) % 5]
            if source != target:
                work = partial(transfer, source, target, 7)
                group.create_task(client.run_in_transaction(work, retries=50))
    balances = await client.snapshot(await client.timestamp()).batch_get(ACCOUNTS)
    print("sum:", sum(int(value) for value in balances.values()), "of", 100 * len(ACCOUNTS))


async def main(endpoints: list[str]) -> None:
    """Connect, run, close."""
    async with await connect_txn(endpoints) as client:
        await run(client)


if __name__ == "__main__":
    asyncio.run(main(pd_endpoints("transfers with retries")))
