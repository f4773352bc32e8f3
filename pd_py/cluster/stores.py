"""The stores of a cluster: who they are (durable) and how they feel (from heartbeats)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from core_py.errors import PdError, StoreAddressConflict
from pd_py.schedule.view import StoreState
from protos.kvproto import metapb_pb2, pdpb_pb2

DISCONNECT_AFTER_S = 20.0


class StoreNotFound(PdError):
    """No store has this id."""

    code = "PD:Cluster:StoreNotFound"


class StoreTombstone(PdError):
    """The store was removed for good and cannot come back."""

    code = "PD:Cluster:StoreTombstone"


@dataclass(slots=True)
class StoreInfo:
    """One store. `heard_at` is monotonic seconds, 0 before the first heartbeat of this process's life."""

    meta: metapb_pb2.Store
    stats: pdpb_pb2.StoreStats = field(default_factory=pdpb_pb2.StoreStats)
    heard_at: float = 0.0
    min_resolved_ts: int = 0
    """Up to which timestamp the store's regions can be read on their replicas, as it last said; not kept over restarts."""

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


class Stores:
    """All stores by id."""

    def __init__(self) -> None:
        self._stores: dict[int, StoreInfo] = {}

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

    def check_put(self, meta: metapb_pb2.Store) -> None:
        """Whether a store may register. Raises StoreTombstone, StoreAddressConflict, PdError."""
        if not meta.id or not meta.address:
            raise PdError("a store needs an id and an address")
        old = self._stores.get(meta.id)
        if old is not None and old.meta.state == metapb_pb2.Tombstone:
            raise StoreTombstone(f"store {meta.id} is a tombstone; start it with an empty data directory")
        for other in self._stores.values():
            if (
                other.meta.id != meta.id
                and other.meta.address == meta.address
                and other.meta.state != metapb_pb2.Tombstone
            ):
                raise StoreAddressConflict(
                    f"duplicated store address: {meta.address} of store {meta.id} belongs to store {other.meta.id} already;"
                    " give one of them another address, or remove the old store first"
                )

    def put(self, meta: metapb_pb2.Store, now: float) -> None:
        """Register a store, keeping the state that operators gave it."""
        old = self._stores.get(meta.id)
        if old is not None:
            meta.state = old.meta.state
            old.meta = meta
            old.heard_at = now
        else:
            self._stores[meta.id] = StoreInfo(meta, heard_at=now)

    def heartbeat(self, stats: pdpb_pb2.StoreStats, now: float) -> None:
        """A store said how it is. Raises StoreNotFound, StoreTombstone."""
        info = self.get(stats.store_id)
        if info.meta.state == metapb_pb2.Tombstone:
            raise StoreTombstone(f"store {stats.store_id} is a tombstone")
        info.stats = stats
        info.heard_at = now

    def report_min_resolved_ts(self, store_id: int, ts: int) -> None:
        """A store said how far its regions are; what came late counts for nothing. Raises StoreNotFound."""
        info = self.get(store_id)
        info.min_resolved_ts = max(info.min_resolved_ts, ts)
