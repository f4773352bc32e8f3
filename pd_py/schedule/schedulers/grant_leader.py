"""Grant-leader: all leaders to stores that someone wants to lead, as far as they hold replicas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pd_py.schedule.context import Context
from pd_py.schedule.create import transfer_leader
from pd_py.schedule.filters import can_lead
from pd_py.schedule.operator import Operator, OpKind, Priority
from pd_py.schedule.schedulers.base import Scheduler, SchedulerConfigError, attempt, below, draw, store_ids_of
from pd_py.schedule.view import PeerKind, RegionView


class GrantLeader(Scheduler):
    """The scheduler, with the stores it works on."""

    type = "grant-leader-scheduler"

    def __init__(self) -> None:
        self.store_ids: tuple[int, ...] = ()

    def config(self) -> dict[str, Any]:
        """The stores."""
        return {"store-ids": list(self.store_ids)}

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Add a store (`store_id`), take one off (`delete_store_id`), or set all (`store-ids`). Raises SchedulerConfigError."""
        if set(changes) - {"store_id", "delete_store_id", "store-ids"}:
            raise SchedulerConfigError("config item is not found")
        stores = list(self.store_ids)
        if "store-ids" in changes:
            stores = store_ids_of(changes["store-ids"], "store-ids")
        if "store_id" in changes:
            stores += store_ids_of(changes["store_id"], "store_id")
        if "delete_store_id" in changes:
            gone = store_ids_of(changes["delete_store_id"], "delete_store_id")
            stores = [store_id for store_id in stores if store_id not in gone]
        self.store_ids = tuple(sorted(set(stores)))

    def is_allowed(self, context: Context) -> bool:
        """Fewer leader operators run than may."""
        return below(context, OpKind.LEADER, context.options.leader_schedule_limit)

    def schedule(self, context: Context) -> list[Operator]:
        """One leader for each of the stores, from stores that are not among them."""
        operators = []
        for store_id in self.store_ids:

            def accepts(region: RegionView, store_id: int = store_id) -> bool:
                peer = region.on_store(store_id)
                return (
                    region.leader_store_id not in self.store_ids
                    and peer is not None
                    and not context.view.has_operator(region.region_id)
                    and can_lead(context, region, peer)
                )

            region = draw(context, store_id, PeerKind.FOLLOWER, accepts)
            if region is None:
                continue
            operator = attempt(
                transfer_leader, context, "grant-leader", region, store_id, OpKind.LEADER, priority=Priority.HIGH
            )
            if operator is not None:
                operators.append(operator)
        return operators

    def stores_that_keep_leaders(self) -> Iterable[int]:
        """The stores."""
        return self.store_ids
