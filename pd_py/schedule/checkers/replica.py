"""Replica checker: every region has `max_replicas` voters, on different stores that are alive, spread over locations.

In order of urgency: promote a learner that nothing promotes, replace a replica on a store that is down or leaving,
make up for a missing one, remove a surplus one. One operator per region and call.
"""

from __future__ import annotations

from collections.abc import Callable

from pd_py.schedule.operator import AddLearner, Operator, PromoteLearner, RemovePeer, Step, TransferLeader
from pd_py.schedule.view import ClusterView, PeerView, RegionView, Role, StoreState, StoreView

AllocPeerId = Callable[[], int]


def check(view: ClusterView, region: RegionView, alloc_peer_id: AllocPeerId) -> Operator | None:
    """The operator the region needs, or None."""
    if not region.leader_store_id or view.has_operator(region.region_id):
        return None
    for peer in region.peers:
        if peer.role is Role.LEARNER and peer.peer_id not in region.pending and peer.peer_id not in region.down:
            return _operator("promote-learner", region, PromoteLearner(peer.store_id, peer.peer_id))
    broken = [peer for peer in region.peers if _is_broken(view, region, peer)]
    if broken and len(region.peers) <= view.options.max_replicas:
        return _replace(view, region, broken[0], alloc_peer_id)
    if len(region.peers) < view.options.max_replicas:
        return _add(view, region, alloc_peer_id)
    if len(region.peers) > view.options.max_replicas:
        return _remove(view, region, broken)
    return None


def _operator(description: str, region: RegionView, *steps: Step) -> Operator:
    return Operator(description, region.region_id, region.conf_ver, region.version, steps)


def _is_broken(view: ClusterView, region: RegionView, peer: PeerView) -> bool:
    store = view.store(peer.store_id)
    if store is None or store.state in (StoreState.OFFLINE, StoreState.TOMBSTONE, StoreState.DOWN):
        return True
    return peer.peer_id in region.down


def isolation(view: ClusterView, store: StoreView, others: list[StoreView]) -> int:
    """In how many location levels, weighted from the widest, the store differs from all others."""
    labels = dict(store.labels)
    score = 0
    for other in others:
        theirs = dict(other.labels)
        for level, name in enumerate(view.options.location_labels):
            if labels.get(name) != theirs.get(name):
                score += 100 ** (len(view.options.location_labels) - level - 1)
                break
    return score


def select_target(view: ClusterView, region: RegionView, without: PeerView | None = None) -> StoreView | None:
    """The best store for one more replica: most isolated from the others, then with the least data."""
    kept = [view.store(peer.store_id) for peer in region.peers if peer is not without]
    others = [store for store in kept if store is not None]
    taken = {peer.store_id for peer in region.peers}
    candidates = [
        store for store in view.stores() if store.is_up and store.store_id not in taken and _has_space(view, store)
    ]
    if not candidates:
        return None
    return min(
        candidates,
        key=lambda store: (-isolation(view, store, others), store.region_bytes, store.region_count, store.store_id),
    )


def _has_space(view: ClusterView, store: StoreView) -> bool:
    used = store.capacity_bytes - store.available_bytes
    return store.capacity_bytes == 0 or used / store.capacity_bytes < view.options.low_space_ratio


def _add(view: ClusterView, region: RegionView, alloc_peer_id: AllocPeerId) -> Operator | None:
    target = select_target(view, region)
    if target is None:
        return None
    peer_id = alloc_peer_id()
    return _operator(
        "make-up-replica", region, AddLearner(target.store_id, peer_id), PromoteLearner(target.store_id, peer_id)
    )


def _replace(view: ClusterView, region: RegionView, peer: PeerView, alloc_peer_id: AllocPeerId) -> Operator | None:
    target = select_target(view, region, without=peer)
    if target is None:
        return None
    peer_id = alloc_peer_id()
    steps: list[Step] = [AddLearner(target.store_id, peer_id), PromoteLearner(target.store_id, peer_id)]
    if region.leader_store_id == peer.store_id:
        steps.append(TransferLeader(peer.store_id, target.store_id))
    steps.append(RemovePeer(peer.store_id, peer.peer_id))
    return _operator("replace-replica", region, *steps)


def _remove(view: ClusterView, region: RegionView, broken: list[PeerView]) -> Operator | None:
    """Remove a broken replica first, else the one that contributes least to isolation."""
    if broken:
        victim = broken[0]
    else:
        stores = {peer.store_id: view.store(peer.store_id) for peer in region.peers}

        def worth(peer: PeerView) -> tuple[bool, int, int, int]:
            store = stores[peer.store_id]
            others = [other for other_id, other in stores.items() if other is not None and other_id != peer.store_id]
            kept = 0 if store is None else isolation(view, store, others)
            size = 0 if store is None else store.region_bytes
            return (peer.store_id == region.leader_store_id, kept, -size, -peer.peer_id)

        victim = min(region.peers, key=worth)
    steps: list[Step] = []
    if victim.store_id == region.leader_store_id:
        heir = next(
            (peer for peer in region.peers if peer is not victim and peer.role is Role.VOTER and peer not in broken),
            None,
        )
        if heir is None:
            return None
        steps.append(TransferLeader(victim.store_id, heir.store_id))
    steps.append(RemovePeer(victim.store_id, victim.peer_id))
    return _operator("remove-extra-replica", region, *steps)
