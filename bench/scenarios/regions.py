"""Many idle regions: what each costs a store in CPU and memory when nobody speaks to it.

    python -m bench regions

One region is split into REGIONS parts; the stores fall silent; then their CPU time is read over MEASURE_S seconds. Ticks are TiKV's
defaults (1 s), because a store with so many regions runs with those.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

import uvloop

from bench.load import Result, cpu_seconds
from bench.stores import StoreProcess, pss_bytes, stores_of
from protos.kvproto import kvrpcpb_pb2
from tidb_py.testing.playground import playground
from tikv_py.client.connect import connect_raw
from tikv_py.client.raw.client import RawClient
from tikv_py.client.region.sender import with_region_retries

REGIONS = int(os.environ.get("BENCH_REGIONS", "10000"))
PER_SPLIT = 64
QUIET_TIMEOUT_S = 1800.0
MEASURE_S = 60.0
PD_CONFIG = "[schedule]\nbalance-interval = '20ms'\n"  # leaders are spread sooner; what is measured comes after that
CONFIG = "[raftstore]\nraft-base-tick-interval = '1s'\npd-heartbeat-tick-interval = '60s'\n"


def key(number: int) -> bytes:
    """The first key of a region."""
    return b"idle%012d" % number


async def _split_all(client: RawClient) -> float:
    """Seconds until REGIONS regions exist, PER_SPLIT new ones at a time, from the right so that each split is of a small rest."""
    began = time.perf_counter()
    keys = [key(number) for number in range(1, REGIONS)]
    for at in range(0, len(keys), PER_SPLIT):
        await _split(client, keys[at : at + PER_SPLIT])
    return time.perf_counter() - began


async def _split(client: RawClient, keys: list[bytes]) -> None:
    backoffer = client.new_backoffer()

    async def attempt() -> None:
        region = await client.region_cache.locate_key(keys[-1], backoffer)
        request = kvrpcpb_pb2.SplitRegionRequest(split_keys=keys, is_raw_kv=True)
        await client.sender.send(region, "SplitRegion", request, backoffer=backoffer, timeout_s=60)

    await with_region_retries(backoffer, attempt)


async def _silence(stores: list[StoreProcess]) -> float:
    """Seconds until no peer is awake. Raises TimeoutError."""
    began = time.perf_counter()
    async with asyncio.timeout(QUIET_TIMEOUT_S):
        while True:
            pages = [store.page("/status") for store in stores]
            if all(page is not None and page["awake"] == 0 and page["regions"] >= REGIONS for page in pages):
                return time.perf_counter() - began
            await asyncio.sleep(2)


async def _measure() -> tuple[list[Result], list[str]]:
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "tikv.toml"
        config.write_text(CONFIG, encoding="utf-8")
        pd_config = Path(directory) / "pd.toml"
        pd_config.write_text(PD_CONFIG, encoding="utf-8")
        with playground("--db", "0", "--kv.config", str(config), "--pd.config", str(pd_config)) as cluster:
            async with await connect_raw([cluster.pd]) as client:
                await client.put(b"idle", b"1")
                stores = [store for _, store in sorted(stores_of(cluster).items())]
                await asyncio.sleep(15)  # three replicas, and the first heartbeats
                empty = [pss_bytes(store.pid) for store in stores]
                split_s = await _split_all(client)
                quiet_s = await _silence(stores)
                full = [pss_bytes(store.pid) for store in stores]
                before = [cpu_seconds(store.pid) for store in stores]
                began = time.perf_counter()
                await asyncio.sleep(MEASURE_S)
                took = time.perf_counter() - began
                shares = [(cpu_seconds(store.pid) - old) / took for store, old in zip(stores, before, strict=True)]
                woke = time.perf_counter()
                await client.put(key(REGIONS // 2), b"1")
                wake_ms = (time.perf_counter() - woke) * 1000
    per_region = [(now - old) / REGIONS for now, old in zip(full, empty, strict=True)]
    notes = [
        f"{REGIONS:,} regions on each of 3 stores, made in {split_s:.0f} s, all asleep {quiet_s:.0f} s later",
        f"idle CPU over {MEASURE_S:.0f} s: " + ", ".join(f"{share:.2%}" for share in shares) + " of a core",
        "memory per region: "
        + ", ".join(f"{one / 1024:.1f} KiB" for one in per_region)
        + f" (PSS of a store {full[0] / 2**20:.0f} MiB; {empty[0] / 2**20:.0f} MiB with one region)",
        f"first write to a sleeping region: {wake_ms:.0f} ms",
    ]
    return [], notes


def run(_operations: int) -> tuple[list[Result], list[str]]:
    """(rows, notes). Linux only: CPU and memory are read from /proc."""
    return uvloop.run(_measure())
