"""The PD client: one object per process, used by transactions, stores and tools.

`connect` finds the leader and the cluster id; every call follows the leader by itself and raises typed errors
(`core_py.errors.PdError` and `tikv_py.client.pd.errors`). Region bounds are physical keys: memcomparable for transactional data, as
they are for raw data; this client does not encode.

    pd = PdClient(transport, ("127.0.0.1:2379",), clock)
    await pd.connect()
    ts = await pd.timestamp()
    await pd.close()

Does not cache regions (see `tikv_py.client.region`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core_py.errors import PdError
from core_py.ids import ClusterId
from core_py.ports import Clock, Transport
from core_py.runtime.tasks import TaskScope
from protos.kvproto import metapb_pb2, pdpb_pb2
from tikv_py.client.pd.errors import StoreNotFound
from tikv_py.client.pd.heartbeat import RegionHeartbeatStream
from tikv_py.client.pd.members import CALL_BUDGET_S, PdMembers
from tikv_py.client.pd.tso import BUDGET_S, LOW_RESOLUTION_S, TsoBatcher

CONNECT_BUDGET_S = 60.0
SHORT_BUDGET_S = 5.0


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """A region as PD knows it; `leader` is None when PD has not heard of one."""

    region: metapb_pb2.Region
    leader: metapb_pb2.Peer | None = None
    down_peers: tuple[metapb_pb2.Peer, ...] = ()
    pending_peers: tuple[metapb_pb2.Peer, ...] = ()


NULL_KEYSPACE = 0xFFFFFFFF


def _of_all(request: Any) -> Any:
    """The request, about the keyspaces that are collected together."""
    request.keyspace_scope.keyspace_id = NULL_KEYSPACE
    return request


def _info(
    response: pdpb_pb2.GetRegionResponse | pdpb_pb2.Region,
) -> RegionInfo | None:
    if not response.HasField("region") or not response.region.id:
        return None
    return RegionInfo(
        response.region,
        response.leader if response.leader.id else None,
        tuple(stats.peer for stats in response.down_peers),
        tuple(response.pending_peers),
    )


class PdClient:
    """See the module's text. All methods but the properties need `connect` before."""

    def __init__(self, transport: Transport, endpoints: Sequence[str], clock: Clock) -> None:
        self._members = PdMembers(transport, endpoints, clock)
        self._scope = TaskScope("pd client")
        self._tso = TsoBatcher(self._members, self._scope)

    @property
    def cluster_id(self) -> ClusterId:
        """The cluster's id; 0 before `connect`."""
        return self._members.cluster_id

    @property
    def leader(self) -> str | None:
        """host:port of the member believed to lead."""
        return self._members.leader

    @classmethod
    async def open(cls, transport: Transport, endpoints: Sequence[str], clock: Clock) -> PdClient:
        """A connected client; nothing is left open when that fails. Raises PdUnavailable."""
        pd = cls(transport, endpoints, clock)
        try:
            await pd.connect()
        except BaseException:
            await pd.close()
            raise
        return pd

    async def connect(self, budget_s: float = CONNECT_BUDGET_S) -> None:
        """Find the leader. Raises PdUnavailable."""
        await self._members.find_leader(budget_s)

    async def close(self) -> None:
        """End the streams and connections."""
        self._tso.stop()
        await self._scope.close()
        await self._members.close()

    async def timestamp(self, budget_s: float = BUDGET_S) -> int:
        """A new timestamp. Raises TsoUnavailable."""
        return (await self._tso.timestamps(1, budget_s))[0]

    async def timestamps(self, count: int, budget_s: float = BUDGET_S) -> range:
        """`count` new timestamps in a row, up to 100,000. Raises TsoUnavailable, ValueError."""
        return await self._tso.timestamps(count, budget_s)

    async def low_resolution_timestamp(self, max_age_s: float = LOW_RESOLUTION_S) -> int:
        """A timestamp that was the newest at most `max_age_s` ago, most often without asking PD. Raises TsoUnavailable.

        It tells how old something is (a lock's time to live); nothing may be read or written at it.
        """
        return await self._tso.low_resolution(max_age_s)

    @property
    def timestamp_round_trips(self) -> int:
        """How many requests for timestamps went out; each stands for all callers that waited at the time."""
        return self._tso.requests_sent

    async def get_members(self) -> pdpb_pb2.GetMembersResponse:
        """All members, from the leader."""
        response: pdpb_pb2.GetMembersResponse = await self._members.call("GetMembers", pdpb_pb2.GetMembersRequest())
        return response

    # ---- regions ----

    async def get_region(self, key: bytes, *, budget_s: float = SHORT_BUDGET_S) -> RegionInfo | None:
        """The region that holds a physical key, or None."""
        return _info(
            await self._members.call("GetRegion", pdpb_pb2.GetRegionRequest(region_key=key), budget_s=budget_s)
        )

    async def get_prev_region(self, key: bytes, *, budget_s: float = SHORT_BUDGET_S) -> RegionInfo | None:
        """The region left of the one that holds a physical key, or None."""
        return _info(
            await self._members.call("GetPrevRegion", pdpb_pb2.GetRegionRequest(region_key=key), budget_s=budget_s)
        )

    async def get_region_by_id(self, region_id: int, *, budget_s: float = SHORT_BUDGET_S) -> RegionInfo | None:
        """The region with this id, or None."""
        request = pdpb_pb2.GetRegionByIDRequest(region_id=region_id)
        return _info(await self._members.call("GetRegionByID", request, budget_s=budget_s))

    async def scan_regions(
        self, start: bytes, end: bytes, limit: int = 0, *, budget_s: float = SHORT_BUDGET_S
    ) -> list[RegionInfo]:
        """Regions that overlap [start, end) (`end` empty = to the last), in order, at most `limit` (0 = all)."""
        request = pdpb_pb2.ScanRegionsRequest(start_key=start, end_key=end, limit=limit)
        response: pdpb_pb2.ScanRegionsResponse = await self._members.call("ScanRegions", request, budget_s=budget_s)
        if response.regions:
            return [info for info in map(_info, response.regions) if info is not None]
        leaders: list[metapb_pb2.Peer | None] = [peer if peer.id else None for peer in response.leaders]
        leaders += [None] * (len(response.region_metas) - len(leaders))
        return [RegionInfo(region, leader) for region, leader in zip(response.region_metas, leaders, strict=False)]

    async def batch_scan_regions(
        self, ranges: Sequence[tuple[bytes, bytes]], limit: int = 0, *, budget_s: float = SHORT_BUDGET_S
    ) -> list[RegionInfo]:
        """Regions of several ranges, which are in order and apart, each region once. Raises RpcError UNIMPLEMENTED at an old PD."""
        request = pdpb_pb2.BatchScanRegionsRequest(limit=limit)
        for start, end in ranges:
            request.ranges.add(start_key=start, end_key=end)
        response: pdpb_pb2.BatchScanRegionsResponse = await self._members.call(
            "BatchScanRegions", request, budget_s=budget_s
        )
        return [info for info in map(_info, response.regions) if info is not None]

    async def ask_batch_split(self, region: metapb_pb2.Region, count: int) -> list[pdpb_pb2.SplitID]:
        """Ids for `count` new regions and their peers."""
        request = pdpb_pb2.AskBatchSplitRequest(region=region, split_count=count)
        return list((await self._members.call("AskBatchSplit", request)).ids)

    async def report_batch_split(self, regions: Sequence[metapb_pb2.Region]) -> None:
        """Tell PD of a finished split, left to right."""
        await self._members.call("ReportBatchSplit", pdpb_pb2.ReportBatchSplitRequest(regions=regions))

    async def split_regions(self, keys: Sequence[bytes], retry_limit: int = 0) -> pdpb_pb2.SplitRegionsResponse:
        """Have PD split at physical keys."""
        request = pdpb_pb2.SplitRegionsRequest(split_keys=keys, retry_limit=retry_limit)
        response: pdpb_pb2.SplitRegionsResponse = await self._members.call("SplitRegions", request)
        return response

    async def scatter_region(self, region_ids: Sequence[int], group: str = "") -> pdpb_pb2.ScatterRegionResponse:
        """Have PD spread regions over the stores."""
        request = pdpb_pb2.ScatterRegionRequest(regions_id=region_ids, group=group)
        response: pdpb_pb2.ScatterRegionResponse = await self._members.call("ScatterRegion", request)
        return response

    async def get_operator(self, region_id: int) -> pdpb_pb2.GetOperatorResponse:
        """What PD is doing to a region. Raises PdRegionNotFound when nothing."""
        request = pdpb_pb2.GetOperatorRequest(region_id=region_id)
        response: pdpb_pb2.GetOperatorResponse = await self._members.call("GetOperator", request)
        return response

    def region_heartbeat_stream(self) -> RegionHeartbeatStream:
        """A heartbeat stream; it connects by itself, again after failures."""
        return RegionHeartbeatStream(self._members)

    # ---- stores and the cluster ----

    async def get_store(self, store_id: int, *, budget_s: float = SHORT_BUDGET_S) -> metapb_pb2.Store:
        """A store, also a removed one (see its state). Raises StoreNotFound."""
        request = pdpb_pb2.GetStoreRequest(store_id=store_id)
        response: pdpb_pb2.GetStoreResponse = await self._members.call("GetStore", request, budget_s=budget_s)
        if not response.store.id:
            raise StoreNotFound(f"PD knows no store {store_id}")
        return response.store

    async def get_all_stores(self, *, exclude_tombstone: bool = True) -> list[metapb_pb2.Store]:
        """All stores."""
        request = pdpb_pb2.GetAllStoresRequest(exclude_tombstone_stores=exclude_tombstone)
        return list((await self._members.call("GetAllStores", request)).stores)

    async def alloc_id(self, count: int = 1) -> int:
        """The last of `count` new cluster-wide unique ids in a row."""
        request = pdpb_pb2.AllocIDRequest(count=count)
        new: int = (await self._members.call("AllocID", request)).id
        if not new:
            raise PdError("PD gave id 0")
        return new

    async def is_bootstrapped(self) -> bool:
        """Whether the cluster has its first store."""
        request = pdpb_pb2.IsBootstrappedRequest()
        return bool((await self._members.call("IsBootstrapped", request)).bootstrapped)

    async def bootstrap(self, store: metapb_pb2.Store, region: metapb_pb2.Region) -> None:
        """Make the cluster from its first store and region. Raises AlreadyBootstrapped."""
        await self._members.call("Bootstrap", pdpb_pb2.BootstrapRequest(store=store, region=region))

    async def put_store(self, store: metapb_pb2.Store) -> None:
        """Register a store or its new address. Raises StoreAddressConflict, StoreTombstone, NotBootstrapped."""
        await self._members.call("PutStore", pdpb_pb2.PutStoreRequest(store=store))

    async def store_heartbeat(self, stats: pdpb_pb2.StoreStats) -> pdpb_pb2.StoreHeartbeatResponse:
        """Report a store. Raises NotBootstrapped, StoreNotFound, StoreTombstone."""
        request = pdpb_pb2.StoreHeartbeatRequest(stats=stats)
        response: pdpb_pb2.StoreHeartbeatResponse = await self._members.call("StoreHeartbeat", request)
        return response

    async def report_min_resolved_ts(self, store_id: int, ts: int, *, budget_s: float = SHORT_BUDGET_S) -> None:
        """Report up to which timestamp every region that a store leads can be read on its replicas."""
        request = pdpb_pb2.ReportMinResolvedTsRequest(store_id=store_id, min_resolved_ts=ts)
        await self._members.call("ReportMinResolvedTS", request, budget_s=budget_s)

    # ---- garbage collection ----

    async def get_gc_safe_point(self) -> int:
        """Versions older than this may be gone."""
        return int((await self._members.call("GetGCSafePoint", pdpb_pb2.GetGCSafePointRequest())).safe_point)

    async def get_gc_state(self) -> pdpb_pb2.GCState:
        """Both safe points and all barriers, of the keyspaces that are collected together."""
        response: pdpb_pb2.GetGCStateResponse = await self._members.call(
            "GetGCState", _of_all(pdpb_pb2.GetGCStateRequest())
        )
        return response.gc_state

    async def advance_txn_safe_point(self, target: int) -> int:
        """Let no transaction that began before `target` go on; returns how far that got, which barriers may lessen.

        Raises PdError for a target that lies behind the one in force.
        """
        request = _of_all(pdpb_pb2.AdvanceTxnSafePointRequest(target=target))
        response = await self._members.call("AdvanceTxnSafePoint", request, budget_s=CALL_BUDGET_S)
        return int(response.new_txn_safe_point)

    async def advance_gc_safe_point(self, target: int) -> int:
        """Let the stores collect below `target`, when all older locks are resolved. Raises PdError above the txn safe point."""
        request = _of_all(pdpb_pb2.AdvanceGCSafePointRequest(target=target))
        response = await self._members.call("AdvanceGCSafePoint", request, budget_s=CALL_BUDGET_S)
        return int(response.new_gc_safe_point)

    async def update_gc_safe_point(self, safe_point: int) -> int:
        """Raise the safe point; returns the one in force, which is larger when the new one would go back."""
        request = pdpb_pb2.UpdateGCSafePointRequest(safe_point=safe_point)
        return int((await self._members.call("UpdateGCSafePoint", request, budget_s=CALL_BUDGET_S)).new_safe_point)
