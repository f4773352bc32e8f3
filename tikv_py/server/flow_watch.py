"""Asks the database once a second how far behind it is, in a thread, and tells the flow control; an idle store asks nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core_py.ports import Workers
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from tikv_py.engine.port import Engine
from tikv_py.server.metrics import FlowMetrics
from tikv_py.txn.flow_control import FlowController

INTERVAL_S = 1.0


class FlowWatch:
    """One per store."""

    def __init__(
        self,
        flow: FlowController,
        engine: Engine,
        workers: Workers,
        metrics: FlowMetrics,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._flow = flow
        self._engine = engine
        self._workers = workers
        self._metrics = metrics
        self._scope = TaskScope("flow watch", on_failure=on_failure)

    def start(self) -> None:
        """Begin."""
        self._scope.spawn(self._run(), name="flow watch")

    async def stop(self) -> None:
        """End."""
        await self._scope.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            if not self._flow.idle:
                await self.look()

    async def look(self) -> None:
        """Measure now."""
        flow, metrics = self._flow, self._metrics
        pressure = await self._workers.run(self._engine.pressure)
        action = flow.observe(pressure)
        for cf, one in pressure.items():
            metrics.memtables.labels(cf).set(one.memtables)
            metrics.l0_files.labels(cf).set(one.l0_files)
            metrics.pending.labels(cf).set(one.pending_compaction_bytes)
        metrics.write_flow.set(flow.flow_bytes_s)
        metrics.throttle_flow.set(flow.rate_bytes_s or 0)
        if action:
            metrics.actions.labels(action).inc()
        if action in ("limit", "free"):
            say = get_logger().warn if action == "limit" else get_logger().info
            say("flow control", action=action, rate=int(flow.rate_bytes_s or 0), pressure=str(pressure))
