"""What a transaction costs beside what it is made of, three durable replicas, all in one run.

A write of one key committed in one phase stands beside a raw put of the same key and value: in one call (`TxnClient.write`), and as
a transaction that is begun and committed. A pessimistic read-modify-write of two keys (lock and read both, write both, commit)
stands beside its floor: one timestamp and two durable rounds, one after the other, which no protocol that locks before it commits
can do without.
"""

from __future__ import annotations

from functools import partial

import uvloop

from bench.load import Result, drive
from tidb_py.testing.playground import PlaygroundCluster, playground
from tikv_py.client.connect import connect_raw, connect_txn
from tikv_py.client.raw.client import RawClient
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.transaction import Transaction

VALUE = b"x" * 100
KEYS = 20_000
WINDOWS = (1, 16, 64, 256)


def key(number: int) -> bytes:
    """Spread over the key space, so that transactions do not meet."""
    return b"txn%016d" % (number * 7919 % KEYS)


async def one_call(client: TxnClient, number: int) -> None:
    """A write of one key in one call."""
    await client.write({key(number): VALUE})


async def one_key(client: TxnClient, number: int) -> None:
    """A write of one key."""
    async with client.begin() as txn:
        txn.put(key(number), VALUE)


async def two_keys(client: TxnClient, number: int) -> None:
    """Read two keys for update, write both."""
    first, second = key(number), key(number + KEYS // 2)

    async def work(txn: Transaction) -> None:
        await txn.lock_keys([first, second], return_values=True)
        txn.put(first, VALUE)
        txn.put(second, VALUE)

    await client.run_in_transaction(work, pessimistic=True, retries=1000)


async def floor(raw: RawClient, txn: TxnClient, number: int) -> None:
    """A timestamp and two durable rounds."""
    await txn.timestamp()
    await raw.put(b"f" + key(number), VALUE)
    await raw.put(b"f" + key(number), VALUE)


async def _run(operations: int) -> tuple[list[Result], list[str]]:
    with playground("--db", "0") as ready:
        return await _rows(ready, operations), [
            "the raw put and the floor are measured in the same run, on the same stores"
        ]


async def _rows(cluster: PlaygroundCluster, operations: int) -> list[Result]:
    rows = []
    async with await connect_raw([cluster.pd]) as raw, await connect_txn([cluster.pd]) as txn:
        await one_key(txn, 0)

        async def put(number: int) -> None:
            await raw.put(b"r" + key(number), VALUE)

        for in_flight in WINDOWS:
            count = max(operations // 6, operations * min(in_flight, 64) // 64)
            rows.append(await drive("tidb-py", "one key", in_flight, count, partial(one_call, txn)))
            rows.append(await drive("begin, commit", "one key", in_flight, count, partial(one_key, txn)))
            rows.append(await drive("raw put", "one key", in_flight, count, put))
            rows.append(await drive("tidb-py", "two keys, pessimistic", in_flight, count // 2, partial(two_keys, txn)))
            rows.append(await drive("floor", "two keys, pessimistic", in_flight, count // 2, partial(floor, raw, txn)))
    return rows


def run(operations: int) -> tuple[list[Result], list[str]]:
    """(rows, notes)."""
    return uvloop.run(_run(operations))
