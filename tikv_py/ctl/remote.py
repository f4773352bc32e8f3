"""A running store as a target: debugpb.Debug, and the split command of the Tikv service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from core_py.errors import DbError, RpcError
from core_py.ports import Channel, Transport, methods_of
from protos.kvproto import debugpb_pb2 as debugpb
from protos.kvproto import eraftpb_pb2, kvrpcpb_pb2, metapb_pb2, tikvpb_pb2
from tikv_py.ctl.target import MvccItem
from tikv_py.raftstore.region import find_peer

TIMEOUT_S = 30.0
COMPACT_TIMEOUT_S = 3600.0

_DEBUG = methods_of(debugpb.DESCRIPTOR.services_by_name["Debug"])
_TIKV = methods_of(tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"])


class StoreRefused(DbError):
    """The store answered with an error; the message is its own."""

    code = "KV:Ctl:StoreRefused"


class RemoteTarget:
    """See `tikv_py.ctl.target.Target`."""

    def __init__(self, transport: Transport, address: str) -> None:
        self._address = address
        self._channel: Channel = transport.connect(address)

    async def call(self, name: str, request: Any, *, timeout_s: float = TIMEOUT_S) -> Any:
        """One Debug RPC. Raises StoreRefused, RpcError."""
        try:
            return await self._channel.unary(_DEBUG[name], request, timeout_s=timeout_s)
        except RpcError as error:
            raise self._explained(error) from error

    def _explained(self, error: RpcError) -> DbError:
        if error.status == "UNAVAILABLE":
            return RpcError(f"no store answers on {self._address}: {error.message}")
        return StoreRefused(error.message)

    async def region_ids(self) -> Sequence[int]:
        """All regions, tombstones included."""
        ids: Sequence[int] = (await self.call("GetAllRegionsInStore", debugpb.GetAllRegionsInStoreRequest())).regions
        return ids

    async def region_info(self, region_id: int) -> debugpb.RegionInfoResponse:
        """A region's states."""
        info: debugpb.RegionInfoResponse = await self.call("RegionInfo", debugpb.RegionInfoRequest(region_id=region_id))
        return info

    async def raft_log(self, region_id: int, index: int) -> eraftpb_pb2.Entry:
        """A log entry."""
        request = debugpb.RaftLogRequest(region_id=region_id, log_index=index)
        entry: eraftpb_pb2.Entry = (await self.call("RaftLog", request)).entry
        return entry

    async def region_size(self, region_id: int, cfs: Sequence[str]) -> debugpb.RegionSizeResponse:
        """Bytes per family."""
        request = debugpb.RegionSizeRequest(region_id=region_id, cfs=cfs)
        sizes: debugpb.RegionSizeResponse = await self.call("RegionSize", request, timeout_s=COMPACT_TIMEOUT_S)
        return sizes

    async def region_properties(self, region_id: int) -> Sequence[debugpb.Property]:
        """Counts of rows and versions."""
        request = debugpb.GetRegionPropertiesRequest(region_id=region_id)
        response = await self.call("GetRegionProperties", request, timeout_s=COMPACT_TIMEOUT_S)
        properties: Sequence[debugpb.Property] = response.props
        return properties

    async def get(self, db: int, cf: str, key: bytes) -> bytes:
        """An engine key's value."""
        request = debugpb.GetRequest(db=db, cf=cf, key=key)  # type: ignore[arg-type]
        value: bytes = (await self.call("Get", request)).value
        return value

    async def scan_mvcc(self, start: bytes, end: bytes, limit: int) -> AsyncIterator[MvccItem]:
        """Keys with their versions, as they come."""
        stream = self._channel.stream(_DEBUG["ScanMvcc"])
        try:
            await stream.send(debugpb.ScanMvccRequest(from_key=start, to_key=end, limit=limit))
            await stream.done_sending()
            while (item := await stream.receive()) is not None:
                yield item
        except RpcError as error:
            raise self._explained(error) from error
        finally:
            stream.cancel()

    async def compact(self, db: int, cf: str, start: bytes, end: bytes) -> None:
        """Rewrite a range."""
        request = debugpb.CompactRequest(db=db, cf=cf, from_key=start, to_key=end)  # type: ignore[arg-type]
        await self.call("Compact", request, timeout_s=COMPACT_TIMEOUT_S)

    async def store_id(self) -> int:
        """Who the store is."""
        number: int = (await self.call("GetStoreInfo", debugpb.GetStoreInfoRequest())).store_id
        return number

    async def cluster_id(self) -> int:
        """Whose it is."""
        number: int = (await self.call("GetClusterInfo", debugpb.GetClusterInfoRequest())).cluster_id
        return number

    async def check_consistency(self, region_id: int) -> None:
        """Begin to compare the replicas of a region that this store leads."""
        await self.call("CheckRegionConsistency", debugpb.RegionConsistencyCheckRequest(region_id=region_id))

    async def metrics(self) -> str:
        """Everything the store counts, in Prometheus's text form."""
        text: str = (await self.call("GetMetrics", debugpb.GetMetricsRequest(all=True))).prometheus
        return text

    async def inject(self, name: str, actions: str) -> None:
        """Arm a failpoint."""
        await self.call("InjectFailPoint", debugpb.InjectFailPointRequest(name=name, actions=actions))

    async def recover(self, name: str) -> None:
        """Disarm a failpoint."""
        await self.call("RecoverFailPoint", debugpb.RecoverFailPointRequest(name=name))

    async def failpoints(self) -> list[tuple[str, str]]:
        """(name, actions) of the armed failpoints."""
        entries = (await self.call("ListFailPoints", debugpb.ListFailPointsRequest())).entries
        return [(entry.name, entry.actions) for entry in entries]

    async def split_region(self, region_id: int, key: bytes, *, is_raw: bool) -> Sequence[metapb_pb2.Region]:
        """Split a region that this store leads; the parts. Raises StoreRefused, also when it does not lead it."""
        region = (await self.region_info(region_id)).region_local_state.region
        peer = find_peer(region, store_id=await self.store_id())
        context = kvrpcpb_pb2.Context(region_id=region_id, region_epoch=region.region_epoch, peer=peer)
        request = kvrpcpb_pb2.SplitRegionRequest(context=context, split_keys=[key], is_raw_kv=is_raw)
        try:
            response = await self._channel.unary(_TIKV["SplitRegion"], request, timeout_s=TIMEOUT_S)
        except RpcError as error:
            raise self._explained(error) from error
        if response.HasField("region_error"):
            raise StoreRefused(f"region {region_id} was not split: {response.region_error.message}")
        regions: Sequence[metapb_pb2.Region] = response.regions
        return regions

    async def close(self) -> None:
        """Disconnect."""
        await self._channel.close()
