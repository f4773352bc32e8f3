"""Members, safe points, resolved timestamps, hot regions, statistics; and how Go writes values."""

from __future__ import annotations

import pytest

from pd_py.api import go_text
from pd_py.api.requests import from_hex, integer, uint64
from pd_py.gc.manager import NULL_KEYSPACE
from pd_py.schedule.view import FlowKind, HotPeer
from protos.kvproto import metapb_pb2, pdpb_pb2
from tests.unit.pd_api.member import API, Client, Member
from tests.unit.pd_api.test_regions import get, post


async def test_members(member: Member, http: Client) -> None:
    shown = await get(http, "/members")
    assert shown["header"] == {"cluster_id": member.cluster.cluster_id}
    assert shown["members"][1] == {
        "name": "pd2",
        "member_id": 2,
        "peer_urls": ["http://pd2:2380"],
        "client_urls": ["http://pd2:2379"],
        "binary_version": "v8",
    }
    assert shown["leader"] == shown["etcd_leader"] == shown["members"][0] == await get(http, "/leader")
    member.members.down = ("pd3",)
    health = await get(http, "/health")
    assert [(one["name"], one["health"]) for one in health] == [("pd1", True), ("pd2", True), ("pd3", False)]
    assert health == await (await http.get("/pd/health")).json()


async def test_changes_of_members(member: Member, http: Client) -> None:
    for path, text in (("name/pd2", "removed, pd: pd2"), ("id/3", "removed, pd: 3")):
        response = await http.delete(f"{API}/members/{path}")
        assert await response.json() == text
    response = await http.delete(f"{API}/members/name/odd")
    assert (response.status, await response.json()) == (404, "not found, pd: odd")
    response = await http.delete(f"{API}/members/id/9")
    assert (response.status, await response.json()) == (500, "etcdserver: member not found")
    assert await post(http, "/leader/resign", {}) == "The resign command is submitted."
    assert await post(http, "/leader/transfer/pd3", {}) == "The transfer command is submitted."
    assert await post(http, "/leader/transfer/odd", {}, 500) == "no valid pd to transfer etcd leader"
    assert await post(http, "/members/name/pd2", {"leader-priority": 5}) == "success"
    assert await post(http, "/members/name/pd2", {"leader-priority": "x"}, 400) == "bad format leader priority"
    assert member.members.calls == [("remove", 2), ("remove", 3), ("resign", ""), ("resign", "pd3"), ("priority", 2, 5)]


async def test_safe_points(member: Member, http: Client) -> None:
    assert await member.gc.update_gc_safe_point(100) == 100
    await member.gc.set_gc_barrier(NULL_KEYSPACE, "br", 300, 1000)
    await member.gc.advance_txn_safe_point(NULL_KEYSPACE, 250)
    shown = await get(http, "/gc/safepoint")
    assert (shown["min_service_gc_safe_point"], shown["gc_safe_point"]) == (250, 100)
    held = {one["service_id"]: one["safe_point"] for one in shown["service_gc_safe_points"]}
    assert held == {"br": 300, "gc_worker": 250}
    response = await http.delete(f"{API}/gc/safepoint/br")
    assert await response.json() == "Delete service GC safepoint successfully."
    shown = await get(http, "/gc/safepoint")
    assert [one["service_id"] for one in shown["service_gc_safe_points"]] == ["gc_worker"]


async def test_resolved_timestamps(member: Member, http: Client) -> None:
    for store_id, ts in ((1, 50), (2, 40), (3, 60)):
        member.cluster.stores_info.report_min_resolved_ts(store_id, ts)
    shown = await get(http, "/min-resolved-ts")
    assert (shown["min_resolved_ts"], shown["is_real_time"], shown["stores_min_resolved_ts"]) == (40, True, None)
    assert (await get(http, "/min-resolved-ts/3"))["min_resolved_ts"] == 60
    shown = await get(http, "/min-resolved-ts?scope=1,3")
    assert (shown["min_resolved_ts"], shown["stores_min_resolved_ts"]) == (50, {"1": 50, "3": 60})
    assert (await get(http, "/min-resolved-ts?scope=cluster"))["stores_min_resolved_ts"]["2"] == 40
    assert "invalid syntax" in await get(http, "/min-resolved-ts?scope=1,x", 400)
    assert "invalid syntax" in await get(http, "/min-resolved-ts/x", 400)


async def test_hot_regions(member: Member, http: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = {
        1: (HotPeer(1, 1, is_leader=True, bytes_rate=10, keys_rate=1, degree=4), HotPeer(2, 1, False, 30, 3)),
    }
    hot = member.cluster.regions.hot[FlowKind.WRITE]
    monkeypatch.setattr(type(hot), "hot_peers", lambda self: peers if self is hot else {})
    shown = await get(http, "/hotspot/regions/write")
    store = shown["as_peer"]["1"]
    assert (store["regions_count"], store["total_flow_bytes"]) == (2, 40)
    assert [one["region_id"] for one in store["statistics"]] == [2, 1]
    assert store["statistics"][1]["stores"] == [1, 2, 3]
    assert (shown["as_leader"]["1"]["regions_count"], shown["as_peer"]["2"]["statistics"]) == (1, [])
    assert list((await get(http, "/hotspot/regions/read?store_id=2"))["as_peer"]) == ["2"]
    assert await get(http, "/hotspot/regions/read?store_id=x", 400) == "invalid store id: x"
    assert await get(http, "/hotspot/regions/read?store_id=9", 500) == "[PD:core:ErrStoreNotFound]store 9 not found"
    assert set((await get(http, "/hotspot/stores"))["bytes-write-rate"]) == {"1", "2", "3", "4"}
    assert await get(http, "/hotspot/regions/history") == {"history_hot_region": []}


async def test_statistics(http: Client) -> None:
    shown = await get(http, "/stats/region")
    assert (shown["count"], shown["empty_count"], shown["storage_size"]) == (3, 1, 61)
    assert shown["store_leader_count"] == {"1": 1, "2": 1, "3": 1}
    assert shown["store_peer_size"] == {"1": 61, "2": 61, "3": 61}
    assert (await get(http, "/stats/region?start_key=b&end_key=m%FF"))["count"] == 1
    counted = await get(http, "/stats/region?count")
    assert (counted["count"], counted["storage_size"]) == (3, 0)


async def test_the_cluster(member: Member, http: Client) -> None:
    assert await get(http, "/cluster") == {"id": member.cluster.cluster_id, "max_peer_count": 3}
    status = await get(http, "/cluster/status")
    assert status["is_initialized"]
    assert status["raft_bootstrap_time"].startswith("20")


def test_sizes_and_times_are_written_as_go_does() -> None:
    sizes = {0: "0B", 1023: "1023B", 1536: "1.5KiB", 17394617548: "16.2GiB", 1 << 40: "1TiB", 107374182400: "100GiB"}
    assert {size: go_text.byte_size(size) for size in sizes} == sizes
    times = {
        0: "0s",
        0.2: "200ms",
        1: "1s",
        90: "1m30s",
        1800: "30m0s",
        5400.5: "1h30m0.5s",
        1.5e-6: "1.5µs",
        -2: "-2s",
    }
    assert {time: go_text.duration(time) for time in times} == times
    assert go_text.timestamp(1_700_000_000_120) == "2023-11-14T22:13:20.12Z"
    assert go_text.moment(1_700_000_000_000) == "2023-11-14 22:13:20 +0000 UTC"
    assert go_text.moment(0) == "0001-01-01 00:00:00 +0000 UTC"


def test_messages_are_written_as_go_does() -> None:
    region = metapb_pb2.Region(id=7, start_key=b"\xff", region_epoch=metapb_pb2.RegionEpoch(version=2))
    region.peers.add(id=1, role=metapb_pb2.Learner)
    assert go_text.of_message(region) == {
        "id": 7,
        "start_key": "/w==",
        "region_epoch": {"version": 2},
        "peers": [{"id": 1, "role": 1}],
    }
    assert go_text.of_message(pdpb_pb2.Member(client_urls=["a", "b"])) == {"client_urls": ["a", "b"]}


def test_numbers_and_keys_are_refused_as_by_go() -> None:
    assert (uint64("18446744073709551615"), integer("-9223372036854775808"), integer("+5")) == (2**64 - 1, -(2**63), 5)
    for read, text in (
        (uint64, "18446744073709551616"),
        (uint64, "+1"),
        (uint64, "١"),
        (uint64, ""),
        (integer, "9223372036854775808"),
        (integer, "1_0"),
        (integer, "-"),
    ):
        with pytest.raises(ValueError, match="strconv"):
            read(text)
    assert from_hex("00fF") == b"\x00\xff"
    for bad in ("0", "0 1", "0g", "é0"):
        with pytest.raises(ValueError, match="encoding/hex"):
            from_hex(bad)
