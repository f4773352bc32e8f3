"""Raw keys: no transactions, one key at a time is atomic. The fastest way in and out.

python -m examples.client.raw --pd 127.0.0.1:2379
"""

from __future__ import annotations

import asyncio

from examples.client.arguments import pd_endpoints
from tikv_py.client.connect import connect_raw
from tikv_py.client.raw.client import RawClient


async def run(client: RawClient) -> None:
    """Write, read, scan, swap and remove keys below "raw-example/"."""
    await client.put(b"raw-example/a", b"1")
    print("a =", await client.get(b"raw-example/a"))

    await client.batch_put({b"raw-example/%03d" % number: b"v%d" % number for number in range(1000)})
    print("two of them:", await client.batch_get([b"raw-example/001", b"raw-example/999", b"raw-example/none"]))
    print("the first three:", await client.scan(b"raw-example/", b"raw-example/z", 3))
    print(
        "the last two, keys only:", await client.scan(b"raw-example/", b"raw-example/z", 2, reverse=True, key_only=True)
    )

    count = 0
    async for _key, _value in client.iterate(
        b"raw-example/", b"raw-example/z"
    ):  # a page at a time, from region to region
        count += 1
    print("all in all:", count)

    await client.delete_range(b"raw-example/", b"raw-example/z")
    print("left:", await client.scan(b"raw-example/", b"raw-example/z"))


async def main(endpoints: list[str]) -> None:
    """Connect, run, close."""
    async with await connect_raw(endpoints) as client:
        await run(client)


if __name__ == "__main__":
    asyncio.run(main(pd_endpoints("raw keys")))
