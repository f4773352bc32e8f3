"""`ClusterPort`, `RegionSource` and `SettingsPort` over the cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from pd_py.api.backend import StoreDetail
from pd_py.cluster.cluster import Cluster
from pd_py.cluster.region_statistics import RegionState
from pd_py.cluster.regions import Regions
from pd_py.cluster.settings import Settings
from pd_py.cluster.settings_items import ITEMS
from pd_py.cluster.versions import Version
from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.view import FlowKind, HotPeer, RegionView, StoreLoad, StoreView

Scores = Callable[[StoreView], tuple[float, float]]
"""A store's leader score and region score."""


class RegionsOfMember:
    """`RegionSource` over what a member knows of regions, whether it leads or not."""

    def __init__(self, regions: Regions) -> None:
        self._regions = regions

    def region(self, region_id: int) -> RegionView | None:
        """See the port."""
        return self._regions.tree.get(region_id)

    def region_of(self, key: bytes) -> RegionView | None:
        """See the port."""
        return self._regions.tree.find(key)

    def region_total(self) -> int:
        """See the port."""
        return len(self._regions.tree)

    def scan(self, start: bytes, end: bytes, limit: int) -> Sequence[RegionView]:
        """See the port."""
        return self._regions.tree.scan(start, end, limit)

    def neighbours(self, region: RegionView) -> tuple[RegionView | None, RegionView | None]:
        """See the port."""
        return self._regions.tree.neighbours(region)

    def regions_on(self, store_id: int) -> Iterable[RegionView]:
        """See the port."""
        return self._regions.tree.of_store(store_id)

    def down_seconds(self, region_id: int) -> Mapping[int, int]:
        """See the port."""
        return self._regions.down_seconds(region_id)


class ClusterOfLeader(RegionsOfMember):
    """`ClusterPort` over the leading member's cluster."""

    def __init__(self, cluster: Cluster, scores: Scores) -> None:
        super().__init__(cluster.regions)
        self._cluster = cluster
        self._scores = scores

    @property
    def options(self) -> ScheduleOptions:
        """The settings in effect."""
        return self._cluster.options

    @property
    def bootstrapped(self) -> bool:
        """See the port."""
        return self._cluster.bootstrapped

    def status(self) -> Mapping[str, Any]:
        """See the port."""
        return self._cluster.status()

    def regions_in(self, state: str) -> Sequence[RegionView]:
        """See the port."""
        found = (self._cluster.tree.get(one) for one in self._cluster.regions.statistics.regions(RegionState(state)))
        return [region for region in found if region is not None]

    def stores(self) -> Iterable[StoreView]:
        """See the port."""
        return self._cluster.stores()

    def hot_peers(self, kind: FlowKind) -> Mapping[int, Sequence[HotPeer]]:
        """See the port."""
        return self._cluster.hot_peers(kind)

    def store_load(self, store_id: int) -> StoreLoad:
        """See the port."""
        return self._cluster.store_load(store_id)

    def store_detail(self, store_id: int) -> StoreDetail | None:
        """See the port."""
        info, view = self._cluster.stores_info.find(store_id), self._cluster.store(store_id)
        if info is None or view is None:
            return None
        leader_score, region_score = self._scores(view)
        return StoreDetail(
            info.meta, info.stats, view, info.last_heartbeat_ms, leader_score, region_score, info.min_resolved_ts
        )

    def store_details(self) -> Sequence[StoreDetail]:
        """See the port."""
        found = (self.store_detail(info.meta.id) for info in self._cluster.stores_info.all())
        return [store for store in found if store is not None]

    async def remove_store(self, store_id: int, *, physically_destroyed: bool) -> None:
        """See the port."""
        await self._cluster.store_admin.remove(store_id, physically_destroyed=physically_destroyed)

    async def up_store(self, store_id: int) -> None:
        """See the port."""
        await self._cluster.store_admin.up(store_id)

    async def set_store_labels(self, store_id: int, labels: Mapping[str, str], *, replace: bool) -> None:
        """See the port."""
        await self._cluster.store_admin.set_labels(store_id, dict(labels), force=replace)

    async def delete_store_label(self, store_id: int, key: str) -> None:
        """See the port."""
        await self._cluster.store_admin.delete_label(store_id, key)

    async def set_store_weight(self, store_id: int, leader: float, region: float) -> None:
        """See the port."""
        await self._cluster.store_admin.set_weights(store_id, leader, region)

    async def remove_tombstones(self) -> None:
        """See the port."""
        await self._cluster.store_admin.remove_tombstones()

    def min_resolved_ts(self) -> int:
        """See the port."""
        return self._cluster.min_resolved_ts()


class SettingsOfCluster:
    """`SettingsPort`. `follow` is told the options after a change that touches replication: the default placement rule follows."""

    def __init__(
        self,
        settings: Settings,
        monotonic: Callable[[], float],
        follow: Callable[[ScheduleOptions], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._follow = follow

    def to_json(self) -> dict[str, Any]:
        """See the port."""
        return self._settings.to_json()

    def defaults(self) -> dict[str, Any]:
        """See the port."""
        out: dict[str, Any] = {"cluster-version": str(Version(0, 0, 0))}
        for item in ITEMS:
            out.setdefault(item.section, {})[item.name] = item.show(item.default)
        return out

    async def change(self, changes: Mapping[str, Any]) -> None:
        """See the port."""
        before = self._settings.options
        await self._settings.set(changes)
        after = self._settings.options
        if _replication(before) != _replication(after):
            await self._follow(after)

    async def change_for(self, changes: Mapping[str, Any], seconds: float) -> None:
        """See the port."""
        await self._settings.set_temporarily(changes, seconds, self._monotonic())


def _replication(options: ScheduleOptions) -> tuple[object, ...]:
    return (options.max_replicas, options.location_labels, options.isolation_level)
