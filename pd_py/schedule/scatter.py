"""Scattering: spread the replicas and leaders of a group of regions evenly over the stores, without regard to what else they hold.

Made for fresh tables and indexes, whose regions all come from one and would stay with it. Counts are kept per group (the caller's
name for what belongs together), per engine of stores, so that each further region goes where the group has least. Placement rules
and isolation hold as for any other move.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from core_py.errors import PdError, RetryClass
from pd_py.schedule.builder import CannotBuild
from pd_py.schedule.context import Context
from pd_py.schedule.create import move_region, transfer_leader
from pd_py.schedule.filters import (
    enough_space,
    excluded,
    is_replicated,
    leader_allowed,
    leader_target,
    no_special_use,
    passes,
    placement_safe,
    scatter_target,
    select,
)
from pd_py.schedule.operator import Operator, OpKind, Priority
from pd_py.schedule.placement.labels import ENGINE_KEY
from pd_py.schedule.placement.rule import RuleRole
from pd_py.schedule.view import PeerView, RegionView, Role, StoreView

GROUPS_MAX = 1000
DESCRIPTION = "scatter-region"


class CannotScatter(PdError):
    """A region that cannot be scattered now."""

    code = "PD:scatter:CannotScatter"
    retry = RetryClass.BACKOFF


@dataclass(slots=True)
class _Group:
    """What one group has where."""

    peers: Counter[int] = field(default_factory=Counter)
    leaders: Counter[int] = field(default_factory=Counter)


class Scatterer:
    """Remembers the groups of late; those not named for longest are forgotten first."""

    def __init__(self) -> None:
        self._groups: OrderedDict[str, _Group] = OrderedDict()

    def _group(self, name: str) -> _Group:
        group = self._groups.pop(name, None) or _Group()
        self._groups[name] = group
        while len(self._groups) > GROUPS_MAX:
            self._groups.popitem(last=False)
        return group

    def scatter(
        self, context: Context, region: RegionView, group_name: str, *, skip_limit: bool = False
    ) -> Operator | None:
        """The operator for one region; None when it stands well. Raises CannotScatter."""
        if not region.leader_store_id:
            raise CannotScatter(f"region {region.region_id} has no leader")
        if context.view.has_operator(region.region_id):
            raise CannotScatter(f"the operator of region {region.region_id} already exist")
        if not is_replicated(context, region):
            raise CannotScatter(f"region {region.region_id} is not fully replicated")
        group = self._group(group_name)
        targets = self._places(context, region, group)
        leader = self._leader(context, region, targets, group)
        if not leader:
            raise CannotScatter(f"region {region.region_id} has no place for a leader")
        operator = self._operator(context, region, targets, leader, skip_limit=skip_limit)
        group.peers.update(list(targets))
        group.leaders[leader] += 1
        return operator

    def _places(self, context: Context, region: RegionView, group: _Group) -> dict[int, PeerView]:
        """A store for each replica: that which has least of the group."""
        taken: dict[int, PeerView] = {}
        left = {peer.store_id for peer in region.peers}
        fit = context.fit(region) if context.options.enable_placement_rules else None
        for peer in sorted(region.peers, key=lambda one: one.store_id):
            left.discard(peer.store_id)
            source = context.store(peer.store_id)
            if source is None or source.label(ENGINE_KEY):
                taken[peer.store_id] = peer  # a store that is unknown, or of another engine, keeps what it has
                continue
            candidates = select(
                context.stores.values(),
                excluded(left | set(taken)),
                scatter_target(context),
                enough_space(context),
                no_special_use(),
                lambda store: "engine" if store.label(ENGINE_KEY) else "",
                placement_safe(context, region, source, fit),
            )
            best = min(candidates, key=lambda store: _rank(group, store, source), default=source)
            taken[best.store_id] = peer
        return taken

    def _leader(self, context: Context, region: RegionView, targets: dict[int, PeerView], group: _Group) -> int:
        filters = (leader_target(context), leader_allowed(context, region))
        able = [
            store_id
            for store_id, peer in targets.items()
            if peer.role is not Role.LEARNER and (store := context.store(store_id)) and passes(store, filters)
        ]
        return min(able, key=lambda one: (group.leaders[one], one != region.leader_store_id, one), default=0)

    @staticmethod
    def _operator(
        context: Context, region: RegionView, targets: dict[int, PeerView], leader: int, *, skip_limit: bool
    ) -> Operator | None:
        present = {peer.store_id for peer in region.peers}
        if present == set(targets) and leader == region.leader_store_id:
            return None
        roles = {
            store_id: RuleRole.LEARNER if peer.role is Role.LEARNER else RuleRole.VOTER
            for store_id, peer in targets.items()
        }
        try:
            if present == set(targets):
                return transfer_leader(context, DESCRIPTION, region, leader, OpKind.ADMIN, priority=Priority.HIGH)
            operator = move_region(
                context,
                DESCRIPTION,
                region,
                roles,
                OpKind.ADMIN,
                leader=leader,
                light=True,
                light_removal=skip_limit,
            )
        except CannotBuild as error:
            raise CannotScatter(error.message) from error
        return operator.with_priority(Priority.HIGH)


def _rank(group: _Group, store: StoreView, source: StoreView) -> tuple[int, bool, float, int]:
    """Least of the group first; then where the replica is; then the emptier store."""
    here = store.store_id == source.store_id
    return (group.peers[store.store_id], not here, store.region_count / max(store.region_weight, 1e-6), store.store_id)
