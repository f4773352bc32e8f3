"""Looks at the data disk every few seconds, in a thread: a disk that hangs must not take the loop with it.

What it finds decides which writes the store takes (`tikv_py.raftstore.disk_space`) and what PD is told: a store without room has
nothing available, so that PD moves replicas away and none there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core_py.ports import Workers
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from tikv_py.raftstore.disk_space import DiskSpace, DiskUsage
from tikv_py.server.metrics import StoreMetrics

INTERVAL_S = 2.0

DiskUse = Callable[[], tuple[int, int]]
"""(capacity, free) in bytes; blocks."""


class DiskWatch:
    """`capacity` and `free` are bytes, as last seen."""

    def __init__(
        self,
        space: DiskSpace,
        disk_use: DiskUse,
        reserved_bytes: int,
        workers: Workers,
        metrics: StoreMetrics,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._space = space
        self._disk_use = disk_use
        self._reserved_bytes = reserved_bytes
        self._workers = workers
        self._metrics = metrics
        self._scope = TaskScope("disk watch", on_failure=on_failure)
        self.capacity = self.free = 0

    async def start(self) -> None:
        """Look once, then again and again."""
        await self.look()
        self._scope.spawn(self._run(), name="disk watch")

    async def stop(self) -> None:
        """End."""
        await self._scope.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.look()

    async def look(self) -> None:
        """Measure now."""
        self.capacity, self.free = await self._workers.run(self._disk_use)
        before = self._space.own
        self._space.measured(self.free, self._reserved_bytes)
        usage = self._space.own
        self._metrics.disk.usage.set(int(usage))
        if usage is not before:
            say = get_logger().info if usage is DiskUsage.NORMAL else get_logger().error
            say("disk usage", usage=usage.name, free=self.free, reserved=self._reserved_bytes)

    @property
    def available(self) -> int:
        """What PD may count on."""
        return max(self.free - self._reserved_bytes, 0)
