"""pdpb.PD's questions about regions. A follower answers them from its copy when the caller allows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from core_py.errors import NotBootstrapped
from core_py.ports import CallContext, Handler
from pd_py.cluster.convert import leader_pb, peer_pb, region_pb
from pd_py.cluster.region_tree import RegionTree
from pd_py.schedule.view import RegionView
from pd_py.server.calls import FOLLOWER_KEY, Calls
from protos.kvproto import pdpb_pb2


class RegionCalls:
    """Handlers."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def handlers(self) -> dict[str, Handler]:
        """By method name."""
        return {
            **self._calls.serve(
                {
                    "GetRegion": self.get_region,
                    "GetPrevRegion": self.get_prev_region,
                    "GetRegionByID": self.get_region_by_id,
                    "ScanRegions": self.scan_regions,
                }
            ),
            "QueryRegion": self._calls.stream("QueryRegion", self.query_region),
        }

    @property
    def _tree(self) -> RegionTree:
        """The regions. Raises NotBootstrapped."""
        members = self._calls.members
        if not members.is_bootstrapped:
            raise NotBootstrapped("cluster is not bootstrapped")
        return members.regions.tree

    def _response(self, region: RegionView | None) -> pdpb_pb2.GetRegionResponse:
        """A region, or an empty response when nobody has reported one."""
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
        return self._response(self._tree.find(request.region_key))

    async def get_prev_region(self, request: pdpb_pb2.GetRegionRequest) -> pdpb_pb2.GetRegionResponse:
        """The region left of the one that holds a key."""
        return self._response(self._tree.find_previous(request.region_key))

    async def get_region_by_id(self, request: pdpb_pb2.GetRegionByIDRequest) -> pdpb_pb2.GetRegionResponse:
        """A region by id."""
        return self._response(self._tree.get(request.region_id))

    async def query_region(
        self, requests: AsyncIterator[pdpb_pb2.QueryRegionRequest], context: CallContext
    ) -> AsyncIterator[pdpb_pb2.QueryRegionResponse]:
        """Many lookups in one message, answered in order."""
        async for request in requests:
            if context.metadata.get(FOLLOWER_KEY) is None:
                _ = self._calls.session
            self._calls.check_cluster(request.header.cluster_id)
            tree = self._calls.members.regions.tree
            response = pdpb_pb2.QueryRegionResponse()
            response.header.cluster_id = self._calls.members.cluster_id
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
                entry: Any = response.regions_by_id[region_id]
                entry.region.CopyFrom(region_pb(region))
                entry.leader.CopyFrom(leader_pb(region))
            yield response

    async def scan_regions(self, request: pdpb_pb2.ScanRegionsRequest) -> pdpb_pb2.ScanRegionsResponse:
        """Regions of a key range, in all three of the response's forms."""
        response = pdpb_pb2.ScanRegionsResponse()
        for region in self._tree.scan(request.start_key, request.end_key, request.limit):
            meta, leader = region_pb(region), leader_pb(region)
            response.region_metas.append(meta)
            response.leaders.append(leader)
            response.regions.add(region=meta, leader=leader)
        return response
