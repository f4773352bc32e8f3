"""Label: stores with certain labels lead nothing (the public label property `reject-leader`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pd_py.schedule.context import Context
from pd_py.schedule.operator import Operator, OpKind
from pd_py.schedule.schedulers.base import Scheduler, SchedulerConfigError, below
from pd_py.schedule.schedulers.evict import evict_leaders

LABELS_MAX = 64


class LabelScheduler(Scheduler):
    """The scheduler, with the labels and the stores that have them."""

    type = "label-scheduler"

    def __init__(self) -> None:
        self.reject_leader: tuple[tuple[str, str], ...] = ()
        self._stores: tuple[int, ...] = ()

    def config(self) -> dict[str, Any]:
        """The labels."""
        return {"reject-leader": [{"key": key, "value": value} for key, value in self.reject_leader]}

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Set the labels. Raises SchedulerConfigError."""
        labels = changes.get("reject-leader", [])
        if set(changes) - {"reject-leader"} or not isinstance(labels, list) or len(labels) > LABELS_MAX:
            raise SchedulerConfigError("reject-leader should be a list of labels")
        found = []
        for one in labels:
            if (
                not isinstance(one, dict)
                or not isinstance(one.get("key"), str)
                or not isinstance(one.get("value"), str)
            ):
                raise SchedulerConfigError("reject-leader should be a list of labels")
            found.append((one["key"], one["value"]))
        self.reject_leader = tuple(found)

    def is_allowed(self, context: Context) -> bool:
        """Fewer leader operators run than may."""
        return below(context, OpKind.LEADER, context.options.leader_schedule_limit)

    def schedule(self, context: Context) -> list[Operator]:
        """Leaders off the stores that have one of the labels."""
        self._stores = tuple(
            store.store_id
            for store in context.stores.values()
            if any(store.label(key) == value for key, value in self.reject_leader)
        )
        return evict_leaders(context, "label-reject-leader", self._stores)

    def stores_without_new_leaders(self) -> Iterable[int]:
        """The stores."""
        return self._stores
