"""pdpb.PD's questions about regions (`pd_py.cluster.queries`). A follower answers them from its copy when the caller allows it.

A follower answers only while its copy is whole and follows the leader; otherwise it refuses as for any other call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from core_py.errors import NotBootstrapped, PdError
from core_py.ports import CallContext, Handler
from pd_py.cluster import queries
from pd_py.server.calls import Calls
from protos.kvproto import pdpb_pb2

Query = Callable[..., Any]


class RegionCalls:
    """Handlers."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._members = calls.members

    def handlers(self) -> dict[str, Handler]:
        """By method name."""
        serve = self._calls.serve_reads
        return {
            "GetRegion": serve("GetRegion", self._query(queries.get_region)),
            "GetPrevRegion": serve("GetPrevRegion", self._query(queries.get_prev_region)),
            "GetRegionByID": serve("GetRegionByID", self._query(queries.get_region_by_id)),
            "ScanRegions": serve("ScanRegions", self._query(queries.scan_regions)),
            "BatchScanRegions": serve("BatchScanRegions", self._query(queries.batch_scan_regions)),
            "QueryRegion": self._calls.stream("QueryRegion", self.query_region),
            "SyncRegions": self._calls.stream("SyncRegions", self.sync_regions),
            "ReportBuckets": self.report_buckets,
        }

    def _query(self, query: Query) -> Callable[[Any], Any]:
        async def answer(request: Any) -> Any:
            self._require_bootstrap()
            return query(self._members.regions, request, is_follower=self._members.session is None)

        return answer

    def _require_bootstrap(self) -> None:
        if not self._members.is_bootstrapped:
            raise NotBootstrapped("cluster is not bootstrapped")

    async def query_region(
        self, requests: AsyncIterator[pdpb_pb2.QueryRegionRequest], context: CallContext
    ) -> AsyncIterator[pdpb_pb2.QueryRegionResponse]:
        """Many lookups in one message, answered in order."""
        async for request in requests:
            self._calls.require_reader(context)
            self._calls.check_cluster(request.header.cluster_id)
            try:
                response = queries.query_region(self._members.regions, request)
            except PdError as error:
                response = pdpb_pb2.QueryRegionResponse()
                self._calls.refuse(response, error)
            response.header.cluster_id = self._members.cluster_id
            yield response

    async def sync_regions(
        self, requests: AsyncIterator[pdpb_pb2.SyncRegionRequest], context: CallContext
    ) -> AsyncIterator[pdpb_pb2.SyncRegionResponse]:
        """For the other members of PD: all regions, then what changes."""
        async for response in self._calls.session.syncer.serve(requests, context):
            yield response

    async def report_buckets(
        self, requests: AsyncIterator[pdpb_pb2.ReportBucketsRequest], _context: CallContext
    ) -> pdpb_pb2.ReportBucketsResponse:
        """The parts of regions, as their leaders cut them."""
        async for request in requests:
            _ = self._calls.session
            self._calls.check_cluster(request.header.cluster_id)
            self._members.regions.buckets.report(request.buckets)
        response = pdpb_pb2.ReportBucketsResponse()
        response.header.cluster_id = self._members.cluster_id
        return response
