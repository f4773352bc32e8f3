"""Region pages: shapes, keys as bytes, orders, states, histograms; many regions do not hold up the loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pd_py.api import region_json
from pd_py.api.region_actions import MAX_RETRIES, retries
from pd_py.cluster.regions import Regions
from tests.unit.pd_api.member import API, MIB, Client, Member, region


async def get(http: Client, path: str, status: int = 200) -> Any:
    response = await http.get(API + path)
    assert response.status == status, await response.text()
    assert response.content_type == "application/json"
    return await response.json()


async def post(http: Client, path: str, body: Any, status: int = 200) -> Any:
    response = await http.post(API + path, json=body)
    assert response.status == status, await response.text()
    return await response.json() if response.content_type == "application/json" else await response.text()


async def test_one_region_has_the_public_shape(http: Client) -> None:
    assert await get(http, "/region/id/2") == {
        "id": 2,
        "start_key": "62",
        "end_key": "6DFF",
        "epoch": {"conf_ver": 4, "version": 3},
        "peers": [
            {"role_name": "Voter", "id": 22, "store_id": 2},
            {"role_name": "Voter", "id": 21, "store_id": 1},
            {"role_name": "Voter", "id": 23, "store_id": 3},
        ],
        "leader": {"role_name": "Voter", "id": 22, "store_id": 2},
        "cpu_usage": 0,
        "written_bytes": 6000,
        "read_bytes": 6,
        "written_keys": 0,
        "read_keys": 0,
        "approximate_size": 10,
        "approximate_keys": 90,
        "approximate_kv_size": 10,
        "approximate_columnar_kv_size": 0,
    }


async def test_peers_that_are_down_or_pending_are_named(member: Member, http: Client) -> None:
    member.report(
        region(2, b"b", b"m\xff", (2, 1, 3), version=3, conf_ver=4, down=frozenset({21}), pending=frozenset({23}))
    )
    shown = await get(http, "/region/id/2")
    down = [{"peer": {"role_name": "Voter", "id": 21, "store_id": 1}, "down_seconds": 3600}]
    assert shown["down_peers"] == down
    assert shown["pending_peers"] == [{"role_name": "Voter", "id": 23, "store_id": 3}]
    assert [one["id"] for one in (await get(http, "/regions/check/down-peer"))["regions"]] == [2]
    assert [one["id"] for one in (await get(http, "/regions/check/pending-peer"))["regions"]] == [2]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/region/id/x", 400, 'strconv.ParseUint: parsing "x": invalid syntax'),
        ("/region/id/-1", 400, 'strconv.ParseUint: parsing "-1": invalid syntax'),
        (
            "/region/id/99999999999999999999",
            400,
            'strconv.ParseUint: parsing "99999999999999999999": value out of range',
        ),
        ("/region/id/0", 400, "[PD:region:ErrRegionInvalidID]invalid region id"),
        ("/region/id/9", 404, "[PD:region:ErrRegionNotFound]region 9 not found"),
        ("/region/key/zz?format=hex", 400, "encoding/hex: invalid byte: U+007A 'z'"),
        ("/regions/key?key=abc&format=hex", 400, "encoding/hex: odd length hex string"),
        ("/regions/key?limit=x", 400, 'strconv.Atoi: parsing "x": invalid syntax'),
        ("/regions/size?limit=1.5", 400, 'strconv.Atoi: parsing "1.5": invalid syntax'),
        ("/regions/store/x", 400, 'strconv.Atoi: parsing "x": invalid syntax'),
        ("/regions/store/1?type=odd", 400, "unknown region type odd"),
        ("/regions/sibling/9", 404, "[PD:region:ErrRegionNotFound]region 9 not found"),
        ("/regions/check/hist-size?bound=x", 400, 'strconv.Atoi: parsing "x": invalid syntax'),
    ],
)
async def test_what_is_wrong_is_said_in_the_public_words(http: Client, path: str, status: int, text: str) -> None:
    assert await get(http, path, status) == text


async def test_keys_are_bytes(http: Client) -> None:
    for path in ("/region/key/m%FE", "/region/key/6dfe?format=hex", "/region/key/c%2Fd", "/region/key/c+d"):
        assert (await get(http, path))["id"] == 2, path
    assert (await get(http, "/region/key/m%FF"))["id"] == 3
    found = await get(http, "/regions/key?key=m%FF&limit=5")
    assert [one["id"] for one in found["regions"]] == [3]
    found = await get(http, "/regions/key?key=62&end_key=63&format=hex")
    assert [one["id"] for one in found["regions"]] == [2]


async def test_lists(http: Client) -> None:
    everything = await get(http, "/regions")
    assert (everything["count"], [one["id"] for one in everything["regions"]]) == (3, [1, 2, 3])
    assert await get(http, "/regions/count") == {"count": 3, "regions": None}
    assert [one["id"] for one in (await get(http, "/regions/key?limit=2"))["regions"]] == [1, 2]
    assert {one["id"] for one in (await get(http, "/regions/store/2"))["regions"]} == {1, 2, 3}
    assert {one["id"] for one in (await get(http, "/regions/store/2?type=leader"))["regions"]} == {2}
    assert {one["id"] for one in (await get(http, "/regions/store/2?type=follower"))["regions"]} == {1, 3}
    assert (await get(http, "/regions/store/4"))["count"] == 0
    assert [one["id"] for one in (await get(http, "/regions/sibling/2"))["regions"]] == [1, 3]
    assert [one["id"] for one in (await get(http, "/regions/sibling/1"))["regions"]] == [2]
    assert await get(http, "/regions/range-holes") == []


@pytest.mark.parametrize(
    ("order", "ids"),
    [
        ("writeflow", [2, 1, 3]),
        ("readflow", [3, 1, 2]),
        ("confver", [1, 2, 3]),
        ("version", [3, 2, 1]),
        ("size", [1, 2, 3]),
    ],
)
async def test_the_largest_come_first(http: Client, order: str, ids: list[int]) -> None:
    assert [one["id"] for one in (await get(http, f"/regions/{order}"))["regions"]] == ids
    assert [one["id"] for one in (await get(http, f"/regions/{order}?limit=1"))["regions"]] == ids[:1]
    assert (await get(http, f"/regions/{order}?limit=-1"))["count"] == 0


async def test_states_and_histograms(member: Member, http: Client) -> None:
    assert [one["id"] for one in (await get(http, "/regions/check/empty-region"))["regions"]] == [3]
    member.report(region(4, b"zz", b"", (1, 2), version=9))
    assert [one["id"] for one in (await get(http, "/regions/check/miss-peer"))["regions"]] == [4]
    assert await get(http, "/regions/check/hist-size?bound=20") == [
        {"start": 0, "end": 19, "count": 2},
        {"start": 40, "end": 59, "count": 1},
    ]
    assert await get(http, "/regions/check/hist-keys") == [
        {"start": 0, "end": 999, "count": 1},
        {"start": 1000, "end": 1999, "count": 2},
    ]
    assert (await http.get(API + "/regions/check/odd")).status == 404


async def test_holes_are_found(member: Member, http: Client) -> None:
    member.report(region(2, b"c", b"d", version=8, conf_ver=4))
    assert await get(http, "/regions/range-holes") == [["62", "63"], ["64", "6DFF"]]


def test_sizes_are_counted_as_in_the_public_server() -> None:
    sizes = {0: 0, 1: 1, MIB: 1, 2 * MIB - 1: 1, 2 * MIB: 2}
    assert {size: region_json.approximate_mib(region(1, b"", b"", size_bytes=size)) for size in sizes} == sizes


async def test_many_regions_are_sent_in_pieces_between_turns_of_the_loop(member: Member, http: Client) -> None:
    count = 3000
    keys = [b"%06d" % number for number in range(count)]
    views = [
        region(10 + at, b"" if at == 0 else keys[at], b"" if at == count - 1 else keys[at + 1], version=50)
        for at in range(count)
    ]
    regions: Regions = member.cluster.regions
    for view in views:
        assert regions.put(view)
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    watcher = asyncio.get_running_loop().create_task(watch())
    try:
        found = await get(http, "/regions")
        turns_for_all = turns
        top = await get(http, "/regions/size?limit=20000")
    finally:
        watcher.cancel()
    assert found["count"] == len(found["regions"]) == count
    assert [one["id"] for one in found["regions"]] == [view.region_id for view in views]
    assert turns_for_all > count // region_json.PAGE
    assert top["count"] == count
    assert await get(http, "/regions/check/hist-size") == [{"start": 10, "end": 10, "count": count}]


async def test_scatter_and_split(member: Member, http: Client) -> None:
    assert await post(http, "/regions/scatter", {"regions_id": "x"}, 500) == "regions_id is invalid"
    assert await post(http, "/regions/scatter", {"regions_id": [True]}, 500) == "regions_id is invalid"
    assert await post(http, "/regions/scatter", {"start_key": "zz", "end_key": ""}, 500) == (
        "encoding/hex: invalid byte: U+007A 'z'"
    )
    answer = await post(http, "/regions/scatter", {"start_key": "", "end_key": "", "group": "t", "retry_limit": 0})
    assert answer["processed-percentage"] == 100
    for body, text in (
        ({}, "split_keys should be provided."),
        ({"split_keys": "00"}, "split_keys should be an array."),
        ({"split_keys": []}, "empty split keys."),
        ({"split_keys": [1]}, "split_keys should contain only strings."),
    ):
        assert await post(http, "/regions/split", body, 400) == text
    assert await post(http, "/regions/split", {"split_keys": ["0"]}, 500) == "encoding/hex: odd length hex string"
    answer = await post(http, "/regions/split", {"split_keys": ["62"], "retry_limit": 0})
    assert answer == {"processed-percentage": 100, "regions-id": [2]}


def test_retries_are_bounded() -> None:
    assert [retries({"retry_limit": given}) for given in (None, "x", -4, 3.9, 1e9, True)] == [
        5,
        5,
        0,
        3,
        MAX_RETRIES,
        5,
    ]


async def test_accelerate(member: Member, http: Client) -> None:
    suspects = member.coordinator.core.checkers
    path = "/regions/accelerate-schedule"
    context = member.coordinator.core.context(member.cluster.clock.monotonic())
    suspects.take_suspects(context, 100)  # those of the default rule, which has just been set
    assert await post(http, path, {"start_key": 1}, 400) == "start_key or end_key is not string"
    text = await post(http, path, {"start_key": "62", "end_key": "6dff"})
    assert text == "Accelerate regions scheduling in a given range [62,6dff)"
    assert suspects.take_suspects(context, 10) == [2]
    assert await post(http, f"{path}/batch", [{"start_key": "62"}], 400) == "missing end_key"
    assert await post(http, f"{path}/batch", [{"start_key": "62", "end_key": 3}], 400) == "bad format end_key"
    text = await post(http, f"{path}/batch?limit=1", [{"start_key": "", "end_key": ""}])
    assert text == "Accelerate regions scheduling in given ranges: [,), "
    assert suspects.take_suspects(context, 10) == [1]


async def test_replicated(member: Member, http: Client) -> None:
    assert await get(http, "/regions/replicated?startKey=&endKey=") == "REPLICATED"
    member.report(region(3, b"m\xff", b"", (3, 1), version=4, conf_ver=4))
    assert await get(http, "/regions/replicated?startKey=6dff&endKey=") == "INPROGRESS"
    assert await get(http, "/regions/replicated?startKey=&endKey=62") == "REPLICATED"
    assert await get(http, "/regions/replicated?startKey=6&endKey=", 400) == "encoding/hex: odd length hex string"
