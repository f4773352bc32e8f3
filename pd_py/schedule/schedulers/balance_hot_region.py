"""Balance-hot-region: spread the regions that are read or written most, by what stores carry, not by what they hold.

For each flow there are two moves: the leadership of a region (reads, and the leader's share of writes) and a replica (what every
replica of a written region carries). A source carries more than the expectation (the mean) by a tolerance, a target less. Of all
pairs of such stores and the source's hot regions the move is taken that leaves the larger of the two loads smallest, in the rate
that is most uneven; the target must stay below what the source carried by a share that is no noise, and the other rate must not
become a new peak. A region must have been hot for some reports, be whole, and not be on its way already; a large one is not
copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pd_py.schedule.context import Context
from pd_py.schedule.create import move_peer, transfer_leader
from pd_py.schedule.filters import (
    can_lead,
    enough_space,
    excluded,
    is_healthy,
    is_movable,
    is_replicated,
    leader_allowed,
    leader_target,
    no_special_use,
    passes,
    placement_safe,
    region_source,
    region_target,
)
from pd_py.schedule.operator import Operator, OpKind
from pd_py.schedule.options import MIB
from pd_py.schedule.schedulers.base import Scheduler, SchedulerConfigError, attempt, below
from pd_py.schedule.schedulers.hot_loads import HotRegion, Load, PendingMoves, hot_regions, reported_loads
from pd_py.schedule.view import FlowKind, RegionView, StoreView

SOURCE_TOLERANCE = 1.05
TARGET_TOLERANCE = 1.05
GAIN = 0.95
"""The target must not come to carry more than this share of what the source did; nothing comes back then."""
REGIONS_TRIED = 64
MIN_BYTES_RATE = (1024.0, 512.0)
"""A store that carries less than this in bytes per second is no source, whatever the others carry: write, read."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """A move with what it leads to; smaller ranks are better."""

    rank: float
    hot: HotRegion
    source: StoreView
    target: StoreView


class BalanceHotRegion(Scheduler):
    """The scheduler. Its two tolerances can be set."""

    type = "balance-hot-region-scheduler"
    min_interval_s = 0.1

    def __init__(self) -> None:
        self.source_tolerance = SOURCE_TOLERANCE
        self.target_tolerance = TARGET_TOLERANCE
        self.pending = PendingMoves()

    def config(self) -> dict[str, Any]:
        """The tolerances."""
        return {"src-tolerance-ratio": self.source_tolerance, "dst-tolerance-ratio": self.target_tolerance}

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Set the tolerances. Raises SchedulerConfigError."""
        data = self.config() | dict(changes)
        if set(data) - {"src-tolerance-ratio", "dst-tolerance-ratio"}:
            raise SchedulerConfigError("config item is not found")
        for value in data.values():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 1.0 < value < 10.0:
                raise SchedulerConfigError("tolerance ratios should be between 1 and 10")
        self.source_tolerance = float(data["src-tolerance-ratio"])
        self.target_tolerance = float(data["dst-tolerance-ratio"])

    def is_allowed(self, context: Context) -> bool:
        """Fewer operators for hot regions run than may."""
        return below(context, OpKind.HOT_REGION, context.options.hot_region_schedule_limit)

    def schedule(self, context: Context) -> list[Operator]:
        """One move: of reads or writes, whoever's turn it is by chance, else of the other."""
        self.pending.settle(context)
        flows = (FlowKind.WRITE, FlowKind.READ)
        turn = context.rng.randrange(0, 2)
        for flow in (flows[turn], flows[1 - turn]):
            if not any(context.view.hot_peers(flow).values()):
                continue
            for leaders in (True, False):
                operator = _Solver(self, context, flow, leaders=leaders).solve()
                if operator is not None:
                    return [operator]
        return []


class _Solver:
    """One look at one flow and one way to move it."""

    def __init__(self, scheduler: BalanceHotRegion, context: Context, flow: FlowKind, *, leaders: bool) -> None:
        self.scheduler = scheduler
        self.context = context
        self.flow = flow
        self.leaders = leaders
        self.hot = hot_regions(context, flow, scheduler.pending)
        self.loads = dict.fromkeys(context.stores, Load())
        for one in self.hot:
            for store_id in one.places(flow, leaders=leaders):
                if store_id in self.loads:
                    self.loads[store_id] = self.loads[store_id].plus(one.load)
        self.expected = self._mean(self.loads)
        self.dim = self._most_uneven()
        self.reported = reported_loads(context, flow) if not leaders or flow is FlowKind.READ else {}
        self.reported_mean = self._mean(self.reported)

    def _mean(self, loads: Mapping[int, Load]) -> tuple[float, float]:
        up = [loads[store.store_id].dims() for store in self.context.stores.values() if store.is_up and loads]
        count = max(len(up), 1)
        return sum(one[0] for one in up) / count, sum(one[1] for one in up) / count

    def _most_uneven(self) -> int:
        """The rate whose peak is farthest above its mean."""

        def excess(dim: int) -> float:
            return max((one.dims()[dim] for one in self.loads.values()), default=0.0) / max(self.expected[dim], 1e-9)

        return 1 if excess(1) > excess(0) else 0

    def load(self, store: StoreView) -> float:
        """What a store carries of the rate that counts."""
        return self.loads[store.store_id].dims()[self.dim]

    def solve(self) -> Operator | None:
        """The best move of the fullest store that has one."""
        targets = self._targets()
        for source in self._sources():
            best: _Choice | None = None
            for hot in self._candidates(source):
                found = self._best_target(hot, source, targets)
                if found is not None and (best is None or found.rank < best.rank):
                    best = found
            if best is not None:
                return self._operator(best)
        return None

    def _held_back(self, store: StoreView, *, source: bool) -> bool:
        """Whether what a store says of itself speaks against it: a source that is not loaded, a target that is."""
        if not self.reported or not self.reported_mean[self.dim]:
            return False
        share = self.reported[store.store_id].dims()[self.dim] / self.reported_mean[self.dim]
        return share < 1.0 if source else share > self.scheduler.target_tolerance

    def _sources(self) -> list[StoreView]:
        floor = self.expected[self.dim] * self.scheduler.source_tolerance
        least = MIN_BYTES_RATE[0 if self.flow is FlowKind.WRITE else 1]
        check = region_source(self.context)
        full = [
            store
            for store in self.context.stores.values()
            if self.load(store) > floor
            and self.loads[store.store_id].bytes_rate >= least
            and not self._held_back(store, source=True)
            and (self.leaders or not check(store))
        ]
        return sorted(full, key=lambda store: (-self.load(store), store.store_id))

    def _targets(self) -> list[StoreView]:
        ceiling = self.expected[self.dim] * self.scheduler.target_tolerance
        if self.leaders:
            checks = [leader_target(self.context)]
        else:
            checks = [region_target(self.context), enough_space(self.context), no_special_use()]
        free = [
            store
            for store in self.context.stores.values()
            if self.load(store) < ceiling and not self._held_back(store, source=False) and passes(store, checks)
        ]
        return sorted(free, key=lambda store: (self.load(store), store.store_id))

    def _candidates(self, source: StoreView) -> list[HotRegion]:
        """The source's hot regions that could move, those that carry most first."""
        found = [
            hot
            for hot in self.hot
            if source.store_id in hot.places(self.flow, leaders=self.leaders)
            and hot.degree >= self.context.options.hot_region_cache_hits_threshold
            and hot.region.region_id not in self.scheduler.pending
        ]
        found.sort(key=lambda hot: (-hot.load.dims()[self.dim], hot.region.region_id))
        return [hot for hot in found[:REGIONS_TRIED] if self._may_move(hot.region)]

    def _may_move(self, region: RegionView) -> bool:
        if not is_healthy(region) or not is_movable(self.context, region):
            return False
        if not self.leaders and region.size_bytes > self.context.options.max_movable_hot_peer_size * MIB:
            return False
        return is_replicated(self.context, region)

    def _best_target(self, hot: HotRegion, source: StoreView, targets: Iterable[StoreView]) -> _Choice | None:
        suits = self._suits(hot.region, source)
        for target in targets:  # the emptiest that suits is best for this replica
            if target.store_id == source.store_id or not suits(target):
                continue
            rank = self._rank(hot.load, source, target)
            return None if rank is None else _Choice(rank, hot, source, target)
        return None

    def _suits(self, region: RegionView, source: StoreView) -> Callable[[StoreView], bool]:
        if self.leaders:

            def can_take(target: StoreView) -> bool:
                peer = region.on_store(target.store_id)
                return peer is not None and can_lead(self.context, region, peer)

            return can_take
        filters = [
            excluded(peer.store_id for peer in region.peers),
            placement_safe(self.context, region, source, None),
        ]
        if region.leader_store_id == source.store_id:
            filters += [leader_target(self.context), leader_allowed(self.context, region)]
        return lambda target: passes(target, filters)

    def _rank(self, flow: Load, source: StoreView, target: StoreView) -> float | None:
        """The larger load after the move, as a share of that before; None when the move is not worth it."""
        before, there = self.loads[source.store_id].dims(), self.loads[target.store_id].dims()
        moved = flow.dims()
        dim, other = self.dim, 1 - self.dim
        if moved[dim] <= 0 or there[dim] + moved[dim] > before[dim] * GAIN:
            return None
        peak = max(before[dim] - moved[dim], there[dim] + moved[dim])
        bound = max(before[other], there[other], self.expected[other] * self.scheduler.source_tolerance)
        if there[other] + moved[other] > bound:
            return None
        return peak / before[dim]

    def _operator(self, choice: _Choice) -> Operator | None:
        operator = self._build(choice)
        if operator is not None:
            source, target = choice.source.store_id, choice.target.store_id
            self.scheduler.pending.add(choice.hot, self.flow, source, target, leader_only=self.leaders)
        return operator

    def _build(self, choice: _Choice) -> Operator | None:
        region, flow = choice.hot.region, self.flow.value
        source, target = choice.source.store_id, choice.target.store_id
        if self.leaders:
            description = f"transfer-hot-{flow}-leader"
            return attempt(transfer_leader, self.context, description, region, target, OpKind.HOT_REGION)
        if region.leader_store_id == source:
            description = f"move-hot-{flow}-leader"
            return attempt(
                move_peer, self.context, description, region, source, target, OpKind.HOT_REGION, leader=target
            )
        return attempt(move_peer, self.context, f"move-hot-{flow}-peer", region, source, target, OpKind.HOT_REGION)
