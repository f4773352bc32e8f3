"""Balance-leader: move leadership from the stores that lead most to those that lead least, by weight.

A move is worth it only when it makes the difference smaller, and by more than the tolerance; both sides are counted with all that
is under way, to their disadvantage, or two stores would hand a leader back and forth. The tolerance grows with the number of
leaders, from exact balance in a small cluster to the public five leaders (of both sides) in a large one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pd_py.schedule.context import Context
from pd_py.schedule.create import transfer_leader
from pd_py.schedule.filters import can_lead, is_movable, leader_source, leader_target, select
from pd_py.schedule.influence import Influence
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
from pd_py.schedule.score import MIB, leader_score
from pd_py.schedule.view import WHOLE_RANGE, KeyRange, PeerKind, RegionView, StoreView

BATCH = 4
BATCH_MAX = 10
TOLERANCE_MAX = 5.0
TOLERANCE_MIN = 0.5
TOLERANCE_SHARE = 0.02
STORES_TRIED = 8  # of each end; the others' turn comes when these are balanced


class BalanceLeader(Scheduler):
    """The scheduler. `batch` is how many operators one call may make."""

    type = "balance-leader-scheduler"
    min_interval_s = 0.04  # a call makes up to four operators: as many as one every ten milliseconds, at less cost

    def __init__(self, name: str = "", description: str = "balance-leader") -> None:
        self._name = name or self.type
        self._description = description
        self.batch = BATCH
        self.ranges: Sequence[KeyRange] = WHOLE_RANGE

    @property
    def name(self) -> str:
        """What it is known by."""
        return self._name

    def config(self) -> dict[str, Any]:
        """Batch and ranges."""
        return {"ranges": ranges_json(self.ranges), "batch": self.batch}

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Set batch or ranges. Raises SchedulerConfigError."""
        if set(changes) - {"batch", "ranges"}:
            raise SchedulerConfigError("config item is not found")
        batch = changes.get("batch", self.batch)
        if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= BATCH_MAX:
            raise SchedulerConfigError("invalid batch size which should be an integer between 1 and 10")
        self.ranges = ranges_of(changes["ranges"]) if "ranges" in changes else self.ranges
        self.batch = batch

    def is_allowed(self, context: Context) -> bool:
        """Fewer leader operators run than may."""
        return below(context, OpKind.LEADER, context.options.leader_schedule_limit)

    def schedule(self, context: Context) -> list[Operator]:
        """Up to `batch` moves, each seen by the next."""
        balancer = _Balancer(context, self.ranges)
        operators: list[Operator] = []
        while len(operators) < self.batch:
            move = balancer.next_move()
            if move is None:
                break
            region, target = move
            operator = attempt(transfer_leader, context, self._description, region, target, OpKind.LEADER)
            if operator is None:
                balancer.chosen.add(region.region_id)
                continue
            balancer.take(operator, region)
            operators.append(operator)
        return operators


class _Balancer:
    """The scores of one call."""

    def __init__(self, context: Context, ranges: Sequence[KeyRange]) -> None:
        self.context = context
        self.ranges = ranges
        self.chosen: set[int] = set()
        self.by_size = context.options.leader_schedule_policy == "size"
        self.influence = Influence()
        self.influence.add(context.influence)
        stores = context.stores.values()
        self.sources = select(stores, leader_source(context))
        self.targets = select(stores, leader_target(context))
        self.tolerance = self._tolerance()

    def _tolerance(self) -> float:
        ratio = self.context.options.tolerant_size_ratio
        average = sum(store.leader_count for store in self.sources) / max(len(self.sources), 1)
        leaders = ratio or min(max(average * TOLERANCE_SHARE, TOLERANCE_MIN), TOLERANCE_MAX)
        return leaders * self.context.view.average_region_bytes() / MIB if self.by_size else leaders

    def _coming(self, store: StoreView) -> float:
        change = self.influence.of(store.store_id)
        return abs(change.leader_bytes / MIB if self.by_size else float(change.leader_count))

    def source_score(self, store: StoreView) -> float:
        """What a store leads, at its least."""
        return leader_score(store, -self._coming(store) - self.tolerance, by_size=self.by_size)

    def target_score(self, store: StoreView) -> float:
        """What a store leads, at its most."""
        return leader_score(store, self._coming(store) + self.tolerance, by_size=self.by_size)

    def next_move(self) -> tuple[RegionView, int] | None:
        """A region and the store that should lead it: from the fullest, else to the emptiest."""
        sources = sorted(self.sources, key=lambda store: (-self.source_score(store), store.store_id))
        targets = sorted(self.targets, key=lambda store: (self.target_score(store), store.store_id))
        if not sources or not targets or self.source_score(sources[0]) <= self.target_score(targets[0]):
            return None
        least, most = self.target_score(targets[0]), self.source_score(sources[0])
        for source in sources[:STORES_TRIED]:
            if self.source_score(source) <= least:
                break
            found = self._from(source)
            if found is not None:
                return found
        for target in targets[:STORES_TRIED]:
            if self.target_score(target) >= most:
                break
            found = self._to(target)
            if found is not None:
                return found
        return None

    def _accepts(self, region: RegionView) -> bool:
        return (
            region.region_id not in self.chosen
            and not region.down
            and is_movable(self.context, region)
            and region.region_id not in self.context.hot_regions
        )

    def _from(self, source: StoreView) -> tuple[RegionView, int] | None:
        score = self.source_score(source)
        best: list[int] = []

        def accepts(region: RegionView) -> bool:
            best[:] = self._best_follower(region, score) if self._accepts(region) else []
            return bool(best)

        region = draw(self.context, source.store_id, PeerKind.LEADER, accepts, ranges=self.ranges)
        return None if region is None else (region, best[0])

    def _best_follower(self, region: RegionView, source_score: float) -> list[int]:
        scores = [
            (self.target_score(store), peer.store_id)
            for peer in region.peers
            if peer.store_id != region.leader_store_id
            and (store := self.context.store(peer.store_id)) is not None
            and can_lead(self.context, region, peer)
        ]
        return [store_id for score, store_id in sorted(scores)[:1] if score < source_score]

    def _to(self, target: StoreView) -> tuple[RegionView, int] | None:
        score = self.target_score(target)

        def accepts(region: RegionView) -> bool:
            source = self.context.store(region.leader_store_id)
            peer = region.on_store(target.store_id)
            return (
                source is not None
                and peer is not None
                and self.source_score(source) > score
                and source in self.sources
                and can_lead(self.context, region, peer)
                and self._accepts(region)
            )

        region = draw(self.context, target.store_id, PeerKind.FOLLOWER, accepts, ranges=self.ranges)
        return None if region is None else (region, target.store_id)

    def take(self, operator: Operator, region: RegionView) -> None:
        """Count a move that was decided."""
        self.chosen.add(region.region_id)
        self.influence.add(operator.influence(region))
