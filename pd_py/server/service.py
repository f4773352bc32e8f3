"""The gRPC service pdpb.PD (wire facts 2).

Every request's cluster id is checked but those of GetMembers. On success a response's header carries no error at all,
because clients take any error message, even one that says OK, for a failure. Refusals that clients understand go into
the header; what a caller did wrong ends the call with a status.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from core_py.errors import DbError, NotBootstrapped, PdError
from core_py.ports import CallContext, Handler, Service, StatusError
from core_py.runtime.tasks import TaskScope
from pd_py.cluster.cluster import AlreadyBootstrapped, Cluster
from pd_py.cluster.convert import leader_pb, peer_pb, region_pb
from pd_py.cluster.stores import StoreTombstone
from pd_py.metastore.errors import NotLeader, OutcomeUnknown, ProposalLost
from pd_py.schedule.view import RegionView
from pd_py.server.directory import MemberDirectory
from pd_py.server.metrics import PdMetrics
from pd_py.server.session import LeaderSession
from pd_py.tso.service import TsoService
from protos.grpc_health import health_pb2
from protos.kvproto import metapb_pb2, pdpb_pb2

CLUSTER_VERSION = "8.5.0"
MAX_ALLOC_IDS = 1 << 20


class PdService:
    """Handlers of one member."""

    def __init__(self, members: MemberDirectory, metrics: PdMetrics) -> None:
        self._members = members
        self._metrics = metrics
        self._calls = TaskScope("pd calls", on_failure=lambda _error: None)  # the caller gets it as a status

    async def close(self) -> None:
        """End the calls that still run."""
        await self._calls.close()

    @property
    def _session(self) -> LeaderSession:
        """What the leader has. Raises StatusError: clients look for this text and ask the other members."""
        session = self._members.session
        if session is None or not session.store.is_valid:
            raise StatusError("UNAVAILABLE", "not leader")
        return session

    @property
    def _cluster(self) -> Cluster:
        return self._session.cluster

    @property
    def _tso(self) -> TsoService:
        return self._session.tso

    def services(self) -> list[Service]:
        """Everything served on the client port."""
        unary: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "GetMembers": self.get_members,
            "GetClusterInfo": self.get_cluster_info,
            "AllocID": self.alloc_id,
            "Bootstrap": self.bootstrap,
            "IsBootstrapped": self.is_bootstrapped,
            "PutStore": self.put_store,
            "GetStore": self.get_store,
            "GetAllStores": self.get_all_stores,
            "StoreHeartbeat": self.store_heartbeat,
            "GetRegion": self.get_region,
            "GetPrevRegion": self.get_prev_region,
            "GetRegionByID": self.get_region_by_id,
            "ScanRegions": self.scan_regions,
            "GetClusterConfig": self.get_cluster_config,
            "AskBatchSplit": self.ask_batch_split,
            "ReportBatchSplit": self.report_batch_split,
            "GetOperator": self.get_operator,
            "GetGCSafePoint": self.get_gc_safe_point,
            "UpdateGCSafePoint": self.update_gc_safe_point,
            "GetMinTS": self.get_min_ts,
            "ReportMinResolvedTS": self.report_min_resolved_ts,
        }
        handlers: dict[str, Handler] = {name: self._unary(name, handler) for name, handler in unary.items()}
        handlers["Tso"] = self.tso
        handlers["RegionHeartbeat"] = self.region_heartbeat
        handlers["QueryRegion"] = self.query_region
        health: dict[str, Handler] = {"Check": self._health}
        return [
            Service(pdpb_pb2.DESCRIPTOR.services_by_name["PD"], handlers),
            Service(health_pb2.DESCRIPTOR.services_by_name["Health"], health),
        ]

    async def _health(
        self, _request: health_pb2.HealthCheckRequest, _context: CallContext
    ) -> health_pb2.HealthCheckResponse:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    def _unary(self, name: str, handler: Callable[[Any], Awaitable[Any]]) -> Handler:
        """Check the header, run, and turn refusals into the response's header.

        A handler runs to its end also when its caller goes away: half of a decision would leave memory and disk apart.
        """
        response_type = pdpb_pb2.DESCRIPTOR.services_by_name["PD"].methods_by_name[name].output_type
        make = getattr(pdpb_pb2, response_type.name)
        counter = self._metrics.requests.labels(name)

        async def call(request: Any, _context: CallContext) -> Any:
            counter.inc()
            if name in ("GetMembers", "GetClusterInfo"):
                return await handler(request)
            cluster_id = self._cluster.cluster_id
            self._check_cluster(request.header.cluster_id)
            response = await asyncio.shield(self._calls.spawn(_outcome(handler(request)), name=name))
            if isinstance(response, NotLeader | ProposalLost | OutcomeUnknown):
                raise StatusError("UNAVAILABLE", str(response))  # clients ask the other members, or again
            if isinstance(response, DbError) and not isinstance(response, PdError):
                raise response
            if isinstance(response, PdError):
                error = response
                response = make()
                response.header.error.type = _error_type(error)
                response.header.error.message = error.message
            response.header.cluster_id = cluster_id
            return response

        return call

    def _check_cluster(self, cluster_id: int) -> None:
        if cluster_id != self._cluster.cluster_id:
            raise StatusError(
                "FAILED_PRECONDITION", f"mismatch cluster id, need {self._cluster.cluster_id} but got {cluster_id}"
            )

    async def get_members(self, _request: pdpb_pb2.GetMembersRequest) -> pdpb_pb2.GetMembersResponse:
        """Who is PD, and who leads; answered by every member."""
        response = self._members.describe()
        response.header.cluster_id = self._members.cluster_id
        return response

    async def get_cluster_info(self, _request: pdpb_pb2.GetClusterInfoRequest) -> pdpb_pb2.GetClusterInfoResponse:
        """All services are in PD itself."""
        response = pdpb_pb2.GetClusterInfoResponse(serviceModes=[pdpb_pb2.PD_SVC_MODE])
        response.header.cluster_id = self._members.cluster_id
        return response

    async def region_heartbeat(
        self, requests: AsyncIterator[pdpb_pb2.RegionHeartbeatRequest], context: CallContext
    ) -> AsyncIterator[pdpb_pb2.RegionHeartbeatResponse]:
        """Reports of region leaders in, commands for them out, for as long as this member leads."""
        async for response in self._session.streams.serve(requests, context):
            yield response

    async def tso(
        self, requests: AsyncIterator[pdpb_pb2.TsoRequest], _context: CallContext
    ) -> AsyncIterator[pdpb_pb2.TsoResponse]:
        """One response per request, in order; the timestamp is the last of the batch."""
        async for request in requests:
            session = self._session
            cluster_id = session.cluster.cluster_id
            self._check_cluster(request.header.cluster_id)
            count = request.count
            ts = await session.tso.allocate(count)
            response = pdpb_pb2.TsoResponse(count=count)
            response.header.cluster_id = cluster_id
            response.timestamp.physical, response.timestamp.logical = ts >> 18, ts & 0x3FFFF
            self._metrics.tso_given.inc(count)
            yield response

    async def get_min_ts(self, _request: pdpb_pb2.GetMinTSRequest) -> pdpb_pb2.GetMinTSResponse:
        """A fresh timestamp: there is one oracle."""
        ts = await self._tso.allocate(1)
        return pdpb_pb2.GetMinTSResponse(timestamp=pdpb_pb2.Timestamp(physical=ts >> 18, logical=ts & 0x3FFFF))

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

    def _region_response(self, region: RegionView | None) -> pdpb_pb2.GetRegionResponse:
        """A region, or an empty response when nobody has reported one."""
        self._cluster.require_bootstrap()
        if region is None:
            return pdpb_pb2.GetRegionResponse()
        return pdpb_pb2.GetRegionResponse(
            region=region_pb(region),
            leader=leader_pb(region) if region.leader_store_id else None,
            down_peers=[pdpb_pb2.PeerStats(peer=peer_pb(peer)) for peer in region.peers if peer.peer_id in region.down],
            pending_peers=[peer_pb(peer) for peer in region.peers if peer.peer_id in region.pending],
        )

    async def get_region(self, request: pdpb_pb2.GetRegionRequest) -> pdpb_pb2.GetRegionResponse:
        """The region that holds a key."""
        return self._region_response(self._cluster.tree.find(request.region_key))

    async def get_prev_region(self, request: pdpb_pb2.GetRegionRequest) -> pdpb_pb2.GetRegionResponse:
        """The region left of the one that holds a key."""
        return self._region_response(self._cluster.tree.find_previous(request.region_key))

    async def get_region_by_id(self, request: pdpb_pb2.GetRegionByIDRequest) -> pdpb_pb2.GetRegionResponse:
        """A region by id."""
        return self._region_response(self._cluster.tree.get(request.region_id))

    async def query_region(
        self, requests: AsyncIterator[pdpb_pb2.QueryRegionRequest], _context: CallContext
    ) -> AsyncIterator[pdpb_pb2.QueryRegionResponse]:
        """Many lookups in one message, answered in order."""
        async for request in requests:
            tree = self._cluster.tree
            self._check_cluster(request.header.cluster_id)
            response = pdpb_pb2.QueryRegionResponse()
            response.header.cluster_id = self._cluster.cluster_id
            found = {region_id: region for region_id in request.ids if (region := tree.get(region_id)) is not None}
            for keys, find, out in (
                (request.keys, tree.find, response.key_id_map),
                (request.prev_keys, tree.find_previous, response.prev_key_id_map),
            ):
                for key in keys:
                    region = find(key)
                    out.append(0 if region is None else region.region_id)
                    if region is not None:
                        found[region.region_id] = region
            for region_id, region in sorted(found.items()):
                entry = response.regions_by_id[region_id]
                entry.region.CopyFrom(region_pb(region))
                entry.leader.CopyFrom(leader_pb(region))
            yield response

    async def scan_regions(self, request: pdpb_pb2.ScanRegionsRequest) -> pdpb_pb2.ScanRegionsResponse:
        """Regions of a key range, in all three of the response's forms."""
        self._cluster.require_bootstrap()
        regions = self._cluster.tree.scan(request.start_key, request.end_key, request.limit)
        response = pdpb_pb2.ScanRegionsResponse()
        for region in regions:
            meta, leader = region_pb(region), leader_pb(region)
            response.region_metas.append(meta)
            response.leaders.append(leader)
            response.regions.add(region=meta, leader=leader)
        return response

    async def get_cluster_config(self, _request: pdpb_pb2.GetClusterConfigRequest) -> pdpb_pb2.GetClusterConfigResponse:
        """Cluster id and number of replicas."""
        self._cluster.require_bootstrap()
        config = metapb_pb2.Cluster(id=self._cluster.cluster_id, max_peer_count=self._cluster.options.max_replicas)
        return pdpb_pb2.GetClusterConfigResponse(cluster=config)

    async def ask_batch_split(self, request: pdpb_pb2.AskBatchSplitRequest) -> pdpb_pb2.AskBatchSplitResponse:
        """Ids for new regions and their peers; refused while something else is done to the region."""
        self._cluster.require_bootstrap()
        region = request.region
        if self._cluster.has_operator(region.id):
            raise PdError(f"region {region.id} has an operator; split it later")
        if not 0 < request.split_count <= 2048:
            raise PdError(f"a split into {request.split_count} new regions is out of range")
        response = pdpb_pb2.AskBatchSplitResponse()
        for _ in range(request.split_count):
            last = await self._cluster.alloc_id(1 + len(region.peers))
            first = last - len(region.peers)
            response.ids.add(new_region_id=first, new_peer_ids=range(first + 1, last + 1))
        return response

    async def report_batch_split(self, request: pdpb_pb2.ReportBatchSplitRequest) -> pdpb_pb2.ReportBatchSplitResponse:
        """The regions of a finished split, known before their heartbeats come."""
        self._cluster.region_split(request.regions)
        return pdpb_pb2.ReportBatchSplitResponse()

    async def get_operator(self, request: pdpb_pb2.GetOperatorRequest) -> pdpb_pb2.GetOperatorResponse:
        """The running or last operator of a region."""
        operator = self._cluster.operators.get(request.region_id)
        if operator is not None:
            status, description = pdpb_pb2.RUNNING, operator.description
        else:
            last = self._cluster.operators.last_of(request.region_id)
            if last is None:
                response = pdpb_pb2.GetOperatorResponse()
                response.header.error.type = pdpb_pb2.REGION_NOT_FOUND
                response.header.error.message = f"region {request.region_id} has no operator"
                return response
            status, description = getattr(pdpb_pb2, last.status.value), last.operator.description
        return pdpb_pb2.GetOperatorResponse(
            region_id=request.region_id, desc=description.encode(), status=status, kind=description.encode()
        )

    async def get_gc_safe_point(self, _request: pdpb_pb2.GetGCSafePointRequest) -> pdpb_pb2.GetGCSafePointResponse:
        """The timestamp below which old versions may go."""
        return pdpb_pb2.GetGCSafePointResponse(safe_point=self._cluster.gc_safe_point)

    async def update_gc_safe_point(
        self, request: pdpb_pb2.UpdateGCSafePointRequest
    ) -> pdpb_pb2.UpdateGCSafePointResponse:
        """Advance it; a smaller target returns the present value."""
        return pdpb_pb2.UpdateGCSafePointResponse(
            new_safe_point=await self._cluster.update_gc_safe_point(request.safe_point)
        )

    async def report_min_resolved_ts(
        self, request: pdpb_pb2.ReportMinResolvedTsRequest
    ) -> pdpb_pb2.ReportMinResolvedTsResponse:
        """How far a store's regions can be read on their replicas. Raises StoreNotFound."""
        self._cluster.stores_info.report_min_resolved_ts(request.store_id, request.min_resolved_ts)
        return pdpb_pb2.ReportMinResolvedTsResponse()


async def _outcome(call: Awaitable[Any]) -> Any:
    """The response, or the expected failure as a value."""
    try:
        return await call
    except DbError as error:
        return error


def _error_type(error: PdError) -> pdpb_pb2.ErrorType:
    if isinstance(error, NotBootstrapped):
        return pdpb_pb2.NOT_BOOTSTRAPPED
    if isinstance(error, AlreadyBootstrapped):
        return pdpb_pb2.ALREADY_BOOTSTRAPPED
    if isinstance(error, StoreTombstone):
        return pdpb_pb2.STORE_TOMBSTONE
    return pdpb_pb2.UNKNOWN
