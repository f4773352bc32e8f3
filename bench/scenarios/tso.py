"""Timestamps through the client from three PD members: single ones with many callers, and thousands at once."""

from __future__ import annotations

import time
from collections.abc import Awaitable

import uvloop

from bench import pd
from bench.load import Result, drive
from core_py.runtime.clock import SystemClock
from core_py.runtime.grpc_transport import GrpcTransport
from tikv_py.client.pd.client import PdClient

CALLERS = (1, 16, 256)
BATCH = 1_000


async def _ours(members: list[pd.Member], operations: int) -> tuple[list[Result], list[str]]:
    client = await PdClient.open(GrpcTransport(), [member.address for member in members], SystemClock())
    leader = next(member for member in members if member.address == client.leader)
    others = [member for member in members if member is not leader]
    pids = [leader.pid, *[member.pid for member in others]]
    rows, notes = [], []

    def one(_number: int) -> Awaitable[object]:
        return client.timestamp()

    def many(_number: int) -> Awaitable[object]:
        return client.timestamps(BATCH)

    for callers in CALLERS:
        for name, operation, count in (("tso", one, 1), (f"tso, {BATCH} at once", many, BATCH)):
            size = operations // 10 if callers == 1 else operations
            trips, began = client.timestamp_round_trips, time.perf_counter()
            row = await drive("tidb-py", name, callers, size, operation, pids)
            elapsed_s = time.perf_counter() - began
            trips_s = (client.timestamp_round_trips - trips) / elapsed_s
            rows.append(row)
            notes.append(
                f"{name}, {callers} callers: {row.per_second * count:,.0f} timestamps/s in {trips_s:,.0f} round trips/s,"
                f" p99 {row.p99_ms:.2f} ms"
            )
    await client.close()
    return rows, notes


def run(operations: int) -> tuple[list[Result], list[str]]:
    """The rows, and what they come to in timestamps."""
    with pd.members(3) as members:
        return uvloop.run(_ours(members, operations))
