"""Changes of the stores' durable records: registration, removal and its cancellation, burial, labels, weights.

Every change is written before it takes effect, under the lock that whoever decides from durable state holds. Texts of
refusals are those of the public server, because tools show and match them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from core_py.errors import PdError, StoreAddressConflict
from core_py.ports import Clock
from core_py.runtime.log import get_logger
from pd_py.cluster import store_labels
from pd_py.cluster.settings import Settings
from pd_py.cluster.stores import DISCONNECT_AFTER_S, StoreInfo, StoreNotFound, Stores, StoreTombstone
from pd_py.cluster.versions import Version
from pd_py.metastore.port import Metadata
from protos.kvproto import metapb_pb2

ADDRESS_CHARS_MAX = 1024


class StoreAdmin:
    """Durable changes of stores. `deciding` is the cluster's lock; `region_count` says how many replicas a store holds."""

    def __init__(
        self,
        metastore: Metadata,
        clock: Clock,
        prefix: str,
        stores: Stores,
        settings: Settings,
        deciding: asyncio.Lock,
        region_count: Callable[[int], int],
    ) -> None:
        self._metastore = metastore
        self._clock = clock
        self._prefix = prefix
        self._stores = stores
        self._settings = settings
        self._deciding = deciding
        self._region_count = region_count
        self.on_removed: list[Callable[[int], None]] = []
        """Told of a store that became a tombstone or was forgotten."""

    def key(self, store_id: int) -> str:
        """Where a store's meta is kept."""
        return f"{self._prefix}/raft/s/{store_id:020d}"

    def _weight_key(self, store_id: int, kind: str) -> str:
        return f"{self._prefix}/schedule/store_weight/{store_id:020d}/{kind}"

    def load(self) -> None:
        """Read the records."""
        now = self._clock.monotonic()
        pairs = self._metastore.prefix(f"{self._prefix}/raft/s/")
        self._stores.load([metapb_pb2.Store.FromString(data) for _, data in pairs], now)
        for info in self._stores.all():
            info.leader_weight = float(self._metastore.get(self._weight_key(info.meta.id, "leader")) or b"1")
            info.region_weight = float(self._metastore.get(self._weight_key(info.meta.id, "region")) or b"1")

    def _require(self, store_id: int) -> StoreInfo:
        info = self._stores.find(store_id)
        if info is None:
            raise StoreNotFound(f"store {store_id} not found")
        return info

    async def _save(self, meta: metapb_pb2.Store) -> None:
        await self._metastore.write({self.key(meta.id): meta.SerializeToString()})
        self._stores.put(meta, self._clock.monotonic())

    async def put(self, meta: metapb_pb2.Store) -> None:
        """Register a store, or what has changed of it. Raises StoreTombstone, StoreAddressConflict, PdError."""
        async with self._deciding:
            known = self._stores.find(meta.id)
            self._check_put(meta, known)
            fresh = metapb_pb2.Store()
            fresh.CopyFrom(meta)
            news = store_labels.of(meta)
            if known is None:
                fresh.state, fresh.node_state, fresh.physically_destroyed = metapb_pb2.Up, metapb_pb2.Serving, False
            else:
                fresh.state, fresh.node_state = known.meta.state, known.meta.node_state
                fresh.physically_destroyed = known.meta.physically_destroyed
            labels = store_labels.merge([] if known is None else store_labels.of(known.meta), news)
            self._check_labels(labels)
            store_labels.put(fresh, labels)
            await self._save(fresh)
            if known is not None:
                known.heard_at = self._clock.monotonic()
            await self._raise_cluster_version()

    def _check_put(self, meta: metapb_pb2.Store, known: StoreInfo | None) -> None:
        if not meta.id or not meta.address or len(meta.address) > ADDRESS_CHARS_MAX:
            raise PdError(f"invalid put store id:{meta.id} address:{meta.address[:ADDRESS_CHARS_MAX]!r}")
        if known is not None and known.meta.state == metapb_pb2.Tombstone:
            raise StoreTombstone(f"store {meta.id} has been removed; start it with an empty data directory")
        mine = [address for address in (meta.address, meta.peer_address) if address]
        for other in self._stores.all():
            theirs = other.meta
            if theirs.id == meta.id or theirs.state == metapb_pb2.Tombstone or theirs.physically_destroyed:
                continue
            for address in mine:
                if address in (theirs.address, theirs.peer_address):
                    what = "address" if address == meta.address else "peer address"
                    raise StoreAddressConflict(
                        f"duplicated store {what}: {address} of store {meta.id}, already registered by store {theirs.id};"
                        " give one of them another address, or remove the old store first"
                    )
        version, cluster_version = Version.parse(meta.version), self._settings.cluster_version
        if not cluster_version.admits(version):
            raise PdError(f"version should compatible with version  {cluster_version}, got {version}")

    def _check_labels(self, labels: list[tuple[str, str]]) -> None:
        store_labels.validate(labels)
        options = self._settings.options
        store_labels.check_location(labels, options.location_labels, is_strict=options.strictly_match_label)

    async def _raise_cluster_version(self) -> None:
        """The cluster's version is the lowest of its stores'."""
        lowest: Version | None = None
        for info in self._stores.all():
            version = Version.parse(info.meta.version)
            if info.meta.state != metapb_pb2.Tombstone and (lowest is None or version < lowest):
                lowest = version
        if lowest is not None and lowest != self._settings.cluster_version:
            await self._settings.set_cluster_version(str(lowest))

    def up_stores(self) -> list[int]:
        """Stores that are neither being removed nor gone, silent ones too."""
        return [info.meta.id for info in self._stores.all() if info.meta.state == metapb_pb2.Up]

    async def remove(self, store_id: int, *, physically_destroyed: bool = False) -> None:
        """Begin to empty a store; one that is destroyed will not come back. Raises StoreNotFound, StoreTombstone, PdError."""
        async with self._deciding:
            meta = self._require(store_id).meta
            if meta.state == metapb_pb2.Offline and meta.physically_destroyed == physically_destroyed:
                return
            if meta.state == metapb_pb2.Tombstone:
                raise StoreTombstone(f"store {store_id} has been removed")
            if meta.physically_destroyed:
                raise PdError(f"store {store_id} has been physically destroyed")
            if meta.state == metapb_pb2.Up and not physically_destroyed:
                self._check_enough(store_id)
            get_logger().warn("store is being removed", store=store_id, destroyed=physically_destroyed)
            await self._set_state(meta, metapb_pb2.Offline, metapb_pb2.Removing, is_destroyed=physically_destroyed)

    def _check_enough(self, store_id: int) -> None:
        others = [one for one in self.up_stores() if one != store_id]
        wanted = self._settings.options.max_replicas
        if len(others) < wanted:
            raise PdError(
                f"can not remove store {store_id} since the number of up stores would be {len(others)} while need {wanted}"
            )
        if all(one in self._stores.no_leader_in for one in others):
            raise PdError(f"can not remove store {store_id} since there are no extra up store to store the leader")

    async def up(self, store_id: int) -> None:
        """Stop emptying a store. Raises StoreNotFound, StoreTombstone, PdError."""
        async with self._deciding:
            meta = self._require(store_id).meta
            if meta.state == metapb_pb2.Tombstone:
                raise StoreTombstone(f"store {store_id} has been removed")
            if meta.physically_destroyed:
                raise PdError(f"store {store_id} has been physically destroyed")
            if meta.state != metapb_pb2.Up:
                get_logger().warn("store is up again", store=store_id)
                await self._set_state(meta, metapb_pb2.Up, metapb_pb2.Serving, is_destroyed=False)

    async def bury(self, store_id: int) -> None:
        """Make a tombstone of a store that was being removed; the caller knows that it is empty. Raises StoreNotFound, PdError."""
        async with self._deciding:
            info = self._require(store_id)
            if info.meta.state == metapb_pb2.Tombstone:
                return
            if info.meta.state == metapb_pb2.Up:
                raise PdError("store is still up, please remove store gracefully")
            if self._region_count(store_id):
                raise PdError(f"store {store_id} still holds regions")
            get_logger().warn("store is a tombstone now", store=store_id)
            destroyed = info.meta.physically_destroyed
            await self._set_state(info.meta, metapb_pb2.Tombstone, metapb_pb2.Removed, is_destroyed=destroyed)
            await self._raise_cluster_version()
        self._tell_removed(store_id)

    async def _set_state(
        self,
        meta: metapb_pb2.Store,
        state: metapb_pb2.StoreState,
        node_state: metapb_pb2.NodeState,
        *,
        is_destroyed: bool,
    ) -> None:
        fresh = metapb_pb2.Store()
        fresh.CopyFrom(meta)
        fresh.state, fresh.node_state, fresh.physically_destroyed = state, node_state, is_destroyed
        await self._save(fresh)

    async def remove_tombstones(self) -> None:
        """Forget all tombstones; those that regions still name stay, and are named in the PdError that is raised then."""
        async with self._deciding:
            gone = [info.meta.id for info in self._stores.all() if info.meta.state == metapb_pb2.Tombstone]
            kept = [store_id for store_id in gone if self._region_count(store_id)]
            gone = [store_id for store_id in gone if store_id not in kept]
            changes: dict[str, bytes | None] = {}
            for store_id in gone:
                keys = (self.key(store_id), self._weight_key(store_id, "leader"), self._weight_key(store_id, "region"))
                changes |= dict.fromkeys(keys)
            if changes:
                await self._metastore.write(changes)
            for store_id in gone:
                self._stores.forget(store_id)
                self._tell_removed(store_id)
        if kept:
            raise PdError(f"failed stores: {', '.join(map(str, kept))}")

    def _tell_removed(self, store_id: int) -> None:
        for listener in self.on_removed:
            listener(store_id)

    async def set_labels(self, store_id: int, labels: dict[str, str], *, force: bool = False) -> None:
        """Add labels, or with `force` set exactly these. An empty value removes one. Raises StoreNotFound, PdError."""
        store_labels.validate(labels.items())
        for key in labels:
            if key == store_labels.RESERVED[0]:
                raise PdError(f'label key "{key}" is reserved')
        async with self._deciding:
            meta = self._require(store_id).meta
            known = store_labels.of(meta)
            base = [pair for pair in known if pair[0] in store_labels.RESERVED] if force else known
            merged = store_labels.merge(base, labels.items())
            self._check_labels(merged)
            fresh = metapb_pb2.Store()
            fresh.CopyFrom(meta)
            store_labels.put(fresh, merged)
            await self._save(fresh)

    async def delete_label(self, store_id: int, key: str) -> None:
        """Remove one label. Raises StoreNotFound, PdError."""
        known = [name.lower() for name, _ in store_labels.of(self._require(store_id).meta)]
        if key.lower() not in known:
            raise PdError(f"the label key {key} does not exist")
        await self.set_labels(store_id, {key: ""})

    async def set_weights(self, store_id: int, leader: float, region: float) -> None:
        """How many leaders and how much data a store should have compared with others. Raises StoreNotFound, PdError."""
        if not (math.isfinite(leader) and leader >= 0):
            raise PdError("bad format leader weight")
        if not (math.isfinite(region) and region >= 0):
            raise PdError("bad format region weight")
        async with self._deciding:
            info = self._require(store_id)
            await self._metastore.write(
                {
                    self._weight_key(store_id, "leader"): repr(leader).encode(),
                    self._weight_key(store_id, "region"): repr(region).encode(),
                }
            )
            info.leader_weight, info.region_weight = leader, region

    def empty_and_leaving(self, now: float) -> list[int]:
        """Stores that are being removed and hold nothing, by their own word too unless they have fallen silent."""
        out = []
        for info in self._stores.all():
            if info.meta.state != metapb_pb2.Offline or self._region_count(info.meta.id):
                continue
            is_silent = now - info.heard_at > DISCONNECT_AFTER_S
            if is_silent or (info.has_reported and not info.stats.region_count):
                out.append(info.meta.id)
        return out
