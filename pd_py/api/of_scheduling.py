"""`SchedulingPort` over the coordinator. Moments of its monotonic clock are shown as wall time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core_py.ports import Clock
from pd_py.api import go_text
from pd_py.api.backend import OperatorInfo, SchedulerInfo
from pd_py.cluster.coordinator import Coordinator
from pd_py.schedule.checkers.controller import CheckerNotFound
from pd_py.schedule.controller import Running
from pd_py.schedule.filters import is_replicated
from pd_py.schedule.limits import LimitType
from pd_py.schedule.operator import Operator, kind_of_name
from pd_py.schedule.records import Finished
from pd_py.schedule.schedulers.running import SchedulerNotFound
from pd_py.schedule.score import leader_score, region_score
from pd_py.schedule.view import RegionView, StoreView

WAITING = "waiting"
RUNNING = "RUNNING"


class SchedulingOfCoordinator:
    """See the port for the methods."""

    def __init__(self, coordinator: Coordinator, clock: Clock) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._zero_ms = clock.wall_ms() - round(clock.monotonic() * 1000)
        """Wall time at the monotonic clock's zero; taken once, so that a moment is always shown the same."""

    def _wall_ms(self, moment: float) -> int:
        return self._zero_ms + round(moment * 1000)

    def scores(self, store: StoreView) -> tuple[float, float]:
        """A store's leader score and region score, as the schedulers compare them."""
        context = self._coordinator.core.context(self._clock.monotonic())
        by_size = context.options.leader_schedule_policy == "size"
        return leader_score(store, 0, by_size=by_size), region_score(context, store)

    # operators

    def operators(self, kinds: Sequence[str] | None) -> Sequence[OperatorInfo]:
        """See the port."""
        controller = self._coordinator.operators
        if kinds is None:
            return [self._running(one) for one in controller.all()]
        out: list[OperatorInfo] = []
        for name in kinds:
            kind = kind_of_name(name)
            if name == WAITING:
                out += [self._info(operator, RUNNING, 0.0, 0) for operator in controller.waiting.all()]
            elif kind is not None:
                out += [self._running(one) for one in controller.all(kind)]
        return out

    def _running(self, running: Running) -> OperatorInfo:
        return self._info(running.operator, RUNNING, running.started_at, running.step)

    def _finished(self, finished: Finished) -> OperatorInfo:
        end = (
            f"(finishAt:{go_text.moment(self._wall_ms(finished.at))}, duration:{go_text.duration(finished.duration_s)})"
        )
        status = finished.status.pdpb_name
        steps = len(finished.operator.steps)
        return self._info(finished.operator, status, finished.started_at, steps, f" {end}")

    def _info(self, operator: Operator, status: str, started_at: float, step: int, end: str = "") -> OperatorInfo:
        began = go_text.moment(self._wall_ms(started_at) if started_at else 0)
        steps = ", ".join(f"{at}:{{{one}}}" for at, one in enumerate(operator.steps))
        text = (
            f"{operator.description} {{{operator.brief}}} (kind:{operator.kind_text}, "
            f"region:{operator.region_id}({operator.version}, {operator.conf_ver}), createAt:{began}, startAt:{began}, "
            f"currentStep:{step}, size:{operator.size_bytes >> 20}, steps:[{steps}], "
            f"timeout:[{go_text.duration(operator.timeout_s)}])"
        )
        if status == "SUCCESS":
            text += " finished"
        elif status == "TIMEOUT":
            text += " timeout"
        return OperatorInfo(
            text=text + end,
            description=operator.description,
            brief=operator.brief,
            region_id=operator.region_id,
            conf_ver=operator.conf_ver,
            version=operator.version,
            kind=int(operator.kind),
            status=status,
            timeout_s=operator.timeout_s,
        )

    def operator(self, region_id: int) -> OperatorInfo | None:
        """See the port."""
        running = self._coordinator.operators.running(region_id)
        if running is not None:
            return self._running(running)
        last = self._coordinator.operators.last_of(region_id)
        return None if last is None else self._finished(last)

    def operator_records(self, since_ms: int) -> Sequence[OperatorInfo]:
        """See the port."""
        since = self._clock.monotonic() - (self._clock.wall_ms() - since_ms) / 1000
        return [self._finished(one) for one in self._coordinator.operators.records.since(since)]

    async def add_operator(self, name: str, fields: Mapping[str, Any]) -> None:
        """See the port."""
        await self._coordinator.add_operator(name, fields)

    def cancel_operator(self, region_id: int) -> bool:
        """See the port."""
        return self._coordinator.cancel_operator(region_id)

    def cancel_operators(self) -> None:
        """See the port."""
        self._coordinator.cancel_operators()

    async def scatter(
        self, region_ids: Sequence[int], group: str, retry_limit: int, *, skip_store_limit: bool
    ) -> tuple[int, Sequence[int]]:
        """See the port."""
        return await self._coordinator.scatter(region_ids, group, retry_limit, skip_store_limit=skip_store_limit)

    async def split_regions(self, keys: Sequence[bytes], retry_limit: int) -> tuple[int, Sequence[int]]:
        """See the port."""
        return await self._coordinator.split_regions(keys, retry_limit)

    def accelerate(self, ranges: Sequence[tuple[bytes, bytes]], limit: int) -> None:
        """See the port."""
        for start, end in ranges:
            found = self._coordinator.view.scan(start, end, limit)
            self._coordinator.core.checkers.suspect(region.region_id for region in found)

    def replicated_state(self, regions: Iterable[RegionView]) -> str:
        """See the port. PENDING (waiting to be looked at) is not told from INPROGRESS."""
        context = self._coordinator.core.context(self._clock.monotonic())
        return "REPLICATED" if all(is_replicated(context, region) for region in regions) else "INPROGRESS"

    # schedulers

    def schedulers(self) -> Sequence[SchedulerInfo]:
        """See the port."""
        now = self._clock.monotonic()
        found = [SchedulerInfo(name, disabled=True) for name in self._coordinator.schedulers("disabled")]
        for entry in self._coordinator.core.schedulers.all():
            if entry.paused_until > now:
                times = (self._wall_ms(entry.paused_at), self._wall_ms(entry.paused_until))
                found.append(SchedulerInfo(entry.scheduler.name, paused_at_ms=times[0], resume_at_ms=times[1]))
            else:
                found.append(SchedulerInfo(entry.scheduler.name))
        return sorted(found, key=lambda one: one.name)

    async def add_scheduler(self, name: str, arguments: Mapping[str, Any]) -> None:
        """See the port."""
        await self._coordinator.add_scheduler(name, arguments)

    async def remove_scheduler(self, name: str) -> bool:
        """See the port."""
        try:
            await self._coordinator.remove_scheduler(name)
        except SchedulerNotFound:
            return False
        return True

    async def pause_scheduler(self, name: str, seconds: float) -> bool:
        """See the port."""
        try:
            self._coordinator.pause_scheduler(name, seconds)
        except SchedulerNotFound:
            return False
        return True

    def scheduler_config(self, name: str) -> Mapping[str, Any] | None:
        """See the port."""
        try:
            return self._coordinator.scheduler_config(name)
        except SchedulerNotFound:
            return None

    async def change_scheduler(self, name: str, changes: Mapping[str, Any]) -> bool:
        """See the port."""
        try:
            await self._coordinator.configure_scheduler(name, changes)
        except SchedulerNotFound:
            return False
        return True

    # limits and checkers

    def store_limits(self) -> Mapping[int, tuple[float, float]]:
        """See the port."""
        return {
            store_id: (limit.rate(LimitType.ADD_PEER), limit.rate(LimitType.REMOVE_PEER))
            for store_id, limit in self._coordinator.store_limits().items()
        }

    async def set_store_limit(self, store_ids: Sequence[int] | None, kinds: Sequence[str], rate: float) -> None:
        """See the port."""
        both = len(kinds) > 1
        for store_id in (None,) if store_ids is None else store_ids:
            await self._coordinator.set_store_limit(store_id, None if both else LimitType(kinds[0]), rate)

    def checker_paused(self, name: str) -> bool | None:
        """See the port."""
        try:
            return self._coordinator.checker_paused(name)
        except CheckerNotFound:
            return None

    def pause_checker(self, name: str, seconds: float) -> bool:
        """See the port."""
        try:
            self._coordinator.pause_checker(name, seconds)
        except CheckerNotFound:
            return False
        return True
