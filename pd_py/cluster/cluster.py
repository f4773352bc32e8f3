"""The cluster as PD runs it: bootstrap, registration, heartbeats, ids, scheduling rounds.

Durable facts (cluster id, bootstrap, stores, id windows, safe points) are written through the metadata store before
they take effect. Regions live in memory and come from heartbeats; stores send them all when their heartbeat stream
connects. The scheduling itself is pure (`pd_py.schedule`); this class gives it a view and carries its operators to
the region leaders.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from core_py.errors import NotBootstrapped, PdError
from core_py.ports import Clock, Random
from pd_py.cluster.convert import region_view
from pd_py.cluster.region_tree import RegionTree
from pd_py.cluster.stores import StoreInfo, Stores
from pd_py.metastore.port import Metadata
from pd_py.schedule.checkers import replica
from pd_py.schedule.controller import OperatorController
from pd_py.schedule.operator import Operator, Step
from pd_py.schedule.schedulers import balance_leader
from pd_py.schedule.view import RegionView, ScheduleOptions, StoreState, StoreView
from protos.kvproto import metapb_pb2, pdpb_pb2

ID_WINDOW = 1000
CLUSTER_ID_KEY = "/pd/cluster_id"
PATROL_BATCH = 128

StepSink = Callable[[RegionView, Step], None]


class AlreadyBootstrapped(PdError):
    """Another store was first."""

    code = "PD:Cluster:AlreadyBootstrapped"


class Cluster:
    """State and decisions of one cluster. `send_step` carries a step to the region's leader."""

    def __init__(
        self,
        metastore: Metadata,
        clock: Clock,
        *,
        options: ScheduleOptions,
        max_store_down_s: float,
        send_step: StepSink,
    ) -> None:
        self.metastore = metastore
        self.clock = clock
        self.options = options
        self.stores_info = Stores()
        self.tree = RegionTree()
        self.operators = OperatorController()
        self.cluster_id = 0
        self.bootstrapped = False
        self.gc_safe_point = 0
        self.region_heartbeats = 0
        self._send_step = send_step
        self._max_down_s = max_store_down_s
        self._next_id = 0
        self._id_window_end = 0
        self._patrol_from = b""
        self._deciding = asyncio.Lock()
        """Held from a check of durable state to the end of the write that depends on it."""

    @property
    def prefix(self) -> str:
        """Where this cluster's keys begin."""
        return f"/pd/{self.cluster_id}"

    async def load(self, rng: Random) -> None:
        """Read the durable state; a first start draws the cluster id."""
        stored = self.metastore.get(CLUSTER_ID_KEY)
        if stored is None:
            cluster_id = rng.getrandbits(62) | 1 << 62
            await self.metastore.write({CLUSTER_ID_KEY: str(cluster_id).encode()})
        else:
            cluster_id = int(stored)
        self.cluster_id = cluster_id
        self.bootstrapped = self.metastore.get(f"{self.prefix}/raft") is not None
        metas = [metapb_pb2.Store.FromString(data) for _, data in self.metastore.prefix(f"{self.prefix}/raft/s/")]
        self.stores_info.load(metas, self.clock.monotonic())
        for _, data in self.metastore.prefix(f"{self.prefix}/raft/r/"):
            self.tree.put(region_view(metapb_pb2.Region.FromString(data)))
        self.gc_safe_point = int(self.metastore.get(f"{self.prefix}/gc/safe_point") or b"0")
        self._next_id = self._id_window_end = int(self.metastore.get(f"{self.prefix}/alloc_id") or b"0")

    async def alloc_id(self, count: int = 1) -> int:
        """The last of `count` fresh ids in a row; ids never repeat, over restarts too."""
        while self._next_id + count > self._id_window_end:
            await self._open_ids(count)
        self._next_id += count
        return self._next_id

    async def _open_ids(self, count: int) -> None:
        """Make at least `count` ids available; one at a time, so that the durable end never goes back."""
        async with self._deciding:
            if self._next_id + count <= self._id_window_end:
                return
            end = self._next_id + max(ID_WINDOW, count)
            await self.metastore.write({f"{self.prefix}/alloc_id": str(end).encode()})
            self._id_window_end = end

    def _alloc_id_now(self) -> int:
        """An id from the open window; callers see to it that there is one."""
        self._next_id += 1
        return self._next_id

    async def bootstrap(self, store: metapb_pb2.Store, region: metapb_pb2.Region) -> None:
        """Take the first store and region. Raises AlreadyBootstrapped, PdError."""
        peers = list(region.peers)
        if (
            not store.id
            or not region.id
            or len(peers) != 1
            or peers[0].store_id != store.id
            or region.start_key
            or region.end_key
        ):
            raise PdError("bootstrap needs one region over all keys with one peer on the store")
        meta = metapb_pb2.Cluster(id=self.cluster_id, max_peer_count=self.options.max_replicas)
        async with self._deciding:
            if self.bootstrapped:
                raise AlreadyBootstrapped("cluster is already bootstrapped")
            await self.metastore.write(
                {
                    f"{self.prefix}/raft": meta.SerializeToString(),
                    self._store_key(store.id): store.SerializeToString(),
                    f"{self.prefix}/raft/r/{region.id:020d}": region.SerializeToString(),
                }
            )
            self.bootstrapped = True
        self.stores_info.put(store, self.clock.monotonic())
        self.tree.put(region_view(region))

    def require_bootstrap(self) -> None:
        """Raise NotBootstrapped before the first store came."""
        if not self.bootstrapped:
            raise NotBootstrapped("cluster is not bootstrapped")

    def _store_key(self, store_id: int) -> str:
        return f"{self.prefix}/raft/s/{store_id:020d}"

    async def put_store(self, meta: metapb_pb2.Store) -> None:
        """Register a store. Raises StoreTombstone, StoreAddressConflict."""
        self.require_bootstrap()
        async with self._deciding:
            self.stores_info.check_put(meta)
            old = self.stores_info.find(meta.id)
            if old is not None:
                meta.state = old.meta.state
            await self.metastore.write({self._store_key(meta.id): meta.SerializeToString()})
            self.stores_info.put(meta, self.clock.monotonic())

    async def update_gc_safe_point(self, target: int) -> int:
        """Advance the safe point; it never goes back. Returns what it is."""
        async with self._deciding:
            if target > self.gc_safe_point:
                await self.metastore.write({f"{self.prefix}/gc/safe_point": str(target).encode()})
                self.gc_safe_point = target
        return self.gc_safe_point

    def store_heartbeat(self, stats: pdpb_pb2.StoreStats) -> None:
        """A store said how it is."""
        self.require_bootstrap()
        self.stores_info.heartbeat(stats, self.clock.monotonic())

    def region_heartbeat(self, request: pdpb_pb2.RegionHeartbeatRequest) -> RegionView | None:
        """A leader reported its region; sends the operator's step that is due. None when the report is stale."""
        self.region_heartbeats += 1
        region = region_view(request.region, request, down_peer_s=self._max_down_s)
        if not self.tree.put(region):
            return None
        now = self.clock.monotonic()
        step = self.operators.on_heartbeat(region, now)
        if step is None and region.region_id not in self.operators:
            self._check(region, now)
            operator = self.operators.get(region.region_id)
            step = None if operator is None else operator.current_step(region)
        if step is not None:
            self._send_step(region, step)
        return region

    def region_split(self, parts: Iterable[metapb_pb2.Region]) -> None:
        """A finished split, known before its heartbeats come; the parts share what the region held and where it was led."""
        views = [region_view(part) for part in parts]
        known = (old for view in views if (old := self.tree.get(view.region_id)) is not None)
        whole = next(known, region_view(metapb_pb2.Region()))
        for view in views:
            old = self.tree.get(view.region_id)
            if old is None or view.version > old.version:
                part = replace(
                    view,
                    leader_store_id=whole.leader_store_id,
                    size_bytes=whole.size_bytes // len(views),
                    keys=whole.keys // len(views),
                    term=old.term if old is not None else 0,
                )
                self.tree.put(part)

    def _check(self, region: RegionView, now: float) -> Operator | None:
        if self._next_id >= self._id_window_end:
            return None  # `patrol` opens the next window
        operator = replica.check(self, region, self._alloc_id_now)
        if operator is not None and not self.operators.add(operator, now):
            return None
        return operator

    async def patrol(self) -> None:
        """Check the next batch of regions; called often."""
        if not self.bootstrapped:
            return
        if self._id_window_end - self._next_id < PATROL_BATCH:
            await self._open_ids(PATROL_BATCH)
        now = self.clock.monotonic()
        self.operators.expire(now)
        for due in self.operators.due_again(now):
            known = self.tree.get(due.region_id)
            step = None if known is None else due.current_step(known)
            if known is not None and step is not None:
                self._send_step(known, step)
        batch = self.tree.scan(self._patrol_from, b"", PATROL_BATCH)
        for region in batch:
            operator = self._check(region, now)
            if operator is not None:
                step = operator.current_step(region)
                if step is not None:
                    self._send_step(region, step)
        self._patrol_from = batch[-1].end_key if batch else b""

    def balance(self) -> None:
        """One round of the balancing schedulers."""
        now = self.clock.monotonic()
        for operator in balance_leader.schedule(self, self.operators.leader_influence()):
            region = self.tree.get(operator.region_id)
            if region is not None and self.operators.add(operator, now):
                self._send_step(region, operator.steps[0])

    def store_view(self, info: StoreInfo) -> StoreView:
        """One store for the scheduler."""
        store_id = info.meta.id
        return StoreView(
            store_id,
            info.state(self.clock.monotonic(), self._max_down_s),
            tuple((label.key, label.value) for label in info.meta.labels),
            self.tree.peer_count(store_id),
            self.tree.leader_count(store_id),
            info.stats.used_size,
            info.stats.available or 1 << 40,
            info.stats.capacity or 1 << 40,
            info.stats.is_busy,
        )

    def stores(self) -> Iterable[StoreView]:
        """`ClusterView`: all stores but tombstones."""
        views = [self.store_view(info) for info in self.stores_info.all()]
        return [view for view in views if view.state is not StoreState.TOMBSTONE]

    def min_resolved_ts(self) -> int:
        """Up to which timestamp every region can be read on any replica, as far as the stores that lead regions have said."""
        leading = [view.store_id for view in self.stores() if view.leader_count]
        return min((self.stores_info.get(store_id).min_resolved_ts for store_id in leading), default=0)

    def store(self, store_id: int) -> StoreView | None:
        """`ClusterView`: one store."""
        info = self.stores_info.find(store_id)
        return None if info is None else self.store_view(info)

    def regions(self) -> Iterable[RegionView]:
        """`ClusterView`: all regions."""
        return self.tree.all()

    def regions_led_by(self, store_id: int) -> Iterable[RegionView]:
        """`ClusterView`: regions led from a store."""
        return self.tree.led_by(store_id)

    def has_operator(self, region_id: int) -> bool:
        """`ClusterView`: whether something is under way."""
        return region_id in self.operators
