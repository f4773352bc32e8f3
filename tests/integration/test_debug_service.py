"""debugpb.Debug on a running store: what it shows, what it refuses, and that long answers come in pieces."""

from __future__ import annotations

from typing import Any

import pytest

from core_py.errors import RpcError
from core_py.ports import methods_of
from protos.kvproto import debugpb_pb2 as debugpb
from protos.kvproto import kvrpcpb_pb2 as pb
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tests.support.store_rpc import StoreRpc, with_store
from tikv_py.mvcc.keys import data_key
from tikv_py.raftstore import keys
from tikv_py.server import debug
from tikv_py.server.config import DebugConfig, TikvConfig

METHODS = methods_of(debugpb.DESCRIPTOR.services_by_name["Debug"])


async def ask(rpc: StoreRpc, name: str, request: Any) -> Any:
    channel = rpc.cluster.network.transport("operator").connect("store1:20160")
    try:
        return await channel.unary(METHODS[name], request, timeout_s=5)
    finally:
        await channel.close()


async def scan(rpc: StoreRpc, request: debugpb.ScanMvccRequest) -> list[debugpb.ScanMvccResponse]:
    channel = rpc.cluster.network.transport("operator").connect("store1:20160")
    stream = channel.stream(METHODS["ScanMvcc"])
    await stream.send(request)
    await stream.done_sending()
    found = []
    while (item := await stream.receive()) is not None:
        found.append(item)
    await channel.close()
    return found


def test_states_log_and_records_of_a_region() -> None:
    async def body(rpc: StoreRpc) -> None:
        await rpc.call("RawPut", pb.RawPutRequest(key=b"k", value=b"value"))
        (region_id,) = (await ask(rpc, "GetAllRegionsInStore", debugpb.GetAllRegionsInStoreRequest())).regions
        info = await ask(rpc, "RegionInfo", debugpb.RegionInfoRequest(region_id=region_id))
        assert info.region_local_state.region.id == region_id
        assert info.region_local_state.state == serverpb.Normal
        last = info.raft_local_state.last_index
        assert info.raft_apply_state.applied_index == last
        entry = (await ask(rpc, "RaftLog", debugpb.RaftLogRequest(region_id=region_id, log_index=last))).entry
        assert entry.index == last
        assert b"value" in entry.data

        raw = debugpb.GetRequest(db=debugpb.KV, cf="default", key=b"zk")
        assert (await ask(rpc, "Get", raw)).value == b"value"
        state = debugpb.GetRequest(db=debugpb.KV, cf="raft", key=keys.region_state_key(region_id))
        assert serverpb.RegionLocalState.FromString((await ask(rpc, "Get", state)).value).region.id == region_id
        log = debugpb.GetRequest(db=debugpb.RAFT, key=keys.log_key(region_id, last))
        assert b"value" in (await ask(rpc, "Get", log)).value

        sizes = await ask(rpc, "RegionSize", debugpb.RegionSizeRequest(region_id=region_id, cfs=["default", "lock"]))
        assert {entry.cf: entry.size for entry in sizes.entries} == {"default": len(b"zk") + 5, "lock": 0}
        assert (await ask(rpc, "GetStoreInfo", debugpb.GetStoreInfoRequest())).store_id == rpc.store.store_id
        cluster = await ask(rpc, "GetClusterInfo", debugpb.GetClusterInfoRequest())
        assert cluster.cluster_id == rpc.server.pd.cluster_id
        metrics = await ask(rpc, "GetMetrics", debugpb.GetMetricsRequest(all=True))
        assert "tikv_raftstore_region_count" in metrics.prometheus
        assert "approximate size" in metrics.rocksdb_kv
        compacted = debugpb.CompactRequest(db=debugpb.KV, cf="write", from_key=b"z", to_key=b"{")
        await ask(rpc, "Compact", compacted)

    with_store(body)


NO_REGION = 999
WITH_FAILPOINTS = TikvConfig(debug=DebugConfig(failpoints=True))
REFUSED: list[tuple[str, Any, str]] = [
    ("Get", debugpb.GetRequest(db=debugpb.KV, cf="default", key=b"zmissing"), "NOT_FOUND"),
    ("Get", debugpb.GetRequest(cf="default", key=b"zk"), "INVALID_ARGUMENT"),
    ("Get", debugpb.GetRequest(db=debugpb.KV, cf="wirte", key=b"zk"), "INVALID_ARGUMENT"),
    ("Get", debugpb.GetRequest(db=debugpb.RAFT, cf="write", key=b"zk"), "INVALID_ARGUMENT"),
    ("RaftLog", debugpb.RaftLogRequest(region_id=2, log_index=NO_REGION), "NOT_FOUND"),
    ("RegionInfo", debugpb.RegionInfoRequest(region_id=NO_REGION), "NOT_FOUND"),
    ("RegionSize", debugpb.RegionSizeRequest(region_id=NO_REGION), "NOT_FOUND"),
    ("RegionSize", debugpb.RegionSizeRequest(region_id=2, cfs=["raft"]), "INVALID_ARGUMENT"),
    ("GetRegionProperties", debugpb.GetRegionPropertiesRequest(region_id=NO_REGION), "NOT_FOUND"),
    ("Compact", debugpb.CompactRequest(db=debugpb.KV, cf="nothing"), "INVALID_ARGUMENT"),
    ("InjectFailPoint", debugpb.InjectFailPointRequest(name="kv_comit", actions="off"), "near: kv_commit"),
    ("InjectFailPoint", debugpb.InjectFailPointRequest(name="kv_commit", actions="explode"), "INVALID_ARGUMENT"),
    ("RecoverFailPoint", debugpb.RecoverFailPointRequest(name="nothing"), "INVALID_ARGUMENT"),
    ("CheckRegionConsistency", debugpb.RegionConsistencyCheckRequest(region_id=NO_REGION), "NOT_FOUND"),
    ("ModifyTikvConfig", debugpb.ModifyTikvConfigRequest(), "UNIMPLEMENTED"),
    ("GetRangeProperties", debugpb.GetRangePropertiesRequest(), "UNIMPLEMENTED"),
]


@pytest.mark.parametrize(("name", "request_", "says"), REFUSED, ids=[f"{one[0]}-{one[2]}" for one in REFUSED])
def test_what_makes_no_sense_is_refused_with_a_status(name: str, request_: Any, says: str) -> None:
    async def body(rpc: StoreRpc) -> None:
        with pytest.raises(RpcError, match=says):
            await ask(rpc, name, request_)

    with_store(body, settings=WITH_FAILPOINTS)


async def some_versions(rpc: StoreRpc) -> None:
    for key, start_ts in ((b"a", 100), (b"b", 200), (b"b", 300)):
        await rpc.prewrite(key, b"v%d" % start_ts, start_ts)
        await rpc.commit(key, start_ts, start_ts + 10)
    await rpc.prewrite(b"b", b"large" * 100, 400)
    await rpc.commit(b"b", 400, 410)
    await rpc.prewrite(b"c", b"pending", 500)


def test_versions_of_keys_with_their_locks_and_values() -> None:
    async def body(rpc: StoreRpc) -> None:
        await some_versions(rpc)
        await rpc.call("RawPut", pb.RawPutRequest(key=b"no transactional key", value=b"v"))
        found = await scan(rpc, debugpb.ScanMvccRequest(from_key=b"z", limit=10))
        assert [one.key for one in found] == [data_key(b"a"), data_key(b"b"), data_key(b"c")]
        a, b, c = (one.info for one in found)
        assert [(write.start_ts, write.commit_ts, write.short_value) for write in a.writes] == [(100, 110, b"v100")]
        assert [write.commit_ts for write in b.writes] == [410, 310, 210]
        assert [(value.start_ts, value.value) for value in b.values] == [(400, b"large" * 100)]
        assert not b.HasField("lock")
        assert (c.lock.start_ts, c.lock.primary, c.lock.short_value) == (500, b"c", b"pending")
        assert len(await scan(rpc, debugpb.ScanMvccRequest(from_key=b"z", limit=1))) == 1
        only_b = debugpb.ScanMvccRequest(from_key=data_key(b"b"), to_key=data_key(b"c"))
        assert [one.key for one in await scan(rpc, only_b)] == [data_key(b"b")]

        region_id = rpc.context().region_id
        properties = await ask(rpc, "GetRegionProperties", debugpb.GetRegionPropertiesRequest(region_id=region_id))
        found_properties = {one.name: one.value for one in properties.props}
        assert found_properties["mvcc.num_rows"] == "2"
        assert found_properties["mvcc.num_versions"] == found_properties["mvcc.num_puts"] == "4"
        assert (found_properties["mvcc.min_ts"], found_properties["mvcc.max_ts"]) == ("110", "410")
        assert found_properties["mvcc.max_row_versions"] == "3"

    with_store(body)


@pytest.mark.parametrize(
    "request_",
    [debugpb.ScanMvccRequest(), debugpb.ScanMvccRequest(from_key=b"k", limit=1), debugpb.ScanMvccRequest(to_key=b"k")],
)
def test_a_scan_without_bounds_or_prefix_is_refused(request_: debugpb.ScanMvccRequest) -> None:
    async def body(rpc: StoreRpc) -> None:
        with pytest.raises(RpcError, match="INVALID_ARGUMENT"):
            await scan(rpc, request_)

    with_store(body)


def test_long_answers_are_read_in_slices_of_one_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug, "SLICE_KEYS", 3)
    monkeypatch.setattr(debug, "SLICE_PAIRS", 3)

    async def body(rpc: StoreRpc) -> None:
        keys_ = [b"k%03d" % number for number in range(20)]
        for key in keys_:
            await rpc.prewrite(key, b"v", 100)
        whole = debugpb.ScanMvccRequest(from_key=b"z", to_key=b"{")
        assert [one.key for one in await scan(rpc, whole)] == [data_key(key) for key in keys_]
        size = debugpb.RegionSizeRequest(region_id=rpc.context().region_id)
        entries = (await ask(rpc, "RegionSize", size)).entries
        stored = rpc.data()
        expected = {cf: sum(len(key) + len(value) for key, value in stored[cf]) for cf in stored}
        assert {entry.cf: entry.size for entry in entries} == expected

    with_store(body)


def test_only_so_many_long_requests_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug, "SCANS_MAX", 0)

    async def body(rpc: StoreRpc) -> None:
        with pytest.raises(RpcError, match="RESOURCE_EXHAUSTED"):
            await ask(rpc, "RegionSize", debugpb.RegionSizeRequest(region_id=rpc.context().region_id))

    with_store(body)


def test_failpoints_are_armed_listed_and_disarmed_over_the_wire() -> None:
    async def body(rpc: StoreRpc) -> None:
        await ask(rpc, "InjectFailPoint", debugpb.InjectFailPointRequest(name="raw_write", actions="return(off)"))
        listed = (await ask(rpc, "ListFailPoints", debugpb.ListFailPointsRequest())).entries
        assert [(entry.name, entry.actions) for entry in listed] == [("raw_write", "return(off)")]
        refused = await rpc.call("RawPut", pb.RawPutRequest(key=b"k", value=b"v"))
        assert refused.region_error.HasField("server_is_busy")
        await ask(rpc, "RecoverFailPoint", debugpb.RecoverFailPointRequest(name="raw_write"))
        assert not (await rpc.call("RawPut", pb.RawPutRequest(key=b"k", value=b"v"))).HasField("region_error")
        assert not (await ask(rpc, "ListFailPoints", debugpb.ListFailPointsRequest())).entries

    with_store(body, settings=WITH_FAILPOINTS)


def test_a_store_arms_no_failpoints_unless_its_configuration_says_so() -> None:
    async def body(rpc: StoreRpc) -> None:
        with pytest.raises(RpcError, match=r"PERMISSION_DENIED.*failpoints = true.*FAILPOINTS"):
            await ask(rpc, "InjectFailPoint", debugpb.InjectFailPointRequest(name="raw_write", actions="panic"))
        assert not rpc.fail.armed
        assert not (await ask(rpc, "ListFailPoints", debugpb.ListFailPointsRequest())).entries
        await rpc.call("RawPut", pb.RawPutRequest(key=b"k", value=b"v"))

    with_store(body)
