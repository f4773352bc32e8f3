"""pdpb.PD's calls about splits, scattering and operators."""

from __future__ import annotations

from core_py.errors import PdError
from core_py.ports import Handler
from pd_py.cluster.cluster import Cluster
from pd_py.cluster.coordinator import Coordinator
from pd_py.schedule.operator import OperatorStatus
from pd_py.server.calls import Calls, NoOperator
from protos.kvproto import metapb_pb2, pdpb_pb2

MAX_SPLITS = 2048
MAX_KEYS = 10_000
MAX_RETRIES = 64


class ScheduleCalls:
    """Handlers."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @property
    def _cluster(self) -> Cluster:
        cluster = self._calls.session.cluster
        cluster.require_bootstrap()
        return cluster

    @property
    def _coordinator(self) -> Coordinator:
        self._calls.session.cluster.require_bootstrap()
        return self._calls.session.coordinator

    def handlers(self) -> dict[str, Handler]:
        """By method name."""
        return self._calls.serve(
            {
                "AskSplit": self.ask_split,
                "ReportSplit": self.report_split,
                "AskBatchSplit": self.ask_batch_split,
                "ReportBatchSplit": self.report_batch_split,
                "ScatterRegion": self.scatter_region,
                "SplitRegions": self.split_regions,
                "SplitAndScatterRegions": self.split_and_scatter_regions,
                "GetOperator": self.get_operator,
            }
        )

    # ---- splits that stores make ----

    async def _split_ids(self, region: metapb_pb2.Region, count: int) -> list[pdpb_pb2.SplitID]:
        cluster = self._cluster
        if self._coordinator.blocks_split(region.id):
            raise PdError(f"region {region.id} has an operator; split it later")
        if not 0 < count <= MAX_SPLITS:
            raise PdError(f"a split into {count} new regions is out of range")
        ids = []
        for _ in range(count):
            last = await cluster.alloc_id(1 + len(region.peers))
            first = last - len(region.peers)
            ids.append(pdpb_pb2.SplitID(new_region_id=first, new_peer_ids=range(first + 1, last + 1)))
        return ids

    async def ask_split(self, request: pdpb_pb2.AskSplitRequest) -> pdpb_pb2.AskSplitResponse:
        """The old form of `ask_batch_split`, for one new region."""
        (split,) = await self._split_ids(request.region, 1)
        return pdpb_pb2.AskSplitResponse(new_region_id=split.new_region_id, new_peer_ids=split.new_peer_ids)

    async def ask_batch_split(self, request: pdpb_pb2.AskBatchSplitRequest) -> pdpb_pb2.AskBatchSplitResponse:
        """Ids for new regions and their peers; refused while something else is done to the region."""
        return pdpb_pb2.AskBatchSplitResponse(ids=await self._split_ids(request.region, request.split_count))

    async def report_split(self, request: pdpb_pb2.ReportSplitRequest) -> pdpb_pb2.ReportSplitResponse:
        """The old form of `report_batch_split`."""
        self._take_split([request.left, request.right])
        return pdpb_pb2.ReportSplitResponse()

    async def report_batch_split(self, request: pdpb_pb2.ReportBatchSplitRequest) -> pdpb_pb2.ReportBatchSplitResponse:
        """The regions of a finished split, known before their heartbeats come."""
        self._take_split(list(request.regions))
        return pdpb_pb2.ReportBatchSplitResponse()

    def _take_split(self, regions: list[metapb_pb2.Region]) -> None:
        self._cluster.region_split(regions)
        self._coordinator.on_region_split([region.id for region in regions])

    # ---- what clients ask for ----

    async def scatter_region(self, request: pdpb_pb2.ScatterRegionRequest) -> pdpb_pb2.ScatterRegionResponse:
        """Spread regions over the stores."""
        ids = list(request.regions_id) or [request.region_id]
        _bounded(len(ids), request.retry_limit)
        done, failed = await self._coordinator.scatter(
            ids, request.group, int(request.retry_limit) or 5, skip_store_limit=request.skip_store_limit
        )
        if not request.regions_id and failed:
            raise PdError(f"region {request.region_id} is not scattered: it is unknown, or not fully replicated")
        return pdpb_pb2.ScatterRegionResponse(finished_percentage=done, failed_regions_id=failed)

    async def split_regions(self, request: pdpb_pb2.SplitRegionsRequest) -> pdpb_pb2.SplitRegionsResponse:
        """Split at physical keys."""
        _bounded(len(request.split_keys), request.retry_limit)
        done, ids = await self._coordinator.split_regions(list(request.split_keys), int(request.retry_limit) or 5)
        return pdpb_pb2.SplitRegionsResponse(finished_percentage=done, regions_id=ids)

    async def split_and_scatter_regions(
        self, request: pdpb_pb2.SplitAndScatterRegionsRequest
    ) -> pdpb_pb2.SplitAndScatterRegionsResponse:
        """Split at physical keys, then spread what came out of it."""
        _bounded(len(request.split_keys), request.retry_limit)
        retries = int(request.retry_limit) or 5
        split, ids = await self._coordinator.split_regions(list(request.split_keys), retries)
        scattered, _ = await self._coordinator.scatter(ids, request.group, retries)
        return pdpb_pb2.SplitAndScatterRegionsResponse(
            split_finished_percentage=split, scatter_finished_percentage=scattered, regions_id=ids
        )

    async def get_operator(self, request: pdpb_pb2.GetOperatorRequest) -> pdpb_pb2.GetOperatorResponse:
        """The running or last operator of a region. Raises NoOperator."""
        operators = self._coordinator.operators
        operator, status = operators.get(request.region_id), OperatorStatus.RUNNING
        if operator is None:
            last = operators.last_of(request.region_id)
            if last is None:
                raise NoOperator(f"region {request.region_id} has no operator")
            operator, status = last.operator, last.status
        return pdpb_pb2.GetOperatorResponse(
            region_id=request.region_id,
            desc=operator.description.encode(),
            status=getattr(pdpb_pb2, status.pdpb_name),
            kind=operator.kind_text.encode(),
        )


def _bounded(count: int, retries: int) -> None:
    if not 0 < count <= MAX_KEYS or retries > MAX_RETRIES:
        raise PdError(
            f"{count} regions or keys with {retries} retries: between 1 and {MAX_KEYS}, and {MAX_RETRIES}, are allowed"
        )
