"""The operator controller: at most one operator per region, within the stores' limits and the steps' times. Pure.

Checkers and people add operators directly, schedulers through the waiting queue. A region's report drives its operator: finished
steps are passed (never back), a foreign change of the region or a step that cannot be taken any more cancels it, a step that takes
too long ends it. What was told to a leader is told again after some seconds: the message may have been lost with its stream.

`now` is seconds of a monotonic clock, given by the caller. Every operator that began to run ends in `Records` exactly once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Protocol

from core_py.ports import Random
from pd_py.schedule.influence import Influence
from pd_py.schedule.limits import LimitType, StoreLimits
from pd_py.schedule.operator import (
    ChangePeerV2Enter,
    ChangePeerV2Leave,
    Operator,
    OperatorStatus,
    OpKind,
    PromoteLearner,
    Step,
    TransferLeader,
)
from pd_py.schedule.records import Finished, Records
from pd_py.schedule.view import ClusterView, RegionView, StoreState
from pd_py.schedule.waiting import WaitingQueue

REMIND_S = 5.0
REMIND_FAST_S = 2.0
EXPIRE_S = 3.0  # what waits longer was decided on a state of affairs that is gone


class OperatorListener(Protocol):
    """Hears of operators, for metrics and logs."""

    def created(self, operator: Operator) -> None:
        """One began to run."""
        ...

    def ended(self, finished: Finished) -> None:
        """One ended, or was refused before it ran (then it took no time)."""
        ...


@dataclass(slots=True)
class Running:
    """An operator under way."""

    operator: Operator
    started_at: float
    step: int
    """Which step is under way; never goes back."""
    step_at: float
    """Since when."""
    remind_at: float

    @property
    def deadline(self) -> float:
        """Until when the present step may take."""
        return self.step_at + self.operator.steps[self.step].timeout_s(self.operator.size_bytes)


def _remind_s(step: Step) -> float:
    fast = isinstance(step, TransferLeader | PromoteLearner | ChangePeerV2Enter | ChangePeerV2Leave)
    return REMIND_FAST_S if fast else REMIND_S


class OperatorController:
    """All operators under way and waiting."""

    def __init__(
        self, view: ClusterView, limits: StoreLimits, rng: Random, listener: OperatorListener | None = None
    ) -> None:
        self._view = view
        self._limits = limits
        self._listener = listener
        self._running: dict[int, Running] = {}
        self._counts: Counter[OpKind] = Counter()
        self._reminders: list[tuple[float, int]] = []
        self.waiting = WaitingQueue(rng)
        self.records = Records()
        self.refusals: Counter[tuple[str, str]] = Counter()
        """How often operators of a description were refused before they ran, by reason; both are short lists of names."""

    # looking

    def __contains__(self, region_id: int) -> bool:
        return region_id in self._running

    def __len__(self) -> int:
        return len(self._running)

    def get(self, region_id: int) -> Operator | None:
        """The operator of a region."""
        running = self._running.get(region_id)
        return None if running is None else running.operator

    def running(self, region_id: int) -> Running | None:
        """The operator of a region with how far it is."""
        return self._running.get(region_id)

    def all(self, kinds: OpKind = OpKind.NONE) -> list[Running]:
        """All that run, or those that have any of the kinds."""
        return [one for one in self._running.values() if not kinds or one.operator.kind & kinds]

    def count(self, kind: OpKind) -> int:
        """How many run that are counted under a kind."""
        return self._counts[kind]

    def last_of(self, region_id: int) -> Finished | None:
        """The newest end of a region's operators."""
        return self.records.last_of(region_id)

    def influence(self) -> Influence:
        """What all that run will still do to the stores."""
        total = Influence()
        for running in self._running.values():
            region = self._view.region(running.operator.region_id)
            if region is not None:
                total.add(running.operator.influence_after(region, running.step))
        return total

    # adding

    def add(self, operators: Sequence[Operator], now: float) -> bool:
        """Run operators at once, all or none (a merge brings two). False when one is refused; `refusals` say why."""
        reason = self._refusal(operators) or self._over_limit(operators, now)
        if reason:
            self._refuse(operators, OperatorStatus.CANCEL, now, reason)
            return False
        for operator in operators:
            self._start(operator, now)
        return True

    def add_waiting(self, operators: Sequence[Operator], now: float) -> int:
        """Take the operators of a scheduler, and run as many as may run. Returns how many were taken."""
        taken = at = 0
        while at < len(operators):
            size = 2 if operators[at].related_region_id and at + 1 < len(operators) else 1
            group = tuple(operators[at : at + size])
            at += size
            reason = self._refusal(group)
            if self.waiting.count(group[0].description) >= self._view.options.scheduler_max_waiting_operator:
                reason = "exceed wait limit"
            if reason:
                self._refuse(group, OperatorStatus.CANCEL, now, reason)
            else:
                self.waiting.put(group, now)
                taken += 1
        for _ in range(taken):
            self.promote_waiting(now)
        return taken

    def promote_waiting(self, now: float) -> bool:
        """Run the next that waits and still may."""
        while (waiting := self.waiting.take()) is not None:
            if now - waiting.since > EXPIRE_S:
                self._refuse(waiting.operators, OperatorStatus.EXPIRED, now, "expired")
                continue
            reason = self._refusal(waiting.operators) or self._over_limit(waiting.operators, now)
            if reason:
                self._refuse(waiting.operators, OperatorStatus.CANCEL, now, reason)
                continue
            for operator in waiting.operators:
                self._start(operator, now)
            return True
        return False

    def _refusal(self, operators: Sequence[Operator]) -> str:
        """Why operators cannot run; empty when they can."""
        for operator in operators:
            region = self._view.region(operator.region_id)
            if region is None:
                return "region not found"
            if (region.conf_ver, region.version) != (operator.conf_ver, operator.version):
                return "epoch not match"
            old = self._running.get(operator.region_id)
            if old is not None and operator.priority <= old.operator.priority:
                return "already exist"
        return ""

    def _over_limit(self, operators: Sequence[Operator], now: float) -> str:
        for store_id, change in self._cost(operators).stores.items():
            store = self._view.store(store_id)
            leaving = store is None or store.state in (StoreState.OFFLINE, StoreState.DOWN)
            if not self._limits.available(store_id, LimitType.ADD_PEER, now, change.add_cost):
                return "exceed store limit"
            if not leaving and not self._limits.available(store_id, LimitType.REMOVE_PEER, now, change.remove_cost):
                return "exceed store limit"
        return ""

    def _cost(self, operators: Sequence[Operator]) -> Influence:
        total = Influence()
        for operator in operators:
            region = self._view.region(operator.region_id)
            if region is not None:
                total.add(operator.influence(region))
        return total

    def _start(self, operator: Operator, now: float) -> None:
        old = self._running.get(operator.region_id)
        if old is not None:
            self._end(old, OperatorStatus.REPLACE, now, f"replaced by {operator.description}")
        for store_id, change in self._cost((operator,)).stores.items():
            self._limits.take(store_id, LimitType.ADD_PEER, now, change.add_cost)
            self._limits.take(store_id, LimitType.REMOVE_PEER, now, change.remove_cost)
        self._running[operator.region_id] = Running(operator, now, 0, now, now)
        self._counts[operator.scheduler_kind] += 1
        heappush(self._reminders, (now, operator.region_id))
        if self._listener is not None:
            self._listener.created(operator)

    # going on

    def on_heartbeat(self, region: RegionView, now: float) -> Step | None:
        """The step to tell the region's leader, after passing what is done or dropping what is over."""
        running = self._running.get(region.region_id)
        if running is None:
            return None
        step = self._advance(running, region, now)
        if step is None:
            return None
        reason = self._stale(running, region) or step.problem(self._view, region)
        if reason:
            self._end(running, OperatorStatus.CANCEL, now, reason)
        elif now >= running.deadline:
            self._end(running, OperatorStatus.TIMEOUT, now, f"step {step} took too long")
        else:
            self._remember(running, step, now)
            return step
        return None

    def _advance(self, running: Running, region: RegionView, now: float) -> Step | None:
        steps = running.operator.steps
        while steps[running.step].is_finished(region):
            if running.step + 1 == len(steps):
                self._end(running, OperatorStatus.SUCCESS, now, "")
                return None
            running.step += 1
            running.step_at = now
        return steps[running.step]

    def _stale(self, running: Running, region: RegionView) -> str:
        """Whether the region changed by something else than the steps."""
        operator = running.operator
        if region.version != operator.version:
            return "epoch not match"
        if region.conf_ver - operator.conf_ver > operator.conf_ver_changed(region, running.step):
            return "epoch not match"
        return ""

    def _remember(self, running: Running, step: Step, now: float) -> None:
        running.remind_at = now + _remind_s(step)
        heappush(self._reminders, (running.remind_at, running.operator.region_id))

    def due(self, now: float) -> list[tuple[RegionView, Step]]:
        """Steps that should be told (again) now, after dropping what is over. A new operator is due at once."""
        out: list[tuple[RegionView, Step]] = []
        while self._reminders and self._reminders[0][0] <= now:
            _, region_id = heappop(self._reminders)
            running = self._running.get(region_id)
            if running is None or running.remind_at > now:
                continue
            region = self._view.region(region_id)
            if region is None:
                self._end(running, OperatorStatus.CANCEL, now, "region not found")
                continue
            step = self._advance(running, region, now)
            if step is None:
                continue
            if now >= running.deadline:
                self._end(running, OperatorStatus.TIMEOUT, now, f"step {step} took too long")
                continue
            reason = step.problem(self._view, region)
            if running.operator.related_region_id and region.version != running.operator.version:
                reason = "epoch not match"
            if reason:
                self._end(running, OperatorStatus.CANCEL, now, reason)
                continue
            self._remember(running, step, now)
            out.append((region, step))
        return out

    def region_gone(self, region_id: int, now: float) -> None:
        """A region was merged away: its operator has done what it was for, or can do nothing more."""
        running = self._running.get(region_id)
        if running is None:
            return
        merging = running.operator.related_region_id and running.step == len(running.operator.steps) - 1
        if merging:
            self._end(running, OperatorStatus.SUCCESS, now, "")
        else:
            self._end(running, OperatorStatus.CANCEL, now, "region not found")

    def cancel(self, region_id: int, now: float, reason: str = "admin stop") -> bool:
        """End a region's operator; False when there is none."""
        running = self._running.get(region_id)
        if running is None:
            return False
        self._end(running, OperatorStatus.CANCEL, now, reason)
        return True

    def cancel_all(self, now: float, reason: str = "admin stop") -> int:
        """End all operators."""
        region_ids = list(self._running)
        return sum(self.cancel(region_id, now, reason) for region_id in region_ids)

    def _end(self, running: Running, status: OperatorStatus, now: float, reason: str) -> None:
        operator = running.operator
        del self._running[operator.region_id]
        self._counts[operator.scheduler_kind] -= 1
        self._bury(Finished(operator, status, now, running.started_at, reason))
        if operator.related_region_id:
            self._end_related(operator, status, now)

    def _end_related(self, operator: Operator, status: OperatorStatus, now: float) -> None:
        """The two operators of a merge end together; the source's succeeds when its target has grown."""
        other = self._running.get(operator.related_region_id)
        if other is None or other.operator.related_region_id != operator.region_id:
            return
        if status is OperatorStatus.SUCCESS:
            self._end(other, OperatorStatus.SUCCESS, now, "")
        else:
            self._end(other, OperatorStatus.CANCEL, now, "related merge region")

    def _refuse(self, operators: Sequence[Operator], status: OperatorStatus, now: float, reason: str) -> None:
        self.refusals[operators[0].description, reason] += 1
        if self._listener is not None:
            for operator in operators:
                self._listener.ended(Finished(operator, status, now, now, reason))

    def _bury(self, finished: Finished) -> None:
        self.records.add(finished)
        if self._listener is not None:
            self._listener.ended(finished)
