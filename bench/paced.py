"""Open-loop load: operations begin at a fixed rate whether or not those before them have ended.

A latency counts from the moment at which its operation was due, so a stall is seen by every operation that it delayed.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bench.load import Result, summarize
from core_py.errors import DbError

TIMER_S = 0.001  # what uvloop's timers count in; operations that fell due meanwhile begin together
MAX_IN_FLIGHT = 20_000  # beyond it operations begin late, which their latencies show


@dataclass(slots=True)
class Paced:
    """What became of every operation. Times are seconds of `time.perf_counter`."""

    per_second: float
    operation: Callable[[int], Awaitable[object]]
    done: list[tuple[float, float]] = field(default_factory=list)
    """(due, ended) of those that succeeded."""
    failed: list[tuple[float, str]] = field(default_factory=list)
    """(due, error)."""

    async def run(self, stop: asyncio.Event) -> None:
        """Begin operations until `stop` is set, then wait for those that run."""
        limit = asyncio.Semaphore(MAX_IN_FLIGHT)
        began, number = time.perf_counter(), 0
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                due = began + number / self.per_second
                if due > time.perf_counter():
                    await asyncio.sleep(TIMER_S)  # a shorter sleep would be none, and this loop would take a core
                    continue
                await limit.acquire()
                group.create_task(self._one(number, due, limit))
                number += 1

    async def _one(self, number: int, due: float, limit: asyncio.Semaphore) -> None:
        try:
            await self.operation(number)
            self.done.append((due, time.perf_counter()))
        except DbError as error:
            self.failed.append((due, f"{type(error).__name__}: {error}"))
        finally:
            limit.release()

    def between(self, system: str, workload: str, low: float, high: float) -> Result | None:
        """A row of the operations that were due in a time; None when there were none."""
        latencies = [ended - due for due, ended in self.done if low <= due < high]
        return summarize(system, workload, 0, latencies, high - low) if latencies else None

    def longest_gap_ms(self, low: float, high: float) -> float:
        """The longest time without an acknowledgement, beginning in [low, high)."""
        ends = sorted(ended for _, ended in self.done)
        return 1000 * max((b - a for a, b in itertools.pairwise(ends) if low <= a < high), default=0.0)

    def failures(self, low: float, high: float) -> int:
        """How many failed of those that were due in a time."""
        return sum(low <= due < high for due, _ in self.failed)
