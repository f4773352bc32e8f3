"""Store pages: shapes, filters, and that what is refused changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from pd_py.schedule.limits import LimitType
from tests.unit.pd_api.member import API, Client, Member, new_member, serving
from tests.unit.pd_api.test_regions import get, post


async def test_one_store_has_the_public_shape(member: Member, http: Client) -> None:
    shown = await get(http, "/store/2")
    beat_ms = member.cluster.stores_info.get(2).last_heartbeat_ms
    assert shown["store"] == {
        "id": 2,
        "address": "store2:20160",
        "labels": [{"key": "zone", "value": "z2"}],
        "version": "8.5.0",
        "start_timestamp": 1_699_999_000,
        "node_state": 1,
        "last_heartbeat": beat_ms * 1_000_000,
        "state_name": "Up",
    }
    status = shown["status"]
    assert (status["capacity"], status["available"], status["used_size"]) == ("100GiB", "60GiB", "20GiB")
    assert (status["leader_count"], status["region_count"], status["leader_weight"]) == (1, 3, 1.0)
    assert (status["leader_size"], status["region_size"], status["leader_score"]) == (10, 60, 1.0)
    assert status["region_score"] > 60
    assert status["start_ts"] == "2023-11-14T21:56:40Z"
    assert status["last_heartbeat_ts"].startswith("20")
    assert status["uptime"].endswith("s")
    assert "is_busy" not in status
    assert "pending_peer_count" not in status


async def test_lists_and_filters(member: Member, http: Client) -> None:
    await member.cluster.store_admin.remove(4)
    found = await get(http, "/stores")
    assert (found["count"], [one["store"]["id"] for one in found["stores"]]) == (4, [1, 2, 3, 4])
    assert found["stores"][3]["store"]["state_name"] == "Offline"
    assert found["stores"][3]["store"]["state"] == 1
    await member.cluster.store_admin.bury(4)
    assert [one["store"]["id"] for one in (await get(http, "/stores"))["stores"]] == [1, 2, 3]
    assert [one["store"]["id"] for one in (await get(http, "/stores?state=2"))["stores"]] == [4]
    assert (await get(http, "/stores?state=0&state=2"))["count"] == 4
    assert await get(http, "/stores?state=9", 500) == "unknown StoreState: 9"
    assert await get(http, "/stores?state=up", 500) == 'strconv.Atoi: parsing "up": invalid syntax'
    assert [one["store"]["id"] for one in (await get(http, "/stores/check?state=Tombstone"))["stores"]] == [4]
    assert (await get(http, "/stores/check?state=up&state=down"))["count"] == 3
    assert await get(http, "/stores/check?state=odd", 400) == "unknown StoreState: odd"
    response = await http.delete(API + "/stores/remove-tombstone")
    assert await response.json() == "Remove tombstone successfully."
    assert await get(http, "/store/4", 404) == "[PD:core:ErrStoreNotFound]store 4 not found"


async def test_ids_are_checked(http: Client) -> None:
    refusal = {"code": "input", "msg": 'strconv.ParseUint: parsing "x": invalid syntax', "data": None}
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/label"), ("POST", "/weight"), ("POST", "/limit")):
        response = await http.request(method, f"{API}/store/x{path}", json={"rate": 1})
        assert (response.status, await response.json()) == (400, refusal), (method, path)


async def test_removal_and_its_cancellation(member: Member, http: Client) -> None:
    async def delete(store: int, query: str = "") -> tuple[int, Any]:
        response = await http.delete(f"{API}/store/{store}{query}")
        return response.status, await response.json()

    async def state(store: int, name: str) -> tuple[int, Any]:
        response = await http.post(f"{API}/store/{store}/state?state={name}")
        return response.status, await response.json()

    assert await delete(9) == (404, "[PD:core:ErrStoreNotFound]store 9 not found")
    assert await delete(4) == (200, "The store is set as Offline.")
    status, text = await delete(1)
    assert (status, "can not remove store 1 since the number of up stores would be 2 while need 3" in text) == (
        400,
        True,
    )
    assert await state(4, "up") == (200, "The store's state is updated.")
    assert await state(4, "Offline") == (200, "The store's state is updated.")
    assert await state(4, "Tombstone") == (400, "invalid state Tombstone")
    assert await state(9, "Up") == (404, "[PD:core:ErrStoreNotFound]store 9 not found")
    await member.cluster.store_admin.bury(4)
    assert await delete(4) == (410, "[PD:core:ErrStoreRemoved]store 4 has been removed")
    assert await state(4, "Up") == (410, "[PD:core:ErrStoreRemoved]store 4 has been removed")
    assert await delete(1, "?force") == (200, "The store is set as Offline.")
    assert member.cluster.stores_info.get(1).meta.physically_destroyed


def labels(member: Member, store_id: int) -> dict[str, str]:
    return {label.key: label.value for label in member.cluster.stores_info.get(store_id).meta.labels}


async def test_labels(member: Member, http: Client) -> None:
    path = "/store/1/label"
    assert await post(http, path, {"rack": "r1"}) == "The store's label is updated."
    assert labels(member, 1) == {"zone": "z1", "rack": "r1"}
    for body, text in (
        ({"rack": "r2", "a b": "c"}, 'a b does not match format "^[$]?[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$"'),
        ({"rack": "r2\n"}, 'r2\n does not match format "^[-A-Za-z0-9_./]*$"'),
        ({"rack": 1}, "json: cannot unmarshal number into Go value of type string"),
        ({"engine": "tiflash"}, 'label key "engine" is reserved'),
        ([], "json: cannot unmarshal array into Go value of type map[string]interface {}"),
    ):
        assert (await post(http, path, body, 400))["msg"] == text
    assert labels(member, 1) == {"zone": "z1", "rack": "r1"}
    assert await post(http, "/store/9/label", {"a": "b"}, 500) == "[PD:core:ErrStoreNotFound]store 9 not found"
    await post(http, path, {"host": "h"}, 200)
    response = await http.delete(API + path, json="HOST")
    assert await response.json() == "The label HOST is deleted for store 1."
    response = await http.delete(API + path, json="nothing")
    assert (response.status, await response.json()) == (500, "the label key nothing does not exist")
    response = await http.delete(API + path, data=b"")
    assert (await response.json())["msg"] == "unexpected end of JSON input"
    assert await post(http, path + "?force", {"dc": "d"}) == "The store's label is updated."
    assert labels(member, 1) == {"dc": "d"}


async def test_weights(member: Member, http: Client) -> None:
    path = "/store/1/weight"
    for body, text in (
        ({"region": 1}, "leader weight unset"),
        ({"leader": 1}, "region weight unset"),
        ({"leader": -1, "region": 1}, "bad format leader weight"),
        ({"leader": 1, "region": "x"}, "bad format region weight"),
    ):
        assert await post(http, path, body, 400) == text
    assert member.cluster.stores_info.get(1).leader_weight == 1
    assert await post(http, path, {"leader": 2, "region": 0.5}) == "The store's weight is updated."
    info = member.cluster.stores_info.get(1)
    assert (info.leader_weight, info.region_weight) == (2, 0.5)
    assert await post(http, "/store/9/weight", {"leader": 1, "region": 1}, 500) == (
        "[PD:core:ErrStoreNotFound]store 9 not found"
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "rate unset"),
        ({"rate": 0}, "invalid rate which should be larger than 0"),
        ({"rate": -5}, "invalid rate which should be larger than 0"),
        ({"rate": "15"}, "invalid rate which should be larger than 0"),
        ({"rate": 5, "type": 1}, "bad format type"),
        ({"rate": 5, "type": "odd"}, "unknown type"),
    ],
)
@pytest.mark.parametrize("path", ["/store/1/limit", "/stores/limit"])
async def test_bad_limits_change_nothing(http: Client, path: str, body: dict[str, Any], text: str) -> None:
    before = await get(http, "/stores/limit")
    assert await post(http, path, body, 400) == text
    assert await get(http, "/stores/limit") == before


async def test_limits(member: Member, http: Client) -> None:
    assert await post(http, "/store/1/limit", {"rate": 5, "type": "add-peer"}) == "The store's limit is updated."
    assert await post(http, "/stores/limit", {"rate": 7, "labels": {"zone": "z2"}}) == "Set store limit successfully."
    shown = await get(http, "/stores/limit")
    assert shown["1"] == {"add-peer": 5, "remove-peer": 15}
    assert shown["2"] == {"add-peer": 7, "remove-peer": 7}
    assert shown["3"] == {"add-peer": 15, "remove-peer": 15}
    assert await post(http, "/stores/limit", {"rate": 9, "type": "remove-peer"}) == "Set store limit successfully."
    limits = member.coordinator.store_limits()
    assert {store: limit.rate(LimitType.REMOVE_PEER) for store, limit in limits.items()} == dict.fromkeys(
        range(1, 5), 9
    )
    refusal = await post(http, "/stores/limit", {"rate": 9, "labels": {"a b": "c"}}, 400)
    assert "does not match format" in refusal["msg"]
    assert await post(http, "/store/9/limit", {"rate": 1}, 500) == "[PD:core:ErrStoreNotFound]store 9 not found"
    assert await post(http, "/store/1/limit?ttlSecond=5", {"rate": 1}, 400) == "ttlSecond is deprecated"
    assert await get(http, "/stores/limit?include_tombstone=x", 400) == 'strconv.ParseBool: parsing "x": invalid syntax'


async def test_labels_of_all_stores(member: Member, http: Client) -> None:
    await member.cluster.store_admin.set_labels(2, {"zone": "Z1"})
    assert await get(http, "/labels") == [{"key": "zone", "value": value} for value in ("z1", "z3", "z4")]
    found = await get(http, "/labels/stores?name=ZONE&value=z1")
    assert [one["store"]["id"] for one in found["stores"]] == [1, 2]
    assert (await get(http, "/labels/stores?name=zo.*&value=^z"))["count"] == 4
    assert "too complicated" in await get(http, "/labels/stores?name=(a%2B)%2B$&value=", 500)


async def test_before_the_first_store_there_is_no_cluster() -> None:
    member = await new_member(stores=0)
    text = "[PD:cluster:ErrNotBootstrapped]TiKV cluster not bootstrapped, please start TiKV first"
    async with serving(member) as http:
        for path in ("/stores", "/store/1", "/regions", "/region/id/1", "/operators", "/schedulers", "/config/rules"):
            assert await get(http, path, 500) == text, path
        assert (await get(http, "/cluster"))["max_peer_count"] == 3
        status = await get(http, "/cluster/status")
        assert status == {
            "raft_bootstrap_time": "0001-01-01T00:00:00Z",
            "is_initialized": False,
            "replication_status": "",
        }
