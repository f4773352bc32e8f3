"""Stores that die, come back, move and are removed, as one client sees them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core_py.errors import RpcError
from core_py.region_errors import DataIsNotReady, RegionError, ServerIsBusy, StoreNotMatch
from protos.kvproto import kvrpcpb_pb2, metapb_pb2
from tests.unit.client.clusters import with_cluster
from tikv_py.client.errors import RegionStale
from tikv_py.client.pd.errors import StoreNotFound
from tikv_py.client.region.health import Liveness
from tikv_py.client.region.replicas import ReplicaRead
from tikv_py.client.region.store import NO_INTEREST_S, StoreHandle
from tikv_py.client.testing.cluster import MemoryCluster
from tikv_py.client.testing.store import MemoryStore
from tikv_py.client.txn.client import TxnClient


class Net:
    """A fault of the memory network: answers of some processes are late, and some links are cut."""

    def __init__(self) -> None:
        self.delays: dict[str, float] = {}
        self.cut: set[str] = set()

    def connected(self, source: str, target: str) -> bool:
        return source not in self.cut and target not in self.cut

    def delay_s(self, source: str, _target: str) -> float:
        return self.delays.get(source, 0.0)


async def put(client: TxnClient, key: bytes, value: bytes) -> None:
    async with client.begin() as txn:
        txn.put(key, value)


async def get(client: TxnClient, key: bytes) -> bytes | None:
    return await client.snapshot(await client.timestamp()).get(key)


async def send_get(client: TxnClient, key: bytes, **options: Any) -> Any:
    backoffer = client.new_backoffer(20_000)
    region = await client.region_cache.locate_key(key, backoffer)
    request = kvrpcpb_pb2.GetRequest(key=key, version=await client.timestamp())
    return await client.sender.send(region, "KvGet", request, backoffer=backoffer, **options)


async def handle_of(client: TxnClient, store_id: int = 1) -> StoreHandle:
    return await client.stores.get(store_id)


def test_a_dead_store_is_checked_once_and_left_alone_until_it_is_back() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        loop = asyncio.get_running_loop()
        await put(client, b"a", b"1")
        handle = await handle_of(client)
        await cluster.stores[1].stop()
        cluster.move_leader(b"a", 2)
        began = loop.time()
        assert await asyncio.gather(*(get(client, b"a") for _ in range(50))) == [b"1"] * 50
        assert loop.time() - began < 0.3
        assert handle.liveness.name == "UNREACHABLE"
        assert client.stores.stats.health_checks <= 2
        sent = client.stores.stats.streams_opened
        cluster.move_leader(b"a", 3)
        assert await get(client, b"a") == b"1"
        await asyncio.sleep(1)
        assert client.stores.stats.streams_opened <= sent + 1, "the dead store is not tried"
        await cluster.stores[1].start()
        cluster.move_leader(b"a", 1)
        await asyncio.sleep(2.1)
        assert handle.liveness.name == "REACHABLE"
        assert await get(client, b"a") == b"1"
        assert handle.watcher is not None
        assert handle.watcher.done()

    with_cluster(body)


def test_a_store_that_is_alive_but_broke_its_stream_is_asked_again() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        handle = await handle_of(client)
        asked = dict(cluster.stores[2].calls), dict(cluster.stores[3].calls)
        breaks = 2

        def break_it(store: MemoryStore, name: str, _request: Any) -> None:
            nonlocal breaks
            if name == "KvGet" and breaks:
                breaks -= 1
                raise RpcError("reset")

        cluster.before.append(break_it)
        assert await get(client, b"a") == b"1"
        assert (dict(cluster.stores[2].calls), dict(cluster.stores[3].calls)) == asked
        assert handle.liveness.name == "REACHABLE"

    with_cluster(body)


def test_a_store_that_hangs_is_found_out_and_others_are_asked() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        loop = asyncio.get_running_loop()
        await put(client, b"a", b"1")
        net = Net()
        cluster.network.fault = net
        net.delays["kv1"] = 10_000.0
        cluster.move_leader(b"a", 2)
        began = loop.time()
        response = await send_get(client, b"a", timeout_s=2.0)
        assert response.value == b"1"
        assert 3.0 <= loop.time() - began < 3.6  # its deadline, and a second for the health check
        assert (await handle_of(client)).liveness is Liveness.UNREACHABLE
        began = loop.time()
        assert (await send_get(client, b"a")).value == b"1"
        assert loop.time() - began < 0.1
        net.delays.clear()

    with_cluster(body)


def test_a_store_that_does_not_serve_is_left_and_one_that_does_not_know_is_tried() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        handle = await handle_of(client)
        cluster.stores[1].serving = False
        assert await client.stores.failed(handle, RpcError("reset")) is Liveness.UNREACHABLE
        cluster.move_leader(b"a", 2)
        asked = cluster.stores[1].calls["KvGet"]
        assert (await send_get(client, b"a")).value == b"1"
        assert cluster.stores[1].calls["KvGet"] == asked

    with_cluster(body)


def test_a_dead_store_nobody_wants_is_not_asked_for_ever() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        handle = await handle_of(client)
        await cluster.stores[1].stop()
        await client.stores.failed(handle, RpcError("reset"))
        await asyncio.sleep(NO_INTEREST_S + 10)
        assert handle.liveness.name == "UNKNOWN"
        assert handle.watcher is not None
        assert handle.watcher.done()
        await cluster.stores[1].start()
        assert await get(client, b"a") == b"1"
        assert handle.liveness.name == "REACHABLE"

    with_cluster(body)


def test_a_dead_store_that_moved_is_found_at_its_new_address() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        store, old = cluster.stores[1], await handle_of(client)
        await store.stop()
        with pytest.raises(RegionStale, match=r"store 1 at kv1:1, is unreachable: .*nothing listens on kv1:1"):
            await send_get(client, b"a")
        store.address = "elsewhere:1"
        await store.start()
        cluster.topology.stores[1].address = "elsewhere:1"
        await asyncio.sleep(2.5)
        assert await get(client, b"a") == b"1"
        assert (await handle_of(client)).address == "elsewhere:1"
        assert old.watcher is not None
        assert old.watcher.done()

    with_cluster(body)


def test_another_store_at_the_old_address_is_not_believed() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        one, two = cluster.stores[1], cluster.stores[2]

        def is_me(store: MemoryStore, _name: str, request: Any) -> RegionError | None:
            wanted = request.context.peer.store_id
            return None if wanted == store.id else StoreNotMatch(wanted, store.id)

        cluster.before.append(is_me)
        for store in (one, two):
            await store.stop()
        one.address, two.address = two.address, one.address
        for store in (one, two):
            await store.start()
            cluster.topology.stores[store.id].address = store.address
        assert await get(client, b"a") == b"1"
        assert (await handle_of(client)).address == "kv2:1"

    with_cluster(body)


def test_a_removed_store_makes_its_regions_stale() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        handle = await handle_of(client)
        await cluster.stores[1].stop()
        cluster.topology.stores[1].state = metapb_pb2.Tombstone
        await client.stores.failed(handle, RpcError("reset"))
        await asyncio.sleep(1)
        assert client.stores.peek(1) is None
        with pytest.raises(StoreNotFound, match="store 1 was removed"):
            await client.stores.get(1)
        cluster.move_leader(b"a", 2)
        assert await get(client, b"a") == b"1"

    with_cluster(body)


def test_a_slow_replica_is_left_out_until_it_says_that_it_is_well() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        cluster.stores[2].slow_score = 95
        for _ in range(20):
            await send_get(client, b"a", replica_read=True)
        asked = cluster.stores[2].calls["KvGet"]
        assert asked <= 2
        for _ in range(20):
            await send_get(client, b"a", replica_read=True)
        assert cluster.stores[2].calls["KvGet"] == asked
        cluster.stores[2].slow_score = 1
        await asyncio.sleep(15)
        await send_get(client, b"a", replica_read=True)
        await asyncio.sleep(1)
        assert cluster.stores[2].calls["GetHealthFeedback"] == 1
        for _ in range(20):
            await send_get(client, b"a", replica_read=True)
        assert cluster.stores[2].calls["KvGet"] > asked

    with_cluster(body)


def test_a_replica_that_answers_late_is_left_out_for_a_while() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        net = Net()
        cluster.network.fault = net
        net.delays["kv1"] = 1.0
        for _ in range(10):
            await send_get(client, b"a", replica_read=ReplicaRead.PREFER_LEADER)
        assert cluster.stores[1].calls["KvGet"] <= 2
        net.delays.clear()
        await asyncio.sleep(20)
        before = cluster.stores[1].calls["KvGet"]
        for _ in range(5):
            await send_get(client, b"a", replica_read=ReplicaRead.PREFER_LEADER)
        assert cluster.stores[1].calls["KvGet"] == before + 5

    with_cluster(body)


def test_closest_replicas_go_by_the_labels_of_stores() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        for number, store in cluster.topology.stores.items():
            store.labels.add(key="zone", value=f"z{number}")
        await put(client, b"a", b"1")
        await asyncio.gather(*(client.stores.get(number) for number in cluster.stores))
        near = ReplicaRead.closest({"zone": "z3"})
        before = cluster.stores[3].calls["KvGet"]
        for _ in range(10):
            assert (await send_get(client, b"a", replica_read=near)).value == b"1"
        assert cluster.stores[3].calls["KvGet"] == before + 10
        assert client.sender.stats.replica_reads == 10

    with_cluster(body)


def test_a_busy_replica_is_passed_by_at_once() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        loop = asyncio.get_running_loop()
        await put(client, b"a", b"1")

        def busy(store: MemoryStore, name: str, _request: Any) -> RegionError | None:
            return ServerIsBusy("full") if name == "KvGet" and store.id != 3 else None

        cluster.before.append(busy)
        began = loop.time()
        for _ in range(10):
            assert (await send_get(client, b"a", replica_read=True)).value == b"1"
        assert loop.time() == began
        assert client.sender.stats.region_errors["server_is_busy"] >= 1

    with_cluster(body)


def test_a_stale_read_behind_the_safe_timestamp_goes_to_the_leader() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        seen: list[tuple[int, bool, bool]] = []

        def behind(store: MemoryStore, name: str, request: Any) -> RegionError | None:
            if name != "KvGet":
                return None
            seen.append((store.id, request.context.stale_read, request.context.replica_read))
            return DataIsNotReady(2, request.context.peer.id, 5) if request.context.stale_read else None

        cluster.before.append(behind)
        assert (await send_get(client, b"a", stale_read=True)).value == b"1"
        assert [entry[1:] for entry in seen] == [(True, False), (False, False)]
        assert seen[1][0] == 1

    with_cluster(body)


def test_urgent_requests_are_told_by_their_context() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        handle = await handle_of(client)
        urgent: list[bool] = []
        call = handle.connection.call

        async def watched(*arguments: Any, **options: Any) -> Any:
            urgent.append(options["urgent"])
            return await call(*arguments, **options)

        handle.connection.call = watched  # type: ignore[method-assign]
        backoffer = client.new_backoffer(1000)
        region = await client.region_cache.locate_key(b"a", backoffer)
        for priority in (kvrpcpb_pb2.Normal, kvrpcpb_pb2.High):
            request = kvrpcpb_pb2.GetRequest(key=b"a", version=1)
            request.context.priority = priority
            await client.sender.send(region, "KvGet", request, backoffer=backoffer)
        assert urgent == [False, True]

    with_cluster(body)


def test_stores_are_told_how_long_a_caller_waits() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, b"a", b"1")
        for options in ({}, {"replica_read": True}):
            await send_get(client, b"a", timeout_s=1.5, **options)
            assert cluster.requests[-1][1].context.max_execution_duration_ms == 1500
        backoffer = client.new_backoffer(1000)
        region = await client.region_cache.locate_key(b"a", backoffer)
        request = kvrpcpb_pb2.GetRequest(key=b"a", version=1)
        request.context.max_execution_duration_ms = 7
        await client.sender.send(region, "KvGet", request, backoffer=backoffer)
        assert cluster.requests[-1][1].context.max_execution_duration_ms == 7

    with_cluster(body)
