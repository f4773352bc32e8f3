"""Scheduling as a whole, without its surroundings: the checkers, the schedulers, the controller and what they decide by.

Driven from outside by reports of regions, by `patrol` and by `run_schedulers`, each with the time; says what to tell leaders
through `send_step`. The same object runs under the coordinator in a server and under the simulator. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from core_py.ports import Random
from pd_py.schedule.checkers.controller import CheckerController
from pd_py.schedule.context import OUT_OF_IDS, Context
from pd_py.schedule.controller import OperatorController, OperatorListener
from pd_py.schedule.limits import StoreLimits
from pd_py.schedule.operator import Operator, Step
from pd_py.schedule.placement.manager import RuleManager
from pd_py.schedule.placement.region_label import RegionLabeler
from pd_py.schedule.scatter import Scatterer
from pd_py.schedule.schedulers.running import RunningSchedulers
from pd_py.schedule.view import ClusterView, RegionView

PATROL_BATCH = 128
PROMOTES_PER_TURN = 16
ROUND_S = 1.0  # a round over all regions begins no sooner after the last one began

StepSink = Callable[[RegionView, Step], None]


class SchedulingCore:
    """One cluster's scheduling."""

    def __init__(
        self,
        view: ClusterView,
        rng: Random,
        send_step: StepSink,
        take_id: Callable[[], int | None],
        *,
        rules: RuleManager,
        labels: RegionLabeler,
        listener: OperatorListener | None = None,
    ) -> None:
        """`take_id` gives a fresh peer id, from the counter that all ids of the cluster come from; None when it cannot now.

        Ids must rise over time: a store believes that a message to a peer with a smaller id than one that it buried is late.
        """
        self.view = view
        self.rules = rules
        self.labels = labels
        self.limits = StoreLimits()
        self.controller = OperatorController(view, self.limits, rng, listener)
        self.checkers = CheckerController()
        self.schedulers = RunningSchedulers()
        self.scatterer = Scatterer()
        self._rng = rng
        self._send_step = send_step
        self._take_id = take_id
        self._patrol_from = b""
        self._round_at = float("-inf")
        self.round_s = ROUND_S
        self.patrol_rounds = 0

    def _alloc_peer_id(self) -> int:
        return self._take_id() or OUT_OF_IDS

    def context(self, now: float) -> Context:
        """What is to be decided by, now."""
        return Context(
            self.view,
            rules=self.rules,
            labels=self.labels,
            limits=self.limits,
            rng=self._rng,
            now=now,
            alloc_peer_id=self._alloc_peer_id,
            influence=self.controller.influence,
            running=self.controller.count,
            paused_in=self.schedulers.stores_without_new_leaders(),
            paused_out=self.schedulers.stores_that_keep_leaders(),
        )

    # what drives it

    def on_region_heartbeat(self, region: RegionView, now: float) -> None:
        """A leader reported: go on with the region's operator. A region that looks broken is looked at soon."""
        had_operator = region.region_id in self.controller
        if had_operator:
            step = self.controller.on_heartbeat(region, now)
            if step is not None:
                self._send_step(region, step)
                return
        options = self.view.options
        wanted = options.max_replicas
        if options.enable_placement_rules:
            wanted = self.rules.wanted(region.start_key, region.end_key)
        if had_operator or region.down or len(region.peers) != wanted or region.is_joint:
            self.checkers.suspect((region.region_id,))

    def on_region_split(self, region_ids: Iterable[int], now: float) -> None:
        """Regions that came out of a split: they are not to be merged back at once."""
        region_ids = tuple(region_ids)
        self.checkers.merge.note_split(region_ids, now)
        self.checkers.suspect(region_ids)

    def on_region_gone(self, region_id: int, now: float) -> None:
        """A region was merged away."""
        self.controller.region_gone(region_id, now)
        self.checkers.priority.forget(region_id)

    def patrol(self, now: float, batch: int = PATROL_BATCH) -> None:
        """Look at suspects and at the next regions in key order, and tell what is due."""
        if self.view.options.halt_scheduling:
            self.tell_due(now)
            return
        context = self.context(now)
        for region_id in self.checkers.take_suspects(context, batch):
            region = self.view.region(region_id)
            if region is None:
                self.checkers.priority.forget(region_id)
            else:
                self._check(context, region)
        self._go_round(context, batch)
        for _ in range(PROMOTES_PER_TURN):
            if not self.controller.promote_waiting(now):
                break
        self.tell_due(now)

    def _go_round(self, context: Context, batch: int) -> None:
        """The next regions in key order. A small cluster is not looked at over and over."""
        if not self._patrol_from:
            if context.now - self._round_at < self.round_s:
                return
            self._round_at = context.now
            self.patrol_rounds += 1
        regions = self.view.scan(self._patrol_from, b"", batch)
        for region in regions:
            self._check(context, region)
        self._patrol_from = regions[-1].end_key if regions else b""

    def _check(self, context: Context, region: RegionView) -> None:
        operators = self.checkers.check(context, region)
        if operators and self.controller.add(operators, context.now):
            for operator in operators:
                context.note_added(operator)

    def run_schedulers(self, now: float) -> int:
        """Ask the schedulers that are due. Returns how many operators they added."""
        if self.view.options.halt_scheduling:
            return 0
        taken = self.schedulers.run_due(lambda: self.context(now), self.controller, now)
        self.tell_due(now)
        return taken

    def tell_due(self, now: float) -> None:
        """Tell leaders their steps, or tell them again."""
        for region, step in self.controller.due(now):
            self._send_step(region, step)

    def add(self, operators: Sequence[Operator], now: float) -> bool:
        """Run operators that someone asked for, at once."""
        if not self.controller.add(operators, now):
            return False
        self.tell_due(now)
        return True
