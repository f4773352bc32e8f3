"""What the leading member runs in one term: the oracle, the cluster, its scheduling, the leases, the heartbeat streams.

Built anew in every term from the replicated metadata and the regions this member knows; nothing of it outlives the term but the
regions, which a member keeps as follower too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from core_py.ports import Clock, Random
from core_py.runtime.tasks import TaskScope
from pd_py.cluster.cluster import Cluster
from pd_py.cluster.coordinator import Coordinator
from pd_py.cluster.region_syncer import RegionSyncer
from pd_py.cluster.regions import Regions
from pd_py.etcd.lessor import Lessor
from pd_py.gc.manager import GcManager
from pd_py.member.fenced import FencedStore
from pd_py.resource.manager import ResourceManager
from pd_py.schedule.view import RegionView
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
    regions: Regions


class LeaderSession:
    """One term. Made by `begin`."""

    def __init__(
        self,
        store: FencedStore,
        cluster: Cluster,
        around: Surroundings,
        scope: TaskScope,
        on_close: Callable[[], None],
    ) -> None:
        self.store = store
        self.cluster = cluster
        self._around = around
        self._scope = scope
        self._on_close = on_close
        self.streams = HeartbeatStreams(cluster)
        self.coordinator = Coordinator(
            cluster,
            store,
            cluster.prefix,
            around.clock,
            around.rng,
            cluster.ids,
            self.streams.send_step,
            listener=around.metrics,
            patrol_interval_s=float(around.config.schedule.patrol_region_interval),
        )
        cluster.on_region = self.coordinator.on_region_heartbeat
        cluster.has_operator = self.coordinator.has_operator
        around.regions.on_gone.append(self._region_gone)
        around.regions.statistics.wanted_replicas = self._wanted_replicas
        events = around.metrics.tso_events
        self.tso = TsoService(store, cluster.prefix, around.clock, lambda event: events.labels(event).inc())
        self.lessor = Lessor(store, around.clock)
        self.syncer = RegionSyncer(around.regions, cluster.cluster_id, store.term)
        self.resources = ResourceManager(store, around.clock)
        self.gc = GcManager(store, cluster.prefix, around.clock)

    @classmethod
    async def begin(
        cls,
        store: FencedStore,
        around: Surroundings,
        on_failure: Callable[[BaseException], None] | None,
        on_close: Callable[[], None],
    ) -> LeaderSession:
        """Read what earlier leaders left, and become able to serve. Raises NotLeader, ProposalLost, OutcomeUnknown."""
        options = around.config.schedule_options
        cluster = await Cluster.open(store, around.clock, around.rng, options=options, regions=around.regions)
        scope = TaskScope("pd leader", on_failure=on_failure)
        session = cls(store, cluster, around, scope, on_close)
        try:
            await session.tso.begin()
            await session.coordinator.load()
        except BaseException:
            await session.close()
            raise
        scope.spawn(session.tso.run(), name="tso")
        scope.spawn(session.lessor.run(), name="leases")
        scope.spawn(cluster.run(), name="cluster")
        scope.spawn(session._refresh(), name="metrics")
        session.coordinator.start(on_failure)
        return session

    def _region_gone(self, region: RegionView) -> None:
        self.coordinator.on_region_gone(region.region_id)

    def _wanted_replicas(self, region: RegionView) -> int:
        """How many replicas the rules ask for; the plain number where rules are off, or cut the region."""
        options = self.cluster.options
        wanted = self.coordinator.rules.wanted(region.start_key, region.end_key)
        return wanted if options.enable_placement_rules and wanted > 0 else options.max_replicas

    async def _refresh(self) -> None:
        stores, schedulers = self.cluster.stores_info, self.coordinator.core.schedulers
        while True:
            stores.no_leader_in = set(schedulers.stores_without_new_leaders())
            stores.no_leader_out = set(schedulers.stores_that_keep_leaders())
            self._around.metrics.refresh(self.cluster, self.coordinator)
            await asyncio.sleep(METRICS_INTERVAL_S)

    async def close(self) -> None:
        """Stop."""
        self._on_close()
        self._around.regions.on_gone.remove(self._region_gone)
        self._around.regions.statistics.wanted_replicas = None
        self.streams.close()
        self.lessor.close()
        self.syncer.close()
        await self.coordinator.close()
        await self._scope.close()
