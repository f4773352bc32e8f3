"""The slow score: what raises it, what lowers it, and when an idle disk is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from core_py.runtime.workers import InlineWorkers
from core_py.sim.loop import run_virtual
from tests.unit.raftstore.support import Bench, engines_with, first_region
from tikv_py.raftstore.slow_score import IDLE_TICKS, RECOVERY_S, ROUND_TICKS, SlowScore

TICK_S = 0.5
ROUND_S = ROUND_TICKS * TICK_S


class Disk:
    """A score with its clock."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.score = SlowScore(TICK_S, self.now_s)

    def sync(self, seconds: float) -> None:
        self.score.began(self.now_s)
        self.score.ended(self.now_s + seconds)

    def pass_round(self, *syncs_s: float) -> float:
        for seconds in syncs_s:
            self.sync(seconds)
        for _ in range(ROUND_TICKS):
            self.now_s += TICK_S
            self.score.tick(self.now_s)
        return self.score.value


def test_a_tenth_of_late_syncs_doubles_the_score_up_to_its_limit() -> None:
    disk = Disk()
    quick = [0.001] * 9
    values = [disk.pass_round(*quick, 0.5) for _ in range(8)]
    assert values == [2, 4, 8, 16, 32, 64, 100, 100]
    assert Disk().pass_round(*[0.6] * 50) == 2, "more of them make it no faster"


def test_fewer_late_syncs_raise_it_less() -> None:
    assert Disk().pass_round(*[0.001] * 39, 2.0) == 1.25
    assert Disk().pass_round(*[0.001] * 40) == 1
    assert Disk().pass_round(*[0.499] * 40) == 1


def test_it_falls_from_the_worst_within_the_time_of_recovery() -> None:
    disk = Disk()
    for _ in range(7):
        disk.pass_round(1.0)
    rounds = 0
    last = disk.score.value
    while disk.score.value > 1:
        value = disk.pass_round(0.001)
        assert value < last
        last = value
        rounds += 1
    assert RECOVERY_S - 2 * ROUND_S <= rounds * ROUND_S <= RECOVERY_S


def test_a_sync_that_does_not_end_counts_while_it_runs() -> None:
    disk = Disk()
    disk.score.began(disk.now_s)
    values = [disk.pass_round() for _ in range(7)]
    assert values == [2, 4, 8, 16, 32, 64, 100]
    assert disk.score.ended(disk.now_s) == 7 * ROUND_S


def test_an_idle_disk_is_asked_and_a_busy_one_is_not() -> None:
    disk = Disk()
    asked = [disk.score.tick(disk.now_s + number * TICK_S) for number in range(1, 2 * IDLE_TICKS + 1)]
    assert [number for number, one in enumerate(asked, 1) if one] == [IDLE_TICKS, 2 * IDLE_TICKS]
    for number in range(3 * IDLE_TICKS):
        disk.sync(0.001)
        assert not disk.score.tick(disk.now_s + number * TICK_S)
    disk.score.began(disk.now_s)
    assert not any(disk.score.tick(disk.now_s) for _ in range(3 * IDLE_TICKS)), "it has been asked"


class SlowWorkers(InlineWorkers):
    """Syncs take as long as a test says."""

    delay_s = 0.0

    async def sync(self, function: Callable[[], Any]) -> None:
        await asyncio.sleep(self.delay_s)
        await super().sync(function)


def test_a_store_measures_its_syncs_even_if_nobody_writes() -> None:
    async def scenario() -> None:
        workers = SlowWorkers()
        one = Bench(*engines_with(first_region()), workers=workers)
        await one.store.start()
        score = one.store.log_sync.slow_score
        await asyncio.sleep(60)
        assert score.value == 1
        workers.delay_s = 0.7
        await asyncio.sleep(150)
        assert score.value == 100
        workers.delay_s = 0.0
        await asyncio.sleep(RECOVERY_S + 30)
        assert score.value == 1
        await one.store.stop()

    run_virtual(scenario())
