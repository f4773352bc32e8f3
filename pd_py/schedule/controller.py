"""The operator controller: at most one operator per region, bounded in number and time. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from pd_py.schedule.operator import Operator, OperatorStatus, RemovePeer, Step, TransferLeader
from pd_py.schedule.view import RegionView

OPERATOR_TIMEOUT_S = 600.0
TRANSFER_TIMEOUT_S = 30.0
MAX_RUNNING = 64
HISTORY = 256
REMIND_S = 5.0  # a step is told again after this time; the message may have been lost with its stream


@dataclass(slots=True)
class Running:
    """An operator under way."""

    operator: Operator
    deadline: float
    told_at: float


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of an operator."""

    operator: Operator
    status: OperatorStatus
    at: float


def _would_remove_leader(step: Step, region: RegionView) -> bool:
    """Leadership moved to the victim since the operator was made. A leader does not remove itself: decide again."""
    return isinstance(step, RemovePeer) and step.store_id == region.leader_store_id


class OperatorController:
    """All operators under way. `now` is seconds of a monotonic clock, given by the caller."""

    def __init__(self) -> None:
        self._running: dict[int, Running] = {}
        self.history: deque[Finished] = deque(maxlen=HISTORY)

    def __contains__(self, region_id: int) -> bool:
        return region_id in self._running

    def __len__(self) -> int:
        return len(self._running)

    def get(self, region_id: int) -> Operator | None:
        """The operator of a region."""
        running = self._running.get(region_id)
        return None if running is None else running.operator

    def last_of(self, region_id: int) -> Finished | None:
        """The newest finished operator of a region."""
        return next((done for done in reversed(self.history) if done.operator.region_id == region_id), None)

    def add(self, operator: Operator, now: float) -> bool:
        """Take an operator on; False when the region has one or too many run."""
        if operator.region_id in self._running or len(self._running) >= MAX_RUNNING:
            return False
        only_transfer = all(isinstance(step, TransferLeader) for step in operator.steps)
        self._running[operator.region_id] = Running(
            operator, now + (TRANSFER_TIMEOUT_S if only_transfer else OPERATOR_TIMEOUT_S), now
        )
        return True

    def on_heartbeat(self, region: RegionView, now: float) -> Step | None:
        """The step to tell the region's leader, after finishing or dropping what is over."""
        running = self._running.get(region.region_id)
        if running is None:
            return None
        operator = running.operator
        step = operator.current_step(region)
        if step is None:
            self._end(operator, OperatorStatus.SUCCESS, now)
        elif operator.is_outdated(region) or _would_remove_leader(step, region):
            self._end(operator, OperatorStatus.CANCEL, now)
        elif now >= running.deadline:
            self._end(operator, OperatorStatus.TIMEOUT, now)
        else:
            running.told_at = now
            return step
        return None

    def due_again(self, now: float) -> list[Operator]:
        """Operators whose present step was told so long ago that it should be told again."""
        due = [running for running in self._running.values() if now - running.told_at >= REMIND_S]
        for running in due:
            running.told_at = now
        return [running.operator for running in due]

    def expire(self, now: float) -> None:
        """Drop operators whose region stopped reporting."""
        for running in [one for one in self._running.values() if now >= one.deadline]:
            self._end(running.operator, OperatorStatus.TIMEOUT, now)

    def leader_influence(self) -> dict[int, int]:
        """How many leaders each store gains when all operators succeed."""
        influence: dict[int, int] = {}
        for running in self._running.values():
            for step in running.operator.steps:
                if isinstance(step, TransferLeader):
                    influence[step.from_store_id] = influence.get(step.from_store_id, 0) - 1
                    influence[step.to_store_id] = influence.get(step.to_store_id, 0) + 1
        return influence

    def _end(self, operator: Operator, status: OperatorStatus, now: float) -> None:
        del self._running[operator.region_id]
        self.history.append(Finished(operator, status, now))
