"""Which stores may give or take, and which regions may be moved: small rules with names, combined by checkers and schedulers.

A filter takes a store and returns why it is out, as a short name, or an empty text. States that pass by themselves (silent for
some seconds, busy, at its limits) are left out on request: a checker first looks where a replica belongs, and waits when only
such a state is in the way, while a scheduler looks for what can be done now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pd_py.schedule.context import Context
from pd_py.schedule.limits import LimitType
from pd_py.schedule.placement.fit import RegionFit
from pd_py.schedule.placement.labels import SPECIAL_USE_KEY, distinct_score, is_isolated
from pd_py.schedule.placement.rule import LabelConstraint, RuleRole, matches_all
from pd_py.schedule.view import PeerView, RegionView, Role, StoreState, StoreView

StoreFilter = Callable[[StoreView], str]
YOUNG_REGIONS = 100
YOUNG_SPACE_BYTES = 8 << 30
SPECIAL_USES = frozenset({"hotRegion", "reserved"})
GONE = {
    StoreState.TOMBSTONE: "store-state-tombstone",
    StoreState.OFFLINE: "store-state-offline",
    StoreState.DOWN: "store-state-down",
}


def leader_source(context: Context) -> StoreFilter:
    """Stores that can give leaders."""

    def check(store: StoreView) -> str:
        if store.state in (StoreState.TOMBSTONE, StoreState.DOWN):
            return GONE[store.state]
        if not context.gives_leaders(store):
            return "store-state-pause-leader"
        return "store-state-disconnect" if store.state is StoreState.DISCONNECTED else ""

    return check


def leader_target(context: Context) -> StoreFilter:
    """Stores that can take leaders."""

    def check(store: StoreView) -> str:
        if store.state in GONE:
            return GONE[store.state]
        if not context.takes_leaders(store):
            return "store-state-pause-leader"
        if store.state is StoreState.DISCONNECTED:
            return "store-state-disconnect"
        return "store-state-busy" if store.busy else ""

    return check


def region_source(context: Context, *, allow_temporary: bool = False) -> StoreFilter:
    """Stores that can give replicas."""

    def check(store: StoreView) -> str:
        if allow_temporary:
            return ""
        if store.busy:
            return "store-state-busy"
        if not context.within_limit(store, LimitType.REMOVE_PEER):
            return "store-state-exceed-remove-limit"
        return _snapshots(context, store)

    return check


def region_target(context: Context, *, allow_temporary: bool = False) -> StoreFilter:
    """Stores that can take replicas."""
    pending_max = context.options.max_pending_peer_count

    def check(store: StoreView) -> str:
        if store.state in GONE:
            return GONE[store.state]
        if allow_temporary:
            return ""
        if store.state is StoreState.DISCONNECTED:
            return "store-state-disconnect"
        if store.busy:
            return "store-state-busy"
        if not context.within_limit(store, LimitType.ADD_PEER):
            return "store-state-exceed-add-limit"
        if pending_max > 0 and store.pending_count > pending_max:
            return "store-state-too-many-pending-peer"
        return _snapshots(context, store)

    return check


def scatter_target(_: Context) -> StoreFilter:
    """Stores that can take replicas of a scattering, which does not count against limits."""

    def check(store: StoreView) -> str:
        if store.state in GONE:
            return GONE[store.state]
        if store.state is StoreState.DISCONNECTED:
            return "store-state-disconnect"
        return "store-state-busy" if store.busy else ""

    return check


def _snapshots(context: Context, store: StoreView) -> str:
    limit = context.options.max_snapshot_count
    if store.sending_snapshots > limit or store.receiving_snapshots > limit:
        return "store-state-too-many-snapshots"
    return ""


def excluded(store_ids: Iterable[int]) -> StoreFilter:
    """All stores but these."""
    out = frozenset(store_ids)
    return lambda store: "exclude" if store.store_id in out else ""


def is_low_space(context: Context, store: StoreView) -> bool:
    """Whether a store's disk is nearly full. A young store on a small share of a large disk is not."""
    capacity = store.capacity_bytes
    if store.region_count < YOUNG_REGIONS and store.available_bytes > YOUNG_SPACE_BYTES:
        return False
    return capacity > 0 and store.available_bytes < capacity * (1 - context.options.low_space_ratio)


def enough_space(context: Context) -> StoreFilter:
    """Stores that are not low in space."""
    return lambda store: "storage-threshold" if is_low_space(context, store) else ""


def no_special_use() -> StoreFilter:
    """Stores that are not kept for something."""
    return lambda store: "special-use" if store.label(SPECIAL_USE_KEY) in SPECIAL_USES else ""


def label_constraints(constraints: Sequence[LabelConstraint]) -> StoreFilter:
    """Stores that meet a rule's constraints."""
    return lambda store: "" if matches_all(store, constraints) else "label-constraint"


def isolated(levels: Sequence[str], level: str, others: Sequence[StoreView]) -> StoreFilter:
    """Stores that differ from all others at the isolation level."""
    return lambda store: "" if is_isolated(levels, level, others, store) else "isolation"


def location_not_worse(levels: Sequence[str], others: Sequence[StoreView], source: StoreView) -> StoreFilter:
    """Stores that are as far from the others as the source, or farther."""
    others = [store for store in others if store.store_id != source.store_id]
    safe = distinct_score(levels, others, source)
    return lambda store: "" if distinct_score(levels, others, store) >= safe else "distinct-score"


def location_better(levels: Sequence[str], others: Sequence[StoreView], source: StoreView) -> StoreFilter:
    """Stores that are farther from the others than the source."""
    others = [store for store in others if store.store_id != source.store_id]
    present = distinct_score(levels, others, source)
    return lambda store: "" if distinct_score(levels, others, store) > present else "distinct-score"


def placement_safe(context: Context, region: RegionView, source: StoreView, fit: RegionFit | None) -> StoreFilter:
    """Stores on which a region's replica would be placed as well as on the source."""
    if not context.options.enable_placement_rules:
        return location_not_worse(context.options.location_labels, list(context.stores_of(region).values()), source)
    fit = context.fit(region) if fit is None else fit

    def check(store: StoreView) -> str:
        return "" if fit.can_replace(source.store_id, store) else "rule-fit"

    return check


def leader_allowed(context: Context, region: RegionView) -> StoreFilter:
    """Stores on which the rules let a region be led."""
    rules = context.rules.for_range(region.start_key, region.end_key)
    if not context.options.enable_placement_rules or not rules:
        return lambda _: ""
    leading = [one for one in rules if one.role in (RuleRole.LEADER, RuleRole.VOTER)]

    def check(store: StoreView) -> str:
        return "" if any(matches_all(store, one.label_constraints) for one in leading) else "rule-fit-leader"

    return check


def passes(store: StoreView, filters: Iterable[StoreFilter]) -> bool:
    """Whether no filter objects."""
    return not any(check(store) for check in filters)


def select(stores: Iterable[StoreView], *filters: StoreFilter) -> list[StoreView]:
    """The stores to which no filter objects."""
    return [store for store in stores if passes(store, filters)]


# regions


def is_healthy(region: RegionView) -> bool:
    """Whether all replicas answer and keep up, and none is between two roles."""
    return not region.down and not region.pending and not region.is_joint


def is_replicated(context: Context, region: RegionView) -> bool:
    """Whether a region has the replicas it should have."""
    if context.options.enable_placement_rules:
        return context.fit(region).is_satisfied
    learners = any(peer.role is Role.LEARNER for peer in region.peers)
    return not learners and len(region.peers) == context.options.max_replicas


def is_movable(context: Context, region: RegionView) -> bool:
    """Whether a scheduler may touch a region at all."""
    return (
        region.leader_store_id != 0
        and not region.is_joint
        and not context.view.has_operator(region.region_id)
        and not context.labels.denies_schedule(region)
    )


def can_lead(context: Context, region: RegionView, peer: PeerView) -> bool:
    """Whether a replica could take the leadership at once."""
    store = context.store(peer.store_id)
    return (
        store is not None
        and peer.role is Role.VOTER
        and peer.peer_id not in region.down
        and peer.peer_id not in region.pending
        and passes(store, (leader_target(context), leader_allowed(context, region)))
    )
