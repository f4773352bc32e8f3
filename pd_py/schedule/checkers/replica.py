"""Replica checker, without placement rules: every region has `max_replicas` replicas, on living stores, spread over locations.

In order of urgency: replace a replica on a store that is down, then on one that is leaving, make up for a missing one, remove a
surplus one, move one to a better place. One operator per region and call. Each repair can be switched off by its option.
"""

from __future__ import annotations

from pd_py.schedule.builder import CannotBuild
from pd_py.schedule.checkers.strategy import Pick, Strategy
from pd_py.schedule.context import Context
from pd_py.schedule.create import add_peer, move_peer, remove_peer
from pd_py.schedule.operator import Operator, OpKind, Priority
from pd_py.schedule.view import PeerView, RegionView, Role, StoreState


def check(context: Context, region: RegionView) -> Operator | None:
    """The operator the region needs, or None."""
    if not region.leader_store_id or region.is_joint:
        return None
    for repair in (_replace_down, _replace_offline, _make_up, _remove_extra, _improve):
        try:
            operator = repair(context, region)
        except CannotBuild:
            continue
        if operator is not None:
            return operator
    return None


def _strategy(context: Context, region: RegionView) -> Strategy:
    return Strategy(context, region, context.options.location_labels, context.options.isolation_level)


def is_down(context: Context, region: RegionView, peer: PeerView) -> bool:
    """Whether a replica is silent on a store that has been silent for too long."""
    store = context.store(peer.store_id)
    if store is None:
        return False
    return store.state is StoreState.DOWN and peer.peer_id in region.down


def is_leaving(context: Context, peer: PeerView) -> bool:
    """Whether a replica's store is being removed."""
    store = context.store(peer.store_id)
    return store is not None and store.state in (StoreState.OFFLINE, StoreState.TOMBSTONE)


def _replace_down(context: Context, region: RegionView) -> Operator | None:
    if not context.options.enable_remove_down_replica:
        return None
    down = next((peer for peer in region.peers if is_down(context, region, peer)), None)
    return None if down is None else _fix(context, region, down, "down")


def _replace_offline(context: Context, region: RegionView) -> Operator | None:
    if not context.options.enable_replace_offline_replica or any(peer.role is Role.LEARNER for peer in region.peers):
        return None
    leaving = next((peer for peer in region.peers if is_leaving(context, peer)), None)
    return None if leaving is None else _fix(context, region, leaving, "offline")


def _fix(context: Context, region: RegionView, peer: PeerView, status: str) -> Operator | None:
    """Remove a replica if there are too many (one that does not answer or lags first), else put another in this one's place."""
    if len(region.peers) > context.options.max_replicas:
        worst = [one for one in region.peers if one.peer_id in region.down]
        worst += [one for one in region.peers if one.peer_id in region.pending]
        peer = next(iter(worst), peer)
        return remove_peer(
            context, f"remove-extra-{status}-replica", region, peer.store_id, OpKind.REPLICA
        ).with_priority(Priority.HIGH)
    target = _strategy(context, region).to_fix(context.stores_of(region).values(), peer.store_id)
    if not target.store_id:
        return None
    description = f"replace-{status}-replica"
    return move_peer(
        context, description, region, peer.store_id, target.store_id, OpKind.REPLICA, priority=Priority.HIGH
    )


def _make_up(context: Context, region: RegionView) -> Operator | None:
    if not context.options.enable_make_up_replica or len(region.peers) >= context.options.max_replicas:
        return None
    target = _strategy(context, region).to_add(context.stores_of(region).values())
    if not target.store_id:
        return None
    return add_peer(context, "make-up-replica", region, target.store_id, kind=OpKind.REPLICA, priority=Priority.HIGH)


def _remove_extra(context: Context, region: RegionView) -> Operator | None:
    options = context.options
    voters = [peer for peer in region.peers if peer.role is Role.VOTER]
    if not options.enable_remove_extra_replica or len(voters) <= options.max_replicas:
        return None
    broken = [peer for peer in voters if peer.peer_id in region.down]
    broken += [peer for peer in voters if peer.peer_id in region.pending]
    broken += [peer for peer in voters if is_leaving(context, peer)]
    if broken:
        victim = broken[0].store_id
    else:
        stores = [store for store in context.stores_of(region).values() if region.on_store(store.store_id) in voters]
        victim = _strategy(context, region).to_remove(stores).store_id
    return remove_peer(context, "remove-extra-replica", region, victim, OpKind.REPLICA) if victim else None


def _improve(context: Context, region: RegionView) -> Operator | None:
    options = context.options
    if not options.enable_location_replacement or not options.location_labels:
        return None
    if len(region.peers) != options.max_replicas or region.down or region.pending:
        return None
    strategy = _strategy(context, region)
    stores = list(context.stores_of(region).values())
    source: Pick = strategy.to_remove(stores, allow_temporary=True)
    old = context.store(source.store_id)
    if old is None or source.wait:
        return None
    target = strategy.to_improve(stores, old)
    if not target.store_id:
        return None
    return move_peer(context, "move-to-better-location", region, old.store_id, target.store_id, OpKind.REPLICA)
