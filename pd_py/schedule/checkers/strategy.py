"""Picking the store for one more replica, or the replica to give up: isolation first, then the emptier store.

A pick is made in two steps: where the replica belongs, all in all; then, of these, what can be used now. When only passing states
are in the way (`Pick.wait`), nothing is done yet: a worse place taken in haste would have to be left again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pd_py.schedule.context import Context
from pd_py.schedule.filters import (
    StoreFilter,
    enough_space,
    excluded,
    isolated,
    label_constraints,
    location_better,
    no_special_use,
    region_source,
    region_target,
    select,
)
from pd_py.schedule.placement.labels import distinct_score
from pd_py.schedule.placement.rule import LabelConstraint
from pd_py.schedule.score import region_load, region_score
from pd_py.schedule.view import RegionView, StoreView


@dataclass(frozen=True, slots=True)
class Pick:
    """A store (0 for none), and whether waiting could help."""

    store_id: int
    wait: bool = False


NO_PICK = Pick(0)


@dataclass(frozen=True, slots=True)
class Strategy:
    """How the replicas of one rule of a region are to be placed."""

    context: Context
    region: RegionView
    location_labels: Sequence[str]
    isolation_level: str = ""
    constraints: tuple[LabelConstraint, ...] = ()

    def to_add(self, others: Iterable[StoreView], *more: StoreFilter) -> Pick:
        """The store for one more replica beside `others`."""
        context, others = self.context, list(others)
        filters = [
            excluded(peer.store_id for peer in self.region.peers),
            enough_space(context),
            no_special_use(),
            region_target(context, allow_temporary=True),
            label_constraints(self.constraints),
            *more,
        ]
        if self.location_labels and self.isolation_level:
            filters.append(isolated(self.location_labels, self.isolation_level, others))
        best = self._most_isolated(select(context.stores.values(), *filters), others)
        if not best:
            return NO_PICK
        usable = select(best, region_target(context))
        if not usable:
            return Pick(0, wait=True)
        return Pick(min(usable, key=self._load).store_id)

    def to_fix(self, others: Iterable[StoreView], old: int) -> Pick:
        """The store for a replica in place of a broken one; its place may be worse than the old one was."""
        return self.to_add([store for store in others if store.store_id != old])

    def to_improve(self, others: Sequence[StoreView], old: StoreView) -> Pick:
        """A store that is farther from the others than the old one."""
        rest = [store for store in others if store.store_id != old.store_id]
        return self.to_add(rest, location_better(self.location_labels, rest, old))

    def to_remove(self, stores: Sequence[StoreView], *, allow_temporary: bool = False) -> Pick:
        """The store to give a replica up: the least isolated one, the fullest of these."""
        sources = select(stores, region_source(self.context, allow_temporary=allow_temporary))
        if not sources:
            return NO_PICK
        scores = {store.store_id: distinct_score(self.location_labels, stores, store) for store in sources}
        worst = min(scores.values())
        picked = max((store for store in sources if scores[store.store_id] == worst), key=self._load)
        busy = select([picked], region_source(self.context)) == []
        return Pick(picked.store_id, wait=busy)

    def _most_isolated(self, stores: list[StoreView], others: list[StoreView]) -> list[StoreView]:
        if not self.location_labels or not stores:
            return stores
        scores = [distinct_score(self.location_labels, others, store) for store in stores]
        best = max(scores)
        return [store for store, score in zip(stores, scores, strict=True) if score == best]

    def _load(self, store: StoreView) -> tuple[float, int, int]:
        """How full a store is, with what is on its way to it."""
        coming = self.context.influence.of(store.store_id)
        return (
            region_score(self.context, store, region_load(coming.region_bytes, coming.region_count)),
            store.region_count + coming.region_count,
            store.store_id,
        )
