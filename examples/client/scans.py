"""Scans: forward, backward, in pages, and over a moment of the past while others write.

python -m examples.client.scans --pd 127.0.0.1:2379
"""

from __future__ import annotations

import asyncio

from examples.client.arguments import pd_endpoints
from tikv_py.client.connect import connect_txn
from tikv_py.client.txn.client import TxnClient

LOW, HIGH = b"scan-example/", b"scan-example0"  # "0" follows "/": all keys with the prefix


async def run(client: TxnClient) -> None:
    """Write 1000 keys and look at them in several ways."""
    async with client.begin() as txn:
        for number in range(1000):
            txn.put(LOW + b"%04d" % number, b"v%d" % number)

    snapshot = client.snapshot(await client.timestamp())
    print("the first:", [key async for key, _ in snapshot.scan(LOW, HIGH, 3)])
    print("the last:", [key async for key, _ in snapshot.scan(LOW, HIGH, 3, reverse=True)])
    print("keys only:", len([key async for key, _ in snapshot.scan(LOW, HIGH, key_only=True)]))

    cursor, pages = LOW, 0
    while page := [pair async for pair in snapshot.scan(cursor, HIGH, 300)]:
        cursor, pages = page[-1][0] + b"\0", pages + 1  # the smallest key behind the last one
    print("pages of 300:", pages)

    async with client.begin() as txn:
        txn.delete(LOW + b"0000")
        txn.put(LOW + b"zzzz", b"new")
        print("own writes included:", len([key async for key, _ in txn.scan(LOW, HIGH)]))
    print("the snapshot is as it was:", len([key async for key, _ in snapshot.scan(LOW, HIGH)]))


async def main(endpoints: list[str]) -> None:
    """Connect, run, close."""
    async with await connect_txn(endpoints) as client:
        await run(client)


if __name__ == "__main__":
    asyncio.run(main(pd_endpoints("scans")))
