"""The cluster as PD runs it: what its stores and regions are, and the durable facts about them.

Durable facts (bootstrap, stores, settings, id windows, safe points) are written through the metadata store before they take
effect, and decisions that depend on them hold one lock. Regions live in memory and come from heartbeats, from this member's
disk and from the leader's copy. Scheduling is elsewhere (`coordinator`): it sees a `ClusterView`, which this class is, and
hears of heartbeats through `on_region`.

One is made for each term of leadership, over the store that is bound to the term. The regions outlive it: a member that
follows has them from the leader, and gives them to the next `Cluster`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from core_py.errors import DbError, NotBootstrapped, PdError
from core_py.ports import Clock, Random
from core_py.runtime.log import get_logger
from pd_py.cluster import bootstrap
from pd_py.cluster.bootstrap import CLUSTER_ID_KEY, AlreadyBootstrapped
from pd_py.cluster.convert import region_view
from pd_py.cluster.ids import IdAllocator
from pd_py.cluster.region_statistics import Limits, RegionStatistics
from pd_py.cluster.region_tree import RegionTree
from pd_py.cluster.regions import Regions
from pd_py.cluster.settings import Settings
from pd_py.cluster.store_admin import StoreAdmin
from pd_py.cluster.stores import Stores
from pd_py.cluster.timestamps import ClusterTimestamps
from pd_py.metastore.port import Metadata
from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.view import (
    FlowKind,
    HotPeer,
    KeyRange,
    PeerKind,
    RegionView,
    StoreLoad,
    StoreState,
    StoreView,
)
from protos.kvproto import metapb_pb2, pdpb_pb2

TICK_S = 1.0
IDS_AT_HAND = 128
REFRESH_BATCH = 2000
SETTLE_S = 60.0
"""Stores are not buried before regions have had this long to report."""

__all__ = ["CLUSTER_ID_KEY", "AlreadyBootstrapped", "Cluster"]


def new_regions(options: ScheduleOptions) -> Regions:
    """No regions yet; for a member to hold over its terms."""
    return Regions(RegionStatistics(Limits.of(options)), options.max_store_down_time_s)


class Cluster:
    """State of one cluster; implements `pd_py.schedule.view.ClusterView`."""

    def __init__(
        self,
        metastore: Metadata,
        clock: Clock,
        cluster_id: int,
        *,
        options: ScheduleOptions,
        regions: Regions | None = None,
    ) -> None:
        self.metastore = metastore
        self.clock = clock
        self.cluster_id = cluster_id
        self.prefix = f"/pd/{cluster_id}"
        self.settings = Settings(metastore, f"{self.prefix}/config", options)
        self.options = self.settings.options
        self.regions = regions if regions is not None else new_regions(self.options)
        self._options_changed(self.options, self.options)
        self.stores_info = Stores()
        self._deciding = asyncio.Lock()
        """Held from a check of durable state to the end of the write that depends on it."""
        self.store_admin = StoreAdmin(
            metastore, clock, self.prefix, self.stores_info, self.settings, self._deciding, self.tree.peer_count
        )
        self.timestamps = ClusterTimestamps(metastore, self.prefix, self._reported_min_resolved_ts)
        self.ids = IdAllocator(metastore, f"{self.prefix}/alloc_id")
        self.on_region: Callable[[RegionView], None] = lambda _region: None
        """Called after each heartbeat that was taken in."""
        self.has_operator: Callable[[int], bool] = lambda _region_id: False
        """`ClusterView`: whether something is under way for a region; the coordinator knows."""
        self.bootstrapped = False
        self.region_heartbeats = 0
        self._began_at = clock.monotonic()
        self._saved_at = 0.0
        self.settings.listeners.append(self._options_changed)
        self.store_admin.on_removed.append(self._store_removed)
        self._load()

    @staticmethod
    async def open(
        metastore: Metadata, clock: Clock, rng: Random, *, options: ScheduleOptions, regions: Regions | None = None
    ) -> Cluster:
        """The cluster over what is stored; a first start draws the cluster's id. Raises NotLeader, OutcomeUnknown."""
        cluster_id = await bootstrap.ensure_cluster_id(metastore, rng)
        return Cluster(metastore, clock, cluster_id, options=options, regions=regions)

    @property
    def tree(self) -> RegionTree:
        """The regions by key and id."""
        return self.regions.tree

    def _load(self) -> None:
        self.bootstrapped = self.metastore.get(f"{self.prefix}/raft") is not None
        self.store_admin.load()
        for _, data in self.metastore.prefix(f"{self.prefix}/raft/r/"):
            self.tree.put(region_view(metapb_pb2.Region.FromString(data)))

    def _options_changed(self, _before: ScheduleOptions, after: ScheduleOptions) -> None:
        self.options = after
        self.regions.down_peer_s = after.max_store_down_time_s
        self.regions.statistics.set_limits(Limits.of(after))

    def _store_removed(self, store_id: int) -> None:
        for cache in self.regions.hot.values():
            cache.forget_store(store_id)

    async def alloc_id(self, count: int = 1) -> int:
        """The last of `count` fresh ids in a row; ids never repeat, over restarts too."""
        return await self.ids.alloc(count)

    async def bootstrap(self, store: metapb_pb2.Store, region: metapb_pb2.Region) -> None:
        """Take the first store and region. Raises AlreadyBootstrapped, PdError."""
        bootstrap.check(self.cluster_id, store, region)
        view = region_view(region)
        meta = metapb_pb2.Cluster(id=self.cluster_id, max_peer_count=self.options.max_replicas)
        async with self._deciding:
            if self.bootstrapped:
                raise AlreadyBootstrapped("cluster is already bootstrapped")
            await self.metastore.write(
                {
                    f"{self.prefix}/raft": meta.SerializeToString(),
                    f"{self.prefix}/raft/status/raft_bootstrap_time": str(self.clock.wall_ms()).encode(),
                    self.store_admin.key(store.id): store.SerializeToString(),
                    f"{self.prefix}/raft/r/{region.id:020d}": region.SerializeToString(),
                }
            )
            self.bootstrapped = True
        self.stores_info.put(store, self.clock.monotonic())
        self.regions.put(view)

    def require_bootstrap(self) -> None:
        """Raise NotBootstrapped before the first store came."""
        if not self.bootstrapped:
            raise NotBootstrapped("cluster is not bootstrapped")

    def cluster_meta(self) -> metapb_pb2.Cluster:
        """The cluster's record. Raises NotBootstrapped."""
        self.require_bootstrap()
        return metapb_pb2.Cluster.FromString(self.metastore.get(f"{self.prefix}/raft") or b"")

    async def put_cluster_meta(self, meta: metapb_pb2.Cluster) -> None:
        """Replace the cluster's record. Raises NotBootstrapped, PdError."""
        self.require_bootstrap()
        if meta.id != self.cluster_id:
            raise PdError(f"invalid cluster id {meta.id}, mismatch cluster id {self.cluster_id}")
        async with self._deciding:
            await self.metastore.write({f"{self.prefix}/raft": meta.SerializeToString()})

    def status(self) -> dict[str, object]:
        """When the cluster began (milliseconds since the epoch, 0 before), and whether its first data is replicated."""
        began = int(self.metastore.get(f"{self.prefix}/raft/status/raft_bootstrap_time") or b"0")
        first = self.tree.find(b"")
        replicated = first is not None and len(first.peers) >= self.options.max_replicas and not first.pending
        is_initialized = self.bootstrapped and (len(self.tree) > 1 or replicated)
        return {"raft_bootstrap_time_ms": began, "is_initialized": is_initialized, "replication_status": ""}

    async def put_store(self, meta: metapb_pb2.Store) -> None:
        """Register a store. Raises NotBootstrapped, StoreTombstone, StoreAddressConflict, PdError."""
        self.require_bootstrap()
        await self.store_admin.put(meta)

    def store_heartbeat(self, stats: pdpb_pb2.StoreStats) -> None:
        """A store said how it is. Raises NotBootstrapped, StoreNotFound, StoreTombstone."""
        self.require_bootstrap()
        now = self.clock.monotonic()
        self.stores_info.heartbeat(stats, now, self.clock.wall_ms())
        if stats.peer_stats:
            self.regions.store_reads(stats, now)

    def region_heartbeat(self, request: pdpb_pb2.RegionHeartbeatRequest) -> RegionView | None:
        """A leader reported its region. None when the report is stale. Raises InvalidRegion."""
        self.region_heartbeats += 1
        region = self.regions.heartbeat(request, self.clock.monotonic())
        if region is not None:
            self.on_region(region)
        return region

    def region_split(self, parts: Iterable[metapb_pb2.Region]) -> None:
        """A finished split, known before its heartbeats come. Raises InvalidRegion."""
        self.regions.split(parts)

    async def tick(self) -> None:
        """What is to be done now and then; called about every second on the leader."""
        now = self.clock.monotonic()
        self.settings.expire(now)
        self.regions.settle()
        for cache in self.regions.hot.values():
            cache.sweep(now)
        if not self.bootstrapped:
            return
        await self.ids.ensure(IDS_AT_HAND)
        self._refresh_statistics()
        if now - self._saved_at >= self.settings.seconds("pd-server.min-resolved-ts-persistence-interval"):
            self._saved_at = now
            await self.timestamps.save()
        await self._bury_empty_stores(now)

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self.tick()
            except DbError as error:  # the next round tries again
                get_logger().warn("cluster", error=str(error))

    def _refresh_statistics(self) -> None:
        statistics = self.regions.statistics
        statistics.set_stores(self.stores())
        if statistics.refresh_from is not None:
            statistics.refresh(self.tree.scan(statistics.refresh_from, b"", REFRESH_BATCH))

    async def _bury_empty_stores(self, now: float) -> None:
        leaving = self.store_admin.empty_and_leaving(now)
        if not leaving or now - self._began_at < SETTLE_S or not self._knows_all_regions():
            return
        for store_id in leaving:
            try:
                await self.store_admin.bury(store_id)
            except PdError as error:
                get_logger().warn("store cannot be buried", store=store_id, error=str(error))

    def _knows_all_regions(self) -> bool:
        """Whether every key has a region whose leader has reported: only then a store without regions surely has none."""
        leaders = sum(self.tree.leader_count(info.meta.id) for info in self.stores_info.all())
        if not len(self.tree) or leaders < len(self.tree):
            return False
        end: bytes | None = b""
        for region in self.tree.all():
            if region.start_key != end:
                return False
            end = region.end_key or None
        return end is None

    def min_resolved_ts(self) -> int:
        """Up to which timestamp every region can be read on any replica, as far as the stores that lead regions have said."""
        return self.timestamps.min_resolved_ts()

    def _reported_min_resolved_ts(self) -> int:
        leading = [view.store_id for view in self.stores() if view.leader_count]
        return min((self.stores_info.get(store_id).min_resolved_ts for store_id in leading), default=0)

    # ClusterView

    def _view(self, store_id: int) -> StoreView:
        info = self.stores_info.get(store_id)
        held = self.tree.held_by(store_id)
        return self.stores_info.view(info, held, self.clock.monotonic(), self.options.max_store_down_time_s)

    def stores(self) -> Iterable[StoreView]:
        """`ClusterView`: all stores but tombstones."""
        views = [self._view(info.meta.id) for info in self.stores_info.all()]
        return [view for view in views if view.state is not StoreState.TOMBSTONE]

    def store(self, store_id: int) -> StoreView | None:
        """`ClusterView`: one store, a tombstone too."""
        return None if self.stores_info.find(store_id) is None else self._view(store_id)

    def region(self, region_id: int) -> RegionView | None:
        """`ClusterView`: one region."""
        return self.tree.get(region_id)

    def region_of(self, key: bytes) -> RegionView | None:
        """`ClusterView`: the region that holds a key."""
        return self.tree.find(key)

    def region_total(self) -> int:
        """`ClusterView`: how many regions there are."""
        return len(self.tree)

    def average_region_bytes(self) -> float:
        """`ClusterView`: the mean approximate size."""
        return self.tree.total_bytes / len(self.tree) if len(self.tree) else 0.0

    def scan(self, start: bytes, end: bytes, limit: int) -> Sequence[RegionView]:
        """`ClusterView`: regions that touch a range."""
        return self.tree.scan(start, end, limit)

    def neighbours(self, region: RegionView) -> tuple[RegionView | None, RegionView | None]:
        """`ClusterView`: the regions left and right of one."""
        return self.tree.neighbours(region)

    def random_regions(
        self, store_id: int, kind: PeerKind, ranges: Sequence[KeyRange], count: int, rng: Random
    ) -> Sequence[RegionView]:
        """`ClusterView`: regions that a store holds in this way, drawn at random from the ranges."""
        return self.tree.random(store_id, kind, ranges, count, rng)

    def hot_peers(self, kind: FlowKind) -> Mapping[int, Sequence[HotPeer]]:
        """`ClusterView`: hot replicas by store."""
        return self.regions.hot[kind].hot_peers()

    def store_load(self, store_id: int) -> StoreLoad:
        """`ClusterView`: a store's flow."""
        info = self.stores_info.find(store_id)
        return StoreLoad() if info is None else info.rates.load
