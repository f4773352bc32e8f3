"""Balance-region: move replicas from the fullest stores to the emptiest, by their scores (`pd_py.schedule.score`).

A move must leave the source fuller than the target by more than the tolerance, with what is under way counted several times to
the disadvantage of both sides: reports come late, and it must not come back. Of a store's replicas those that lag go first (its
disk may be overloaded), then followers, leaders, learners. What is hot, broken, short of replicas or (in a grown cluster) empty
is left alone, and the new place must serve the region's rules as well as the old one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pd_py.schedule.context import Context
from pd_py.schedule.create import move_peer
from pd_py.schedule.filters import (
    YOUNG_REGIONS,
    enough_space,
    excluded,
    is_movable,
    is_replicated,
    no_special_use,
    passes,
    placement_safe,
    region_source,
    region_target,
    select,
)
from pd_py.schedule.influence import EMPTY_REGION_BYTES, Influence
from pd_py.schedule.operator import Operator, OpKind
from pd_py.schedule.schedulers.base import (
    Scheduler,
    SchedulerConfigError,
    attempt,
    below,
    draw,
    ranges_json,
    ranges_of,
)
from pd_py.schedule.score import region_load, region_score
from pd_py.schedule.view import WHOLE_RANGE, KeyRange, PeerKind, RegionView, StoreView

BATCH = 4
AMPLIFIED = 5
TOLERANCE_SHARE = 0.005  # of the regions of the fullest store
TOLERANCE_MIN = 1.0
TRIES = 6  # regions drawn of each kind
SOURCES_TRIED = 12
KINDS = (PeerKind.PENDING, PeerKind.FOLLOWER, PeerKind.LEADER, PeerKind.LEARNER)


class BalanceRegion(Scheduler):
    """The scheduler."""

    type = "balance-region-scheduler"
    min_interval_s = 0.04  # a call makes up to four operators: as many as one every ten milliseconds, at less cost

    def __init__(self, name: str = "", description: str = "balance-region", *, moves_empty: bool = False) -> None:
        self._name = name or self.type
        self._description = description
        self._moves_empty = moves_empty
        self.ranges: Sequence[KeyRange] = WHOLE_RANGE

    @property
    def name(self) -> str:
        """What it is known by."""
        return self._name

    def config(self) -> dict[str, Any]:
        """The ranges."""
        return {"ranges": ranges_json(self.ranges)}

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Set the ranges. Raises SchedulerConfigError."""
        if set(changes) - {"ranges"}:
            raise SchedulerConfigError("config item is not found")
        self.ranges = ranges_of(changes.get("ranges"))

    def is_allowed(self, context: Context) -> bool:
        """Fewer region operators run than may."""
        return below(context, OpKind.REGION, context.options.region_schedule_limit)

    def schedule(self, context: Context) -> list[Operator]:
        """A few moves, each seen by the next."""
        balancer = _Balancer(context, self.ranges, self._description, moves_empty=self._moves_empty)
        operators: list[Operator] = []
        while len(operators) < BATCH and (operator := balancer.next_move()) is not None:
            operators.append(operator)
        return operators


class _Balancer:
    """The scores of one call."""

    def __init__(self, context: Context, ranges: Sequence[KeyRange], description: str, *, moves_empty: bool) -> None:
        self.context = context
        self.ranges = ranges
        self.description = description
        self.influence = Influence()
        self.influence.add(context.influence)
        self.chosen: set[int] = set()
        stores = list(context.stores.values())
        self.sources = select(stores, region_source(context))
        self.targets = select(stores, region_target(context), enough_space(context), no_special_use())
        self.tolerance = self._tolerance(stores)
        self.moves_empty = moves_empty or context.view.region_total() < YOUNG_REGIONS

    def _tolerance(self, stores: Sequence[StoreView]) -> float:
        most = max((store.region_count for store in stores), default=0)
        ratio = self.context.options.tolerant_size_ratio or max(most * TOLERANCE_SHARE, TOLERANCE_MIN)
        return ratio * region_load(self.context.view.average_region_bytes(), 1)

    def _coming(self, store: StoreView) -> float:
        change = self.influence.of(store.store_id)
        return AMPLIFIED * abs(region_load(change.region_bytes, change.region_count))

    def source_score(self, store: StoreView, least: float = 0.0) -> float:
        """How full a store is, at its least."""
        return region_score(self.context, store, -self._coming(store) - max(self.tolerance, least))

    def target_score(self, store: StoreView, least: float = 0.0) -> float:
        """How full a store is, at its most."""
        return region_score(self.context, store, self._coming(store) + max(self.tolerance, least))

    def _too_large(self, region: RegionView, source: StoreView, target: StoreView) -> bool:
        """Whether the target would be the fuller one after the move of a region far above the mean."""
        load = region_load(region.size_bytes, 1)
        return load > self.tolerance and self.source_score(source, load) <= self.target_score(target, load)

    def next_move(self) -> Operator | None:
        """The best move now."""
        targets = sorted((self.target_score(store), store.store_id, store) for store in self.targets)
        sources = sorted((-self.source_score(store), store.store_id, store) for store in self.sources)
        for negated, _, source in sources[:SOURCES_TRIED]:
            if not targets or -negated <= targets[0][0]:
                return None
            operator = self._move_from(source, -negated, targets)
            if operator is not None:
                return operator
        return None

    def _move_from(
        self, source: StoreView, score: float, targets: Sequence[tuple[float, int, StoreView]]
    ) -> Operator | None:
        emptier = [store for other, _, store in targets if other < score and store.store_id != source.store_id]
        for kind in KINDS if emptier else ():
            found: list[Operator] = []

            def accepts(region: RegionView, kind: PeerKind = kind, found: list[Operator] = found) -> bool:
                if not self._may_move(region, kind):
                    return False
                operator = self._move(region, source, emptier)
                found.extend([operator] if operator is not None else [])
                return operator is not None

            region = draw(self.context, source.store_id, kind, accepts, ranges=self.ranges, tries=TRIES)
            if region is not None:
                self.chosen.add(region.region_id)
                self.influence.add(found[0].influence(region))
                return found[0]
        return None

    def _may_move(self, region: RegionView, kind: PeerKind) -> bool:
        return (
            region.region_id not in self.chosen
            and not region.down
            and (kind is PeerKind.PENDING or not region.pending)
            and (self.moves_empty or region.size_bytes > EMPTY_REGION_BYTES)
            and is_movable(self.context, region)
            and region.region_id not in self.context.hot_regions
            and is_replicated(self.context, region)
        )

    def _move(self, region: RegionView, source: StoreView, targets: Sequence[StoreView]) -> Operator | None:
        filters = (
            excluded(peer.store_id for peer in region.peers),
            placement_safe(self.context, region, source, None),
        )
        target = next((store for store in targets if passes(store, filters)), None)
        if target is None or self._too_large(region, source, target):
            return None
        return attempt(
            move_peer, self.context, self.description, region, source.store_id, target.store_id, OpKind.REGION
        )
