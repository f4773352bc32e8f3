"""All checks of a region in their order, and which regions to look at out of turn.

The order is that of the public server: out of the joint state, split at the borders of rules, repair, and for regions that no label
protects, merging. Suspects are regions where something has just changed; pending ones could not be repaired for a reason that
passes. Each checker can be paused for a time.
"""

from __future__ import annotations

from collections.abc import Iterable

from core_py.errors import PdError, RetryClass
from pd_py.schedule.checkers import joint_state, learner, replica, rule, split
from pd_py.schedule.checkers.merge import MergeChecker
from pd_py.schedule.checkers.priority import PriorityInspector
from pd_py.schedule.context import Context
from pd_py.schedule.operator import Operator, OpKind
from pd_py.schedule.view import KeyRange, RegionView

SUSPECTS_MAX = 16_384
RANGES_MAX = 1024
NAMES = ("joint-state", "split", "rule", "learner", "replica", "merge", "priority")


class CheckerNotFound(PdError):
    """There is no checker of this name."""

    code = "PD:checker:ErrCheckerNotFound"
    retry = RetryClass.NEVER

    def __init__(self) -> None:
        super().__init__("checker not found")


class CheckerController:
    """The checkers with what they remember."""

    def __init__(self) -> None:
        self.merge = MergeChecker()
        self.priority = PriorityInspector()
        self._paused_until: dict[str, float] = {}
        self._suspects: dict[int, None] = {}
        self._ranges: dict[KeyRange, None] = {}

    # pausing

    def pause(self, name: str, until: float) -> None:
        """Stop a checker until a moment; one in the past lets it go on. Raises CheckerNotFound."""
        if name not in NAMES:
            raise CheckerNotFound
        self._paused_until[name] = until

    def is_paused(self, name: str, now: float) -> bool:
        """Whether a checker is stopped. Raises CheckerNotFound."""
        if name not in NAMES:
            raise CheckerNotFound
        return now < self._paused_until.get(name, 0.0)

    # whom to look at

    def suspect(self, region_ids: Iterable[int]) -> None:
        """Look at these soon. Beyond the bound the patrol will find them in its turn."""
        for region_id in region_ids:
            if len(self._suspects) < SUSPECTS_MAX:
                self._suspects[region_id] = None

    def suspect_range(self, key_range: KeyRange) -> None:
        """Look at all regions of a range soon."""
        if len(self._ranges) < RANGES_MAX:
            self._ranges[key_range] = None

    def take_suspects(self, context: Context, limit: int) -> list[int]:
        """Regions to look at now, no more than `limit`."""
        out = self.priority.due(context.now)[:limit]
        while self._suspects and len(out) < limit:
            region_id = next(iter(self._suspects))
            del self._suspects[region_id]
            out.append(region_id)
        while self._ranges and len(out) < limit:
            self._take_range(context, out, limit)
        return list(dict.fromkeys(out))

    def _take_range(self, context: Context, out: list[int], limit: int) -> None:
        key_range = next(iter(self._ranges))
        del self._ranges[key_range]
        found = context.view.scan(key_range.start, key_range.end, limit - len(out) + 1)
        taken = found[: limit - len(out)]
        out += [region.region_id for region in taken]
        if len(found) > len(taken):
            self._ranges[KeyRange(found[-1].start_key, key_range.end)] = None

    # checking

    def check(self, context: Context, region: RegionView) -> tuple[Operator, ...]:
        """The operators a region needs: none, one, or the two of a merge."""
        if not region.leader_store_id or context.view.has_operator(region.region_id):
            return ()
        operator = self._urgent(context, region)
        if operator is not None:
            return (operator,)
        if region.is_joint or context.labels.denies_schedule(region) or self.is_paused("merge", context.now):
            return ()
        if context.running(OpKind.MERGE) >= context.options.merge_schedule_limit:
            return ()
        return self.merge.check(context, region)

    def _urgent(self, context: Context, region: RegionView) -> Operator | None:
        now = context.now
        operator = None
        if not self.is_paused("joint-state", now):
            operator = joint_state.check(context, region)
        if operator is None and not self.is_paused("split", now):
            operator = split.check(context, region)
        return operator if operator is not None else self._repair(context, region)

    def _repair(self, context: Context, region: RegionView) -> Operator | None:
        now, options = context.now, context.options
        is_full = context.running(OpKind.REPLICA) >= options.replica_schedule_limit
        if options.enable_placement_rules:
            fit = context.fit(region)
            self._inspect(context, region, fit.wanted)
            if self.is_paused("rule", now):
                return None
            operator = rule.check(context, region, fit)
        else:
            self._inspect(context, region, options.max_replicas)
            operator = None if self.is_paused("learner", now) else learner.check(context, region)
            if operator is None and not self.is_paused("replica", now):
                operator = replica.check(context, region)
        if operator is not None and is_full and operator.kind & OpKind.REPLICA:
            self.suspect((region.region_id,))
            return None
        return operator

    def _inspect(self, context: Context, region: RegionView, wanted: int) -> None:
        if not self.is_paused("priority", context.now):
            self.priority.inspect(context, region, wanted)
