"""Balance-leader: move leadership from the store with the most leaders to one with the fewest that has a healthy follower.

A move is worth it only when it makes the difference smaller: source minus target must exceed the tolerance plus one, counted
with the moves already under way, or two stores would hand a leader back and forth.
"""

from __future__ import annotations

from collections.abc import Mapping

from pd_py.schedule.operator import Operator, TransferLeader
from pd_py.schedule.view import ClusterView, RegionView, Role

MAX_OPERATORS = 4  # per call; the next call sees what became of them


def schedule(view: ClusterView, influence: Mapping[int, int]) -> list[Operator]:
    """Operators for this round; `influence` is how many leaders each store gains by running operators."""
    counts = {
        store.store_id: store.leader_count + influence.get(store.store_id, 0) for store in view.stores() if store.is_up
    }
    operators: list[Operator] = []
    chosen: set[int] = set()
    for _ in range(MAX_OPERATORS):
        move = _best_move(view, counts, chosen)
        if move is None:
            break
        region, target = move
        source = region.leader_store_id
        chosen.add(region.region_id)
        counts[source] -= 1
        counts[target] += 1
        step = TransferLeader(source, target)
        operators.append(Operator("balance-leader", region.region_id, region.conf_ver, region.version, (step,)))
    return operators


def _best_move(view: ClusterView, counts: Mapping[int, int], chosen: set[int]) -> tuple[RegionView, int] | None:
    for source in sorted(counts, key=lambda store_id: (-counts[store_id], store_id)):
        targets = sorted(counts, key=lambda store_id: (counts[store_id], store_id))
        for target in targets:
            if counts[source] - counts[target] <= view.options.leader_tolerance:
                break
            for region in view.regions_led_by(source):
                if (
                    region.region_id not in chosen
                    and not view.has_operator(region.region_id)
                    and _can_lead(region, target)
                ):
                    return region, target
    return None


def _can_lead(region: RegionView, store_id: int) -> bool:
    peer = region.on_store(store_id)
    return (
        peer is not None
        and peer.role is Role.VOTER
        and peer.peer_id not in region.down
        and peer.peer_id not in region.pending
    )
