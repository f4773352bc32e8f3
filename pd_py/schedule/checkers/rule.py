"""Rule checker: every region has the replicas its placement rules want, where and in the roles they want them.

First what is left over: removed when the rules are served by healthy replicas, else kept as long as it may be needed. Then rule
by rule: make up for missing replicas, replace those on stores that are down or leaving, give those in a wrong role the right one,
move one to a better place. One operator per region and call. Descriptions are the public ones.
"""

from __future__ import annotations

from pd_py.schedule.builder import CannotBuild
from pd_py.schedule.checkers.replica import is_down, is_leaving
from pd_py.schedule.checkers.strategy import Strategy
from pd_py.schedule.context import Context
from pd_py.schedule.create import add_peer, demote_voter, move_peer, promote_learner, remove_peer, transfer_leader
from pd_py.schedule.filters import can_lead
from pd_py.schedule.operator import Operator, OpKind, Priority
from pd_py.schedule.placement.fit import RegionFit, RuleFit
from pd_py.schedule.placement.labels import ENGINE_KEY, best_isolation
from pd_py.schedule.placement.rule import RuleRole, matches_all
from pd_py.schedule.view import PeerView, RegionView, Role, StoreState, StoreView


def check(context: Context, region: RegionView, fit: RegionFit | None = None) -> Operator | None:
    """The operator the region needs, or None."""
    if not region.leader_store_id or region.is_joint:
        return None
    fit = context.fit(region) if fit is None else fit
    if not fit.rules:
        return None  # it lies across rules: the split checker's task
    if fit.is_satisfied and _is_quiet(context, region, fit):
        return None
    try:
        operator = _fix_orphans(context, region, fit)
    except CannotBuild:
        operator = None
    for one in fit.rules if operator is None else ():
        try:
            operator = _fix_rule(context, region, fit, one)
        except CannotBuild:
            continue
        if operator is not None:
            return operator
    return operator


def _is_quiet(context: Context, region: RegionView, fit: RegionFit) -> bool:
    """A quick look at what most regions are: whole, and with no locations to improve."""
    if region.down:
        return False
    if any(one.isolation < best_isolation(one.rule.location_labels, len(one.peers)) for one in fit.rules):
        return False
    return not any(is_leaving(context, peer) for peer in region.peers)


def _fix_rule(context: Context, region: RegionView, fit: RegionFit, one: RuleFit) -> Operator | None:
    options = context.options
    if len(one.peers) < one.rule.count:
        return _make_up(context, region, fit, one) if options.enable_make_up_replica else None
    for peer in one.peers:
        if is_down(context, region, peer) and options.enable_remove_down_replica:
            return _replace(context, region, one, peer, "down")
        if is_leaving(context, peer) and options.enable_replace_offline_replica:
            return _replace(context, region, one, peer, "offline")
    for peer in one.wrong_role:
        operator = _fix_role(context, region, one, peer)
        if operator is not None:
            return operator
    return _improve(context, region, fit, one) if options.enable_location_replacement else None


def _strategy(context: Context, region: RegionView, one: RuleFit) -> Strategy:
    rule = one.rule
    return Strategy(context, region, rule.location_labels, rule.isolation_level, rule.label_constraints)


def _make_up(context: Context, region: RegionView, fit: RegionFit, one: RuleFit) -> Operator | None:
    target = _strategy(context, region, one).to_add(one.stores)
    if target.store_id:
        return add_peer(
            context,
            "add-rule-peer",
            region,
            target.store_id,
            one.rule.role.peer_role,
            OpKind.REPLICA,
            priority=Priority.HIGH,
        )
    if target.wait:
        return None
    return _swap_misplaced(context, region, fit, one)


def _swap_misplaced(context: Context, region: RegionView, fit: RegionFit, one: RuleFit) -> Operator | None:
    """No store is left for the rule, for a replica that serves another rule occupies it: move that one away."""
    for other in fit.rules:
        if other is one or other.rule.label_constraints == one.rule.label_constraints:
            continue
        for peer, store in zip(other.peers, other.stores, strict=True):
            if not matches_all(store, one.rule.label_constraints):
                continue
            target = _strategy(context, region, other).to_fix(other.stores, peer.store_id)
            if target.store_id:
                return move_peer(
                    context, "swap-fit", region, peer.store_id, target.store_id, OpKind.REPLICA, priority=Priority.HIGH
                )
    return None


def _replace(context: Context, region: RegionView, one: RuleFit, peer: PeerView, status: str) -> Operator | None:
    target = _strategy(context, region, one).to_fix(one.stores, peer.store_id)
    if not target.store_id:
        return None
    leads = region.leader_store_id == peer.store_id
    description = f"replace-rule-{status}-leader-peer" if leads else f"replace-rule-{status}-peer"
    return move_peer(
        context,
        description,
        region,
        peer.store_id,
        target.store_id,
        OpKind.REPLICA,
        role=one.rule.role.peer_role,
        priority=Priority.HIGH,
    )


def _fix_role(context: Context, region: RegionView, one: RuleFit, peer: PeerView) -> Operator | None:
    role, leads = one.rule.role, region.leader_store_id == peer.store_id
    if peer.role is Role.LEARNER and role is not RuleRole.LEARNER:
        if peer.peer_id in region.pending or peer.peer_id in region.down:
            return None
        return promote_learner(context, "fix-peer-role", region, peer.store_id)
    if role is RuleRole.LEADER and not leads:
        if not can_lead(context, region, peer):
            return None
        return transfer_leader(context, "fix-leader-role", region, peer.store_id)
    if role is RuleRole.FOLLOWER and leads:
        heir = next((other for other in region.peers if other is not peer and can_lead(context, region, other)), None)
        return None if heir is None else transfer_leader(context, "fix-follower-role", region, heir.store_id)
    if role is RuleRole.LEARNER and peer.role is Role.VOTER:
        return demote_voter(context, "fix-demote-voter", region, peer.store_id)
    return None


def _improve(context: Context, region: RegionView, fit: RegionFit, one: RuleFit) -> Operator | None:
    """Move a replica to a store that is farther from all that serve rules of the same role."""
    if not one.rule.location_labels or region.down or region.pending:
        return None
    if one.isolation >= best_isolation(one.rule.location_labels, len(one.peers)):
        return None
    strategy = _strategy(context, region, one)
    source = strategy.to_remove(one.stores, allow_temporary=True)
    old = context.store(source.store_id)
    if old is None or source.wait:
        return None
    target = strategy.to_improve(_beside(fit, one, old), old)
    if not target.store_id:
        return None
    return move_peer(context, "move-to-better-location", region, old.store_id, target.store_id, OpKind.REPLICA)


def _beside(fit: RegionFit, one: RuleFit, old: StoreView) -> list[StoreView]:
    """The stores that a replica should be far from: those of the same engine that a rule of its role could use."""
    return [
        store
        for _, store in sorted(fit.stores.items())
        if store.label(ENGINE_KEY) == old.label(ENGINE_KEY)
        and any(
            other.rule.role is one.rule.role and matches_all(store, other.rule.label_constraints) for other in fit.rules
        )
    ]


# what is left over


def _is_silent(context: Context, peer: PeerView) -> bool:
    store = context.store(peer.store_id)
    return store is None or store.state in (StoreState.DISCONNECTED, StoreState.DOWN)


def _fix_orphans(context: Context, region: RegionView, fit: RegionFit) -> Operator | None:
    if not fit.orphans or not context.options.enable_remove_extra_replica:
        return None
    unhealthy = region.down | region.pending
    sick = [peer for one in fit.rules for peer in one.peers if peer.peer_id in unhealthy or _is_silent(context, peer)]
    if not sick and all(one.is_satisfied for one in fit.rules):
        return _remove_orphan(context, region, fit.orphans[0], "remove-orphan-peer")
    operator = _use_orphan(context, region, fit, sick)
    if operator is not None or len(fit.orphans) < 2:
        return operator
    useless_first = sorted(fit.orphans, key=lambda one: (one.peer_id not in region.down, one.role is not Role.LEARNER))
    for peer in useless_first:
        if peer.peer_id in unhealthy:
            return _remove_orphan(context, region, peer, "remove-unhealthy-orphan-peer")
    if len(region.peers) <= fit.wanted:
        return None
    spare = next((peer for peer in fit.orphans if peer.role is Role.LEARNER), fit.orphans[1])
    spare = next((peer for peer in fit.orphans if _is_silent(context, peer)), spare)
    return (
        None
        if _is_needed(context, region, fit, spare)
        else _remove_orphan(context, region, spare, "remove-orphan-peer")
    )


def _is_needed(context: Context, region: RegionView, fit: RegionFit, spare: PeerView) -> bool:
    """Whether a replica that is left over is one of the few that are well, until those that serve the rules are too."""
    unhealthy = region.down | region.pending
    well = [
        peer
        for peer in region.peers
        if peer.role is Role.VOTER and peer.peer_id not in unhealthy and not _is_silent(context, peer)
    ]
    voters = sum(one.rule.count for one in fit.rules if one.rule.role is not RuleRole.LEARNER)
    return spare in well and len(well) <= voters


def _remove_orphan(context: Context, region: RegionView, peer: PeerView, description: str) -> Operator:
    return remove_peer(context, description, region, peer.store_id)


def _use_orphan(context: Context, region: RegionView, fit: RegionFit, sick: list[PeerView]) -> Operator | None:
    """Let a healthy replica that is left over serve in place of one whose store is silent."""
    silent = next((peer for peer in sick if _is_silent(context, peer)), None)
    if silent is None:
        return None
    for peer in fit.orphans:
        store = context.store(peer.store_id)
        if store is None or _is_silent(context, peer) or peer.peer_id in region.down | region.pending:
            continue
        if not fit.can_replace(silent.store_id, store):
            continue
        if peer.role is Role.LEARNER and silent.role is Role.VOTER:
            description = "replace-down-peer-with-orphan-peer"
            return promote_learner(context, description, region, peer.store_id, remove=silent.store_id)
        if peer.role is silent.role:
            return _remove_orphan(context, region, silent, "remove-replaced-orphan-peer")
    return None
