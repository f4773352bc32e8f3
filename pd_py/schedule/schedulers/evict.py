"""Taking leaders away from stores: what evict-leader and evict-slow-store share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from pd_py.schedule.context import Context
from pd_py.schedule.create import transfer_leader
from pd_py.schedule.filters import can_lead
from pd_py.schedule.operator import Operator, OpKind, Priority
from pd_py.schedule.schedulers.base import attempt, draw
from pd_py.schedule.view import PeerKind, RegionView

BATCH = 3


def evict_leaders(context: Context, description: str, store_ids: Iterable[int], batch: int = BATCH) -> list[Operator]:
    """Operators that move leaders off stores, to whichever of their followers leads least."""
    operators: list[Operator] = []
    chosen: set[int] = set()
    given: Counter[int] = Counter()
    for store_id in store_ids:
        for _ in range(batch):

            def accepts(region: RegionView) -> bool:
                free = region.region_id not in chosen and not context.view.has_operator(region.region_id)
                return free and bool(_heirs(context, region, given))

            region = draw(context, store_id, PeerKind.LEADER, accepts)
            if region is None:
                break
            chosen.add(region.region_id)
            heirs = _heirs(context, region, given)
            operator = attempt(
                transfer_leader,
                context,
                description,
                region,
                heirs[0],
                OpKind.LEADER,
                also=tuple(heirs[1:]),
                priority=Priority.URGENT,
            )
            if operator is not None:
                operators.append(operator)
                given[heirs[0]] += 1
    return operators


def _heirs(context: Context, region: RegionView, given: Mapping[int, int]) -> list[int]:
    """Stores whose replicas could lead, the one that leads least first."""
    able = [
        (
            store.leader_count + context.influence.of(peer.store_id).leader_count + given.get(peer.store_id, 0),
            peer.store_id,
        )
        for peer in region.peers
        if peer.store_id != region.leader_store_id
        and (store := context.store(peer.store_id)) is not None
        and can_lead(context, region, peer)
    ]
    return [store_id for _, store_id in sorted(able)]
