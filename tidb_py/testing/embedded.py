"""A whole storage cluster in this process: PD and stores, the servers' own code over memory instead of sockets and disks.

    async with embedded_cluster(stores=3) as cluster:
        client = await cluster.txn_client()
        async with client.begin() as txn:
            txn.put(b"k", b"v")

Everything but the wire and the disk is real: raft elections and logs, splits, transactions, PD's scheduling, real time. It lives on
the running event loop and ends with the block; nothing is written to files, no port is opened. The raft clock runs fast, so that
what takes seconds in a cluster takes tens of milliseconds here. For tests of single functions, where no server is wanted and
time should cost nothing, there is `tikv_py.client.testing`.

Not there: SQL (see `tidb_py.testing.playground`), several PD members, anything that outlives the process.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from prometheus_client import CollectorRegistry

from core_py.ports import Clock, Random, Workers
from core_py.runtime.clock import SystemClock
from core_py.runtime.config import Seconds
from core_py.runtime.workers import InlineWorkers
from core_py.sim.disk import MemoryDisk
from core_py.sim.network import Fault, MemoryNetwork
from pd_py.server.app import PdServer
from pd_py.server.config import PdConfig, ScheduleConfig
from protos.kvproto import metapb_pb2
from tikv_py.client.errors import RegionUnavailable
from tikv_py.client.raw.client import RawClient
from tikv_py.client.txn.client import TxnClient
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT
from tikv_py.raftstore.config import RaftstoreConfig
from tikv_py.server.app import NodePorts, TikvServer
from tikv_py.server.config import PdEndpointsConfig, ServerConfig, TikvConfig

PD_ADDRESS = "pd:2379"
DISK_BYTES = (1 << 40, 1 << 39)
"""(capacity, free) that every store tells PD."""
START_BUDGET_S = 10.0
POLL_S = 0.005
FAST = RaftstoreConfig(
    raft_base_tick_interval=Seconds(0.02),
    raft_log_gc_tick_interval=Seconds(0.5),
    pd_heartbeat_tick_interval=Seconds(0.05),
    pd_store_heartbeat_tick_interval=Seconds(0.05),
)
"""Ticks of 20 ms: an election takes 0.2 to 0.4 s."""
FAST_SCHEDULE = ScheduleConfig(patrol_region_interval=Seconds(0.02))

OnFailure = Callable[[BaseException], None]


@dataclass
class EmbeddedStore:
    """One store: its disks in memory, and the server while it runs."""

    name: str
    raft_db: MemoryEngine = field(default_factory=lambda: MemoryEngine((CF_DEFAULT,)))
    kv_db: MemoryEngine = field(default_factory=MemoryEngine)
    server: TikvServer | None = None
    disk: tuple[int, int] = DISK_BYTES
    clock: Clock = field(default_factory=SystemClock)
    workers: Workers = field(default_factory=InlineWorkers)

    @property
    def address(self) -> str:
        """Where it listens in the memory network."""
        return f"{self.name}:20160"


def pd_server(
    network: MemoryNetwork,
    disk: MemoryDisk,
    *,
    rng: Random,
    clock: Clock,
    on_failure: OnFailure,
    schedule: ScheduleConfig = FAST_SCHEDULE,
) -> PdServer:
    """A PD of one member, to be started."""
    return PdServer(
        PdConfig(client_urls=f"http://{PD_ADDRESS}", schedule=schedule),
        transport=network.transport("pd"),
        disk=disk,
        workers=InlineWorkers(),
        clock=clock,
        rng=rng,
        registry=CollectorRegistry(),
        on_failure=on_failure,
    )


def store_server(
    network: MemoryNetwork,
    store: EmbeddedStore,
    *,
    rng: Random,
    on_failure: OnFailure,
    raftstore: RaftstoreConfig = FAST,
    settings: TikvConfig | None = None,
) -> TikvServer:
    """A storage node on a store's disks, to be started."""
    config = replace(
        settings or TikvConfig(),
        server=ServerConfig(addr=store.address, status_addr=""),
        pd=PdEndpointsConfig((PD_ADDRESS,)),
        raftstore=raftstore,
    )
    ports = NodePorts(
        transport=network.transport(store.name),
        raft_db=store.raft_db,
        kv_db=store.kv_db,
        workers=store.workers,
        clock=store.clock,
        rng=rng,
        disk_use=lambda: store.disk,
    )
    return TikvServer(config, ports, registry=CollectorRegistry(), on_failure=on_failure)


def _voters(region: metapb_pb2.Region) -> int:
    return sum(peer.role == metapb_pb2.Voter for peer in region.peers)


class EmbeddedCluster:
    """PD and stores; use `embedded_cluster` to make one. Clients it made are closed with it."""

    def __init__(
        self,
        stores: int = 3,
        *,
        seed: int = 0,
        fault: Fault | None = None,
        settings: TikvConfig | None = None,
        raftstore: RaftstoreConfig = FAST,
    ) -> None:
        if stores < 1:
            raise ValueError(f"a cluster needs at least one store, not {stores}")
        self.network = MemoryNetwork(fault)
        self.stores = [EmbeddedStore(f"store{number}") for number in range(1, stores + 1)]
        self.failures: list[BaseException] = []
        """What background tasks of the servers failed with; `stop` raises the first."""
        self._settings, self._raftstore = settings, raftstore
        self._rng = random.Random(seed)
        self._clock = SystemClock()
        self._pd: PdServer | None = None
        self._clients: list[RawClient | TxnClient] = []

    @property
    def pd_endpoints(self) -> tuple[str, ...]:
        """Where PD listens in the memory network."""
        return (PD_ADDRESS,)

    @property
    def pd(self) -> PdServer:
        """The running PD. Raises RuntimeError before `start`."""
        if self._pd is None:
            raise RuntimeError("the embedded cluster is not running")
        return self._pd

    async def start(self) -> None:
        """Start PD and all stores, and wait until every first replica is in place. Raises RegionUnavailable."""
        self._pd = pd_server(
            self.network,
            MemoryDisk(),
            rng=random.Random(self._rng.random()),
            clock=self._clock,
            on_failure=self.failures.append,
        )
        await self._pd.start()
        for store in self.stores:
            await self.start_store(store)
        await self.wait_replicated()

    async def start_store(self, store: EmbeddedStore) -> None:
        """Start a store on what its disks hold."""
        store.server = store_server(
            self.network,
            store,
            rng=random.Random(self._rng.random()),
            on_failure=self.failures.append,
            raftstore=self._raftstore,
            settings=self._settings,
        )
        await store.server.start()

    async def stop_store(self, store: EmbeddedStore) -> None:
        """Stop a store in order; its disks stay."""
        server, store.server = store.server, None
        if server is not None:
            await server.stop()

    async def wait_replicated(self, budget_s: float = START_BUDGET_S) -> None:
        """Wait until every region has a replica on as many stores as it should. Raises RegionUnavailable."""
        wanted = min(len(self.stores), 3)
        probe = await self.txn_client()
        try:
            async with asyncio.timeout(budget_s):
                while True:
                    regions = await probe.pd.scan_regions(b"", b"")
                    if regions and all(region.leader and _voters(region.region) >= wanted for region in regions):
                        return
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise RegionUnavailable(f"no {wanted} replicas of every region within {budget_s} s") from None
        finally:
            self._clients.remove(probe)
            await probe.close()

    async def split(self, *user_keys: bytes) -> None:
        """Split regions at transactional user keys."""
        client = await self.txn_client()
        await client.split_region(user_keys)

    # ---- clients ----

    async def txn_client(self) -> TxnClient:
        """A transactional client."""
        client = await TxnClient.connect(
            self.pd_endpoints,
            transport=self.network.transport("client"),
            clock=self._clock,
            random=random.Random(self._rng.random()),
        )
        self._clients.append(client)
        return client

    async def raw_client(self, *, cf: str = "") -> RawClient:
        """A raw client."""
        client = await RawClient.connect(
            self.pd_endpoints,
            transport=self.network.transport("client"),
            clock=self._clock,
            random=random.Random(self._rng.random()),
            cf=cf,
        )
        self._clients.append(client)
        return client

    async def stop(self) -> None:
        """Close the clients made here and stop all servers; raises what their background tasks failed with."""
        while self._clients:
            await self._clients.pop().close()
        for store in self.stores:
            await self.stop_store(store)
        pd, self._pd = self._pd, None
        if pd is not None:
            await pd.stop()
        if self.failures:
            raise self.failures[0]


@asynccontextmanager
async def embedded_cluster(
    stores: int = 3, *, seed: int = 0, fault: Fault | None = None, settings: TikvConfig | None = None
) -> AsyncIterator[EmbeddedCluster]:
    """A running cluster, stopped at the end. `fault` can delay, drop and cut messages; `settings` are every store's."""
    cluster = EmbeddedCluster(stores, seed=seed, fault=fault, settings=settings)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()
