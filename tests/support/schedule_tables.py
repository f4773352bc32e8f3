"""A cluster as plain tables, implementing the scheduler's port in the most obvious way: the oracle of the real one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random as SeededRandom

from core_py.ports import Random
from pd_py.schedule.context import Context
from pd_py.schedule.controller import OperatorController
from pd_py.schedule.limits import StoreLimits
from pd_py.schedule.options import MIB, ScheduleOptions
from pd_py.schedule.placement.manager import RuleManager
from pd_py.schedule.placement.region_label import RegionLabeler
from pd_py.schedule.view import (
    FlowKind,
    HotPeer,
    KeyRange,
    PeerKind,
    PeerView,
    RegionView,
    Role,
    StoreLoad,
    StoreState,
    StoreView,
)


@dataclass
class TableView:
    """`ClusterView` over a dict of stores and a list of regions; counts of stores are taken from the regions when asked to."""

    table: dict[int, StoreView]
    regions: list[RegionView]
    options: ScheduleOptions = field(default_factory=ScheduleOptions)
    busy_regions: set[int] = field(default_factory=set)
    hot: dict[FlowKind, dict[int, list[HotPeer]]] = field(default_factory=dict)
    loads: dict[int, StoreLoad] = field(default_factory=dict)

    def stores(self) -> Iterable[StoreView]:
        return [self.table[key] for key in sorted(self.table) if self.table[key].state is not StoreState.TOMBSTONE]

    def store(self, store_id: int) -> StoreView | None:
        return self.table.get(store_id)

    def region(self, region_id: int) -> RegionView | None:
        return next((region for region in self.regions if region.region_id == region_id), None)

    def region_of(self, key: bytes) -> RegionView | None:
        return next(
            (one for one in self.regions if one.start_key <= key and (not one.end_key or key < one.end_key)), None
        )

    def region_total(self) -> int:
        return len(self.regions)

    def average_region_bytes(self) -> float:
        return sum(one.size_bytes for one in self.regions) / max(len(self.regions), 1)

    def scan(self, start: bytes, end: bytes, limit: int) -> Sequence[RegionView]:
        found = [
            one
            for one in sorted(self.regions, key=lambda one: one.start_key)
            if (not one.end_key or one.end_key > start) and (not end or one.start_key < end)
        ]
        return found[:limit] if limit > 0 else found

    def neighbours(self, region: RegionView) -> tuple[RegionView | None, RegionView | None]:
        left = next((one for one in self.regions if one.end_key and one.end_key == region.start_key), None)
        right = next((one for one in self.regions if region.end_key and one.start_key == region.end_key), None)
        return left, right

    def random_regions(
        self, store_id: int, kind: PeerKind, ranges: Sequence[KeyRange], count: int, rng: Random
    ) -> Sequence[RegionView]:
        found = [one for one in self.regions if holds(one, store_id, kind) and inside(one, ranges)]
        out: list[RegionView] = []
        while found and len(out) < count:
            out.append(found.pop(rng.randrange(0, len(found))))
        return out

    def has_operator(self, region_id: int) -> bool:
        return region_id in self.busy_regions

    def hot_peers(self, kind: FlowKind) -> Mapping[int, Sequence[HotPeer]]:
        return self.hot.get(kind, {})

    def store_load(self, store_id: int) -> StoreLoad:
        return self.loads.get(store_id, StoreLoad())

    def put(self, region: RegionView) -> None:
        """Replace a region, and count the stores anew."""
        self.regions = [region if one.region_id == region.region_id else one for one in self.regions]
        self.recount()

    def recount(self) -> None:
        """Set the stores' counts from the regions."""
        for store_id, store in self.table.items():
            held = [one for one in self.regions if one.on_store(store_id)]
            led = [one for one in held if one.leader_store_id == store_id]
            self.table[store_id] = replace(
                store,
                region_count=len(held),
                leader_count=len(led),
                region_bytes=sum(one.size_bytes for one in held),
                leader_bytes=sum(one.size_bytes for one in led),
            )


def holds(region: RegionView, store_id: int, kind: PeerKind) -> bool:
    """Whether a store holds a region in this way."""
    peer = region.on_store(store_id)
    if peer is None:
        return False
    if kind is PeerKind.LEADER:
        return region.leader_store_id == store_id
    if kind is PeerKind.PENDING:
        return peer.peer_id in region.pending
    if kind is PeerKind.LEARNER:
        return peer.role is Role.LEARNER
    return peer.role is not Role.LEARNER and region.leader_store_id != store_id


def inside(region: RegionView, ranges: Sequence[KeyRange]) -> bool:
    """Whether a region lies in one of the ranges."""
    return any(
        region.start_key >= one.start and (not one.end or (region.end_key != b"" and region.end_key <= one.end))
        for one in ranges
    )


def store(
    store_id: int, state: StoreState = StoreState.UP, labels: Mapping[str, str] | None = None, **more: object
) -> StoreView:
    """A store; counts and sizes by name."""
    return replace(StoreView(store_id, state, tuple((labels or {}).items())), **more)  # type: ignore[arg-type]


def region(
    region_id: int, *stores: int, leader: int = 0, roles: Mapping[int, Role] | None = None, **more: object
) -> RegionView:
    """A region of 96 MiB between the keys of its id and of the next; peers are `region_id * 100 + store`."""
    peers = tuple(PeerView(region_id * 100 + s, s, (roles or {}).get(s, Role.VOTER)) for s in stores)
    one = RegionView(region_id, key(region_id), key(region_id + 1), 1, 1, peers, leader or stores[0])
    return replace(one, **({"size_bytes": 96 * MIB, "keys": 960_000} | more))  # type: ignore[arg-type]


def key(number: int) -> bytes:
    """A key in the order of numbers."""
    return b"%06d" % number


@dataclass
class Tables:
    """A table view with all that decisions need beside it."""

    view: TableView
    rules: RuleManager = field(default_factory=RuleManager)
    labels: RegionLabeler = field(default_factory=RegionLabeler)
    limits: StoreLimits = field(default_factory=StoreLimits)
    rng: SeededRandom = field(default_factory=lambda: SeededRandom(7))
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.ids = count(9_000_000)
        self.controller = OperatorController(self.view, self.limits, self.rng)
        options = self.view.options
        if not len(self.rules):
            self.rules.commit(
                self.rules.plan_default(options.max_replicas, options.location_labels, options.isolation_level)
            )

    def context(self, **more: object) -> Context:
        """A context of this moment."""
        return Context(
            self.view,
            rules=self.rules,
            labels=self.labels,
            limits=self.limits,
            rng=self.rng,
            now=self.now,
            alloc_peer_id=lambda: next(self.ids),
            influence=self.controller.influence,
            running=self.controller.count,
            **more,  # type: ignore[arg-type]
        )


def tables(stores: Iterable[StoreView], regions: Iterable[RegionView], **options: object) -> Tables:
    """Tables with the default rule."""
    view = TableView({one.store_id: one for one in stores}, list(regions), ScheduleOptions(**options))  # type: ignore[arg-type]
    return Tables(view)
