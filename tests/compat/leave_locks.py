"""A client that dies in the middle of its work; run as a process of its own and killed by the test, or by itself.

python -m tests.compat.leave_locks wheel|ours reserve PD KEY      locks a key, says so, and waits to be killed
python -m tests.compat.leave_locks wheel|ours commit PD PREFIX N  says so, commits N keys, and ends at once
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from tikv_py.client.connect import connect_txn

VALUE = b"x" * 1000


async def begin(whose: str, pd: str, *, pessimistic: bool) -> Any:
    if whose == "wheel":
        from tikv_client import asynchronous  # noqa: PLC0415 only this side needs it

        client = await asynchronous.TransactionClient.connect([pd])
        return await client.begin(pessimistic=pessimistic)
    return await (await connect_txn([pd])).begin(pessimistic=pessimistic, try_one_pc=False, use_async_commit=False)


async def reserve(txn: Any, key: bytes) -> None:
    await txn.lock_keys([key])
    print("locked", flush=True)
    await asyncio.sleep(600)


async def commit(txn: Any, prefix: bytes, count: int) -> None:
    for number in range(count):
        written = txn.put(prefix + b"%04d" % number, VALUE)
        if written is not None:
            await written
    print("committing", flush=True)
    await txn.commit()
    os._exit(0)


async def main(whose: str, what: str, pd: str, key: str, *count: str) -> None:
    txn = await begin(whose, pd, pessimistic=what == "reserve")
    if what == "reserve":
        await reserve(txn, key.encode())
    else:
        await commit(txn, key.encode(), int(count[0]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
