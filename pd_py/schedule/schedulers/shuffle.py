"""Shuffle-leader and shuffle-region: move leaders and replicas about without any aim, to try out that nothing breaks."""

from __future__ import annotations

from collections.abc import Mapping
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
    leader_target,
    no_special_use,
    placement_safe,
    region_source,
    region_target,
    select,
)
from pd_py.schedule.operator import Operator, OpKind
from pd_py.schedule.schedulers.base import Scheduler, SchedulerConfigError, attempt, below, draw
from pd_py.schedule.view import PeerKind, RegionView, StoreView

ROLES = {"leader": PeerKind.LEADER, "follower": PeerKind.FOLLOWER, "learner": PeerKind.LEARNER}


def _any(context: Context, stores: list[StoreView]) -> StoreView | None:
    return stores[context.rng.randrange(0, len(stores))] if stores else None


class ShuffleLeader(Scheduler):
    """Lets a random follower of a random store lead."""

    type = "shuffle-leader-scheduler"

    def is_allowed(self, context: Context) -> bool:
        """Fewer leader operators run than may."""
        return below(context, OpKind.LEADER, context.options.leader_schedule_limit)

    def schedule(self, context: Context) -> list[Operator]:
        """One transfer."""
        target = _any(context, select(context.stores.values(), leader_target(context)))
        if target is None:
            return []

        def accepts(region: RegionView) -> bool:
            peer = region.on_store(target.store_id)
            return peer is not None and is_movable(context, region) and can_lead(context, region, peer)

        region = draw(context, target.store_id, PeerKind.FOLLOWER, accepts)
        if region is None:
            return []
        operator = attempt(transfer_leader, context, "shuffle-leader", region, target.store_id, OpKind.LEADER)
        return [] if operator is None else [operator]


class ShuffleRegion(Scheduler):
    """Moves a random replica of a random store to a random store that would do."""

    type = "shuffle-region-scheduler"

    def __init__(self) -> None:
        self.roles = tuple(ROLES)

    def config(self) -> dict[str, Any]:
        """Which replicas are moved."""
        return {"roles": list(self.roles)}

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Set the roles. Raises SchedulerConfigError."""
        roles = changes.get("roles", list(self.roles))
        if (
            set(changes) - {"roles"}
            or not isinstance(roles, list)
            or not roles
            or any(one not in ROLES for one in roles)
        ):
            raise SchedulerConfigError("roles should be of leader, follower, learner")
        self.roles = tuple(roles)

    def is_allowed(self, context: Context) -> bool:
        """Fewer region operators run than may."""
        return below(context, OpKind.REGION, context.options.region_schedule_limit)

    def schedule(self, context: Context) -> list[Operator]:
        """One move."""
        source = _any(context, select(context.stores.values(), region_source(context)))
        if source is None:
            return []

        def accepts(region: RegionView) -> bool:
            return is_healthy(region) and is_movable(context, region) and is_replicated(context, region)

        for role in self.roles:
            region = draw(context, source.store_id, ROLES[role], accepts)
            if region is None:
                continue
            target = _any(
                context,
                select(
                    context.stores.values(),
                    excluded(peer.store_id for peer in region.peers),
                    region_target(context),
                    enough_space(context),
                    no_special_use(),
                    placement_safe(context, region, source, None),
                ),
            )
            if target is not None:
                operator = attempt(
                    move_peer, context, "shuffle-region", region, source.store_id, target.store_id, OpKind.REGION
                )
                return [] if operator is None else [operator]
        return []
