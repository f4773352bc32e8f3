"""Faults for a simulated storage cluster, all drawn from the run's seed.

The network delays everything, loses messages between stores (which breaks streams), cuts one store off (both ways or one way) and
holds back what concerns a process that stands still. Raft messages are duplicated and overtaken. Stores crash with loss
of un-synced data, alone, all at once, or for so long that PD replaces them; PD crashes. Leaders move, regions split.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace

from core_py.errors import DbError
from core_py.runtime.config import Seconds
from core_py.sim.workers import DelayedWorkers
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tests.support.storage_cluster import FAST, Node, StorageCluster, storage_cluster
from tikv_py.raftstore import admin
from tikv_py.raftstore.peer import Peer
from tikv_py.server.split_worker import split_region

STORES = 4
SYNC_S = 0.006  # a sync takes up to this long
TRIP = 0.25
DOWN_S = 4.0  # PD replaces the replicas of a store that is away for longer
RAFTSTORE = replace(FAST, raft_log_gc_count_limit=60, raft_log_gc_threshold=10, raft_log_gc_tick_interval=Seconds(0.3))
CHOICES = (
    *("crash", "crash", "cut", "one-way", "loss", "reorder", "heal", "split", "pause", "pause", "transfer"),
    *("restart all", "restart pd", "replace"),
)


class SeededFault:
    """The network's part."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.loss = 0.0
        self.disorder = 0.0
        self.cut_from: str | None = None
        self.cut_to: str | None = None
        self.stands_until: dict[str, float] = {}
        self.dead: set[str] = set()

    def connected(self, source: str, target: str) -> bool:
        if source in self.dead or target in self.dead:
            return False
        return source != self.cut_from and target != self.cut_to

    def delay_s(self, source: str, target: str) -> float | None:
        if self.loss and "store" in source and "store" in target and self._rng.random() < self.loss:
            return None
        until = max(self.stands_until.get(source, 0.0), self.stands_until.get(target, 0.0))
        held = max(until - asyncio.get_running_loop().time(), 0.0)
        return held + self._rng.random() * 0.004

    def heal(self) -> None:
        self.loss, self.disorder, self.cut_from, self.cut_to = 0.0, 0.0, None, None

    def disturb(self, node: Node) -> None:
        """Let a store's raft messages be sent twice, or later than those after them."""
        server = node.server
        assert server is not None
        assert server.store is not None
        router = server.store.router
        send = router.send

        def late(store_id: int, message: serverpb.RaftMessage) -> None:
            if node.server is server:
                send(store_id, message)

        def disturbed(store_id: int, message: serverpb.RaftMessage) -> None:
            fate = self._rng.random() if self.disorder else 1.0
            if fate > self.disorder / 2:
                send(store_id, message)
            if fate < self.disorder:
                copy = serverpb.RaftMessage.FromString(message.SerializeToString())
                asyncio.get_running_loop().call_later(self._rng.random() * 0.4, late, store_id, copy)

        router.send = disturbed  # type: ignore[method-assign]


@dataclass
class Nemesis:
    """Makes faults for a while. `note` hears of each, `split_keys` are the encoded keys to split at."""

    cluster: StorageCluster
    fault: SeededFault
    rng: random.Random
    note: Callable[[str], None]
    split_keys: list[bytes]
    done: list[str] = field(default_factory=list)
    tripped: list[Node] = field(default_factory=list)
    """Stores that lose power as soon as they can: something just happened there that takes several writes."""
    tripping: asyncio.Event = field(default_factory=asyncio.Event)

    def watch(self, node: Node) -> None:
        """Disturb a store that has just started, and cut its power now and then while regions come and go there."""
        self.fault.disturb(node)
        server = node.server
        assert server is not None
        assert server.store is not None
        listener = server.store.listener
        on_split, on_destroy = listener.on_split, listener.on_destroy

        def split(regions: list[metapb_pb2.Region], *, is_leader: bool) -> None:
            on_split(regions, is_leader=is_leader)
            self._trip(node)

        def destroyed(region_id: int) -> None:
            on_destroy(region_id)
            self._trip(node)

        listener.on_split, listener.on_destroy = split, destroyed  # type: ignore[method-assign]
        manager = server.store.snapshots
        bring_in = manager.bring_in

        async def brought_in(peer: Peer) -> None:
            self._trip(node)
            await bring_in(peer)

        manager.bring_in = brought_in  # type: ignore[method-assign]

    def _trip(self, node: Node) -> None:
        if self.rng.random() < TRIP:
            self.tripped.append(node)
            self.tripping.set()

    async def run(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        actions: dict[str, Callable[[Node], Awaitable[None]]] = {
            "crash": lambda node: self.crash([node], self.rng.random()),
            "restart all": lambda _node: self.crash(self.cluster.nodes, self.rng.random()),
            "replace": self.replace,
            "restart pd": lambda _node: self.restart_pd(),
            "split": lambda _node: self.split(),
        }
        while loop.time() < end:
            node, choice = await self._next()
            self.done.append(choice)
            self.note(f"{choice} {node.name}")
            if choice in actions:
                await actions[choice](node)
            else:
                self._at_once(choice, node)
        self.fault.heal()

    async def _next(self) -> tuple[Node, str]:
        """A fault that something set off, or after a while any."""
        try:
            async with asyncio.timeout(self.rng.random() * 0.6):
                await self.tripping.wait()
        except TimeoutError:
            return self.rng.choice(self.cluster.nodes), self.rng.choice(CHOICES)
        self.tripping.clear()
        node = self.tripped.pop()
        self.tripped.clear()
        await asyncio.sleep(self.rng.random() * 2 * SYNC_S)
        return node, "crash"

    async def replace(self, node: Node) -> None:
        """Away for so long that PD replaces it, while other stores fail too."""
        if node.server is None:
            return
        await self.crash([node], DOWN_S + 2.0)

    def _at_once(self, choice: str, node: Node) -> None:
        if choice == "cut":
            self.fault.cut_from = self.fault.cut_to = node.name
        elif choice == "one-way":
            self.fault.cut_from = node.name
        elif choice == "loss":
            self.fault.loss = self.rng.random() * 0.1
        elif choice == "reorder":
            self.fault.disorder = self.rng.random() * 0.3
        elif choice == "heal":
            self.fault.heal()
        elif choice == "pause":
            seconds = self.rng.random() * 2
            node.clock.pause(seconds)
            self.fault.stands_until[node.name] = asyncio.get_running_loop().time() + seconds
        elif choice == "transfer":
            self.transfer()

    async def crash(self, nodes: list[Node], away_s: float) -> None:
        self.fault.heal()  # a store that starts must reach PD, as a process would by trying for as long as it takes
        self.fault.dead.update(node.name for node in nodes)
        for node in nodes:  # an un-synced write may well have reached the disk
            keep_raft, keep_kv = (
                self.rng.choice([0, self.rng.randrange(0, waiting + 1), waiting])
                for waiting in (node.raft_db.unsynced_batches(), node.kv_db.unsynced_batches())
            )
            await self.cluster.cut_power(node, keep_raft, keep_kv)
        self.fault.dead.difference_update(node.name for node in nodes)
        await asyncio.sleep(away_s)
        for node in nodes:
            await self.cluster.start_store(node)

    async def restart_pd(self) -> None:
        self.fault.heal()
        await self.cluster.crash_pd()
        await asyncio.sleep(self.rng.random() * 2)
        self.cluster.pd = await self.cluster.start_pd()

    def _leaders(self) -> list[tuple[Node, Peer]]:
        return [
            (node, peer)
            for node in self.cluster.nodes
            if node.server is not None and node.server.store is not None
            for peer in node.server.store.peers.values()
            if peer.is_leader
        ]

    def transfer(self) -> None:
        leaders = self._leaders()
        if not leaders:
            return
        node, peer = self.rng.choice(leaders)
        assert node.server is not None
        assert node.server.store is not None
        target = self.rng.choice(list(peer.region.peers))
        try:
            admin.transfer_leader(node.server.store, peer, target)
        except DbError as error:
            self.note(f"transfer {type(error).__name__}")

    async def split(self) -> None:
        key = self.rng.choice(self.split_keys)
        for node, peer in self._leaders():
            region = peer.region
            if region.start_key < key and (not region.end_key or key < region.end_key):
                server = node.server
                assert server is not None
                assert server.store is not None
                try:
                    async with asyncio.timeout(2):
                        await split_region(server.store, server.pd, peer, [key])
                except (DbError, TimeoutError) as error:
                    self.note(f"split {type(error).__name__}")
                return


def faulty_cluster(seed: int, fault: SeededFault) -> AbstractAsyncContextManager[StorageCluster]:
    """Four stores with slow disks; PD replaces replicas early."""
    rng = random.Random(seed + 1)
    return storage_cluster(
        STORES,
        seed=seed,
        fault=fault,
        raftstore=RAFTSTORE,
        max_store_down_s=DOWN_S,
        make_workers=lambda: DelayedWorkers(random.Random(rng.random()), SYNC_S),
    )


async def check_replicas(cluster: StorageCluster, within_s: float) -> None:
    """Every region gets its voters, all replicas of a region become equal, and no store keeps data of regions it has left."""
    assert cluster.pd.cluster is not None
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while (problem := _difference(cluster)) is not None:
        assert loop.time() < deadline, problem
        await asyncio.sleep(0.2)


def _difference(cluster: StorageCluster) -> str | None:
    assert cluster.pd.cluster is not None
    regions = cluster.pd.cluster.tree.all()
    by_store = {node.server.store.store_id: node for node in cluster.nodes if node.server and node.server.store}
    for region in regions:
        if len(region.peers) != 3 or any(peer.role for peer in region.peers):
            return f"region {region.region_id} has the peers {region.peers}"
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
