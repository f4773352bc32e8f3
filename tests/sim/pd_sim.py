"""Three PD members under kills, power cuts, pauses, partitions, slow disks and clocks that jump: timestamps and metadata hold.

Rules, checked over everything that clients saw:
- no timestamp is given twice, and one asked for after another was received is greater;
- no id is given twice;
- a change that was acknowledged is seen by every linearizable read that begins later, on any member;
- at every step at most one member would serve;
- after the faults end, timestamps are given again within 10 s.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from core_py.errors import DbError
from core_py.ports import methods_of
from core_py.sim.loop import run_virtual
from core_py.sim.workers import DelayedWorkers
from pd_py.server.app import PdServer
from protos.kvproto import pdpb_pb2
from protos.private import metastore_pb2
from tests.sim.trace import Trace
from tests.sim.world import Options, Outcome, SeedFailed, broken_invariants_go_to
from tests.support.pd_cluster import NAMES, PdCluster, PdMember

METHODS = methods_of(pdpb_pb2.DESCRIPTOR.services_by_name["PD"])
SYNC_S = 0.004
RECOVERY_S = 10.0
CALL_S = 2.0
OPTIONS = Options("pd", run_s=10.0, pace_s=0.8)


@dataclass(frozen=True, slots=True)
class Given:
    """Timestamps [first, last] that a client asked for at `begun` and had at `ended`."""

    begun: float
    ended: float
    first: int
    last: int
    member: str


class PdWorld(PdCluster):
    """The members, their surroundings and what clients saw of them."""

    def __init__(self, seed: int, options: Options) -> None:
        workers_rng = random.Random(seed + 1)
        super().__init__(
            NAMES, seed=seed, make_workers=lambda: DelayedWorkers(random.Random(workers_rng.random()), SYNC_S)
        )
        self.trace = Trace(options.echo)
        self.given: list[Given] = []
        self.ids: dict[int, str] = {}
        self.acknowledged: dict[str, int] = {}
        self.reads = 0
        self.faults: list[str] = []

    async def start(self, name: str) -> PdServer:
        """See `PdCluster`."""
        server = await super().start(name)
        self.trace.note("up", where=name)
        return server

    async def kill(self, name: str, torn_bytes: int = 0) -> None:
        """See `PdCluster`."""
        await super().kill(name, torn_bytes)
        self.trace.note("killed", where=name)

    # ---- clients ----

    async def timestamps(self, name: str) -> None:
        """A client that asks one member after the other for timestamps, over streams of its own."""
        transport = self.network.transport(name)
        rng = random.Random(self.rng.random())
        target = NAMES[0]
        while True:
            try:
                async with asyncio.timeout(CALL_S):
                    await self._stream(transport.connect(f"{target}:2379").stream(METHODS["Tso"]), rng, target)
            except (DbError, TimeoutError):
                target = rng.choice(NAMES)
                await asyncio.sleep(rng.random() * 0.05)

    async def _stream(self, stream: object, rng: random.Random, target: str) -> None:
        cluster_id = self._cluster_id()
        try:
            for _ in range(rng.randrange(1, 60)):
                request = pdpb_pb2.TsoRequest(count=rng.randrange(1, 2000))
                request.header.cluster_id = cluster_id
                begun = asyncio.get_running_loop().time()
                await stream.send(request)  # type: ignore[attr-defined]
                answer = await stream.receive()  # type: ignore[attr-defined]
                if answer is None:
                    return
                last = answer.timestamp.physical << 18 | answer.timestamp.logical
                ended = asyncio.get_running_loop().time()
                self.given.append(Given(begun, ended, last - answer.count + 1, last, target))
                await asyncio.sleep(rng.random() * 0.02)
        finally:
            stream.cancel()  # type: ignore[attr-defined]

    def _cluster_id(self) -> int:
        running = [one.server for one in self.members.values() if one.server is not None]
        return max((server.directory.cluster_id for server in running), default=0)

    async def numbers(self, name: str) -> None:
        """A client that takes ids."""
        transport = self.network.transport(name)
        rng = random.Random(self.rng.random())
        while True:
            target = rng.choice(NAMES)
            request = pdpb_pb2.AllocIDRequest(count=rng.randrange(1, 700))
            request.header.cluster_id = self._cluster_id()
            try:
                answer = await transport.connect(f"{target}:2379").unary(METHODS["AllocID"], request, timeout_s=CALL_S)
            except DbError:
                await asyncio.sleep(0.02)
                continue
            assert not answer.header.HasField("error"), answer.header
            for number in range(answer.id - request.count + 1, answer.id + 1):
                assert number not in self.ids, f"id {number} given by {self.ids[number]} and again by {target}"
                self.ids[number] = target

    async def changes(self, key: str) -> None:
        """Writes growing numbers to a key of its own through any member, and reads it back through any other."""
        rng = random.Random(self.rng.random())
        value = 0
        while True:
            await asyncio.sleep(rng.random() * 0.05)
            running = [one for one in self.members.values() if one.server is not None and not self._stands(one)]
            if not running:
                continue
            member = rng.choice(running)
            server = member.server
            assert server is not None
            try:
                if rng.random() < 0.5:
                    value += 1
                    command = metastore_pb2.Command()
                    command.put.key, command.put.value = key.encode(), str(value).encode()
                    await server.store.execute(command)
                    if member.server is server and not self._stands(member):
                        self.acknowledged[key] = max(self.acknowledged.get(key, 0), value)
                else:
                    floor = self.acknowledged.get(key, 0)
                    await server.store.barrier()
                    if member.server is server and not self._stands(member):
                        seen = int(server.store.get(key) or b"0")
                        self.reads += 1
                        assert seen >= floor, f"{member.name} read {key}={seen}, {floor} was acknowledged"
            except DbError:
                continue

    def _stands(self, member: PdMember) -> bool:
        return self.fault.stands(member.name)

    async def watch(self) -> None:
        """At most one member serves."""
        while True:
            await asyncio.sleep(0.01)
            serving = self.serving()
            assert len(serving) <= 1, f"{' and '.join(serving)} serve at once"

    # ---- the end ----

    def check_timestamps(self) -> None:
        """No repetition, and real time order."""
        by_value = sorted(self.given, key=lambda one: one.first)
        for left, right in pairwise(by_value):
            assert left.last < right.first, f"given twice: {left} and {right}"
        ended = sorted(self.given, key=lambda one: one.ended)
        newest, position = 0, 0
        for one in sorted(self.given, key=lambda one: one.begun):
            while position < len(ended) and ended[position].ended < one.begun:
                newest = max(newest, ended[position].last)
                position += 1
            assert one.first > newest, f"went back: {one} after {newest}"


Fault = Callable[[PdWorld, random.Random], object]


async def disturb(world: PdWorld, run_s: float, pace_s: float) -> None:
    """Do harm until the time is over, then heal everything."""
    rng = world.rng
    loop = asyncio.get_running_loop()
    until = loop.time() + run_s
    while loop.time() < until:
        await asyncio.sleep(rng.random() * pace_s)
        leaders = [world.members[name] for name in world.serving()]
        member = (
            rng.choice(leaders or list(world.members.values()))
            if rng.random() < 0.6
            else rng.choice(list(world.members.values()))
        )
        action = rng.choice(ACTIONS)
        world.faults.append(action.__name__)
        world.trace.note(action.__name__, where=member.name)
        await action(world, member, rng)
    world.fault.heal()
    await asyncio.sleep(max(0.0, max(world.fault.stands_until.values(), default=0.0) - loop.time()))
    for member in world.members.values():
        member.clock.skew_ms = max(member.clock.skew_ms, -2000)
        if member.server is None:
            await world.start(member.name)
        elif isinstance(member.workers, DelayedWorkers):
            member.workers.max_s = SYNC_S


async def kill(world: PdWorld, member: PdMember, rng: random.Random) -> None:
    if member.server is not None:
        await world.kill(member.name, rng.choice((0, 0, rng.randrange(1, 60))))
        await asyncio.sleep(rng.random() * 2)
        await world.start(member.name)


async def kill_all(world: PdWorld, _member: PdMember, rng: random.Random) -> None:
    if rng.random() < 0.5:
        return
    for one in world.members.values():
        if one.server is not None:
            await world.kill(one.name)
    for one in world.members.values():
        await world.start(one.name)


async def pause(world: PdWorld, member: PdMember, rng: random.Random) -> None:
    seconds = rng.choice((0.3, 1.0, 3.0)) * (0.5 + rng.random())
    if world.fault.stands(member.name):
        return  # what is on its way to it arrives when the first pause ends
    member.clock.pause(seconds)
    # What was held back arrives a little after the clock goes on, never in the same microsecond, which is rounded.
    world.fault.stands_until[member.name] = asyncio.get_running_loop().time() + seconds + 0.001


async def isolate(world: PdWorld, member: PdMember, rng: random.Random) -> None:
    world.fault.isolate(member.name)
    await asyncio.sleep(rng.random() * 2)
    world.fault.cuts.clear()


async def part_from_members(world: PdWorld, member: PdMember, rng: random.Random) -> None:
    """Clients still reach it; the other members do not."""
    others = frozenset(name for name in NAMES if name != member.name)
    world.fault.part(frozenset((member.name,)), others, both=rng.random() < 0.5)
    await asyncio.sleep(rng.random() * 2)
    world.fault.cuts.clear()


async def jump(_world: PdWorld, member: PdMember, rng: random.Random) -> None:
    member.clock.skew_ms += rng.choice((-1, 1)) * rng.choice((50, 1000, 10_000, 60_000))


async def slow_disk(world: PdWorld, member: PdMember, rng: random.Random) -> None:
    if isinstance(member.workers, DelayedWorkers):
        member.workers.max_s = rng.choice((0.05, 0.5))
        await asyncio.sleep(rng.random())
        member.workers.max_s = SYNC_S


async def drift(_world: PdWorld, member: PdMember, rng: random.Random) -> None:
    member.clock.set_rate(rng.choice((0.95, 1.0, 1.05)))


async def transfer(world: PdWorld, member: PdMember, rng: random.Random) -> None:
    if member.server is not None and member.server.store.is_leader:
        others = [one.id for one in member.server.store.members() if one.id != member.server.store.member_id]
        member.server.store.replica.transfer_leader(rng.choice(others))


ACTIONS = (kill, kill, kill_all, pause, pause, isolate, part_from_members, jump, slow_disk, drift, transfer)


async def _run(world: PdWorld, options: Options) -> None:
    await world.start_all()
    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(world.timestamps(f"client{number}")) for number in range(4)]
        clients += [group.create_task(world.numbers("taker")), group.create_task(world.watch())]
        clients += [group.create_task(world.changes(key)) for key in ("/a", "/b")]
        await asyncio.sleep(2.0)
        await disturb(world, options.run_s, options.pace_s)
        healed = asyncio.get_running_loop().time()
        while not any(one.begun > healed for one in world.given):
            assert asyncio.get_running_loop().time() < healed + RECOVERY_S, (
                "no timestamp within 10 s of the end of faults"
            )
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
        for client in clients:
            client.cancel()
    await world.stop()
    for failure in world.failures.values():
        raise failure
    world.check_timestamps()


def simulate(seed: int, options: Options) -> Outcome:
    """Run one seed. Raises SeedFailed."""
    world = PdWorld(seed, options)
    try:
        with broken_invariants_go_to(lambda error: world.failed("invariant", error)):
            run_virtual(_run(world, options))
    except BaseException as error:
        group = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
        cause = next(iter(world.failures.values()), group)  # what came of it comes later
        raise SeedFailed(options.name or "pd", seed, cause, world.trace) from error
    checks = {"timestamps": sum(one.last - one.first + 1 for one in world.given), "ids": len(world.ids)}
    return Outcome(world.trace.hexdigest(), len(world.given), world.reads, world.faults, checks)
