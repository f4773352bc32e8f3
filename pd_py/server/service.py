"""The gRPC service pdpb.PD (wire facts 2): timestamps, members, stores, the cluster; regions and scheduling are elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

from core_py.errors import PdError
from core_py.ports import CallContext, Clock, Handler, Service
from pd_py.cluster.cluster import Cluster
from pd_py.global_config.handlers import GlobalConfigService
from pd_py.server.calls import Calls
from pd_py.server.directory import MemberDirectory
from pd_py.server.forwarding import Forwarder
from pd_py.server.gc_calls import GcCalls
from pd_py.server.metrics import PdMetrics
from pd_py.server.region_calls import RegionCalls
from pd_py.server.schedule_calls import ScheduleCalls
from protos.grpc_health import health_pb2
from protos.kvproto import metapb_pb2, pdpb_pb2

CLUSTER_VERSION = "8.5.0"
MAX_ALLOC_IDS = 1 << 20


class PdService:
    """Handlers of one member."""

    def __init__(
        self,
        members: MemberDirectory,
        forwarder: Forwarder,
        metrics: PdMetrics,
        clock: Clock,
        global_config: GlobalConfigService,
    ) -> None:
        self._global_config = global_config
        self._calls = Calls(members, forwarder, metrics, clock)
        self._members = members
        self._metrics = metrics
        self._clock = clock

    async def close(self) -> None:
        """End the calls that still run."""
        await self._calls.close()

    def services(self) -> list[Service]:
        """pdpb.PD and the health service."""
        calls = self._calls
        handlers: dict[str, Handler] = {
            **calls.serve({"GetMembers": self.get_members, "GetClusterInfo": self.get_cluster_info}, anywhere=True),
            **calls.serve(
                {
                    "AllocID": self.alloc_id,
                    "Bootstrap": self.bootstrap,
                    "IsBootstrapped": self.is_bootstrapped,
                    "PutStore": self.put_store,
                    "GetStore": self.get_store,
                    "GetAllStores": self.get_all_stores,
                    "StoreHeartbeat": self.store_heartbeat,
                    "GetClusterConfig": self.get_cluster_config,
                    "PutClusterConfig": self.put_cluster_config,
                    "GetMinTS": self.get_min_ts,
                    "ReportMinResolvedTS": self.report_min_resolved_ts,
                    "SetExternalTimestamp": self.set_external_timestamp,
                    "GetExternalTimestamp": self.get_external_timestamp,
                    "IsSnapshotRecovering": self.is_snapshot_recovering,
                }
            ),
            **RegionCalls(calls).handlers(),
            **ScheduleCalls(calls).handlers(),
            **GcCalls(calls).handlers(),
            **self._global_config.handlers(),
            "Tso": calls.stream("Tso", self.tso),
            "RegionHeartbeat": calls.stream("RegionHeartbeat", self.region_heartbeat),
        }
        health: dict[str, Handler] = {"Check": self._health}
        return [
            Service(pdpb_pb2.DESCRIPTOR.services_by_name["PD"], handlers),
            Service(health_pb2.DESCRIPTOR.services_by_name["Health"], health),
        ]

    async def _health(
        self, _request: health_pb2.HealthCheckRequest, _context: CallContext
    ) -> health_pb2.HealthCheckResponse:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    @property
    def _cluster(self) -> Cluster:
        return self._calls.session.cluster

    # ---- members and timestamps ----

    async def get_members(self, _request: pdpb_pb2.GetMembersRequest) -> pdpb_pb2.GetMembersResponse:
        """Who is PD, and who leads; answered by every member."""
        return self._members.describe()

    async def get_cluster_info(self, _request: pdpb_pb2.GetClusterInfoRequest) -> pdpb_pb2.GetClusterInfoResponse:
        """All services are in PD itself."""
        return pdpb_pb2.GetClusterInfoResponse(serviceModes=[pdpb_pb2.PD_SVC_MODE])

    async def tso(
        self, requests: AsyncIterator[pdpb_pb2.TsoRequest], _context: CallContext
    ) -> AsyncIterator[pdpb_pb2.TsoResponse]:
        """One response per request, in order; the timestamp is the last of the batch."""
        given, duration, now = self._metrics.tso_given, self._metrics.tso_duration, self._clock.monotonic
        async for request in requests:
            began = now()
            session = self._calls.session
            cluster_id = session.cluster.cluster_id
            if request.header.cluster_id != cluster_id:
                self._calls.check_cluster(request.header.cluster_id)
            count = request.count
            ts = session.tso.now(count)
            if ts is None:
                ts = await session.tso.allocate(count)
            response = pdpb_pb2.TsoResponse(count=count)
            response.header.cluster_id = cluster_id
            response.timestamp.physical, response.timestamp.logical = ts >> 18, ts & 0x3FFFF
            given.inc(count)
            duration.observe(now() - began)
            yield response

    async def get_min_ts(self, _request: pdpb_pb2.GetMinTSRequest) -> pdpb_pb2.GetMinTSResponse:
        """A fresh timestamp: there is one oracle."""
        ts = await self._calls.session.tso.allocate(1)
        return pdpb_pb2.GetMinTSResponse(timestamp=pdpb_pb2.Timestamp(physical=ts >> 18, logical=ts & 0x3FFFF))

    async def region_heartbeat(
        self, requests: AsyncIterator[pdpb_pb2.RegionHeartbeatRequest], context: CallContext
    ) -> AsyncIterator[pdpb_pb2.RegionHeartbeatResponse]:
        """Reports of region leaders in, commands for them out, for as long as this member leads."""
        async for response in self._calls.session.streams.serve(requests, context):
            yield response

    # ---- the cluster ----

    async def alloc_id(self, request: pdpb_pb2.AllocIDRequest) -> pdpb_pb2.AllocIDResponse:
        """The last of `count` fresh ids."""
        count = request.count or 1
        if count > MAX_ALLOC_IDS:
            raise PdError(f"{count} ids at once are too many")
        last = await self._cluster.alloc_id(count)
        return pdpb_pb2.AllocIDResponse(id=last, count=count if count > 1 else 0)

    async def bootstrap(self, request: pdpb_pb2.BootstrapRequest) -> pdpb_pb2.BootstrapResponse:
        """Take the first store and region."""
        await self._cluster.bootstrap(request.store, request.region)
        return pdpb_pb2.BootstrapResponse()

    async def is_bootstrapped(self, _request: pdpb_pb2.IsBootstrappedRequest) -> pdpb_pb2.IsBootstrappedResponse:
        """Whether there is a first store."""
        return pdpb_pb2.IsBootstrappedResponse(bootstrapped=self._cluster.bootstrapped)

    async def get_cluster_config(self, _request: pdpb_pb2.GetClusterConfigRequest) -> pdpb_pb2.GetClusterConfigResponse:
        """Cluster id and number of replicas."""
        return pdpb_pb2.GetClusterConfigResponse(cluster=self._cluster.cluster_meta())

    async def put_cluster_config(self, request: pdpb_pb2.PutClusterConfigRequest) -> pdpb_pb2.PutClusterConfigResponse:
        """Replace it."""
        await self._cluster.put_cluster_meta(request.cluster)
        return pdpb_pb2.PutClusterConfigResponse()

    async def is_snapshot_recovering(
        self, _request: pdpb_pb2.IsSnapshotRecoveringRequest
    ) -> pdpb_pb2.IsSnapshotRecoveringResponse:
        """Recovery from volume snapshots is not offered, so it never runs."""
        return pdpb_pb2.IsSnapshotRecoveringResponse(marked=False)

    # ---- stores ----

    async def put_store(self, request: pdpb_pb2.PutStoreRequest) -> pdpb_pb2.PutStoreResponse:
        """Register a store."""
        await self._cluster.put_store(request.store)
        return pdpb_pb2.PutStoreResponse()

    async def get_store(self, request: pdpb_pb2.GetStoreRequest) -> pdpb_pb2.GetStoreResponse:
        """One store."""
        info = self._cluster.stores_info.get(request.store_id)
        return pdpb_pb2.GetStoreResponse(store=info.meta, stats=info.stats)

    async def get_all_stores(self, request: pdpb_pb2.GetAllStoresRequest) -> pdpb_pb2.GetAllStoresResponse:
        """All stores."""
        self._cluster.require_bootstrap()
        metas = [info.meta for info in self._cluster.stores_info.all()]
        if request.exclude_tombstone_stores:
            metas = [meta for meta in metas if meta.state != metapb_pb2.Tombstone]
        return pdpb_pb2.GetAllStoresResponse(stores=metas)

    async def store_heartbeat(self, request: pdpb_pb2.StoreHeartbeatRequest) -> pdpb_pb2.StoreHeartbeatResponse:
        """A store says how it is."""
        self._cluster.store_heartbeat(request.stats)
        return pdpb_pb2.StoreHeartbeatResponse(cluster_version=CLUSTER_VERSION)

    async def report_min_resolved_ts(
        self, request: pdpb_pb2.ReportMinResolvedTsRequest
    ) -> pdpb_pb2.ReportMinResolvedTsResponse:
        """How far a store's regions can be read on their replicas. Raises StoreNotFound."""
        self._cluster.stores_info.report_min_resolved_ts(request.store_id, request.min_resolved_ts)
        return pdpb_pb2.ReportMinResolvedTsResponse()

    # ---- points in time ----

    async def set_external_timestamp(
        self, request: pdpb_pb2.SetExternalTimestampRequest
    ) -> pdpb_pb2.SetExternalTimestampResponse:
        """Up to when an outside system may read; never ahead of the newest timestamp, never back."""
        newest = await self._calls.session.tso.allocate(1)
        await self._cluster.timestamps.set_external(request.timestamp, newest)
        return pdpb_pb2.SetExternalTimestampResponse()

    async def get_external_timestamp(
        self, _request: pdpb_pb2.GetExternalTimestampRequest
    ) -> pdpb_pb2.GetExternalTimestampResponse:
        """What was set."""
        return pdpb_pb2.GetExternalTimestampResponse(timestamp=self._cluster.timestamps.external)
