"""A PD member and stores in one process: memory transport, memory engines that can crash, real server code.

Works on a real loop and on virtual time. `crash` ends a store without stopping it in order and restarts it from what was synced.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from core_py.ports import Workers
from core_py.runtime.config import Seconds
from core_py.runtime.workers import InlineWorkers
from core_py.sim.clock import LoopClock, PausingClock
from core_py.sim.disk import MemoryDisk
from core_py.sim.network import Fault, MemoryNetwork
from pd_py.server.app import PdServer
from pd_py.server.config import ScheduleConfig
from tidb_py.testing.embedded import PD_ADDRESS as PD_ADDRESS
from tidb_py.testing.embedded import EmbeddedStore, pd_server, store_server
from tikv_py.client.pd.client import PdClient
from tikv_py.raftstore.config import RaftstoreConfig
from tikv_py.server.app import TikvServer
from tikv_py.server.config import TikvConfig

FAST = RaftstoreConfig(
    raft_base_tick_interval=Seconds(0.05),
    raft_log_gc_tick_interval=Seconds(0.5),
    pd_heartbeat_tick_interval=Seconds(0.5),
    pd_store_heartbeat_tick_interval=Seconds(0.5),
)


@dataclass
class Node(EmbeddedStore):
    """One store and its disks, with a clock that tests can stop."""

    clock: PausingClock = field(default_factory=PausingClock)


@dataclass
class StorageCluster:
    """PD and stores. Use `storage_cluster` to make one."""

    stores: int
    seed: int = 0
    fault: Fault | None = None
    raftstore: RaftstoreConfig = FAST
    settings: TikvConfig = field(default_factory=TikvConfig)
    """Of every store, but for its addresses and `raftstore`."""
    nodes: list[Node] = field(default_factory=list)
    max_store_down_s: float = 1800.0
    make_workers: Callable[[], Workers] = InlineWorkers
    on_store_started: Callable[[Node], None] = lambda _node: None
    before_store_starts: Callable[[TikvServer], None] = lambda _server: None
    failures: list[BaseException] = field(default_factory=list)
    """What the servers' background tasks failed with; a process would have ended."""
    on_power_lost: Callable[[Node], None] = lambda _node: None
    """Sees the disks that a loss of power has left behind."""
    on_failure: Callable[[BaseException], None] = lambda _error: None
    """Hears of each failure at once."""

    def _failed(self, error: BaseException) -> None:
        self.failures.append(error)
        self.on_failure(error)

    async def start(self) -> None:
        self.network = MemoryNetwork(self.fault)
        self.rng = random.Random(self.seed)
        self.pd_disk = MemoryDisk()
        self.pd = await self.start_pd()
        for number in range(1, self.stores + 1):
            await self.add_store(f"store{number}")
        self.client_transport = self.network.transport("client")

    async def start_pd(self) -> PdServer:
        schedule = ScheduleConfig(
            patrol_region_interval=Seconds(0.1),
            max_store_down_time=Seconds(self.max_store_down_s),
        )
        pd = pd_server(
            self.network,
            self.pd_disk,
            rng=random.Random(self.rng.random()),
            clock=LoopClock(),
            on_failure=self._failed,
            schedule=schedule,
        )
        await pd.start()
        return pd

    async def add_store(self, name: str) -> Node:
        node = Node(name)
        self.nodes.append(node)
        await self.start_store(node)
        return node

    async def start_store(self, node: Node) -> None:
        node.workers = self.make_workers()
        node.server = store_server(
            self.network,
            node,
            rng=random.Random(self.rng.random()),
            on_failure=self._failed,
            raftstore=self.raftstore,
            settings=self.settings,
        )
        self.before_store_starts(node.server)
        await node.server.start()
        self.on_store_started(node)

    async def stop_store(self, node: Node) -> None:
        assert node.server is not None
        await node.server.stop()
        node.server = None

    async def crash(self, node: Node, *, keep_kv: int = 0) -> None:
        """Lose power: what was not synced is gone, but for the first `keep_kv` batches of the kv database."""
        await self.stop_store(node)
        node.raft_db = node.raft_db.crash()
        node.kv_db = node.kv_db.crash(keep_kv)
        self.on_power_lost(node)

    async def cut_power(self, node: Node, keep_raft: int, keep_kv: int) -> None:
        """Lose power at this very moment; the network must keep back what the server says while it is being stopped."""
        left = node.raft_db.image(keep_raft), node.kv_db.image(keep_kv)
        await self.stop_store(node)
        node.raft_db, node.kv_db = left
        self.on_power_lost(node)

    async def crash_pd(self, torn_bytes: int = 0) -> None:
        """Lose power at PD; `torn_bytes` of what was not synced made it to the disk all the same."""
        left = self.pd_disk.crash(torn_bytes)
        await self.pd.stop()
        self.pd_disk = left

    async def pd_client(self) -> PdClient:
        client = PdClient(self.network.transport("client"), (PD_ADDRESS,), LoopClock())
        await client.connect()
        return client

    async def stop(self) -> None:
        for node in self.nodes:
            if node.server is not None:
                await self.stop_store(node)
        await self.pd.stop()
        if self.failures:
            raise self.failures[0]


@asynccontextmanager
async def storage_cluster(
    stores: int = 3,
    *,
    seed: int = 0,
    fault: Fault | None = None,
    raftstore: RaftstoreConfig | None = None,
    settings: TikvConfig | None = None,
    max_store_down_s: float = 1800.0,
    make_workers: Callable[[], Workers] = InlineWorkers,
) -> AsyncIterator[StorageCluster]:
    """A running cluster, stopped at the end."""
    cluster = StorageCluster(
        stores,
        seed,
        fault,
        raftstore or FAST,
        settings or TikvConfig(),
        max_store_down_s=max_store_down_s,
        make_workers=make_workers,
    )
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()
