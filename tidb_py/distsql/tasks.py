"""Coprocessor tasks: a request's ranges cut by region, and how many tasks run at once.

A task has at most MAX_RANGES ranges. Tasks of few rows (look-ups by key) are cheap for the stores, so they get extra
concurrency: res / (1 + 0.5 * sqrt(2 * ln res)), at most 20 per core.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from core_py.vector.arrow import Vec
from tidb_py.distsql.ranges import KeyRange, KeyRanges

MAX_RANGES = 25_000
SMALL_TASK_ROWS = 32
SMALL_CONCURRENCY_PER_CORE = 20
MIN_PAGING, MAX_PAGING, LARGE_PAGING = 128, 8192, 50_000
QUEUE_DEPTH = 2  # answers of one task waiting for their turn; a full queue makes the task's worker wait


@dataclass(slots=True)
class CopTask:
    """What one request to one region asks."""

    region: Any
    ranges: KeyRanges
    paging: int = 0  # 0: the whole answer at once
    answers: asyncio.Queue[list[Vec] | BaseException | None] = field(
        default_factory=lambda: asyncio.Queue(maxsize=QUEUE_DEPTH)
    )

    @property
    def is_small(self) -> bool:
        """Whether it can only give a few rows: all its ranges are single keys."""
        if len(self.ranges) > SMALL_TASK_ROWS:
            return False
        return all(len(end) == len(start) + 1 and end[:-1] == start for start, end in self.ranges)


def cut(groups: Sequence[tuple[Any, Sequence[KeyRange]]], *, paging: int, desc: bool) -> list[CopTask]:
    """Tasks of ranges that are grouped by region."""
    tasks = []
    for region, ranges in groups:
        for start in range(0, len(ranges), MAX_RANGES):
            stop = min(start + MAX_RANGES, len(ranges))
            tasks.append(CopTask(region, KeyRanges(ranges, start, stop), paging))
    return tasks[::-1] if desc else tasks


def small_task_concurrency(tasks: Sequence[CopTask], cores: int) -> int:
    """Extra workers for small tasks."""
    count = sum(1 for task in tasks if task.is_small)
    if count < 2:
        return 0
    extra = int(count / (1 + 0.5 * math.sqrt(2 * math.log(count))))
    return min(extra, SMALL_CONCURRENCY_PER_CORE * cores)


def next_paging(paging: int) -> int:
    """Pages double up to the limit."""
    limit = MAX_PAGING if paging <= MAX_PAGING else LARGE_PAGING
    return min(paging * 2, limit)


class MemoryTracker:
    """Bytes of answers that wait for the reader. Above the quota workers pause (the rate-limit action); one always goes on."""

    def __init__(self, quota: int) -> None:
        self._quota = quota
        self.used = 0
        self.peak = 0
        self._room = asyncio.Event()
        self._room.set()

    def consume(self, size: int) -> None:
        """An answer came."""
        self.used += size
        self.peak = max(self.peak, self.used)
        if self.used > self._quota:
            self._room.clear()

    def release(self, size: int) -> None:
        """An answer was read."""
        self.used -= size
        if self.used <= self._quota:
            self._room.set()

    async def wait_for_room(self) -> None:
        """Pause while the quota is exceeded."""
        await self._room.wait()
