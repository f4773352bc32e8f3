"""The schedulers that run, each at its own pace: at once again while it finds something to do, ever more slowly while it does not.

Pure: `run_due` asks those whose time has come and hands their operators to the controller; the coordinator calls it when `next_at`
has come. Schedulers can be paused for a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core_py.errors import PdError, RetryClass
from pd_py.schedule.context import Context
from pd_py.schedule.controller import OperatorController
from pd_py.schedule.schedulers.base import Scheduler

GROWTH = 1.3


class SchedulerExists(PdError):
    """A scheduler of this name runs already."""

    code = "PD:scheduler:ErrSchedulerExisted"
    retry = RetryClass.NEVER

    def __init__(self) -> None:
        super().__init__("scheduler existed")


class SchedulerNotFound(PdError):
    """No scheduler of this name runs."""

    code = "PD:scheduler:ErrSchedulerNotFound"
    retry = RetryClass.NEVER

    def __init__(self) -> None:
        super().__init__("scheduler not found")


@dataclass(slots=True)
class Entry:
    """A scheduler with its pace. Times are monotonic seconds."""

    scheduler: Scheduler
    interval_s: float
    next_at: float
    paused_at: float = 0.0
    paused_until: float = 0.0


class RunningSchedulers:
    """All schedulers, by name."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def add(self, scheduler: Scheduler, now: float) -> None:
        """Let one run. Raises SchedulerExists."""
        if scheduler.name in self._entries:
            raise SchedulerExists
        self._entries[scheduler.name] = Entry(scheduler, scheduler.min_interval_s, now)

    def remove(self, name: str) -> None:
        """Let one run no more. Raises SchedulerNotFound."""
        self.entry(name)
        del self._entries[name]

    def entry(self, name: str) -> Entry:
        """One scheduler. Raises SchedulerNotFound."""
        entry = self._entries.get(name)
        if entry is None:
            raise SchedulerNotFound
        return entry

    def all(self) -> list[Entry]:
        """All schedulers, by name."""
        return [self._entries[name] for name in sorted(self._entries)]

    def pause(self, name: str, now: float, seconds: float) -> None:
        """Stop one for a time, or all with the name "all"; zero lets them go on. Raises SchedulerNotFound."""
        for entry in self.all() if name == "all" else [self.entry(name)]:
            entry.paused_at, entry.paused_until = now, now + seconds

    def stores_without_new_leaders(self) -> frozenset[int]:
        """Stores to which some scheduler lets no leaders move."""
        return frozenset(
            store_id for entry in self._entries.values() for store_id in entry.scheduler.stores_without_new_leaders()
        )

    def stores_that_keep_leaders(self) -> frozenset[int]:
        """Stores from which some scheduler lets no leaders move."""
        return frozenset(
            store_id for entry in self._entries.values() for store_id in entry.scheduler.stores_that_keep_leaders()
        )

    def next_at(self) -> float:
        """When the next is due; infinity when there is none."""
        return min((entry.next_at for entry in self._entries.values()), default=float("inf"))

    def run_due(self, make_context: Callable[[], Context], controller: OperatorController, now: float) -> int:
        """Ask those that are due. Returns how many operators were taken."""
        total = 0
        for entry in self.all():
            if entry.next_at > now:
                continue
            taken = 0
            if entry.paused_until <= now:
                context = make_context()
                if entry.scheduler.is_allowed(context):
                    taken = controller.add_waiting(entry.scheduler.schedule(context), now)
            scheduler = entry.scheduler
            slower = min(entry.interval_s * GROWTH, scheduler.max_interval_s)
            entry.interval_s = scheduler.min_interval_s if taken else slower
            entry.next_at = now + entry.interval_s
            total += taken
        return total
