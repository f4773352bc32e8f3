"""What the leading member runs in one term: the oracle, the cluster, its scheduling, the heartbeat streams.

Built anew in every term from the replicated metadata and the regions this member knows; nothing of it outlives the term.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from core_py.errors import DbError
from core_py.ports import Clock, Random
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from pd_py.cluster.cluster import Cluster
from pd_py.etcd.lessor import Lessor
from pd_py.member.fenced import FencedStore
from pd_py.schedule.view import ScheduleOptions
from pd_py.server.config import PdConfig
from pd_py.server.heartbeats import HeartbeatStreams
from pd_py.server.metrics import PdMetrics
from pd_py.tso.service import TsoService

METRICS_INTERVAL_S = 2.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a session needs of its process."""

    config: PdConfig
    clock: Clock
    rng: Random
    metrics: PdMetrics


class LeaderSession:
    """One term. `begin` before anything else."""

    def __init__(
        self, store: FencedStore, around: Surroundings, scope: TaskScope, on_close: Callable[[], None]
    ) -> None:
        self.store = store
        self._on_close = on_close
        self._around = around
        self._scope = scope
        config = around.config
        self.streams = HeartbeatStreams()
        self.cluster = Cluster(
            store,
            around.clock,
            options=ScheduleOptions(
                config.replication.max_replicas, config.replication.location_labels, config.schedule.low_space_ratio
            ),
            max_store_down_s=config.schedule.max_store_down_time,
            send_step=self.streams.send_step,
        )
        self.streams.cluster = self.cluster
        self._began = False
        self.lessor: Lessor
        self.tso: TsoService

    async def begin(self) -> None:
        """Read what earlier leaders left, and become able to serve. Raises NotLeader, OutcomeUnknown."""
        around = self._around
        await self.cluster.load(around.rng)
        events = around.metrics.tso_events
        self.tso = TsoService(self.store, self.cluster.prefix, around.clock, lambda event: events.labels(event).inc())
        await self.tso.begin()
        self.lessor = Lessor(self.store, around.clock)
        self._began = True
        self._scope.spawn(self.lessor.run(), name="leases")
        schedule = around.config.schedule
        self._scope.spawn(self.tso.run(), name="tso")
        self._scope.spawn(self._patrol(float(schedule.patrol_region_interval)), name="patrol")
        self._scope.spawn(self._balance(float(schedule.balance_interval)), name="balance")
        self._scope.spawn(self._refresh(), name="metrics")

    async def _patrol(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.cluster.patrol()
            except DbError as error:  # the next round tries again
                get_logger().warn("patrol", error=str(error))

    async def _balance(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            self.cluster.balance()

    async def _refresh(self) -> None:
        while True:
            self._around.metrics.refresh(self.cluster)
            await asyncio.sleep(METRICS_INTERVAL_S)

    async def close(self) -> None:
        """Stop."""
        self._on_close()
        self.streams.close()
        if self._began:
            self.lessor.close()
        await self._scope.close()
