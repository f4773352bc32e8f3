"""Scatter-range: balance the leaders and replicas of one key range by themselves, whatever the stores hold besides.

The two balancing schedulers run over a view in which stores hold nothing but the range. Reading the range costs its size, so it
is done no more than once a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from core_py.ports import Random
from pd_py.schedule.context import Context
from pd_py.schedule.operator import Operator
from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.schedulers.balance_leader import BalanceLeader
from pd_py.schedule.schedulers.balance_region import BalanceRegion
from pd_py.schedule.schedulers.base import Scheduler, SchedulerConfigError
from pd_py.schedule.view import (
    ClusterView,
    FlowKind,
    HotPeer,
    KeyRange,
    PeerKind,
    RegionView,
    StoreLoad,
    StoreView,
)

TOLERANCE_LEADERS = 1.0
REGIONS_MAX = 100_000


class RangeView:
    """`ClusterView` of one key range: the cluster as if nothing else were there."""

    def __init__(self, view: ClusterView, key_range: KeyRange) -> None:
        self._view = view
        self._range = key_range
        self.options: ScheduleOptions = replace(view.options, tolerant_size_ratio=TOLERANCE_LEADERS)
        self._regions = view.scan(key_range.start, key_range.end, REGIONS_MAX)
        counts: Counter[int] = Counter()
        leaders: Counter[int] = Counter()
        sizes: Counter[int] = Counter()
        leader_sizes: Counter[int] = Counter()
        for region in self._regions:
            leaders[region.leader_store_id] += 1
            leader_sizes[region.leader_store_id] += region.size_bytes
            for peer in region.peers:
                counts[peer.store_id] += 1
                sizes[peer.store_id] += region.size_bytes
        self._stores = {
            store.store_id: replace(
                store,
                region_count=counts[store.store_id],
                leader_count=leaders[store.store_id],
                region_bytes=sizes[store.store_id],
                leader_bytes=leader_sizes[store.store_id],
                available_bytes=store.capacity_bytes,
                used_bytes=0,
            )
            for store in view.stores()
        }

    def stores(self) -> Iterable[StoreView]:
        """All stores."""
        return self._stores.values()

    def store(self, store_id: int) -> StoreView | None:
        """One store."""
        return self._stores.get(store_id)

    def region(self, region_id: int) -> RegionView | None:
        """One region."""
        return self._view.region(region_id)

    def region_of(self, key: bytes) -> RegionView | None:
        """The region that holds a key."""
        return self._view.region_of(key)

    def region_total(self) -> int:
        """How many regions the range has."""
        return len(self._regions)

    def average_region_bytes(self) -> float:
        """The mean size in the range."""
        return sum(region.size_bytes for region in self._regions) / max(len(self._regions), 1)

    def scan(self, start: bytes, end: bytes, limit: int) -> Sequence[RegionView]:
        """Regions of a range."""
        return self._view.scan(start, end, limit)

    def neighbours(self, region: RegionView) -> tuple[RegionView | None, RegionView | None]:
        """The regions beside one."""
        return self._view.neighbours(region)

    def random_regions(
        self, store_id: int, kind: PeerKind, ranges: Sequence[KeyRange], count: int, rng: Random
    ) -> Sequence[RegionView]:
        """Regions of the range that a store holds."""
        return self._view.random_regions(store_id, kind, (self._range,), count, rng)

    def has_operator(self, region_id: int) -> bool:
        """Whether something is under way."""
        return self._view.has_operator(region_id)

    def hot_peers(self, kind: FlowKind) -> Mapping[int, Sequence[HotPeer]]:
        """Hot replicas: none, for hot regions of the range are balanced too."""
        return {}

    def store_load(self, store_id: int) -> StoreLoad:
        """A store's flow."""
        return self._view.store_load(store_id)


class ScatterRange(Scheduler):
    """The scheduler of one range; several run beside each other under their ranges' names."""

    type = "scatter-range-scheduler"
    min_interval_s = 1.0

    def __init__(self) -> None:
        self.range_name = ""
        self.key_range = KeyRange()
        self._leaders = BalanceLeader("scatter-range-leader", "scatter-range-leader")
        self._regions = BalanceRegion("scatter-range-region", "scatter-range-region", moves_empty=True)

    @property
    def name(self) -> str:
        """The type with the range's name."""
        return f"scatter-range-{self.range_name}" if self.range_name else self.type

    def config(self) -> dict[str, Any]:
        """The range and its name."""
        return {
            "range-name": self.range_name,
            "start-key": self.key_range.start.hex(),
            "end-key": self.key_range.end.hex(),
        }

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Set the range. Raises SchedulerConfigError."""
        data = self.config() | dict(changes)
        if set(data) != {"range-name", "start-key", "end-key"} or not all(
            isinstance(one, str) for one in data.values()
        ):
            raise SchedulerConfigError("scatter-range needs range-name, start-key and end-key")
        try:
            start, end = bytes.fromhex(data["start-key"]), bytes.fromhex(data["end-key"])
        except ValueError as error:
            raise SchedulerConfigError("keys should be in hex") from error
        if not data["range-name"] or "/" in data["range-name"] or (end and end <= start):
            raise SchedulerConfigError("scatter-range needs a name without slashes and a range that is not empty")
        self.range_name, self.key_range = data["range-name"], KeyRange(start, end)

    def is_allowed(self, context: Context) -> bool:
        """Fewer leader or region operators run than may."""
        return self._leaders.is_allowed(context) or self._regions.is_allowed(context)

    def schedule(self, context: Context) -> list[Operator]:
        """Leaders first, then replicas."""
        within = context.over(RangeView(context.view, self.key_range))
        operators = self._leaders.schedule(within) if self._leaders.is_allowed(context) else []
        if operators or not self._regions.is_allowed(context):
            return operators
        return self._regions.schedule(within)
