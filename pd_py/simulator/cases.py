"""What is tried: each case builds a world, upsets it, and says what must hold when it has come to rest.

Held of every case: no step broke a region, every region is whole, PD knows all as it is, few operators ran out of time, and in
the ten minutes after it came to rest no more than one region in a hundred was moved (nothing is handed back and forth).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from random import Random

from pd_py.schedule.operator import OperatorStatus
from pd_py.schedule.options import MIB, ScheduleOptions
from pd_py.simulator import measures
from pd_py.simulator.simulation import Simulation
from pd_py.simulator.world import SimRegion, World, key_of

REGION_BYTES = 96 * MIB
QUIET_SHARE = 0.01
AFTER_S = 600.0
REPLICAS = 3


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is."""

    stores: int
    regions: int
    seed: int


@dataclass(slots=True)
class Outcome:
    """What a run came to. Times are virtual seconds."""

    name: str
    size: Size
    rest_s: float = 0.0
    least: int = 0
    before: str = ""
    after: str = ""
    peers_moved: int = 0
    leaders_moved: int = 0
    steps: int = 0
    moved_after: int = 0
    wall_s: float = 0.0
    failures: list[str] = field(default_factory=list)

    def expect(self, holds: bool, what: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.failures.append(what)


def deal(rng: Random, stores: list[int], count: int) -> Iterator[list[int]]:
    """Places for regions, so that all stores get as many."""
    heap = [(0, rng.random(), store_id) for store_id in stores]
    heapify(heap)
    for _ in range(count):
        drawn = [heappop(heap) for _ in range(REPLICAS)]
        for held, _, store_id in drawn:
            heappush(heap, (held + 1, rng.random(), store_id))
        places = [store_id for _, _, store_id in drawn]
        rng.shuffle(places)
        yield places


def fill(world: World, stores: list[int], count: int, size_of: Callable[[], int] = lambda: REGION_BYTES) -> None:
    """Regions over the whole key space, dealt to stores, led evenly."""
    led = dict.fromkeys(stores, 0)
    gap = (1 << 40) // count
    for number, places in enumerate(deal(world.rng, stores, count)):
        start = key_of(number * gap) if number else b""
        end = key_of((number + 1) * gap) if number + 1 < count else b""
        leader = min(places, key=lambda store_id: led[store_id])
        led[leader] += 1
        world.add_region(start, end, places, leader, size_of())


class Case:
    """One case. `limit_s` bounds how long it may take to come to rest, which is `quiet_s` without a new operator."""

    name = ""
    limit_s = 4 * 3600.0
    quiet_s = 180.0

    def options(self) -> ScheduleOptions:
        """The settings."""
        return ScheduleOptions()

    def build(self, simulation: Simulation, size: Size) -> None:
        """Make the world: by default even."""
        for _ in range(size.stores):
            simulation.world.add_store()
        fill(simulation.world, list(simulation.world.stores), size.regions)

    def upset(self, simulation: Simulation, size: Size) -> None:
        """What happens after the start."""

    def figure(self, simulation: Simulation) -> str:
        """What is to become better."""
        world = simulation.world
        held, led = measures.replicas(world), measures.leaders(world)
        return f"{measures.spread(held.values()):.0%} / {measures.spread(led.values()):.0%}"

    def judge(self, simulation: Simulation, outcome: Outcome) -> None:
        """What must hold at rest."""

    def run(self, size: Size) -> Outcome:
        """Build, upset, come to rest, judge, and look whether it stays at rest."""
        outcome = Outcome(self.name, size)
        simulation = Simulation(self.options(), size.seed)
        self.build(simulation, size)
        simulation.start()
        self.upset(simulation, size)
        outcome.before = self.figure(simulation)
        outcome.least = self.least(simulation)
        outcome.rest_s = simulation.run_until_quiet(self.limit_s, self.quiet_s)
        outcome.expect(outcome.rest_s < self.limit_s - self.quiet_s, "it does not come to rest")
        counts = simulation.counts
        outcome.after, outcome.steps = self.figure(simulation), simulation.world.steps_taken
        outcome.peers_moved, outcome.leaders_moved = counts.peers_moved, counts.leaders_moved
        self.judge(simulation, outcome)
        judge_all(simulation, outcome)
        counts.touched.clear()
        simulation.run_for(AFTER_S)
        outcome.moved_after = len(counts.touched)
        allowed = max(1, int(QUIET_SHARE * len(simulation.world.regions)))
        outcome.expect(outcome.moved_after <= allowed, f"{outcome.moved_after} regions are moved though all is well")
        return outcome

    def least(self, simulation: Simulation) -> int:
        """How many replicas must be moved or made at least."""
        return measures.least_moves(measures.replicas(simulation.world))


def judge_all(simulation: Simulation, outcome: Outcome) -> None:
    """What must hold of every case."""
    world, counts = simulation.world, simulation.counts
    outcome.expect(not world.broken, f"{len(world.broken)} steps would break a region, first: {world.broken[:1]}")
    sick = measures.sick_regions(world, REPLICAS)
    outcome.expect(not sick, f"{len(sick)} regions are not whole, such as {sick[:3]}")
    outcome.expect(measures.views_agree(simulation), "PD does not know all regions as they are")
    timeouts = counts.ended_by(OperatorStatus.TIMEOUT)
    outcome.expect(timeouts <= 0.01 * counts.created_total() + 1, f"{timeouts} operators ran out of time")


def judge_even(simulation: Simulation, outcome: Outcome, share: float = 0.10) -> None:
    """Replicas and leaders must be even, by a share of the mean (or a handful in a small world)."""
    held = list(measures.replicas(simulation.world).values())
    led = list(measures.leaders(simulation.world).values())
    mean = sum(held) / len(held)
    slack = max(6.0, share * mean)
    outcome.expect(max(held) - min(held) <= slack, f"stores hold {min(held)} to {max(held)} replicas")
    led_mean = sum(led) / len(led)
    led_slack = max(6.0, 1.5 * share * led_mean)
    outcome.expect(max(led) - min(led) <= led_slack, f"stores lead {min(led)} to {max(led)} regions")


def judge_moves(outcome: Outcome, factor: float = 1.3) -> None:
    """Not many more replicas may be moved than must be."""
    most = int(outcome.least * factor) + 10
    outcome.expect(outcome.peers_moved <= most, f"{outcome.peers_moved} replicas were moved, {outcome.least} would do")


class Balance(Case):
    """All data on half of the stores."""

    name = "balance"

    def build(self, simulation: Simulation, size: Size) -> None:
        """The second half is empty."""
        for _ in range(size.stores):
            simulation.world.add_store()
        full = list(simulation.world.stores)[: max(size.stores // 2, REPLICAS)]
        fill(simulation.world, full, size.regions)

    def judge(self, simulation: Simulation, outcome: Outcome) -> None:
        """Even, without detours."""
        judge_even(simulation, outcome)
        judge_moves(outcome)


class Redistribute(Case):
    """A new store joins an even cluster."""

    name = "redistribute"

    def build(self, simulation: Simulation, size: Size) -> None:
        """The last store is empty."""
        for _ in range(size.stores):
            simulation.world.add_store()
        fill(simulation.world, list(simulation.world.stores)[:-1], size.regions)

    def judge(self, simulation: Simulation, outcome: Outcome) -> None:
        """Even, without detours."""
        judge_even(simulation, outcome)
        judge_moves(outcome)


class StoreDown(Case):
    """A store dies and stays dead: its replicas are made anew elsewhere."""

    name = "store-down"

    def options(self) -> ScheduleOptions:
        """Two minutes of silence are death."""
        return ScheduleOptions(max_store_down_time_s=120.0)

    def upset(self, simulation: Simulation, size: Size) -> None:
        """The last store dies."""
        simulation.world.kill(len(simulation.world.stores))

    def least(self, simulation: Simulation) -> int:
        """What the dead store held."""
        return self._lost(simulation)

    def figure(self, simulation: Simulation) -> str:
        """Replicas on the dead store."""
        return f"{self._lost(simulation)} lost"

    @staticmethod
    def _lost(simulation: Simulation) -> int:
        dead = len(simulation.world.stores)
        return sum(dead in region.peers for region in simulation.world.regions.values())

    def judge(self, simulation: Simulation, outcome: Outcome) -> None:
        """Nothing is left there, the rest is even, and no more was made than was lost."""
        outcome.expect(not self._lost(simulation), f"{self._lost(simulation)} replicas are still on the dead store")
        judge_even(simulation, outcome)
        judge_moves(outcome, 1.2)


class LabelIsolation(Case):
    """Regions placed without regard to zones, in a cluster that is told of its zones."""

    name = "label-isolation"
    zones = 5

    def options(self) -> ScheduleOptions:
        """Zones and hosts."""
        return ScheduleOptions(location_labels=("zone", "host"))

    def build(self, simulation: Simulation, size: Size) -> None:
        """Stores in five zones."""
        for number in range(size.stores):
            simulation.world.add_store((("zone", f"z{number % self.zones}"), ("host", f"h{number}")))
        fill(simulation.world, list(simulation.world.stores), size.regions)

    def least(self, simulation: Simulation) -> int:
        """One replica of each crowded region, two where all three share a zone."""
        world = simulation.world

        def shared(region: SimRegion) -> int:
            zones = {dict(world.stores[store_id].labels)["zone"] for store_id in region.peers}
            return len(region.peers) - len(zones)

        return sum(map(shared, world.regions.values()))

    def figure(self, simulation: Simulation) -> str:
        """Regions with two replicas in a zone."""
        return f"{len(measures.crowded_regions(simulation.world, 'zone'))} crowded"

    def judge(self, simulation: Simulation, outcome: Outcome) -> None:
        """Three zones for every region, and still even."""
        crowded = measures.crowded_regions(simulation.world, "zone")
        outcome.expect(not crowded, f"{len(crowded)} regions have two replicas in a zone")
        judge_even(simulation, outcome)
        judge_moves(outcome, 1.6)


class HotWrite(Case):
    """Regions that are written much, all led by a tenth of the stores."""

    name = "hot-write"
    quiet_s = 360.0  # three reports of a minute make a region hot
    peak_max = 1.6

    def build(self, simulation: Simulation, size: Size) -> None:
        """Three hot regions per store, led by few."""
        super().build(simulation, size)
        world = simulation.world
        few = set(list(world.stores)[: max(size.stores // 10, REPLICAS)])
        led = [region for region in world.regions.values() if region.leader in few]
        world.rng.shuffle(led)
        for region in led[: 3 * size.stores]:
            self.heat(region, (1 + 3 * world.rng.random()) * MIB)

    def heat(self, region: SimRegion, rate: float) -> None:
        """Make a region hot."""
        region.write_rate = rate

    def rate(self, region: SimRegion) -> float:
        """The flow that counts."""
        return region.write_rate

    def least(self, simulation: Simulation) -> int:
        """Hot regions."""
        return sum(self.rate(region) > 0 for region in simulation.world.regions.values())

    def figure(self, simulation: Simulation) -> str:
        """What the leaders of the most loaded store carry, by the mean."""
        return f"{self._peak(simulation):.2f} x mean"

    def _peak(self, simulation: Simulation) -> float:
        return measures.peak(measures.carried(simulation.world, self.rate).values())

    def judge(self, simulation: Simulation, outcome: Outcome) -> None:
        """The most loaded store carries little more than the mean, and each hot region moved once or twice."""
        outcome.expect(
            self._peak(simulation) <= self.peak_max, f"a store carries {self._peak(simulation):.2f} times the mean"
        )
        moves = sum(count for name, count in simulation.counts.created.items() if "-hot-" in name)
        outcome.expect(moves <= 2.5 * outcome.least + 10, f"{moves} moves for {outcome.least} hot regions")


class HotRead(HotWrite):
    """Regions that are read much, all led by a tenth of the stores."""

    name = "hot-read"

    def heat(self, region: SimRegion, rate: float) -> None:
        """Make a region hot."""
        region.read_rate = 4 * rate

    def rate(self, region: SimRegion) -> float:
        """The flow that counts."""
        return region.read_rate


class SplitStorm(Case):
    """A bulk load: every region splits into ten within five minutes."""

    name = "split-storm"
    parts = 10
    storm_s = 300.0

    def build(self, simulation: Simulation, size: Size) -> None:
        """A tenth of the regions, ten times as large."""
        for _ in range(size.stores):
            simulation.world.add_store()
        world = simulation.world
        fill(world, list(world.stores), size.regions // self.parts, lambda: self.parts * REGION_BYTES)

    def upset(self, simulation: Simulation, size: Size) -> None:
        """Each splits at a moment of its own."""
        world = simulation.world
        for region in list(world.regions.values()):
            moment = self.storm_s * world.rng.random()
            simulation.events.after(moment, lambda region=region: world.split(region, self._cuts(region)))  # type: ignore[misc]

    def _cuts(self, region: SimRegion) -> list[bytes]:
        start = int.from_bytes(region.start_key, "big")
        end = int.from_bytes(region.end_key, "big") if region.end_key else 1 << 40
        return [key_of(start + (end - start) * part // self.parts) for part in range(1, self.parts)]

    def figure(self, simulation: Simulation) -> str:
        """How many regions, how even."""
        return f"{len(simulation.world.regions)}: {super().figure(simulation)}"

    def least(self, simulation: Simulation) -> int:
        """What is uneven at the begin is ten times as many replicas at the end."""
        return super().least(simulation) * self.parts

    def judge(self, simulation: Simulation, outcome: Outcome) -> None:
        """All are there, even, and nothing was merged back."""
        wanted = outcome.size.regions // self.parts * self.parts
        outcome.expect(len(simulation.world.regions) == wanted, f"{len(simulation.world.regions)} regions of {wanted}")
        outcome.expect(not simulation.counts.created_by("merge-region"), "what was just split is merged")
        judge_even(simulation, outcome)
        judge_moves(outcome)


class Merge(Case):
    """Regions that became small, after much was deleted."""

    name = "merge"

    def options(self) -> ScheduleOptions:
        """Merging begins after a minute, with more at once than by default."""
        return ScheduleOptions(split_merge_interval_s=60.0, merge_schedule_limit=64)

    def build(self, simulation: Simulation, size: Size) -> None:
        """One to five MiB each."""
        for _ in range(size.stores):
            simulation.world.add_store()
        rng = simulation.world.rng
        fill(simulation.world, list(simulation.world.stores), size.regions, lambda: rng.randrange(1, 6) * MIB)

    def figure(self, simulation: Simulation) -> str:
        """How many regions of what size."""
        regions = simulation.world.regions
        mean = sum(region.size_bytes for region in regions.values()) / max(len(regions), 1)
        return f"{len(regions)} of {mean / MIB:.0f} MiB"

    def judge(self, simulation: Simulation, outcome: Outcome) -> None:
        """No small region is left that has a neighbour to join, and none is too large."""
        sizes = [region.size_bytes // MIB for region in simulation.world.regions.values()]
        total, limit = sum(sizes), self.options().max_merge_region_size
        outcome.expect(max(sizes) <= 3 * limit, f"a region of {max(sizes)} MiB was made")
        outcome.expect(len(sizes) <= max(total // (limit // 2), 2), f"{len(sizes)} regions are left of {total} MiB")


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Balance(),
        Redistribute(),
        StoreDown(),
        LabelIsolation(),
        HotWrite(),
        HotRead(),
        SplitStorm(),
        Merge(),
    )
}
