"""The stores of a cluster: who they are (durable) and how they feel (from heartbeats).

State is what an operator decided (Up, Offline while it is being emptied, Tombstone for good) and, for a store that is Up,
how long it has been silent. Changes of the durable part go through `pd_py.cluster.store_admin`, which writes before it
calls here. Pure; time is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from core_py.errors import PdError
from pd_py.cluster.held_regions import HeldRegions
from pd_py.cluster.store_load import RollingLoad
from pd_py.schedule.view import PeerKind, StoreState, StoreView
from protos.kvproto import metapb_pb2, pdpb_pb2

DISCONNECT_AFTER_S = 20.0
SLOW_SCORE = 80
"""From this slow score on a store counts as slow."""
FEW_REGIONS = 100
ENOUGH_BYTES = 8 << 30
"""A store with few regions and this much room is not low on space, whatever the share: the cluster is being set up."""
UNKNOWN_BYTES = 1 << 40
"""Taken for a store's room while it has not said any."""
MAX_SIZE = 1 << 62
MAX_TS = (1 << 64) - 1


class StoreNotFound(PdError):
    """No store has this id."""

    code = "PD:Cluster:StoreNotFound"


class StoreTombstone(PdError):
    """The store was removed for good and cannot come back."""

    code = "PD:Cluster:StoreTombstone"


@dataclass(slots=True)
class StoreInfo:
    """One store. `heard_at` is monotonic seconds of its last heartbeat, or of when this process learned of it."""

    meta: metapb_pb2.Store
    stats: pdpb_pb2.StoreStats = field(default_factory=pdpb_pb2.StoreStats)
    heard_at: float = 0.0
    has_reported: bool = False
    """Whether a heartbeat came since this process leads."""
    last_heartbeat_ms: int = 0
    """The wall clock at the last heartbeat."""
    min_resolved_ts: int = 0
    """Up to which timestamp the store's regions can be read on their replicas, as it last said; not kept over restarts."""
    leader_weight: float = 1.0
    region_weight: float = 1.0
    rates: RollingLoad = field(default_factory=RollingLoad)

    def state(self, now: float, max_down_s: float) -> StoreState:
        """What the store is to scheduling."""
        if self.meta.state == metapb_pb2.Tombstone:
            return StoreState.TOMBSTONE
        if self.meta.state == metapb_pb2.Offline:
            return StoreState.OFFLINE
        silent = now - self.heard_at
        if silent > max_down_s:
            return StoreState.DOWN
        return StoreState.DISCONNECTED if silent > DISCONNECT_AFTER_S else StoreState.UP

    @property
    def is_slow(self) -> bool:
        """Whether it says that its disk or threads lag."""
        return self.stats.slow_score >= SLOW_SCORE

    def is_low_space(self, low_space_ratio: float, region_count: int) -> bool:
        """Whether less than the wanted share of its room is left."""
        stats = self.stats
        if not stats.capacity or (region_count < FEW_REGIONS and stats.available > ENOUGH_BYTES):
            return False
        return stats.available / stats.capacity < 1 - low_space_ratio


class Stores:
    """All stores by id."""

    def __init__(self) -> None:
        self._stores: dict[int, StoreInfo] = {}
        self.no_leader_in: set[int] = set()
        """Stores that schedulers keep leaders away from; set by the coordinator."""
        self.no_leader_out: set[int] = set()
        """Stores that schedulers keep leaders on."""

    def load(self, metas: Iterable[metapb_pb2.Store], now: float) -> None:
        """Take in what was stored; everyone gets the full time to be heard."""
        for meta in metas:
            self._stores[meta.id] = StoreInfo(meta, heard_at=now)

    def all(self) -> list[StoreInfo]:
        """All stores, by id."""
        return [self._stores[store_id] for store_id in sorted(self._stores)]

    def get(self, store_id: int) -> StoreInfo:
        """One store. Raises StoreNotFound."""
        info = self._stores.get(store_id)
        if info is None:
            raise StoreNotFound(f"invalid store ID {store_id}, not found")
        return info

    def find(self, store_id: int) -> StoreInfo | None:
        """One store, or None."""
        return self._stores.get(store_id)

    def put(self, meta: metapb_pb2.Store, now: float) -> StoreInfo:
        """Register a store, or take in what has become of its meta."""
        info = self._stores.get(meta.id)
        if info is None:
            info = self._stores[meta.id] = StoreInfo(meta, heard_at=now)
        else:
            info.meta = meta
        return info

    def forget(self, store_id: int) -> None:
        """A record is gone for good."""
        self._stores.pop(store_id, None)
        self.no_leader_in.discard(store_id)
        self.no_leader_out.discard(store_id)

    def heartbeat(self, stats: pdpb_pb2.StoreStats, now: float, wall_ms: int) -> StoreInfo:
        """A store said how it is. Raises StoreNotFound, StoreTombstone."""
        info = self._stores.get(stats.store_id)
        if info is None:
            raise StoreNotFound(f"store {stats.store_id} not found")
        if info.meta.state == metapb_pb2.Tombstone:
            raise StoreTombstone(f"store {stats.store_id} has been removed")
        info.rates.observe(stats, now - info.heard_at if info.has_reported else 0.0)
        info.stats = stats
        info.heard_at, info.has_reported, info.last_heartbeat_ms = now, True, wall_ms
        return info

    def report_min_resolved_ts(self, store_id: int, ts: int) -> None:
        """A store said how far its regions are; what came late counts for nothing. Raises StoreNotFound."""
        info = self.get(store_id)
        if ts < MAX_TS:
            info.min_resolved_ts = max(info.min_resolved_ts, ts)

    def view(self, info: StoreInfo, held: HeldRegions, now: float, max_down_s: float) -> StoreView:
        """One store for scheduling."""
        store_id, stats = info.meta.id, info.stats
        return StoreView(
            store_id,
            info.state(now, max_down_s),
            tuple((label.key, label.value) for label in info.meta.labels),
            region_count=held.region_count,
            leader_count=held.count(PeerKind.LEADER),
            region_bytes=held.region_bytes,
            available_bytes=min(stats.available, MAX_SIZE) if stats.capacity else UNKNOWN_BYTES,
            capacity_bytes=min(stats.capacity, MAX_SIZE) or UNKNOWN_BYTES,
            busy=stats.is_busy,
            used_bytes=min(stats.used_size, MAX_SIZE),
            leader_bytes=held.leader_bytes,
            pending_count=held.count(PeerKind.PENDING),
            learner_count=held.count(PeerKind.LEARNER),
            sending_snapshots=stats.sending_snap_count,
            receiving_snapshots=stats.receiving_snap_count,
            applying_snapshots=stats.applying_snap_count,
            slow_score=min(max(stats.slow_score, 1), 100),
            leader_weight=info.leader_weight,
            region_weight=info.region_weight,
            allows_leader_in=store_id not in self.no_leader_in,
            allows_leader_out=store_id not in self.no_leader_out,
        )
