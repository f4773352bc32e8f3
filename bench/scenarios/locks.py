"""Locks of a client that died: what they cost those who come after it.

    python -m bench locks

A client prewrites KEYS keys over REGIONS regions and dies before it commits. Another client scans them at once, which pushes the
dead transaction behind the scan; a writer of one key has to wait until the time to live is over; then a third client, which
knows nothing, reads all keys, in all regions at once, and removes the locks. Figures: how long each took beside the time to live,
and how many requests it sent.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from typing import Any

import uvloop

from bench.load import Result
from core_py.codec import ts as tso
from tidb_py.testing.playground import playground
from tikv_py.client.connect import connect_txn
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.commit_plan import CommitPlan, CommitState
from tikv_py.client.txn.heartbeat import HeartBeat
from tikv_py.client.txn.mutations import choose_primary, collect
from tikv_py.client.txn.prewrite import Prewriter

KEYS = int(os.environ.get("BENCH_LOCKS", "10000"))
REGIONS = 8
SETTLE_S = 15.0


def key(number: int) -> bytes:
    """A key of the scenario."""
    return b"lock%08d" % number


async def _prewrite_and_die(pd: str) -> tuple[int, int, float]:
    """Returns start_ts, time to live (ms) and how long the prewrite took."""
    client = await connect_txn([pd])
    txn = await client.begin()
    for number in range(KEYS):
        txn.put(key(number), b"v" * 16)
    mutations = collect(txn.buffer, ())
    began = time.monotonic()
    primary = choose_primary(mutations, None)
    plan = CommitPlan(txn.start_ts, primary, mutations, began, try_one_pc=False, use_async_commit=False)
    state = CommitState(plan)
    heart_beat = HeartBeat(client._context, primary, txn.start_ts, began)
    ttl_ms = state.ttl_ms(time.monotonic())
    await Prewriter(client._context, state, heart_beat).run()
    took = time.monotonic() - began
    heart_beat.stop()
    await client.close()
    return txn.start_ts, ttl_ms, took


def _count(client: TxnClient) -> Counter[str]:
    """Counts the client's requests to stores from now on."""
    sent: Counter[str] = Counter()
    send = client.sender.send

    async def counted(region: Any, name: str, *arguments: Any, **options: Any) -> Any:
        sent[name] += 1
        return await send(region, name, *arguments, **options)

    client.sender.send = counted  # type: ignore[method-assign,assignment]
    return sent


async def _scan(client: TxnClient) -> tuple[int, float]:
    """(pairs found, seconds)."""
    snapshot = client.snapshot(await client.timestamp())
    began = time.monotonic()
    found = [pair async for pair in snapshot.scan(key(0), key(KEYS))]
    return len(found), time.monotonic() - began


async def _age_ms(client: TxnClient, start_ts: int) -> int:
    return tso.physical_ms(await client.timestamp()) - tso.physical_ms(start_ts)


def _said(sent: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(sent.items()))


async def _measure() -> tuple[list[Result], list[str]]:
    notes = []
    with playground("--db", "0") as cluster:
        async with await connect_txn([cluster.pd]) as client:
            await client.split_region([key(number) for number in range(KEYS // REGIONS, KEYS, KEYS // REGIONS)])
            await asyncio.sleep(SETTLE_S)
            start_ts, ttl_ms, took_s = await _prewrite_and_die(cluster.pd)
            notes.append(f"{KEYS:,} keys over {REGIONS} regions prewritten in {took_s:.2f} s; time to live {ttl_ms} ms")
            sent = _count(client)
            found, took_s = await _scan(client)
            notes.append(f"scan at once: {found} pairs after {took_s * 1000:.0f} ms ({_said(sent)})")
            sent.clear()
            async with client.begin() as txn:
                txn.put(key(KEYS // 2), b"mine")
            late_ms = await _age_ms(client, start_ts) - ttl_ms
            notes.append(f"writer of one key: committed {late_ms} ms after the time to live ({_said(sent)})")
        async with await connect_txn([cluster.pd]) as late:
            sent = _count(late)
            snapshot = late.snapshot(await late.timestamp())
            began = time.monotonic()
            values = await snapshot.batch_get([key(number) for number in range(KEYS)])
            took_ms = (time.monotonic() - began) * 1000
            await late.drain(60)
            notes.append(f"a new client reads all keys: {len(values)} pairs after {took_ms:.0f} ms ({_said(sent)})")
            found, took_s = await _scan(late)
            notes.append(f"scan without any lock: {found} pairs after {took_s * 1000:.0f} ms")
    return [], notes


def run(_operations: int) -> tuple[list[Result], list[str]]:
    """(rows, notes)."""
    return uvloop.run(_measure())
