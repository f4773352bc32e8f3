"""Evict-leader: stores that someone wants free of leaders, before work on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pd_py.schedule.context import Context
from pd_py.schedule.operator import Operator, OpKind
from pd_py.schedule.schedulers.base import Scheduler, SchedulerConfigError, below, store_ids_of
from pd_py.schedule.schedulers.evict import BATCH, evict_leaders

BATCH_MAX = 10


class EvictLeader(Scheduler):
    """The scheduler, with the stores it works on."""

    type = "evict-leader-scheduler"

    def __init__(self) -> None:
        self.store_ids: tuple[int, ...] = ()
        self.batch = BATCH

    def config(self) -> dict[str, Any]:
        """Stores and batch."""
        return {"store-ids": list(self.store_ids), "batch": self.batch}

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Add a store (`store_id`), take one off (`delete_store_id`), or set all (`store-ids`). Raises SchedulerConfigError."""
        if set(changes) - {"store_id", "delete_store_id", "store-ids", "batch"}:
            raise SchedulerConfigError("config item is not found")
        stores = list(self.store_ids)
        if "store-ids" in changes:
            stores = store_ids_of(changes["store-ids"], "store-ids")
        if "store_id" in changes:
            stores += store_ids_of(changes["store_id"], "store_id")
        if "delete_store_id" in changes:
            gone = store_ids_of(changes["delete_store_id"], "delete_store_id")
            stores = [store_id for store_id in stores if store_id not in gone]
        batch = changes.get("batch", self.batch)
        if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= BATCH_MAX:
            raise SchedulerConfigError("invalid batch size which should be an integer between 1 and 10")
        self.store_ids, self.batch = tuple(sorted(set(stores))), batch

    def is_allowed(self, context: Context) -> bool:
        """Fewer leader operators run than may."""
        return below(context, OpKind.LEADER, context.options.leader_schedule_limit)

    def schedule(self, context: Context) -> list[Operator]:
        """Leaders off the stores."""
        return evict_leaders(context, "evict-leader", self.store_ids, self.batch)

    def stores_without_new_leaders(self) -> Iterable[int]:
        """The stores."""
        return self.store_ids
