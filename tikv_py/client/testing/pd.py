"""PD of a memory cluster: members of which one leads, over a topology that tests change directly. Counts calls by method."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from core_py.ports import CallContext, Service, StatusError
from core_py.sim.clock import LoopClock
from core_py.sim.network import MemoryNetwork
from protos.kvproto import pdpb_pb2
from tikv_py.client.testing.topology import PlacedRegion, Topology

CLUSTER_ID = 7001
PD = pdpb_pb2.DESCRIPTOR.services_by_name["PD"]
_METHODS = {
    "GetMembers": "_get_members",
    "Tso": "_tso",
    "GetRegion": "_get_region",
    "GetPrevRegion": "_get_prev_region",
    "GetRegionByID": "_get_region_by_id",
    "ScanRegions": "_scan_regions",
    "BatchScanRegions": "_batch_scan_regions",
    "GetStore": "_get_store",
    "GetAllStores": "_get_all_stores",
    "AllocID": "_alloc_id",
    "IsBootstrapped": "_is_bootstrapped",
    "Bootstrap": "_bootstrap",
    "PutStore": "_put_store",
    "GetGCSafePoint": "_get_gc_safe_point",
    "UpdateGCSafePoint": "_update_gc_safe_point",
    "RegionHeartbeat": "_region_heartbeat",
}
"""RPC -> the method of `MemoryPd` that answers it."""


class MemoryPd:
    """All members. `leader` names the one that leads; `members` are addresses."""

    def __init__(self, network: MemoryNetwork, topology: Topology, members: tuple[str, ...] = ("pd1:1",)) -> None:
        self.network, self.topology, self.members, self.leader = network, topology, members, members[0]
        self.clock = LoopClock()
        self.calls: Counter[str] = Counter()
        self.tso_counts: list[int] = []
        self.last_ts = 0
        self.tso_count_error = 0
        self.header_error: dict[str, pdpb_pb2.Error] = {}
        self.bootstrapped = True
        self.has_batch_scan = True
        self.safe_point = 0
        self.heartbeats: list[pdpb_pb2.RegionHeartbeatRequest] = []
        self._listeners: list[Any] = []

    async def start(self) -> None:
        for address in self.members:
            self._listeners.append(await self._serve(address))

    async def _serve(self, address: str) -> Any:
        handlers = {name: self._bound(name, address) for name in _METHODS}
        host = address.split(":")[0]
        return await self.network.transport(host).serve(address, [Service(PD, handlers)])

    async def stop(self) -> None:
        for listener in self._listeners:
            await listener.stop(0)

    async def stop_member(self, address: str) -> None:
        await self._listeners[self.members.index(address)].stop(0)

    def next_ts(self, count: int = 1) -> int:
        """The last of `count` new timestamps."""
        self.last_ts = max(self.last_ts + count, (self.clock.wall_ms() << 18) + count)
        return self.last_ts

    def _bound(self, name: str, address: str) -> Any:
        method = getattr(self, _METHODS[name])
        if name in ("Tso", "RegionHeartbeat"):
            return lambda requests, _context: method(requests, address)

        async def call(request: Any, _context: CallContext) -> Any:
            self.calls[name] += 1
            if name != "GetMembers":
                self._check_leader(address)
            response = method(request)
            response.header.cluster_id = CLUSTER_ID
            if name in self.header_error:
                response.header.error.CopyFrom(self.header_error[name])
            return response

        return call

    def _check_leader(self, address: str) -> None:
        if self.leader != address:
            raise StatusError("UNAVAILABLE", "not leader")

    def _get_members(self, _request: Any) -> pdpb_pb2.GetMembersResponse:
        response = pdpb_pb2.GetMembersResponse()
        for number, address in enumerate(self.members):
            response.members.add(name=address, member_id=number + 1, client_urls=[f"http://{address}"])
        if self.leader:
            response.leader.client_urls.append(f"http://{self.leader}")
        return response

    async def _tso(self, requests: AsyncIterator[Any], address: str) -> AsyncIterator[Any]:
        async for request in requests:
            self._check_leader(address)
            assert request.header.cluster_id == CLUSTER_ID
            self.tso_counts.append(request.count)
            last = self.next_ts(request.count)
            response = pdpb_pb2.TsoResponse(count=request.count + self.tso_count_error)
            self.tso_count_error = 0
            response.header.cluster_id = CLUSTER_ID
            response.timestamp.physical, response.timestamp.logical = last >> 18, last & ((1 << 18) - 1)
            yield response

    @staticmethod
    def _region_response(region: PlacedRegion | None) -> pdpb_pb2.GetRegionResponse:
        if region is None:
            return pdpb_pb2.GetRegionResponse()
        return pdpb_pb2.GetRegionResponse(region=region.meta, leader=region.leader)

    def _get_region(self, request: Any) -> pdpb_pb2.GetRegionResponse:
        return self._region_response(self.topology.holding(request.region_key))

    def _get_prev_region(self, request: Any) -> pdpb_pb2.GetRegionResponse:
        ordered = self.topology.ordered()
        at = ordered.index(self.topology.holding(request.region_key))
        return self._region_response(ordered[at - 1] if at else None)

    def _get_region_by_id(self, request: Any) -> pdpb_pb2.GetRegionResponse:
        return self._region_response(self.topology.regions.get(request.region_id))

    def _scan_regions(self, request: Any) -> pdpb_pb2.ScanRegionsResponse:
        response = pdpb_pb2.ScanRegionsResponse()
        for region in self.topology.ordered():
            if region.meta.end_key and region.meta.end_key <= request.start_key:
                continue
            if request.end_key and region.meta.start_key >= request.end_key:
                break
            response.regions.add(region=region.meta, leader=region.leader)
            if len(response.regions) == request.limit:
                break
        return response

    def _batch_scan_regions(self, request: Any) -> pdpb_pb2.BatchScanRegionsResponse:
        if not self.has_batch_scan:
            raise StatusError("UNIMPLEMENTED", "unknown method BatchScanRegions")
        found: dict[int, Any] = {}
        for part in request.ranges:
            one = pdpb_pb2.ScanRegionsRequest(start_key=part.start_key, end_key=part.end_key)
            found.update((item.region.id, item) for item in self._scan_regions(one).regions)
        kept = list(found.values())
        return pdpb_pb2.BatchScanRegionsResponse(regions=kept[: request.limit] if request.limit else kept)

    def _get_store(self, request: Any) -> pdpb_pb2.GetStoreResponse:
        store = self.topology.stores.get(request.store_id)
        response = pdpb_pb2.GetStoreResponse()
        if store is None:
            response.header.error.type = pdpb_pb2.UNKNOWN
            response.header.error.message = f"invalid store ID {request.store_id}, not found"
        else:
            response.store.CopyFrom(store)
        return response

    def _get_all_stores(self, _request: Any) -> pdpb_pb2.GetAllStoresResponse:
        return pdpb_pb2.GetAllStoresResponse(stores=self.topology.stores.values())

    def _alloc_id(self, request: Any) -> pdpb_pb2.AllocIDResponse:
        for _ in range(request.count - 1):
            self.topology.new_id()
        return pdpb_pb2.AllocIDResponse(id=self.topology.new_id())

    def _is_bootstrapped(self, _request: Any) -> pdpb_pb2.IsBootstrappedResponse:
        return pdpb_pb2.IsBootstrappedResponse(bootstrapped=self.bootstrapped)

    def _bootstrap(self, _request: Any) -> pdpb_pb2.BootstrapResponse:
        response = pdpb_pb2.BootstrapResponse()
        if self.bootstrapped:
            response.header.error.type = pdpb_pb2.ALREADY_BOOTSTRAPPED
            response.header.error.message = "cluster is already bootstrapped"
        self.bootstrapped = True
        return response

    def _put_store(self, request: Any) -> pdpb_pb2.PutStoreResponse:
        response = pdpb_pb2.PutStoreResponse()
        for store in self.topology.stores.values():
            if store.address == request.store.address and store.id != request.store.id:
                response.header.error.type = pdpb_pb2.UNKNOWN
                response.header.error.message = f"duplicated store address: id:{request.store.id}, already registered"
        return response

    def _get_gc_safe_point(self, _request: Any) -> pdpb_pb2.GetGCSafePointResponse:
        return pdpb_pb2.GetGCSafePointResponse(safe_point=self.safe_point)

    def _update_gc_safe_point(self, request: Any) -> pdpb_pb2.UpdateGCSafePointResponse:
        self.safe_point = max(self.safe_point, request.safe_point)
        return pdpb_pb2.UpdateGCSafePointResponse(new_safe_point=self.safe_point)

    async def _region_heartbeat(self, requests: AsyncIterator[Any], address: str) -> AsyncIterator[Any]:
        async for request in requests:
            self._check_leader(address)
            self.heartbeats.append(request)
            yield pdpb_pb2.RegionHeartbeatResponse(region_id=request.region.id)
