"""What the clients of one region see while its replicas change: a leader is killed, hands over, is split, gets a new replica.

Real processes of a playground with its default ticks (100 ms, so an election takes one to two seconds). Rows with 0 in flight
are open loop at the rate that they name.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import uvloop

from bench.load import Result
from bench.paced import Paced
from bench.scenarios.replica import new_replica
from bench.stores import leader_first, region_of, stores_of, transfer_leader, wait_for_leader
from protos.kvproto import kvrpcpb_pb2, metapb_pb2
from tidb_py.testing.playground import PlaygroundCluster, playground
from tikv_py.client.connect import connect_raw
from tikv_py.client.raw.client import RawClient
from tikv_py.client.region.regions import Region

VALUE = b"x" * 100
KEYS = 20_000
ROUNDS = 5
WRITES_PER_S = 2_000
SPLITS = 8
SETTLE_S = 2.0
Rows = tuple[list[Result], list[str]]
Transfer = Callable[[dict[int, metapb_pb2.Store], Region, metapb_pb2.Peer], Awaitable[None]]


def key(number: int) -> bytes:
    """A 20-byte key, spread over the key space."""
    return b"bench%015d" % (number * 7919 % KEYS)


def spread(name: str, figures: Sequence[float], unit: str) -> str:
    """A note with median, maximum and all figures."""
    listed = ", ".join(f"{figure:,.0f}" for figure in figures)
    return f"{name}: median {statistics.median(figures):,.0f} {unit}, maximum {max(figures):,.0f} {unit} ({listed})"


async def _kill_once(cluster: PlaygroundCluster) -> float:
    async with await connect_raw([cluster.pd]) as client:
        stores = stores_of(cluster)
        for number in range(200):
            await client.put(key(number), VALUE)
        leader = leader_first(stores, await region_of(client, key(0)))[0]
        os.kill(leader.pid, signal.SIGKILL)
        began = time.perf_counter()
        await client.put(key(0), VALUE)
        return (time.perf_counter() - began) * 1000


async def leader_kill() -> Rows:
    """kill -9 of the leader's process until the next write is acknowledged, by a client that was writing before."""
    figures = []
    for _ in range(ROUNDS):
        with playground("--db", "0") as cluster:
            figures.append(await _kill_once(cluster))
    return [], [spread(f"leader killed with -9 until the next acknowledged write, {ROUNDS} clusters", figures, "ms")]


async def leader_transfer(client: RawClient, cluster: PlaygroundCluster, transfer: Transfer = transfer_leader) -> Rows:
    """Leadership moves on request, under writes. `transfer` asks the leader of a region to hand over to one of its peers."""
    stores = stores_of(cluster)
    addresses = {store.id: store for store in await client.pd.get_all_stores()}
    load, stop = Paced(WRITES_PER_S, lambda number: client.put(key(number), VALUE)), asyncio.Event()
    gaps, quiet, refused = [], [], 0
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(stop))
        await asyncio.sleep(SETTLE_S)
        began = time.perf_counter()
        for _ in range(ROUNDS):
            region = await region_of(client, key(0))
            target = next(peer for peer in region.meta.peers if peer.store_id != region.leader.store_id)
            asked = time.perf_counter()
            await transfer(addresses, region, target)
            refused += not await wait_for_leader(stores, region.id, target.store_id, 5.0)
            await asyncio.sleep(SETTLE_S)
            gaps.append(load.longest_gap_ms(asked, asked + SETTLE_S / 2))
            quiet.append(load.longest_gap_ms(asked + SETTLE_S / 2, time.perf_counter()))
        ended = time.perf_counter()
        stop.set()
    row = load.between("tidb-py", f"raw put, {WRITES_PER_S:,}/s, {ROUNDS} leader transfers", began, ended)
    notes = [
        spread("leader transfer: longest time without an acknowledged write", gaps, "ms"),
        spread("... and in the second after it, when nothing happens", quiet, "ms"),
        f"leader transfer: {load.failures(began, ended)} of {len(load.done)} client calls failed",
        f"leader transfer: {refused} of {ROUNDS} did not take place",
    ]
    return [row] if row is not None else [], notes


async def _split(client: RawClient, at: bytes) -> None:
    backoffer = client.new_backoffer()
    region = await client.region_cache.locate_key(at, backoffer)
    request = kvrpcpb_pb2.SplitRegionRequest(split_keys=[at], is_raw_kv=True)
    await client.sender.send(region, "SplitRegion", request, backoffer=backoffer)


async def splitting(client: RawClient) -> Rows:
    """Splits of the region that is written to, one after the other."""
    load, stop = Paced(WRITES_PER_S, lambda number: client.put(key(number), VALUE)), asyncio.Event()
    gaps, took = [], []
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(stop))
        await asyncio.sleep(SETTLE_S)
        before = time.perf_counter()
        await asyncio.sleep(SETTLE_S)
        began = time.perf_counter()
        for number in range(1, SPLITS + 1):
            asked = time.perf_counter()
            await _split(client, b"bench%015d" % (KEYS * number // (SPLITS + 1)))
            took.append((time.perf_counter() - asked) * 1000)
            await asyncio.sleep(0.5)
            gaps.append(load.longest_gap_ms(asked, time.perf_counter()))
        ended = time.perf_counter()
        stop.set()
    rows = [
        load.between("tidb-py", f"raw put, {WRITES_PER_S:,}/s, nothing else", before, began),
        load.between("tidb-py", f"raw put, {WRITES_PER_S:,}/s, {SPLITS} splits", began, ended),
    ]
    notes = [
        spread("split: longest time without an acknowledged write", gaps, "ms"),
        f"... and in the time before the splits: {load.longest_gap_ms(before, began):,.0f} ms",
        spread("split: SplitRegion call", took, "ms"),
        f"split: {load.failures(began, ended)} of {len(load.done)} client calls failed",
    ]
    return [row for row in rows if row is not None], notes


async def _run() -> Rows:
    rows, notes = await leader_kill()
    with playground("--db", "0") as cluster:
        async with await connect_raw([cluster.pd]) as client:
            for number in range(KEYS // 10):
                await client.put(key(number), VALUE)
            for part in (await leader_transfer(client, cluster), await splitting(client)):
                rows, notes = rows + part[0], notes + part[1]
    more_rows, more_notes = await new_replica()
    return rows + more_rows, notes + more_notes


def run(_operations: int) -> Rows:
    """(rows, notes). The number of operations is given by rates and times here."""
    return uvloop.run(_run())
