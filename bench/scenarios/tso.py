"""Timestamps through the client from three PD members: single ones with many callers, and thousands at once.

Beside them the floor: the same client and messages, and a server that only counts.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path

import uvloop

from bench import pd
from bench.load import Result, drive
from bench.processes import free_ports, running, wait_for_port
from core_py.runtime.clock import SystemClock
from core_py.runtime.grpc_transport import GrpcTransport
from tikv_py.client.pd.client import PdClient

CALLERS = (1, 16, 256)
BATCH = 1_000
OURS, FLOOR = "tidb-py", "a server that only counts"


async def _drive(
    system: str, addresses: Sequence[str], pids: dict[str, int], operations: int
) -> tuple[list[Result], list[str]]:
    client = await PdClient.open(GrpcTransport(), list(addresses), SystemClock())
    leader = client.leader or ""
    ordered = [pids[leader], *[pid for address, pid in pids.items() if address != leader]]
    rows, notes = [], []

    def one(_number: int) -> Awaitable[object]:
        return client.timestamp()

    def many(_number: int) -> Awaitable[object]:
        return client.timestamps(BATCH)

    for callers in CALLERS:
        for name, operation, count in (("tso", one, 1), (f"tso, {BATCH} at once", many, BATCH)):
            size = operations // 10 if callers == 1 else operations
            trips, began = client.timestamp_round_trips, time.perf_counter()
            row = await drive(system, name, callers, size, operation, ordered)
            trips_s = (client.timestamp_round_trips - trips) / (time.perf_counter() - began)
            rows.append(row)
            notes.append(
                f"{system}, {name}, {callers} callers: {row.per_second * count:,.0f} timestamps/s in"
                f" {trips_s:,.0f} round trips/s, p99 {row.p99_ms:.2f} ms"
            )
    await client.close()
    return rows, notes


async def _both(members: list[pd.Member], floor: pd.Member, operations: int) -> tuple[list[Result], list[str]]:
    addresses = [member.address for member in members]
    rows, notes = await _drive(OURS, addresses, {member.address: member.pid for member in members}, operations)
    more, _ = await _drive(FLOOR, [floor.address], {floor.address: floor.pid}, operations)
    return rows + more, notes


def run(operations: int) -> tuple[list[Result], list[str]]:
    """The rows, and what they come to in timestamps."""
    with tempfile.TemporaryDirectory() as directory, pd.members(3) as members:
        (port,) = free_ports(1)
        with running([sys.executable, "-m", "bench.echo_pd", str(port)], Path(directory) / "floor.log") as process:
            wait_for_port(port)
            return uvloop.run(_both(members, pd.Member(f"127.0.0.1:{port}", process.pid), operations))
