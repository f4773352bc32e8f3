"""What one round of decisions is made from: the view, the rules, the limits and what is under way, at one moment.

Made anew for each batch of checks and each run of a scheduler. Stores are looked up once per round, so that a decision sees each
of them in one state. It changes nothing but the counter of peer ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

from core_py.ports import Random
from pd_py.schedule.influence import Influence
from pd_py.schedule.limits import LimitType, StoreLimits
from pd_py.schedule.operator import Operator, OpKind
from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.placement.fit import RegionFit, fit_region
from pd_py.schedule.placement.manager import RuleManager
from pd_py.schedule.placement.region_label import RegionLabeler
from pd_py.schedule.view import ClusterView, FlowKind, RegionView, StoreState, StoreView

OUT_OF_IDS = 0


class Context:
    """One moment of the cluster, for deciding."""

    def __init__(
        self,
        view: ClusterView,
        *,
        rules: RuleManager,
        labels: RegionLabeler,
        limits: StoreLimits,
        rng: Random,
        now: float,
        alloc_peer_id: Callable[[], int],
        influence: Callable[[], Influence] = Influence,
        running: Callable[[OpKind], int] = lambda _: 0,
        paused_in: frozenset[int] = frozenset(),
        paused_out: frozenset[int] = frozenset(),
    ) -> None:
        self.view = view
        self.rules = rules
        self.labels = labels
        self.limits = limits
        self.rng = rng
        self.now = now
        self.alloc_peer_id = alloc_peer_id
        """A fresh id; `OUT_OF_IDS` when there is none at the moment."""
        self.running = running
        """How many operators of a kind run."""
        self._influence = influence
        self._paused_in = paused_in
        self._paused_out = paused_out

    def over(self, view: ClusterView) -> Context:
        """The same for another view of the cluster."""
        return Context(
            view,
            rules=self.rules,
            labels=self.labels,
            limits=self.limits,
            rng=self.rng,
            now=self.now,
            alloc_peer_id=self.alloc_peer_id,
            influence=self._influence,
            running=self.running,
            paused_in=self._paused_in,
            paused_out=self._paused_out,
        )

    @property
    def options(self) -> ScheduleOptions:
        """The settings."""
        return self.view.options

    @cached_property
    def influence(self) -> Influence:
        """What runs will do to the stores."""
        return self._influence()

    def note_added(self, operator: Operator) -> None:
        """An operator was added in this round: count it for the decisions that follow."""
        region = self.view.region(operator.region_id)
        if region is not None and "influence" in self.__dict__:
            self.influence.add(operator.influence(region))

    @cached_property
    def stores(self) -> Mapping[int, StoreView]:
        """All stores but tombstones."""
        return {store.store_id: store for store in self.view.stores()}

    def store(self, store_id: int) -> StoreView | None:
        """One store."""
        return self.stores.get(store_id)

    def stores_of(self, region: RegionView) -> dict[int, StoreView]:
        """The known stores of a region's replicas."""
        known = self.stores
        return {peer.store_id: known[peer.store_id] for peer in region.peers if peer.store_id in known}

    def fit(self, region: RegionView) -> RegionFit:
        """How well a region fits its rules."""
        rules = self.rules.for_range(region.start_key, region.end_key)
        return fit_region(region, rules, self.stores_of(region))

    @cached_property
    def hot_regions(self) -> frozenset[int]:
        """Regions that have been hot for long enough to count."""
        threshold = self.options.hot_region_cache_hits_threshold
        return frozenset(
            peer.region_id
            for kind in FlowKind
            for peers in self.view.hot_peers(kind).values()
            for peer in peers
            if peer.degree >= threshold
        )

    def takes_leaders(self, store: StoreView) -> bool:
        """Whether no scheduler keeps leaders away from a store."""
        return store.allows_leader_in and store.store_id not in self._paused_in

    def gives_leaders(self, store: StoreView) -> bool:
        """Whether no scheduler keeps leaders on a store."""
        return store.allows_leader_out and store.store_id not in self._paused_out

    def within_limit(self, store: StoreView, kind: LimitType) -> bool:
        """Whether a store may gain or lose a regular region now. One that is leaving may lose as fast as it can."""
        if kind is LimitType.REMOVE_PEER and store.state in (StoreState.OFFLINE, StoreState.DOWN):
            return True
        return self.limits.available(store.store_id, kind, self.now)
