"""One key that everybody increments: pessimistic transactions, 10, 100 and 1,000 of them at a time, on three stores.

A transaction locks the key and reads it, writes it one higher and commits, each step through the client that users have. The lock
makes them pass one at a time, so what is asked is how much is lost when more of them wait, and how long the unluckiest waits.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from bench.load import Result, summarize
from tidb_py.testing.playground import playground
from tikv_py.client.connect import connect_txn
from tikv_py.client.errors import WriteConflictError
from tikv_py.client.txn.client import TxnClient

WAITERS = (10, 100, 1000)
KEY = b"hot"
SECONDS_MAX = 60.0


async def _increment(client: TxnClient) -> int:
    """One transaction; returns how often its lock request met a newer commit."""
    txn = await client.begin(pessimistic=True)
    conflicts = 0
    while True:
        try:
            values = await txn.lock_keys([KEY], return_values=True, wait_ms=None)
            break
        except WriteConflictError:
            conflicts += 1
    txn.put(KEY, b"%d" % (int(values[KEY] or b"0") + 1))
    await txn.commit()
    return conflicts


async def _level(client: TxnClient, waiters: int, operations: int) -> tuple[Result, list[float], float]:
    """(row, seconds of every transaction, conflicts per transaction) of `waiters` that run until so many are done."""
    latencies: list[float] = []
    conflicts = 0
    numbers = iter(range(operations))
    ends = time.perf_counter() + SECONDS_MAX

    async def worker() -> None:
        nonlocal conflicts
        for _ in numbers:
            began = time.perf_counter()
            if began > ends:
                return
            met = await _increment(client)
            conflicts += met
            latencies.append(time.perf_counter() - began)

    began, cpu_began = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(waiters):
            group.create_task(worker())
    elapsed_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    row = summarize("tidb-py", "increment of one key", waiters, latencies, elapsed_s)
    return replace(row, client_cores=round(cpu_s / elapsed_s, 2)), latencies, conflicts / len(latencies)


async def _measure(pd_endpoint: str, operations: int) -> tuple[list[Result], list[str]]:
    rows, notes = [], []
    done = 0
    async with await connect_txn((pd_endpoint,)) as client:
        _, warm, _ = await _level(client, 10, 200)
        done += len(warm)
        for waiters in WAITERS:
            row, latencies, conflicts = await _level(client, waiters, max(operations, 2 * waiters))
            done += len(latencies)
            rows.append(row)
            share = row.per_second / rows[0].per_second
            turn_s = waiters / row.per_second
            notes.append(
                f"{waiters} waiters: {share:.0%} of the throughput with {WAITERS[0]}; longest transaction"
                f" {max(latencies):.2f} s, {max(latencies) / turn_s:.1f} times a fair turn of {turn_s:.2f} s;"
                f" {conflicts:.1f} conflicts per transaction"
            )
        value = await client.snapshot(await client.timestamp()).get(KEY)
        if value != b"%d" % done:
            raise RuntimeError(f"the counter is {value!r} after {done} increments")
    return rows, notes


def run(operations: int) -> tuple[list[Result], list[str]]:
    """(rows, notes)."""
    with playground("--db", "0") as cluster:
        return asyncio.run(_measure(cluster.pd, min(operations, 4_000)))
