"""The simulator's cases in small: PD's real cluster and scheduling bring every one of them to rest."""

from __future__ import annotations

import pytest

from pd_py.schedule.operator import AddLearner, RemovePeer
from pd_py.schedule.options import MIB, ScheduleOptions
from pd_py.simulator.__main__ import main, table
from pd_py.simulator.cases import CASES, Outcome, Size, fill
from pd_py.simulator.events import BEGIN_S, Events
from pd_py.simulator.simulation import Simulation

SMALL = Size(stores=6, regions=60, seed=3)


@pytest.mark.parametrize("name", CASES)
def test_a_small_world_comes_to_rest(name: str) -> None:
    outcome = CASES[name].run(SMALL)
    assert outcome.failures == []
    assert outcome.rest_s > 0


def test_one_seed_is_one_run() -> None:
    first, second = (CASES["redistribute"].run(Size(5, 30, 9)) for _ in range(2))
    assert first == second
    assert first.peers_moved > 0


def small_world() -> Simulation:
    simulation = Simulation(ScheduleOptions(halt_scheduling=True), 1)
    for _ in range(4):
        simulation.world.add_store()
    fill(simulation.world, [1, 2, 3], 3)
    simulation.start()
    return simulation


def test_a_step_that_would_break_a_region_is_noticed() -> None:
    simulation = small_world()
    region = next(iter(simulation.world.regions.values()))
    known = simulation.cluster.region(region.region_id)
    assert known is not None
    leader = region.peers[region.leader]
    simulation.world.take_step(known, RemovePeer(leader.store_id, leader.peer_id))
    simulation.run_for(1.0)
    assert simulation.world.broken == [f"the leader of region {region.region_id} was told to remove itself"]
    outcome = Outcome("test", SMALL)
    outcome.expect(not simulation.world.broken, "broken")
    assert "FAILED" in table([outcome])


def test_a_snapshot_takes_its_time_and_a_stale_step_does_nothing() -> None:
    simulation = small_world()
    region = next(iter(simulation.world.regions.values()))
    region.size_bytes = 1000 * MIB
    known = simulation.cluster.region(region.region_id)
    assert known is not None
    simulation.world.take_step(known, AddLearner(4, 999))
    simulation.world.take_step(known, AddLearner(4, 998))
    simulation.run_for(5.0)
    assert region.conf_ver == 2, "the other came from an epoch that was over"
    assert region.pending == {region.peers[4].peer_id}
    simulation.run_for(10.0)
    assert region.pending == set()
    later = simulation.cluster.region(region.region_id)
    assert later is not None
    assert later.pending == frozenset()


def test_things_happen_in_the_order_of_their_moments() -> None:
    events = Events()
    seen: list[tuple[float, str]] = []
    events.after(2.0, lambda: seen.append((events.now - BEGIN_S, "late")))
    events.after(1.0, lambda: events.after(0.5, lambda: seen.append((events.now - BEGIN_S, "nested"))))
    events.every(1.0, lambda: seen.append((events.now - BEGIN_S, "tick")), 0.25)
    events.run_until(BEGIN_S + 2.5)
    assert seen == [(0.25, "tick"), (1.25, "tick"), (1.5, "nested"), (2.0, "late"), (2.25, "tick")]
    assert events.now == BEGIN_S + 2.5


def test_the_command_says_how_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--case", "split-storm", "--stores", "5", "--regions", "50"]) == 0
    out = capsys.readouterr().out
    assert "| split-storm" in out
    assert "| ok" in out
