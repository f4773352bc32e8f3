"""The coordinator: runs scheduling (`pd_py.schedule.core`) in a server, and keeps what people set of it.

It owns the loops (patrol, schedulers), the supply of peer ids, and the durable settings: placement rules and groups, labels of key
ranges, schedulers with their configuration, limits of stores. Every change is written to the metadata store before it has an
effect; one change at a time, from the check to the end of the write. All that is decided is decided in the pure parts.

Keys below the cluster's prefix: `rules/`, `rule_group/`, `region_label/` (`pd_py.schedule.placement`), `scheduler_config/<name>`,
`store_limit`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from core_py.errors import DbError, PdError
from core_py.ports import Clock, Random
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from pd_py.cluster.region_jobs import RegionJobs
from pd_py.metastore.port import Metadata
from pd_py.schedule.admin import AdminOperators, OperatorRefused
from pd_py.schedule.controller import OperatorListener
from pd_py.schedule.core import PATROL_BATCH, SchedulingCore, StepSink
from pd_py.schedule.limits import LimitType, StoreLimit, StoreLimits
from pd_py.schedule.operator import Operator, SplitRegion
from pd_py.schedule.placement.manager import GROUPS_PREFIX, RULES_PREFIX, RuleManager, RulePatch
from pd_py.schedule.placement.region_label import LABELS_PREFIX, LabelRule, RegionLabeler
from pd_py.schedule.schedulers.base import Scheduler, SchedulerConfigError
from pd_py.schedule.schedulers.registry import DEFAULTS, make_scheduler
from pd_py.schedule.schedulers.running import SchedulerExists
from pd_py.schedule.view import ClusterView, KeyRange, RegionView

IDS_AT_HAND = 256  # before anything is decided
SCHEDULERS_PREFIX = "scheduler_config/"
STORE_LIMIT = "store_limit"
IDLE_S = 0.5  # how often the scheduler loop looks around when nothing is due
LABELS_SWEEP_S = 60.0
LED_SHARE = 0.8  # of the regions, whose leaders must be known before anything is balanced
COLLECT_S = 300.0


class IdSource(Protocol):
    """The counter that all ids of the cluster come from (`pd_py.cluster.ids`)."""

    def take(self) -> int | None:
        """A fresh id; None when one cannot be had without waiting."""
        ...

    async def ensure(self, count: int) -> None:
        """Make that many ids available without waiting."""
        ...


class Coordinator:
    """Scheduling of one cluster by the member that leads. Made anew for each term of leadership."""

    def __init__(
        self,
        view: ClusterView,
        metastore: Metadata,
        prefix: str,
        clock: Clock,
        rng: Random,
        ids: IdSource,
        send_step: StepSink,
        *,
        listener: OperatorListener | None = None,
        patrol_interval_s: float = 0.1,
    ) -> None:
        self.view = view
        self.prefix = prefix
        self.patrol_interval_s = patrol_interval_s
        self._metastore = metastore
        self._clock = clock
        self._ids = ids
        self.rules = RuleManager(wall_s=lambda: clock.wall_ms() // 1000)
        self.labels = RegionLabeler(wall_s=lambda: clock.wall_ms() / 1000)
        self.core = SchedulingCore(
            view, rng, send_step, ids.take, rules=self.rules, labels=self.labels, listener=listener
        )
        self.operators = self.core.controller
        self._changing = asyncio.Lock()
        """Held from the check of a change to the end of its write."""
        self._jobs = RegionJobs(self.core, clock, self._supply_ids)
        self._woken = asyncio.Event()
        self._began_at = clock.monotonic()
        self._has_known_enough = False
        self._scope: TaskScope | None = None

    # life

    async def load(self) -> None:
        """Read what was set; a first start writes the defaults. Raises NotLeader, OutcomeUnknown."""
        stored: dict[str, str] = {}
        for section in (RULES_PREFIX, GROUPS_PREFIX, LABELS_PREFIX):
            start = len(self.prefix) + 1
            for key, value in self._metastore.prefix(f"{self.prefix}/{section}"):
                stored[key[start:]] = value.decode("utf-8", "replace")
        self.rules.load(stored)
        self.labels.load(stored)
        for text in (*self.rules.refused, *self.labels.refused):
            get_logger().error("a stored rule cannot be used", rule=text)
        if not len(self.rules):
            options = self.view.options
            await self.set_default_rule(options.max_replicas, options.location_labels, options.isolation_level)
        self._load_limits()
        await self._load_schedulers()

    def start(self, on_failure: Callable[[BaseException], None] | None = None) -> None:
        """Begin to patrol and to schedule."""
        self._scope = TaskScope("coordinator", on_failure=on_failure)
        self._scope.spawn(self._patrol_loop(), name="patrol")
        self._scope.spawn(self._schedulers_loop(), name="schedulers")

    async def close(self) -> None:
        """Stop the loops."""
        if self._scope is not None:
            await self._scope.close()
            self._scope = None

    async def _patrol_loop(self) -> None:
        swept_at = self._clock.monotonic()
        while True:
            await asyncio.sleep(self.patrol_interval_s)
            try:
                await self.patrol()
            except DbError as error:  # no ids could be had; the next round tries again
                get_logger().warn("patrol", error=str(error))
            if self._clock.monotonic() - swept_at >= LABELS_SWEEP_S:
                swept_at = self._clock.monotonic()
                await self._sweep_labels()

    async def _schedulers_loop(self) -> None:
        while True:
            self._woken.clear()
            pause = max(self.core.schedulers.next_at() - self._clock.monotonic(), 0.001)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), min(pause, IDLE_S))
            self.run_schedulers()

    # what drives scheduling

    async def _supply_ids(self) -> None:
        await self._ids.ensure(IDS_AT_HAND)

    async def patrol(self, batch: int = PATROL_BATCH) -> None:
        """Check the next batch of regions and tell leaders what is due. Without regions there is nothing to do."""
        if not self.view.region_total():
            return
        await self._supply_ids()
        self.core.patrol(self._clock.monotonic(), batch)

    def run_schedulers(self) -> int:
        """Ask the schedulers that are due. Returns how many operators they added."""
        return self.core.run_schedulers(self._clock.monotonic()) if self._knows_enough() else 0

    def _knows_enough(self) -> bool:
        """Whether it is known who leads most regions: balancing on less would move what is well where it is.

        Asked until it is so once in this term, or until it has taken too long.
        """
        if not self._has_known_enough and (total := self.view.region_total()):
            led = sum(store.leader_count for store in self.view.stores())
            waited_s = self._clock.monotonic() - self._began_at
            self._has_known_enough = led >= LED_SHARE * total or waited_s >= COLLECT_S
        return self._has_known_enough

    def on_region_heartbeat(self, region: RegionView) -> None:
        """A leader reported its region."""
        self.core.on_region_heartbeat(region, self._clock.monotonic())

    def on_region_split(self, region_ids: Iterable[int]) -> None:
        """Regions came out of a split."""
        self.core.on_region_split(region_ids, self._clock.monotonic())

    def on_region_gone(self, region_id: int) -> None:
        """A region was merged away."""
        self.core.on_region_gone(region_id, self._clock.monotonic())

    def has_operator(self, region_id: int) -> bool:
        """Whether something is under way for a region."""
        return region_id in self.operators

    def blocks_split(self, region_id: int) -> bool:
        """Whether something is under way for a region that a split would disturb: anything but a split."""
        operator = self.operators.get(region_id)
        return operator is not None and not any(isinstance(step, SplitRegion) for step in operator.steps)

    # operators that people ask for

    async def add_operator(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Run an operator asked for by name, as the HTTP API has it. Returns what the API answers.

        Raises BadOperatorRequest, RegionUnknown, OperatorRefused, CannotBuild, CannotScatter.
        """
        if name == "scatter-regions":
            return await self._jobs.scatter_named(fields)
        await self._supply_ids()
        now = self._clock.monotonic()
        operators = AdminOperators(self.core.context(now), self.core.scatterer).make(name, fields)
        if operators and not self.core.add(operators, now):
            raise OperatorRefused("failed to add operator, maybe already have one")
        return {}

    def cancel_operator(self, region_id: int) -> bool:
        """End a region's operator; False when there is none."""
        return self.operators.cancel(region_id, self._clock.monotonic())

    def cancel_operators(self) -> int:
        """End all operators."""
        return self.operators.cancel_all(self._clock.monotonic())

    async def scatter(
        self, region_ids: Sequence[int], group: str, retry_limit: int = 5, *, skip_store_limit: bool = False
    ) -> tuple[int, list[int]]:
        """Scatter regions over the stores. Returns which percentage was done or is under way, and the regions that failed."""
        return await self._jobs.scatter(region_ids, group, retry_limit, skip_store_limit=skip_store_limit)

    async def split_regions(self, keys: Sequence[bytes], retry_limit: int = 5) -> tuple[int, list[int]]:
        """Split regions so that each key begins one. Returns the percentage of keys that do, and the regions they begin."""
        return await self._jobs.split(keys, retry_limit)

    def accelerate(self, ranges: Iterable[KeyRange]) -> None:
        """Check the regions of key ranges out of turn."""
        for key_range in ranges:
            self.core.checkers.suspect_range(key_range)

    # placement rules and labels

    async def change_rules(self, plan: Callable[[RuleManager], RulePatch]) -> None:
        """Change placement rules by a plan of the manager. Raises RuleError, RuleListError, HexError, NotLeader, OutcomeUnknown."""
        async with self._changing:
            patch = plan(self.rules)
            await self._store(patch.changes)
            self.rules.commit(patch)
        self.core.checkers.suspect_range(KeyRange())

    async def set_default_rule(self, max_replicas: int, location_labels: Sequence[str], isolation_level: str) -> None:
        """Let the default rule follow the replication settings."""
        await self.change_rules(lambda rules: rules.plan_default(max_replicas, location_labels, isolation_level))

    async def change_labels(self, sets: Iterable[LabelRule], deletes: Iterable[str] = ()) -> None:
        """Set and remove label rules. Raises RegionRuleError, RegionRuleNotFound, NotLeader, OutcomeUnknown."""
        async with self._changing:
            patch = self.labels.plan(sets, deletes)
            await self._store(patch.changes)
            self.labels.commit(patch)

    async def _sweep_labels(self) -> None:
        expired = self.labels.expired()
        if expired:
            try:
                await self.change_labels((), expired)
            except DbError as error:
                get_logger().warn("expired label rules stay stored", error=str(error))

    async def _store(self, changes: Mapping[str, str | None]) -> None:
        if changes:
            encoded = {f"{self.prefix}/{key}": None if text is None else text.encode() for key, text in changes.items()}
            await self._metastore.write(encoded)

    # schedulers

    async def _load_schedulers(self) -> None:
        start = f"{self.prefix}/{SCHEDULERS_PREFIX}"
        stored = self._metastore.prefix(start)
        now = self._clock.monotonic()
        if not stored:
            for name in DEFAULTS:
                self.core.schedulers.add(make_scheduler(name, {}), now)
            entries = self.core.schedulers.all()
            await self._store({SCHEDULERS_PREFIX + one.scheduler.name: _encoded(one.scheduler) for one in entries})
            return
        for key, value in stored:
            try:
                data = json.loads(value)
                if not data.get("disabled"):
                    self.core.schedulers.add(make_scheduler(data["type"], data.get("config") or {}), now)
            except (ValueError, KeyError, TypeError, AttributeError, PdError) as error:
                get_logger().error("a stored scheduler cannot be used", scheduler=key[len(start) :], error=str(error))

    async def add_scheduler(self, type_name: str, config: Mapping[str, Any] | None = None) -> str:
        """Run one more scheduler; returns its name. Raises SchedulerUnknown, SchedulerExists, SchedulerConfigError."""
        scheduler = make_scheduler(type_name, config or {})
        async with self._changing:
            if scheduler.name in self.core.schedulers:
                raise SchedulerExists
            await self._store({SCHEDULERS_PREFIX + scheduler.name: _encoded(scheduler)})
            self.core.schedulers.add(scheduler, self._clock.monotonic())
        self._woken.set()
        return scheduler.name

    async def remove_scheduler(self, name: str) -> None:
        """Run a scheduler no more. Raises SchedulerNotFound."""
        async with self._changing:
            kind = self.core.schedulers.entry(name).scheduler.type
            # one that runs by default is kept as switched off, or it would come back
            kept = json.dumps({"type": kind, "disabled": True}) if kind in DEFAULTS else None
            await self._store({SCHEDULERS_PREFIX + name: kept})
            self.core.schedulers.remove(name)

    async def configure_scheduler(self, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change a scheduler's configuration; returns the whole. Raises SchedulerNotFound, SchedulerConfigError."""
        async with self._changing:
            entry = self.core.schedulers.entry(name)
            trial = make_scheduler(entry.scheduler.type, entry.scheduler.config())
            trial.configure(changes)
            if trial.name != name:
                raise SchedulerConfigError("that would be another scheduler")
            await self._store({SCHEDULERS_PREFIX + name: _encoded(trial)})
            entry.scheduler.configure(changes)
            return entry.scheduler.config()

    def pause_scheduler(self, name: str, seconds: float) -> None:
        """Stop a scheduler (or "all") for a time; zero lets it go on. Raises SchedulerNotFound."""
        self.core.schedulers.pause(name, self._clock.monotonic(), seconds)
        self._woken.set()

    def schedulers(self, status: str = "") -> list[str]:
        """Names of schedulers: all, or those "paused" or "disabled"."""
        now = self._clock.monotonic()
        entries = self.core.schedulers.all()
        if status == "disabled":
            running = {entry.scheduler.name for entry in entries}
            start = f"{self.prefix}/{SCHEDULERS_PREFIX}"
            return [key[len(start) :] for key, _ in self._metastore.prefix(start) if key[len(start) :] not in running]
        return [one.scheduler.name for one in entries if status != "paused" or one.paused_until > now]

    def scheduler_config(self, name: str) -> dict[str, Any]:
        """A scheduler's configuration. Raises SchedulerNotFound."""
        return self.core.schedulers.entry(name).scheduler.config()

    def pause_checker(self, name: str, seconds: float) -> None:
        """Stop a checker for a time; zero lets it go on. Raises CheckerNotFound."""
        self.core.checkers.pause(name, self._clock.monotonic() + seconds)

    def checker_paused(self, name: str) -> bool:
        """Whether a checker is stopped. Raises CheckerNotFound."""
        return self.core.checkers.is_paused(name, self._clock.monotonic())

    # limits of stores

    def _load_limits(self) -> None:
        stored = self._metastore.get(f"{self.prefix}/{STORE_LIMIT}")
        if stored is None:
            return
        try:
            data = json.loads(stored)
            own = {int(store_id): _limit(one) for store_id, one in data["stores"].items()}
            self.core.limits.restore(_limit(data["default"]), own)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            get_logger().error("the stored limits of stores cannot be used", error=str(error))

    def store_limits(self) -> dict[int, StoreLimit]:
        """The limits of all stores."""
        return {store.store_id: self.core.limits.of(store.store_id) for store in self.view.stores()}

    async def set_store_limit(self, store_id: int | None, kind: LimitType | None, rate_per_min: float) -> None:
        """Set the rate of one store or of all, of one direction or both. Raises InvalidStoreLimit, NotLeader, OutcomeUnknown."""
        async with self._changing:
            trial = StoreLimits()
            trial.restore(self.core.limits.default, self.core.limits.own())
            _set_limit(trial, store_id, kind, rate_per_min)
            await self._store({STORE_LIMIT: _limits_json(trial)})
            _set_limit(self.core.limits, store_id, kind, rate_per_min)


def _set_limit(limits: StoreLimits, store_id: int | None, kind: LimitType | None, rate_per_min: float) -> None:
    if store_id is None:
        limits.set_all(kind, rate_per_min)
    else:
        limits.set(store_id, kind, rate_per_min)


def _limits_json(limits: StoreLimits) -> str:
    own = {str(store_id): _limit_json(one) for store_id, one in limits.own().items()}
    return json.dumps({"default": _limit_json(limits.default), "stores": own})


def _encoded(scheduler: Scheduler) -> str:
    return json.dumps({"type": scheduler.type, "config": scheduler.config()})


def _limit_json(limit: StoreLimit) -> dict[str, float]:
    return {kind.value: limit.rate(kind) for kind in LimitType}


def _limit(data: Mapping[str, Any]) -> StoreLimit:
    return StoreLimit(float(data[LimitType.ADD_PEER.value]), float(data[LimitType.REMOVE_PEER.value]))


def operator_json(operator: Operator, status: str = "Started") -> dict[str, Any]:
    """An operator as the API shows it in objects."""
    return {
        "desc": operator.description,
        "brief": operator.brief,
        "region_id": operator.region_id,
        "region_epoch": {"conf_ver": operator.conf_ver, "version": operator.version},
        "kind": operator.kind_text,
        "timeout": f"{operator.timeout_s:g}s",
        "status": status,
    }
