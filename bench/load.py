"""Closed-loop load: a number of workers, each with one operation in flight, for a fixed number of operations; exact percentiles."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Result:
    """One row of a table. Latencies in milliseconds."""

    system: str
    workload: str
    in_flight: int
    operations: int
    per_second: float
    p50_ms: float
    p99_ms: float
    client_cores: float | None = None
    """CPU seconds of this process for each second of the run: near 1.0, the client is what limits the row."""
    server_cpu_us: tuple[float, ...] = ()
    """CPU microseconds per operation of each server process, the leader's first."""

    def to_json(self) -> dict[str, object]:
        """For the JSON file."""
        return asdict(self)


def summarize(system: str, workload: str, in_flight: int, latencies_s: list[float], elapsed_s: float) -> Result:
    """A row from raw latencies."""
    ordered = sorted(latencies_s)
    count = len(ordered)
    return Result(
        system,
        workload,
        in_flight,
        count,
        count / elapsed_s,
        ordered[count // 2] * 1000,
        ordered[min(count - 1, count * 99 // 100)] * 1000,
    )


async def drive(
    system: str,
    workload: str,
    in_flight: int,
    operations: int,
    operation: Callable[[int], Awaitable[object]],
    server_pids: Sequence[int] = (),
) -> Result:
    """Run `operation(number)` for every number, `in_flight` at a time; a tenth more is run first and not counted."""
    numbers = iter(range(operations // 10))
    await _workers(in_flight, numbers, operation, [])
    latencies: list[float] = []
    numbers = iter(range(operations))
    servers_began = [cpu_seconds(pid) for pid in server_pids]
    began, cpu_began = time.perf_counter(), time.process_time()
    await _workers(in_flight, numbers, operation, latencies)
    elapsed_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    servers_s = [cpu_seconds(pid) - before for pid, before in zip(server_pids, servers_began, strict=True)]
    return replace(
        summarize(system, workload, in_flight, latencies, elapsed_s),
        client_cores=round(cpu_s / elapsed_s, 2),
        server_cpu_us=tuple(round(used * 1e6 / operations, 1) for used in servers_s),
    )


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used, in steps of a clock tick (10 ms). Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _workers(
    in_flight: int, numbers: object, operation: Callable[[int], Awaitable[object]], latencies: list[float]
) -> None:
    async def worker() -> None:
        for number in numbers:  # type: ignore[attr-defined]
            began = time.perf_counter()
            await operation(number)
            latencies.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(worker())
