"""Evict-slow-store: a store that reports itself slow leads nothing until it is well again, for every write waits for its leader.

One store at most: when several are slow at once the cause lies elsewhere (the load, the network), and moving leaders among them
helps nobody. Found again by its score after a restart, so nothing is stored but the times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pd_py.schedule.context import Context
from pd_py.schedule.operator import Operator, OpKind
from pd_py.schedule.schedulers.base import Scheduler, SchedulerConfigError, below
from pd_py.schedule.schedulers.evict import evict_leaders
from pd_py.schedule.view import StoreView

SLOW_SCORE = 100
WELL_SCORE = 1
RECOVERY_S = 600


class EvictSlowStore(Scheduler):
    """The scheduler, with the store it keeps free of leaders."""

    type = "evict-slow-store-scheduler"

    def __init__(self) -> None:
        self.evicted = 0
        self.recovery_s = RECOVERY_S
        self._well_since: float | None = None

    def config(self) -> dict[str, Any]:
        """How long a store must be well before it leads again."""
        return {"recovery-duration": self.recovery_s}

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Set the time. Raises SchedulerConfigError."""
        recovery = changes.get("recovery-duration", self.recovery_s)
        unknown = set(changes) - {"recovery-duration"}
        if unknown or isinstance(recovery, bool) or not isinstance(recovery, int) or recovery < 0:
            raise SchedulerConfigError("recovery-duration should be seconds")
        self.recovery_s = recovery

    def is_allowed(self, context: Context) -> bool:
        """Fewer leader operators run than may; without a slow store it only looks around."""
        return not self.evicted or below(context, OpKind.LEADER, context.options.leader_schedule_limit)

    def schedule(self, context: Context) -> list[Operator]:
        """Leaders off the slow store."""
        if self.evicted and self._is_over(context):
            self.evicted, self._well_since = 0, None
        if not self.evicted:
            slow = [store for store in context.stores.values() if store.is_up and store.slow_score >= SLOW_SCORE]
            if len(slow) != 1 or sum(store.is_up for store in context.stores.values()) < 2:
                return []
            self.evicted = slow[0].store_id
            return []  # the next round sees that it takes no leaders
        return evict_leaders(context, "evict-slow-store", [self.evicted])

    def _is_over(self, context: Context) -> bool:
        store: StoreView | None = context.store(self.evicted)
        if store is None:
            return True
        if store.slow_score > WELL_SCORE:
            self._well_since = None
            return False
        if self._well_since is None:
            self._well_since = context.now
        return context.now - self._well_since >= self.recovery_s

    def stores_without_new_leaders(self) -> Iterable[int]:
        """The slow store."""
        return (self.evicted,) if self.evicted else ()
