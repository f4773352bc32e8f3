"""Reactions to region errors and broken connections, the batching of commands, and the texts of spent budgets."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from core_py.errors import RpcError
from core_py.region_errors import (
    MismatchPeerId,
    RaftEntryTooLarge,
    ReadIndexNotReady,
    RegionError,
    RegionNotFound,
    RegionNotInitialized,
    ServerIsBusy,
    StaleCommand,
    StoreNotMatch,
)
from core_py.sim.loop import run_virtual
from protos.kvproto import coprocessor_pb2, kvrpcpb_pb2
from tests.unit.client.clusters import with_cluster
from tikv_py.client.errors import RegionStale, RegionUnavailable, TikvBusy, TikvTimeout
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.testing.cluster import MemoryCluster
from tikv_py.client.testing.faults import once
from tikv_py.client.testing.store import MemoryStore
from tikv_py.client.txn.client import TxnClient


async def get(client: TxnClient, key: bytes) -> bytes | None:
    return await client.snapshot(await client.timestamp()).get(key)


async def put(client: TxnClient, key: bytes, value: bytes) -> None:
    async with client.begin() as txn:
        txn.put(key, value)


def test_leader_hint_is_followed() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        cluster.move_leader(b"a", 3)
        began = asyncio.get_running_loop().time()
        assert await get(client, b"a") == b"1"
        assert asyncio.get_running_loop().time() == began
        region = client.region_cache.peek(2)
        assert region is not None
        assert region.leader.store_id == 3
        assert cluster.pd.calls["GetRegion"] + cluster.pd.calls["ScanRegions"] == 1

    with_cluster(body)


def test_leader_is_searched_without_a_hint() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        cluster.tell_leader = False
        cluster.move_leader(b"a", 3)
        assert await get(client, b"a") == b"1"

    with_cluster(body)


@pytest.mark.parametrize("births", [1, 1000])
def test_a_replica_that_is_being_born_is_waited_for_and_then_passed_by(births: int) -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        left = births

        def unborn(store: MemoryStore, name: str, request: Any) -> RegionError | None:
            nonlocal left
            if name != "KvGet" or store.id != 1 or left == 0:
                return None
            left -= 1
            return RegionNotInitialized(request.context.region_id)

        cluster.before.append(unborn)
        if births > 1:
            cluster.move_leader(b"a", 3)
        began = asyncio.get_running_loop().time()
        assert await get(client, b"a") == b"1"
        assert asyncio.get_running_loop().time() - began < 0.2
        region = client.region_cache.peek(2)
        assert region is not None
        assert region.leader.store_id == (1 if births == 1 else 3)

    with_cluster(body)


def test_dead_leader_store() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        await cluster.stores[1].stop()
        read = asyncio.get_running_loop().create_task(get(client, b"a"))
        await asyncio.sleep(3)
        cluster.move_leader(b"a", 2)
        assert await read == b"1"
        await cluster.stores[1].start()

    with_cluster(body)


def test_store_that_moved_to_another_address() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        store = cluster.stores[1]
        await store.stop()
        store.address = "elsewhere:1"
        await store.start()
        cluster.topology.stores[1].address = "elsewhere:1"
        assert await get(client, b"a") == b"1"

    with_cluster(body)


@pytest.mark.parametrize(
    "error",
    [
        RegionNotFound(2),
        MismatchPeerId(1, 2),
        StoreNotMatch(1, 2),
        StaleCommand(2),
        ReadIndexNotReady(2, "merging"),
        RegionError("TiKV is Closing"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_settled_by_trying_again(error: RegionError) -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        cluster.before.append(once("KvGet", error))
        assert await get(client, b"a") == b"1"

    with_cluster(body)


def test_errors_for_the_caller() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.before.append(once("KvGet", RaftEntryTooLarge(2, 9 << 20)))
        with pytest.raises(RaftEntryTooLarge):
            await get(client, b"a")

    with_cluster(body)


def test_epoch_not_match_renews_the_cache_and_is_raised() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        backoffer = client.new_backoffer(1000)
        region = await client.region_cache.locate_key(b"a", backoffer)
        cluster.split(b"m")
        request = coprocessor_pb2.Request(tp=103)
        with pytest.raises(RegionStale):
            await client.send_coprocessor(region, request, backoffer)
        asked = cluster.pd.calls["GetRegion"]
        assert (await client.region_cache.locate_key(b"a", backoffer)).end == b"m"
        assert (await client.region_cache.locate_key(b"z", backoffer)).start == b"m"
        assert cluster.pd.calls["GetRegion"] == asked
        client.region_cache.check_invariants()

    with_cluster(body)


def test_budget_error_names_place_and_causes() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        region = await client.region_cache.locate_key(b"a", client.new_backoffer(1000))
        cluster.before.append(once("KvGet", ServerIsBusy("queue is full"), times=100))
        with pytest.raises(TikvBusy) as caught:
            await client.sender.send(
                region, "KvGet", kvrpcpb_pb2.GetRequest(key=b"a"), backoffer=client.new_backoffer(20_000)
            )
        text = str(caught.value)
        assert "region 2 epoch 1,1 store 1" in text
        assert text.count("queue is full") == 3
        assert "tikvServerBusy x" in text
        assert caught.value.mysql_code == 9003
        cluster.before.clear()
        for store in cluster.stores.values():
            await store.stop()
        with pytest.raises((TikvTimeout, RegionUnavailable)) as dead:
            await get(client, b"a")
        assert "nothing listens on kv" in str(dead.value)
        for store in cluster.stores.values():
            await store.start()

    with_cluster(body)


def test_commands_of_one_turn_share_a_message() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        snapshot = client.snapshot(await client.timestamp())
        sizes = cluster.stores[1].batch_sizes
        sizes.clear()
        assert set(await asyncio.gather(*(snapshot.get(b"a") for _ in range(300)))) == {b"1"}
        assert sum(sizes) == 300
        assert max(sizes) == 128
        assert len(sizes) <= 4

    with_cluster(body)


def test_broken_stream_fails_all_in_flight_and_reconnects() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        snapshot = client.snapshot(await client.timestamp())
        cluster.after.append(once("KvGet"))
        assert set(await asyncio.gather(*(snapshot.get(b"a") for _ in range(50)))) == {b"1"}

        region = await client.region_cache.locate_key(b"a", client.new_backoffer(1000))
        cluster.after.append(once("KvGet"))
        backoffer = client.new_backoffer(1000)
        request = kvrpcpb_pb2.GetRequest(key=b"a", version=snapshot.ts)
        with pytest.raises(RpcError) as caught:
            await client.sender.send(region, "KvGet", request, backoffer=backoffer, idempotent=False)
        assert caught.value.sent
        assert backoffer.rpc_error is caught.value

    with_cluster(body)


def test_cancelled_and_timed_out_calls_are_forgotten() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        snapshot = client.snapshot(await client.timestamp())
        tasks = [asyncio.get_running_loop().create_task(snapshot.get(b"a")) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [value for value in done if not isinstance(value, BaseException)] == [b"1"] * 5
        handle = await client.stores.get(1)
        assert not handle.connection._streams[0]._calls

    with_cluster(body)


def test_store_without_batch_commands() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        assert await get(client, b"a") == b"1"

    with_cluster(body, batch=False)


def test_replica_read_spreads() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        snapshot = client.snapshot(await client.timestamp(), replica_read=True)
        for _ in range(30):
            assert await snapshot.get(b"a") == b"1"
        assert all(store.calls["KvGet"] for store in cluster.stores.values())

    with_cluster(body)


def test_split_region_request() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        regions = await client.split_region([b"m", b"c"])
        assert len(regions) == 3
        assert [r.start for r in await client.region_cache.regions_of_range(b"", b"", client.new_backoffer(1000))] == [
            b"",
            b"c",
            b"m",
        ]
        assert await client.split_region([b"c"]) == []

    with_cluster(body)


def test_backoff_grows_to_its_cap_and_forks_share_history() -> None:
    async def body() -> None:
        backoffer = Backoffer(10_000, random.Random(1))
        pauses = []
        for _ in range(12):
            before = backoffer.spent_ms
            await backoffer.backoff(kinds.REGION_MISS, "x")
            pauses.append(backoffer.spent_ms - before)
        assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 500, 500, 500, 500]
        branch = backoffer.fork()
        await branch.backoff(kinds.REGION_MISS, "y")
        assert branch.spent_ms == backoffer.spent_ms + 500
        backoffer.join(branch)
        assert backoffer.spent_ms == branch.spent_ms
        equal = Backoffer(10**9, random.Random(2))
        for number in range(8):
            before = equal.spent_ms
            await equal.backoff(kinds.TIKV_RPC, "z")
            full = min(2000, 100 << number)
            assert full // 2 <= equal.spent_ms - before <= full

    run_virtual(body())


def test_unknown_type_of_answer() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        handle = await client.stores.get(1)
        cluster.stores[1].wrong_answers = True
        with pytest.raises(RpcError, match="answered by Empty"):
            await handle.connection.call("KvGet", kvrpcpb_pb2.GetRequest(key=b"a"), 1)

    with_cluster(body)
