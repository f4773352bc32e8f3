"""Region heartbeats into PD's cluster state, on one core: the cost of one, from ten thousand to a million regions.

Each report takes the path of a real one: bytes of the protobuf message, view, tree, statistics, hot caches. Nothing is
scheduled. Each size runs in a process of its own, so that memory can be read off the process.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import replace

from bench.load import Result, summarize
from pd_py.cluster.region_statistics import Limits, RegionStatistics
from pd_py.cluster.regions import Regions
from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.view import FlowKind, KeyRange, PeerKind
from protos.kvproto import pdpb_pb2

SIZES = (10_000, 100_000, 1_000_000)
STORES = 100
MIB = 1 << 20
CHUNK = 2_000


def key(number: int) -> bytes:
    """A start key as long as a row's of a table."""
    return b"t\x80\x00\x00\x00\x00\x00\x00\x53_r%010d" % number if number else b""


def report(number: int, total: int, rng: random.Random, *, leader: int = 0) -> pdpb_pb2.RegionHeartbeatRequest:
    """The heartbeat of a region with three replicas; `leader` says which of them leads."""
    request = pdpb_pb2.RegionHeartbeatRequest(
        term=6,
        approximate_size=80 * MIB + rng.randrange(0, MIB) if rng.random() < 0.1 else 80 * MIB,
        approximate_keys=700_000,
        bytes_written=rng.randrange(0, 40_000) if number % 50 else 4 * MIB,
        keys_written=rng.randrange(0, 100),
        bytes_read=rng.randrange(0, 40_000),
        keys_read=rng.randrange(0, 100),
    )
    request.interval.start_timestamp, request.interval.end_timestamp = 1_000, 1_060
    region = request.region
    region.id, region.start_key = number + 1, key(number)
    region.end_key = key(number + 1) if number + 1 < total else b""
    region.region_epoch.conf_ver, region.region_epoch.version = 5, 3
    for place in range(3):
        region.peers.add(id=10_000_000 + number * 3 + place, store_id=(number * 7 + place * 31) % STORES + 1)
    request.leader.CopyFrom(region.peers[leader])
    return request


def split_reports(number: int, total: int, new_id: int, rng: random.Random) -> list[bytes]:
    """The heartbeats of both halves of a region: the left one is new."""
    right, left = report(number, total, rng), report(number, total, rng)
    middle = key(number) + b"m"
    left.region.id, left.region.end_key, right.region.start_key = new_id, middle, middle
    for one in (left, right):
        one.region.region_epoch.version += 1
    return [left.SerializeToString(), right.SerializeToString()]


def rss_bytes() -> int:
    """This process's resident memory. Linux."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def timed(regions: Regions, reports: list[bytes], latencies: list[float], now: float) -> None:
    """Take reports in, one after the other."""
    parse, clock = pdpb_pb2.RegionHeartbeatRequest.FromString, time.perf_counter
    for data in reports:
        began = clock()
        assert regions.heartbeat(parse(data), now) is not None
        latencies.append(clock() - began)


def measure(total: int, operations: int) -> dict[str, object]:
    """Figures for one number of regions."""
    rng = random.Random(1)
    regions = Regions(RegionStatistics(Limits.of(ScheduleOptions())), 1800.0)
    before = rss_bytes()
    filling: list[float] = []
    order = list(range(total))
    rng.shuffle(order)
    for at in range(0, total, CHUNK):
        timed(regions, [report(n, total, rng).SerializeToString() for n in order[at : at + CHUNK]], filling, 0.0)
        regions.settle()
    del order
    grown = rss_bytes() - before - 8 * len(filling) - 24 * len(filling)
    steady: list[float] = []
    moved: list[float] = []
    split: list[float] = []
    drawn: list[float] = []
    for _ in range(0, operations, CHUNK):
        picks = [rng.randrange(0, total) for _ in range(CHUNK)]
        timed(regions, [report(n, total, rng).SerializeToString() for n in picks], steady, 60.0)
    for _ in range(0, operations // 10, CHUNK):
        picks = [rng.randrange(0, total) for _ in range(CHUNK)]
        timed(regions, [report(n, total, rng, leader=1).SerializeToString() for n in picks], moved, 120.0)
    for at, number in enumerate(rng.sample(range(1, total - 1), min(operations // 10, total // 10))):
        timed(regions, split_reports(number, total, 5_000_000 + at, rng), split, 180.0)
    for _ in range(CHUNK):
        low = rng.randrange(0, total)
        began = time.perf_counter()
        regions.tree.random(low % STORES + 1, PeerKind.FOLLOWER, [KeyRange(key(low), key(low + total // 10))], 5, rng)
        drawn.append(time.perf_counter() - began)
    regions.tree.scan(b"", b"", 10)
    names: list[tuple[str, list[float]]] = [
        ("heartbeat, new regions in random order", filling),
        ("heartbeat, nothing structural", steady),
        ("heartbeat, leader moved", moved),
        ("heartbeat, after a split", split),
        ("5 random followers in a tenth of the keys", drawn),
    ]
    rows = [summarize("tidb-py", f"{total:>9,} regions: {name}", 1, got, sum(got)).to_json() for name, got in names]
    return {"rows": rows, "bytes": grown / total, "hot": len(regions.hot[FlowKind.WRITE])}


def run(operations: int) -> tuple[list[Result], list[str]]:
    """(rows, notes)."""
    rows: list[Result] = []
    notes: list[str] = []
    for total in SIZES:
        command = [sys.executable, "-m", "bench.scenarios.heartbeats", str(total), str(operations)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows += [replace(Result(**row), server_cpu_us=()) for row in found["rows"]]
        notes.append(f"{total:,} regions over {STORES} stores: {found['bytes']:,.0f} bytes of memory per region")
    return rows, notes


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
