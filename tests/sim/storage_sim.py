"""A whole storage cluster under a seed, with raw data: real PD and store code, virtual time, faulty network, forgetful disks.

Workload: per key one writer that counts up and one reader. Checked while it runs: a
read never goes back behind an earlier read or an acknowledged write, and never shows a value nobody began to write. After
healing: every acknowledged write is there, all replicas are equal, and no store keeps what it has left. The trace
of all answers is hashed: one seed, one hash.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import dataclass, field

from core_py.errors import DbError
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from tests.sim.nemesis import Nemesis, SeededFault, check_replicas, faulty_cluster
from tests.support.storage_cluster import PD_ADDRESS, StorageCluster
from tikv_py.client.raw.client import RawClient

KEYS = 6
RUN_S = 12.0
HEAL_S = 60.0


@dataclass
class Register:
    """What is known of one key: the highest value that a write was begun for, was acknowledged, was read."""

    begun: int = 0
    acknowledged: int = 0
    seen: int = 0


@dataclass
class Outcome:
    """What a run came to."""

    trace_hash: str
    writes: int
    reads: int
    faults: list[str] = field(default_factory=list)


class Simulation:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.fault = SeededFault(random.Random(self.rng.random()))
        self.registers = {b"key%d" % i: Register() for i in range(KEYS)}
        self.trace = hashlib.sha256()
        self.writes = self.reads = 0
        self.stopping = False

    def note(self, text: str) -> None:
        self.trace.update(f"{asyncio.get_running_loop().time():.6f} {text}\n".encode())

    async def run(self, seed: int) -> Outcome:
        async with faulty_cluster(seed, self.fault) as cluster:
            await asyncio.sleep(3)
            nemesis = Nemesis(cluster, self.fault, self.rng, self.note, sorted(self.registers))
            cluster.on_store_started = nemesis.watch
            for node in cluster.nodes:
                nemesis.watch(node)
            client = await self.client(cluster, seed)
            async with client, asyncio.TaskGroup() as group:
                for key in self.registers:
                    group.create_task(self.writer(client, key))
                    group.create_task(self.reader(client, key))
                await nemesis.run(RUN_S)
                self.stopping = True
            await self.check_end(cluster)
        return Outcome(self.trace.hexdigest(), self.writes, self.reads, nemesis.done)

    async def client(self, cluster: StorageCluster, seed: int) -> RawClient:
        transport = cluster.network.transport("client")
        return await RawClient.connect(
            (PD_ADDRESS,), transport=transport, clock=LoopClock(), random=random.Random(seed)
        )

    async def writer(self, client: RawClient, key: bytes) -> None:
        register = self.registers[key]
        while not self.stopping:
            register.begun += 1
            value = register.begun
            try:
                await client.put(key, b"%d" % value)
            except DbError as error:
                self.note(f"put {key.decode()} {value} {error.code}")
            else:
                register.acknowledged = max(register.acknowledged, value)
                self.writes += 1
                self.note(f"put {key.decode()} {value} ok")
            await asyncio.sleep(self.rng.random() * 0.1)

    async def reader(self, client: RawClient, key: bytes) -> None:
        register = self.registers[key]
        while not self.stopping:
            floor = max(register.acknowledged, register.seen)
            try:
                value = int(await client.get(key) or b"0")
            except DbError as error:
                self.note(f"get {key.decode()} {error.code}")
            else:
                assert value >= floor, f"{key.decode()}: read {value} after {floor} was acknowledged or read"
                assert value <= register.begun, f"{key.decode()}: read {value}, but only {register.begun} were begun"
                register.seen = max(register.seen, value)
                self.reads += 1
                self.note(f"get {key.decode()} {value}")
            await asyncio.sleep(self.rng.random() * 0.1)

    async def check_end(self, cluster: StorageCluster) -> None:
        async with await self.client(cluster, 1) as fresh:
            for key, register in self.registers.items():
                value = int(await fresh.get(key) or b"0")
                assert register.acknowledged <= value <= register.begun, f"{key.decode()}: {value} of {register}"
        await check_replicas(cluster, HEAL_S)


def simulate(seed: int) -> Outcome:
    """Run one seed. Raises AssertionError or an exception group when something is wrong."""
    return run_virtual(Simulation(seed).run(seed))
