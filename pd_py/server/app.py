"""One PD member, put together from its parts over given ports; the same for a process and for an embedded cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from core_py.ports import Clock, Disk, Listener, Random, Transport, Workers
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from pd_py.cluster.cluster import Cluster
from pd_py.metastore.local import LocalMetaStore
from pd_py.schedule.view import ScheduleOptions
from pd_py.server.config import PdConfig
from pd_py.server.heartbeats import HeartbeatStreams
from pd_py.server.metrics import PdMetrics
from pd_py.server.service import PdService
from pd_py.tso.service import TsoService
from protos.kvproto import pdpb_pb2

METRICS_INTERVAL_S = 2.0
STOP_GRACE_S = 0.5


class PdServer:
    """A single PD member."""

    def __init__(
        self,
        config: PdConfig,
        *,
        transport: Transport,
        disk: Disk,
        workers: Workers,
        clock: Clock,
        rng: Random,
        registry: CollectorRegistry,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.config = config
        self._transport = transport
        self._disk = disk
        self._workers = workers
        self._clock = clock
        self._rng = rng
        self._metrics = PdMetrics(registry)
        self._scope = TaskScope("pd", on_failure=on_failure)
        self._listener: Listener | None = None
        self._service: PdService | None = None
        self._metastore: LocalMetaStore | None = None
        self.cluster: Cluster | None = None
        self.address = ""

    async def start(self) -> None:
        """Load, take the lead of this single member, serve. Raises StorageError, ConfigError."""
        config = self.config
        self._metastore = LocalMetaStore(self._disk, self._workers)
        streams = HeartbeatStreams()
        options = ScheduleOptions(
            config.replication.max_replicas, config.replication.location_labels, config.schedule.low_space_ratio
        )
        cluster = Cluster(
            self._metastore,
            self._clock,
            options=options,
            max_store_down_s=config.schedule.max_store_down_time,
            send_step=streams.send_step,
        )
        await cluster.load(self._rng)
        streams.cluster = self.cluster = cluster
        tso = TsoService(self._metastore, cluster.prefix, self._clock)
        await tso.begin()
        member = pdpb_pb2.Member(name=config.name, member_id=cluster.cluster_id & 0xFFFFFFFF or 1)
        service = self._service = PdService(cluster, tso, streams, member, self._metrics)
        self._listener = await self._transport.serve(config.listen_address, service.services())
        self.address = self._listener.address
        member.client_urls.append(config.advertise_client_urls or f"http://{self.address}")
        member.peer_urls.append(config.advertise_peer_urls or config.peer_urls)
        self._scope.spawn(tso.run(), name="tso")
        self._scope.spawn(self._patrol(cluster), name="patrol")
        self._scope.spawn(self._balance(cluster), name="balance")
        self._scope.spawn(self._refresh(cluster), name="metrics")
        get_logger().info("pd is serving", address=self.address, cluster=cluster.cluster_id)

    async def _patrol(self, cluster: Cluster) -> None:
        while True:
            await asyncio.sleep(float(self.config.schedule.patrol_region_interval))
            await cluster.patrol()

    async def _balance(self, cluster: Cluster) -> None:
        while True:
            await asyncio.sleep(float(self.config.schedule.balance_interval))
            cluster.balance()

    async def _refresh(self, cluster: Cluster) -> None:
        while True:
            self._metrics.refresh(cluster)
            await asyncio.sleep(METRICS_INTERVAL_S)

    async def stop(self) -> None:
        """Stop serving, finish what is being written."""
        if self._listener is not None:
            await self._listener.stop(STOP_GRACE_S)
        if self._service is not None:
            await self._service.close()
        await self._scope.close()
        if self._metastore is not None:
            await self._metastore.close()
