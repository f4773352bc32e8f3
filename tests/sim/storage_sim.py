"""A whole storage cluster under a seed: real PD and store code, virtual time, a faulty network, forgetful disks.

Workload: per key one writer that counts up and one reader. Faults: delays, lost messages (which break streams), cuts of one store
(both ways or one way), crashes with loss of un-synced data, restarts, splits. Checked while it runs: a read never goes back behind an
earlier read or an acknowledged write, and never shows a value nobody began to write; after healing: every acknowledged write
is there and all replicas are equal. The trace of all answers is hashed: one seed, one hash.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import dataclass, field

from core_py.errors import DbError
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from tests.support.storage_cluster import PD_ADDRESS, Node, StorageCluster, storage_cluster
from tikv_py.client.raw.client import RawClient
from tikv_py.server.pd_worker import split_region

KEYS = 6
RUN_S = 12.0
HEAL_S = 40.0


class SeededFault:
    """Delays every message, loses some, cuts one store off now and then."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.loss = 0.0
        self.cut_from: str | None = None
        self.cut_to: str | None = None

    def connected(self, source: str, target: str) -> bool:
        return source != self.cut_from and target != self.cut_to

    def delay_s(self, source: str, target: str) -> float | None:
        if self.loss and "store" in source and "store" in target and self._rng.random() < self.loss:
            return None
        return self._rng.random() * 0.004

    def heal(self) -> None:
        self.loss, self.cut_from, self.cut_to = 0.0, None, None


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
        self.faults: list[str] = []
        self.writes = self.reads = 0
        self.stopping = False

    def note(self, text: str) -> None:
        self.trace.update(f"{asyncio.get_running_loop().time():.6f} {text}\n".encode())

    async def run(self, seed: int) -> Outcome:
        async with storage_cluster(3, seed=seed, fault=self.fault) as cluster:
            await asyncio.sleep(3)
            client = await RawClient.connect(
                (PD_ADDRESS,),
                transport=cluster.network.transport("client"),
                clock=LoopClock(),
                random=random.Random(seed),
            )
            async with client, asyncio.TaskGroup() as group:
                for key in self.registers:
                    group.create_task(self.writer(client, key))
                    group.create_task(self.reader(client, key))
                await self.nemesis(cluster, client)
                self.stopping = True
            await self.check_end(cluster, client)
        return Outcome(self.trace.hexdigest(), self.writes, self.reads, self.faults)

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

    async def nemesis(self, cluster: StorageCluster, client: RawClient) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + RUN_S
        while loop.time() < end:
            await asyncio.sleep(self.rng.random() * 0.8)
            choice = self.rng.choice(["crash", "crash", "cut", "one-way", "loss", "heal", "split", "restart all"])
            self.faults.append(choice)
            self.note(choice)
            node = self.rng.choice(cluster.nodes)
            if choice == "crash":
                await self.crash(cluster, [node])
            elif choice == "restart all":
                await self.crash(cluster, cluster.nodes)
            elif choice == "cut":
                self.fault.cut_from = self.fault.cut_to = node.name
            elif choice == "one-way":
                self.fault.cut_from = node.name
            elif choice == "loss":
                self.fault.loss = self.rng.random() * 0.1
            elif choice == "heal":
                self.fault.heal()
            elif choice == "split":
                await self.split(cluster)

    async def crash(self, cluster: StorageCluster, nodes: list[Node]) -> None:
        self.fault.heal()  # a store that starts must reach PD, as a process would by trying for as long as it takes
        for node in nodes:
            await cluster.crash(node, keep_kv=self.rng.randrange(0, 4))
        await asyncio.sleep(self.rng.random())
        for node in nodes:
            await cluster.start_store(node)

    async def split(self, cluster: StorageCluster) -> None:
        from_pd = cluster.pd.cluster
        assert from_pd is not None
        key = b"key%d" % self.rng.randrange(KEYS)
        for node in cluster.nodes:
            store = node.server.store if node.server else None
            for peer in list(store.peers.values()) if store else []:
                if (
                    peer.is_leader
                    and peer.region.start_key < key
                    and (not peer.region.end_key or key < peer.region.end_key)
                ):
                    await self.split_at(node, peer.region.id, key)
                    return

    async def split_at(self, node: Node, region_id: int, key: bytes) -> None:
        server = node.server
        assert server is not None
        assert server.store is not None
        peer = server.store.peers[region_id]
        try:
            async with asyncio.timeout(2):
                await split_region(server.store, server.pd, peer, [key])
        except (DbError, TimeoutError) as error:
            self.note(f"split {type(error).__name__}")

    async def check_end(self, cluster: StorageCluster, client: RawClient) -> None:
        self.fault.heal()
        async with await RawClient.connect(
            (PD_ADDRESS,), transport=cluster.network.transport("client"), clock=LoopClock(), random=random.Random(1)
        ) as fresh:
            for key, register in self.registers.items():
                value = int(await fresh.get(key) or b"0")
                assert register.acknowledged <= value <= register.begun, f"{key.decode()}: {value} of {register}"
        deadline = asyncio.get_running_loop().time() + HEAL_S
        while True:
            data = [
                [pair for pair in node.kv_db.items("default") if pair[0].startswith(b"z")] for node in cluster.nodes
            ]
            if data[0] == data[1] == data[2]:
                return
            assert asyncio.get_running_loop().time() < deadline, "replicas differ"
            await asyncio.sleep(0.2)


def simulate(seed: int) -> Outcome:
    """Run one seed. Raises AssertionError or an exception group when something is wrong."""
    return run_virtual(Simulation(seed).run(seed))
