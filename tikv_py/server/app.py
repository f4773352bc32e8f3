"""One storage node, put together from its parts over given ports; the same for a process and for an embedded cluster.

Start: identity, then the engine's peers, then the service, and only then registration with PD, so that nobody is sent to an address
where nothing listens yet. A node that PD refuses (address taken, tombstone, other cluster) does not stay up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry

from core_py.errors import PdError, RpcError
from core_py.failpoints import FailPoints
from core_py.ports import Clock, Listener, Random, Transport, Workers
from core_py.runtime.log import get_logger
from protos.kvproto import metapb_pb2
from tikv_py.client.pd.client import PdClient
from tikv_py.coprocessor.service import CoprocessorService
from tikv_py.deadlock.detector import DeadlockDetector
from tikv_py.engine.port import Engine
from tikv_py.failpoints import POINTS
from tikv_py.gc.driver import GcDriver
from tikv_py.gc.region_calls import RegionCalls
from tikv_py.raftstore.router import RaftRouter, StoreCalls
from tikv_py.raftstore.store import Store
from tikv_py.server.bootstrap import bootstrap_cluster, identify
from tikv_py.server.config import TikvConfig
from tikv_py.server.disk_watch import DiskUse, DiskWatch
from tikv_py.server.flow_watch import FlowWatch
from tikv_py.server.gc_worker import GcWorker
from tikv_py.server.load_split_worker import LoadSplitWorker
from tikv_py.server.max_ts_worker import MaxTsWorker
from tikv_py.server.metrics import StoreMetrics
from tikv_py.server.pd_worker import PdWorker
from tikv_py.server.raw_ttl import TtlWorker
from tikv_py.server.safe_ts_worker import SafeTsWorker
from tikv_py.server.services import NodeServices
from tikv_py.server.split_worker import SplitWorker
from tikv_py.txn.concurrency import ConcurrencyManager
from tikv_py.txn.context import RegionAccess

STOP_GRACE_S = 0.5
RESOLVE_TIMEOUT_S = 1.0
VERSION = "8.5.0"


@dataclass(frozen=True, slots=True)
class NodePorts:
    """The outside world of a node."""

    transport: Transport
    raft_db: Engine
    kv_db: Engine
    workers: Workers
    clock: Clock
    rng: Random
    disk_use: DiskUse
    block: Callable[[float], None] | None = None
    """Stops the calling thread for seconds, for failpoints; None where time is virtual and no thread may stop."""


class Worker(Protocol):
    """What runs beside the loop of a store."""

    def start(self) -> None:
        """Begin, once the loop runs."""

    async def stop(self) -> None:
        """End."""


class TikvServer:
    """A storage node."""

    def __init__(
        self,
        config: TikvConfig,
        ports: NodePorts,
        *,
        registry: CollectorRegistry,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.config = config
        self._ports = ports
        self.registry = registry
        self._metrics = StoreMetrics(registry)
        self._on_failure = on_failure
        self.pd = PdClient(ports.transport, config.pd.endpoints, ports.clock)
        self.fail = FailPoints(POINTS, rng=ports.rng, block=ports.block)
        self.store: Store | None = None
        self.services: NodeServices | None = None
        self._listener: Listener | None = None
        self._disk: DiskWatch | None = None
        self.pd_worker: PdWorker | None = None
        self.max_ts: MaxTsWorker | None = None
        self.safe_ts: SafeTsWorker | None = None
        self._workers: list[Worker] = []
        self._addresses: dict[int, str] = {}
        self.address = ""

    async def start(self) -> None:
        """Come up. Raises StorageError, ConfigError, PdError."""
        ports, config = self._ports, self.config
        await self.pd.connect()
        store_id = await identify(ports.kv_db, self.pd, ttl=config.storage.enable_ttl)
        store = self.store = self._make_store(store_id)
        services, gc = self._make_workers(store)
        coprocessor = CoprocessorService(
            services.access,
            ports.workers,
            self._metrics,
            ports.clock,
            max_tasks=config.coprocessor.max_tasks,
            pool=services.pool,
        )
        deadlocks = DeadlockDetector(
            store,
            self.pd,
            services.waiting,
            ports.transport,
            self._address_of,
            self._metrics.lock_waiting,
            self._on_failure,
        )
        self._workers.append(deadlocks)
        served = [*services.services(coprocessor.commands()), deadlocks.service()]
        self._listener = await ports.transport.serve(config.server.addr, served)
        self.address = config.server.advertise_addr or self._listener.address
        meta = self._meta(store_id)
        await bootstrap_cluster(ports.kv_db, self.pd, meta, self.fail)
        await self.pd.put_store(meta)
        assert self._disk is not None
        await self._disk.start()
        await gc.refresh()
        await store.start()
        for worker in self._workers:
            worker.start()
        get_logger().info("store is serving", store=store_id, address=self.address, cluster=self.pd.cluster_id)

    def _make_store(self, store_id: int) -> Store:
        ports, config = self._ports, self.config
        reserved = config.storage.reserve_space
        store = Store(
            store_id,
            ports.raft_db,
            ports.kv_db,
            config.raftstore,
            clock=ports.clock,
            rng=ports.rng,
            workers=ports.workers,
            on_failure=self._on_failure,
            fail=self.fail,
            snapshots=config.server.snapshot_settings(lambda: ports.disk_use()[1] - reserved),
        )
        store.router = RaftRouter(
            ports.transport,
            store_id,
            self._address_of,
            self._unreachable,
            self._on_failure,
            max_snapshots=config.server.concurrent_send_snap_limit,
            fail=self.fail,
            on_full=self._metrics.channel_full.labels("raft").inc,
        )
        return store

    def _make_workers(self, store: Store) -> tuple[NodeServices, GcWorker]:
        """What runs beside the store's loop: started in this order once the loop runs, stopped in reverse order."""
        ports, config, metrics, failed = self._ports, self.config, self._metrics, self._on_failure
        reserved = config.storage.reserve_space
        disk = self._disk = DiskWatch(store.disk, ports.disk_use, reserved, ports.workers, metrics, failed)
        splits = SplitWorker(store, self.pd, config.coprocessor.split_limits(), metrics.splits, failed)
        pd_worker = self.pd_worker = PdWorker(store, self.pd, ports.clock, metrics, splits, disk, failed)
        load_splits = LoadSplitWorker(store, splits, config.split, ports.rng, metrics.splits, failed)
        concurrency = ConcurrencyManager(ports.clock)
        max_ts = self.max_ts = MaxTsWorker(store, self.pd, concurrency, failed)
        access = RegionAccess(store, concurrency)
        services = self.services = NodeServices(access, self.pd, max_ts, metrics, ports.clock, self.registry, config)
        self._workers += [pd_worker, splits, load_splits]
        if config.resolved_ts.enable:
            interval_s = float(config.resolved_ts.advance_ts_interval)
            safe_ts = self.safe_ts = SafeTsWorker(store, self.pd, concurrency, interval_s, metrics.resolved_ts, failed)
            self._workers.append(safe_ts)
        self._workers.append(FlowWatch(services.flow, ports.kv_db, ports.workers, metrics.flow, failed))
        if config.storage.enable_ttl:
            ttl_interval_s = float(config.storage.ttl_check_poll_interval)
            ttl = TtlWorker(store, services.raw_values, services.pool, ttl_interval_s, metrics.ttl, failed)
            self._workers.append(ttl)
        gc = GcWorker(store, self.pd, services.scheduler.latches, config.gc, metrics.gc, failed)
        if not config.storage.enable_ttl:  # or it would take raw data for versions
            calls = RegionCalls(self.pd, StoreCalls(ports.transport, self._address_of), ports.clock)
            self._workers += [gc, GcDriver(store, self.pd, calls, config.gc, failed)]
        return services, gc

    def _meta(self, store_id: int) -> metapb_pb2.Store:
        server = self.config.server
        labels = [metapb_pb2.StoreLabel(key=key, value=value) for key, value in sorted(server.labels.items())]
        return metapb_pb2.Store(
            id=store_id,
            address=self.address,
            status_address=server.status_addr,
            labels=labels,
            version=VERSION,
            start_timestamp=self._ports.clock.wall_ms() // 1000,
        )

    async def _address_of(self, store_id: int) -> str:
        """From PD; while PD cannot be asked, the address it gave before: stores talk to each other without it."""
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                self._addresses[store_id] = (await self.pd.get_store(store_id)).address
        except (PdError, RpcError, TimeoutError) as error:
            if store_id not in self._addresses:
                raise PdError(
                    f"the address of store {store_id} is not known: {error or 'PD does not answer'}"
                ) from error
        return self._addresses[store_id]

    def _unreachable(self, store_id: int, region_ids: list[int]) -> None:
        self._metrics.report_failure.labels(str(store_id)).inc(max(len(region_ids), 1))
        if self.store is not None:
            self.store.on_unreachable(store_id, region_ids)

    async def stop(self) -> None:
        """Go down: no new calls, then the loop, then PD."""
        if self._listener is not None:
            await self._listener.stop(STOP_GRACE_S)
        if self.services is not None:
            await self.services.close()
        for worker in reversed(self._workers):
            await worker.stop()
        if self.max_ts is not None:
            await self.max_ts.stop()
        if self._disk is not None:
            await self._disk.stop()
        if self.store is not None and self.store.peers is not None:
            await self.store.stop()
        await self.pd.close()
