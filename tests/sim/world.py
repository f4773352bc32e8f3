"""One simulated world: a cluster on virtual time with faults, an observer and a trace; the workloads run in it.

Whatever goes wrong first ends the run: an assertion of the workload, a broken rule that the observer sees, a background task of a
server that fails (a process would have ended). The failure comes out as `SeedFailed`, with the command that replays
it and the last events.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from core_py.errors import DbError
from core_py.runtime import tasks
from core_py.runtime.config import Seconds
from core_py.sim.loop import run_virtual
from core_py.sim.workers import DelayedWorkers
from tests.sim import membership
from tests.sim.faults import SeededFault
from tests.sim.nemesis import DOWN_S, SYNC_S, TRIP, Action, Nemesis
from tests.sim.observer import Observer
from tests.sim.trace import Trace
from tests.support.storage_cluster import FAST, Node, StorageCluster
from tikv_py.server.config import TikvConfig

RAFTSTORE = replace(FAST, raft_log_gc_count_limit=60, raft_log_gc_threshold=10, raft_log_gc_tick_interval=Seconds(0.3))
RUN_S = 12.0
HEAL_S = 60.0
SETTLE_S = 3.0  # until the first region has its replicas


@dataclass(frozen=True, slots=True)
class Options:
    """How big a run is, and what it shows."""

    name: str = ""
    """By which `python -m tests.sim` knows the workload in this size."""
    stores: int = 4
    run_s: float = RUN_S
    pace_s: float = 0.6
    echo: bool = False
    actions: tuple[Action, ...] = ()
    """Empty: all."""
    trip: float = TRIP
    """See `Nemesis`."""


@dataclass
class Outcome:
    """What a run came to."""

    trace_hash: str
    writes: int
    reads: int
    faults: list[str] = field(default_factory=list)
    checks: dict[str, int] = field(default_factory=dict)


class SeedFailed(AssertionError):
    """A run found something wrong."""

    def __init__(self, workload: str, seed: int, cause: BaseException, trace: Trace) -> None:
        self.cause = cause
        self._trace = trace
        self._what = f"{workload} seed {seed} failed: {type(cause).__name__}: {cause}"
        self._replay = f"replay: make sim SEEDS=1 START={seed} ARGS='--workload {workload} --trace'"
        super().__init__(self.told(with_trace=True))

    def told(self, *, with_trace: bool) -> str:
        """What happened, the command that repeats it, and what came before."""
        before = f"the last events before it:\n{self._trace.tail()}\n" if with_trace else ""
        return f"{before}{self._what}\n{self._replay}"


class World:
    """What a workload needs to know of its surroundings."""

    def __init__(
        self, seed: int, options: Options, split_keys: list[bytes], settings: TikvConfig | None = None
    ) -> None:
        self.seed = seed
        self.options = options
        self.rng = random.Random(seed)
        self.fault = SeededFault(random.Random(self.rng.random()))
        self.trace = Trace(options.echo)
        self.observer = Observer(self.trace, self.fault.stands, self.fail)
        self.failure: BaseException | None = None
        self._failed = asyncio.Event()
        workers_rng = random.Random(seed + 1)
        self.cluster = StorageCluster(
            options.stores,
            seed,
            self.fault,
            RAFTSTORE,
            max_store_down_s=DOWN_S,
            make_workers=lambda: DelayedWorkers(random.Random(workers_rng.random()), SYNC_S),
            on_store_started=self._started,
            on_power_lost=self.observer.check_disks,
            on_failure=self.fail,
            settings=settings or TikvConfig(),
        )
        self.nemesis = Nemesis(
            self.cluster, self.fault, self.rng, self.trace, split_keys, options.actions, options.pace_s, options.trip
        )

    def _started(self, node: Node) -> None:
        self.observer.watch(node)
        self.nemesis.watch(node)

    def fail(self, error: BaseException) -> None:
        """End the run. The first failure counts, the others are its consequences."""
        if self.failure is None:
            self.failure = error
            self._failed.set()

    def note(self, text: str, *, where: str = "") -> None:
        """Something that clients did."""
        self.trace.note(text, where=where)

    async def run(self, workload: Callable[[World], Awaitable[Outcome]]) -> Outcome:
        """Run a workload from start to end of the cluster."""
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self._capture(workload))
            failed = group.create_task(self._failed.wait())
            await asyncio.wait([running, failed], return_when=asyncio.FIRST_COMPLETED)
            failed.cancel()
            if self.failure is not None:
                running.cancel()
        if self.failure is not None:
            raise self.failure
        outcome = running.result()
        assert outcome is not None
        return outcome

    async def _capture(self, workload: Callable[[World], Awaitable[Outcome]]) -> Outcome | None:
        try:
            return await self._work(workload)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # it is raised again by `run`, unless it is a consequence
            self.fail(first_of(error))
            return None

    async def _work(self, workload: Callable[[World], Awaitable[Outcome]]) -> Outcome:
        try:
            await self.cluster.start()
            await asyncio.sleep(SETTLE_S)
            outcome = await workload(self)
        finally:
            await self.cluster.stop()
        outcome.trace_hash = self.trace.hexdigest()
        outcome.faults = self.nemesis.done
        outcome.checks = self.observer.stats
        return outcome


def first_of(error: BaseException) -> BaseException:
    """The first failure inside groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def broken_invariants_go_to(report: Callable[[BaseException], None]) -> Iterator[None]:
    """A broken invariant of a server ends the run instead of the process."""
    original = tasks.stop_process
    tasks.stop_process = report  # type: ignore[assignment]
    try:
        yield
    finally:
        tasks.stop_process = original


def simulate(
    name: str,
    seed: int,
    workload: Callable[[World], Awaitable[Outcome]],
    options: Options,
    split_keys: list[bytes] | None = None,
    settings: TikvConfig | None = None,
) -> Outcome:
    """Run one seed of a workload. Raises SeedFailed."""
    world: World | None = None

    async def main() -> Outcome:
        nonlocal world
        world = World(seed, options, split_keys or [], settings)
        with broken_invariants_go_to(world.fail), world.observer.watching_peers():
            return await world.run(workload)

    try:
        return run_virtual(main())
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        trace = world.trace if world is not None else Trace()
        raise SeedFailed(options.name or name, seed, first_of(error), trace) from error


async def check_replicas(world: World, within_s: float = HEAL_S) -> None:
    """Every region gets its voters and a leader, its replicas become equal, and no store keeps data of regions it has left."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while (problem := _difference(world.cluster)) is not None:
        assert loop.time() < deadline, problem
        await membership.leave_all_joint(world.nemesis)
        await asyncio.sleep(0.2)


def _difference(cluster: StorageCluster) -> str | None:
    assert cluster.pd.cluster is not None
    regions = cluster.pd.cluster.tree.all()
    by_store = {node.server.store.store_id: node for node in cluster.nodes if node.server and node.server.store}
    for region in regions:
        if len(region.peers) != 3 or any(peer.role for peer in region.peers):
            return f"region {region.region_id} has the peers {region.peers}"
        if not any(_leads(by_store[peer.store_id], region.region_id) for peer in region.peers):
            return f"region {region.region_id} has no leader"
    for cf in ("default", "lock", "write"):
        for region in regions:
            start, end = b"z" + region.start_key, b"z" + region.end_key if region.end_key else b"{"
            held = {store_id: node.kv_db.scan(cf, start, end) for store_id, node in by_store.items()}
            members = sorted(peer.store_id for peer in region.peers)
            if any(held[store_id] != held[members[0]] for store_id in members):
                return f"replicas of region {region.region_id} differ in {cf}"
            strangers = [store_id for store_id in held if store_id not in members and held[store_id]]
            if strangers:
                return f"stores {strangers} keep {cf} data of region {region.region_id}, which they have left"
    return None


def _leads(node: Node, region_id: int) -> bool:
    store = node.server.store if node.server is not None else None
    peer = store.peers.get(region_id) if store is not None else None
    return peer is not None and peer.is_leader


def error_name(error: DbError) -> str:
    """An error's code without its package, for traces."""
    return error.code.rsplit(":", 1)[-1]
