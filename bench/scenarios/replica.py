"""A region of about 96 MB gets a new replica: PD moves one from a store that was killed to a fourth, empty one.

Measured: from the start of the snapshot until it is applied and until the new replica is a voter, what clients notice meanwhile,
and how much memory both sides take for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from pathlib import Path

from bench.load import Result
from bench.paced import Paced
from bench.stores import StoreProcess, leader_first, memory_mb, region_of, stores_of
from tidb_py.testing.playground import PlaygroundCluster, playground
from tikv_py.client.connect import connect_raw
from tikv_py.client.raw.client import RawClient

REGION_BYTES = 96 << 20
VALUE_BYTES = 1_000
BATCH = 200
WRITES_PER_S = 500
BASELINE_S = 5.0
READY_TIMEOUT_S = 120.0
VOTER = 0

PD_CONFIG = '[schedule]\nmax-store-down-time = "5s"\n'
KV_CONFIG = """[raftstore]
pd-store-heartbeat-tick-interval = "1s"
pd-heartbeat-tick-interval = "2s"
[coprocessor]
region-max-size = "4GB"
region-split-size = "3GB"
region-max-keys = 100000000
region-split-keys = 90000000
"""


def key(number: int) -> bytes:
    """Loaded keys; foreground writes go to the same region beside them."""
    return b"load%012d" % number


async def _load(client: RawClient) -> None:
    noise = os.urandom(1 << 20)
    count = REGION_BYTES // (VALUE_BYTES + len(key(0)))
    for start in range(0, count, BATCH):
        pairs = {
            key(number): noise[(number * 37) % (len(noise) - VALUE_BYTES) :][:VALUE_BYTES]
            for number in range(start, min(start + BATCH, count))
        }
        await client.batch_put(pairs)


async def _until_voter(leader: StoreProcess, target: StoreProcess, region_id: int) -> float:
    """When the target's replica is a voter that has caught up. Raises TimeoutError."""
    async with asyncio.timeout(READY_TIMEOUT_S):
        while True:
            page = await asyncio.to_thread(leader.page, f"/region/{region_id}")
            own = await asyncio.to_thread(target.page, f"/region/{region_id}")
            if page is not None and own is not None:
                is_voter = any(peer["store_id"] == target.id and peer["role"] == VOTER for peer in page["peers"])
                if is_voter and own["applied"] > 0 and own["leader"]:
                    return time.time()
            await asyncio.sleep(0.05)


async def _move(client: RawClient, cluster: PlaygroundCluster) -> tuple[list[Result], list[str]]:
    await _load(client)
    stores = stores_of(cluster)
    region = await region_of(client, key(0))
    leader, *followers = leader_first(stores, region)
    target = next(store for store in stores.values() if store not in (leader, *followers))
    memory = [memory_mb(store.pid, "VmRSS") for store in (leader, target)]
    load, stop = (
        Paced(WRITES_PER_S, lambda number: client.put(b"more%012d" % (number % 1000), b"x" * 100)),
        asyncio.Event(),
    )
    wall = time.time() - time.perf_counter()
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(stop))
        await asyncio.sleep(1.0)
        quiet = time.perf_counter()
        await asyncio.sleep(BASELINE_S)
        os.kill(followers[0].pid, signal.SIGKILL)
        killed = time.perf_counter()
        voter_at = await _until_voter(leader, target, region.id) - wall
        stop.set()
    sent = [at for at in leader.logged_at("sending snapshot") if at - wall > killed]
    applied = [at for at in target.logged_at("snapshot applied") if at - wall > killed]
    if not sent or not applied:
        return [], ["new replica: it came without a snapshot; see the logs"]
    began, ended = sent[0] - wall, applied[-1] - wall
    name = f"raw put, {WRITES_PER_S:,}/s"
    rows = [
        load.between("tidb-py", f"{name}, three replicas", quiet, killed),
        load.between("tidb-py", f"{name}, one of three away", killed, began),
        load.between("tidb-py", f"{name}, while a snapshot is sent", began, ended),
    ]
    peaks = [memory_mb(store.pid, "VmHWM") for store in (leader, target)]
    seconds, megabytes = ended - began, REGION_BYTES / (1 << 20)
    gap, quiet_gap = load.longest_gap_ms(began, ended), load.longest_gap_ms(quiet, killed)
    notes = [
        f"new replica: {megabytes:.0f} MB sent and applied in {seconds:.2f} s ({megabytes / seconds:.0f} MB/s)",
        f"new replica: a voter {voter_at - began:.2f} s after the snapshot was begun; {len(sent)} snapshot(s) sent",
        f"new replica: longest time without an acknowledged write {gap:.0f} ms, {quiet_gap:.0f} ms before it",
        f"new replica: {len(load.failed)} of {len(load.done)} client calls failed",
        f"new replica: memory of the sender {memory[0]:.0f} MB before, {peaks[0]:.0f} MB at most (the load included)",
        f"new replica: memory of the receiver {memory[1]:.0f} MB before, {peaks[1]:.0f} MB at most",
    ]
    return [row for row in rows if row is not None], notes


async def new_replica() -> tuple[list[Result], list[str]]:
    """(rows, notes)."""
    with tempfile.TemporaryDirectory() as directory:
        pd_config, kv_config = Path(directory) / "pd.toml", Path(directory) / "kv.toml"
        pd_config.write_text(PD_CONFIG, encoding="utf-8")
        kv_config.write_text(KV_CONFIG, encoding="utf-8")
        arguments = ("--db", "0", "--kv", "4", "--pd.config", str(pd_config), "--kv.config", str(kv_config))
        with playground(*arguments) as cluster:
            async with await connect_raw([cluster.pd]) as client:
                return await _move(client, cluster)
