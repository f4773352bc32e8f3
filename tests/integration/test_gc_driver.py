"""A cluster without SQL servers moves its safe point on by itself, after ending what is older."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from core_py.codec import ts as tso
from core_py.runtime.config import Seconds
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2 as pb
from protos.kvproto import pdpb_pb2
from tests.integration.test_gc import are_equal, data, leads, write_versions
from tests.integration.test_storage_cluster import eventually, three_replicas, txn_client
from tests.support.storage_cluster import StorageCluster, storage_cluster
from tikv_py.client.errors import GcTooEarly, TxnClientError
from tikv_py.client.region.sender import with_region_retries
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.gc import SafePointInFuture
from tikv_py.engine.port import CF_LOCK, CF_WRITE
from tikv_py.gc.config import GcConfig
from tikv_py.server.config import TikvConfig

SETTINGS = TikvConfig(gc=GcConfig(poll_interval=Seconds(1.0), life_time=Seconds(10.0), run_interval=Seconds(2.0)))


def run(test: Callable[[StorageCluster, TxnClient], Awaitable[None]], settings: TikvConfig = SETTINGS) -> None:
    async def main() -> None:
        async with storage_cluster(3, settings=settings) as cluster:
            await three_replicas(cluster)
            async with await txn_client(cluster) as client:
                await test(cluster, client)

    run_virtual(main())


async def send(client: TxnClient, name: str, key: bytes, request: Any) -> Any:
    """One command to the region of a key, past the client's transactions."""
    backoffer = client.new_backoffer(20_000)

    async def attempt() -> Any:
        region = await client.region_cache.locate_key(key, backoffer)
        return await client.sender.send(region, name, request, backoffer=backoffer)

    return await with_region_retries(backoffer, attempt)


async def prewrite(client: TxnClient, primary: bytes, key: bytes, start_ts: int, **more: Any) -> Any:
    request = pb.PrewriteRequest(primary_lock=primary, start_version=start_ts, lock_ttl=3_600_000, txn_size=2, **more)
    request.mutations.add(op=pb.Put, key=key, value=b"of the dead")
    response = await send(client, "KvPrewrite", key, request)
    assert not response.errors
    return response


def test_garbage_goes_without_anybody_asking() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        await write_versions(client, [b"a", b"b"], 20)
        read_ts = await client.timestamp()

        async def shrunk() -> bool:
            return are_equal(cluster) and all(len(one) == 2 for one in data(cluster, CF_WRITE))

        await eventually(shrunk, "one version per key")
        state = await client.pd.get_gc_state()
        assert state.gc_safe_point == state.txn_safe_point > read_ts
        age_ms = tso.physical_ms(await client.timestamp()) - tso.physical_ms(state.gc_safe_point)
        assert 10_000 <= age_ms <= 13_000

    run(body)


def test_the_outcome_of_a_dead_client_is_settled_before_versions_go() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        await client.split_region([b"m"])
        committed_ts, undecided_ts, async_ts = await client.pd.timestamps(3)
        await prewrite(client, b"a", b"a", committed_ts)
        await prewrite(client, b"a", b"x", committed_ts)
        commit_ts = await client.timestamp()
        commit = pb.CommitRequest(start_version=committed_ts, keys=[b"a"], commit_version=commit_ts)
        assert not (await send(client, "KvCommit", b"a", commit)).HasField("error")
        await prewrite(client, b"b", b"b", undecided_ts)
        await prewrite(client, b"b", b"y", undecided_ts)
        await prewrite(client, b"c", b"z", async_ts, use_async_commit=True)
        primary = await prewrite(client, b"c", b"c", async_ts, use_async_commit=True, secondaries=[b"z"])
        assert primary.min_commit_ts
        await write_versions(client, [b"a"], 3)  # so that the primary's commit is garbage

        async def settled() -> bool:
            garbage = [len(one) for one in data(cluster, CF_WRITE)]
            return are_equal(cluster) and not data(cluster, CF_LOCK)[0] and garbage == [4, 4, 4]

        await eventually(settled, "locks gone, garbage gone")
        snapshot = client.snapshot(await client.timestamp())
        found = await snapshot.batch_get([b"a", b"b", b"c", b"x", b"y", b"z"])
        assert found == {b"a": b"2vvv", b"c": b"of the dead", b"x": b"of the dead", b"z": b"of the dead"}

    run(body)


def test_locks_are_settled_through_a_leader_change_and_many_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tikv_py.gc.lock_cleanup.SCAN_LIMIT", 3)

    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        await client.split_region([b"k3", b"k6"])
        start_ts = await client.timestamp()
        for number in range(10):
            await prewrite(client, b"k0", b"k%d" % number, start_ts)
        for node in cluster.nodes:
            assert node.server is not None
            node.server.fail.configure("gc_driver_before_locks", "delay(1000)")
        node = next(node for node in cluster.nodes if leads(cluster, node.name))
        await asyncio.sleep(12.5)
        await cluster.crash(node)
        await cluster.start_store(node)

        async def settled() -> bool:
            return not any(data(cluster, CF_LOCK))

        await eventually(settled, "no lock left")
        assert await client.snapshot(await client.timestamp()).batch_get([b"k%d" % n for n in range(10)]) == {}

    run(body)


def test_a_reservation_is_given_back_and_its_owner_told() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        txn = await client.begin(pessimistic=True)
        await txn.lock_keys([b"k"])
        txn.put(b"k", b"v")

        async def settled() -> bool:
            return not any(data(cluster, CF_LOCK))

        await eventually(settled, "no lock left")
        with pytest.raises(TxnClientError):
            await txn.commit()

    run(body)


def test_a_barrier_holds_the_safe_point_back() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        await write_versions(client, [b"a"], 5)
        barrier = await client.timestamp()
        await write_versions(client, [b"a"], 5)
        await client.drain(5.0)
        request = pdpb_pb2.UpdateServiceGCSafePointRequest(service_id=b"backup", TTL=40, safe_point=barrier)
        await client.pd._members.call("UpdateServiceGCSafePoint", request)
        await asyncio.sleep(30.0)
        state = await client.pd.get_gc_state()
        assert (state.txn_safe_point, state.gc_safe_point) == (barrier, barrier)
        assert len(data(cluster, CF_WRITE)[0]) == 6
        assert await client.snapshot(barrier).get(b"a") == b"4vvv"
        await asyncio.sleep(30.0)
        assert len(data(cluster, CF_WRITE)[0]) == 1

    run(body)


def test_without_a_life_time_nothing_moves() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        await write_versions(client, [b"a"], 5)
        await asyncio.sleep(60.0)
        assert (await client.pd.get_gc_state()).txn_safe_point == 0
        assert len(data(cluster, CF_WRITE)[0]) == 5

    run(body, replace(SETTINGS, gc=replace(SETTINGS.gc, life_time=Seconds(0.0))))


def test_a_client_collects_when_it_wants_to() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        await write_versions(client, [b"a"], 5)
        await client.split_region([b"m"])
        dead_ts = await client.timestamp()
        for key in (b"b", b"x"):
            await prewrite(client, b"b", key, dead_ts)
        old = await client.begin()
        assert await old.get(b"a") == b"4vvv"
        old.put(b"a", b"too late")
        safe_point = await client.timestamp()
        with pytest.raises(SafePointInFuture):
            await client.gc(safe_point + (60_000 << 18))
        assert await client.gc(safe_point) == safe_point
        assert not any(data(cluster, CF_LOCK))
        with pytest.raises(GcTooEarly, match=f"start ts is {old.start_ts}, txn safe point is {safe_point}"):
            await old.commit()
        with pytest.raises(GcTooEarly):
            await client.snapshot(old.start_ts).get(b"a")

        async def shrunk() -> bool:
            return are_equal(cluster) and all(len(one) == 1 for one in data(cluster, CF_WRITE))

        await eventually(shrunk, "one version")

    run(body, replace(SETTINGS, gc=replace(SETTINGS.gc, life_time=Seconds(0.0))))


def test_another_client_hears_of_the_safe_point_within_ten_seconds() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        for node in cluster.nodes:
            assert node.server is not None
            node.server.fail.configure("gc_before_remove", "return(not yet)")
        await write_versions(client, [b"a"], 2)
        read_ts = await client.timestamp()
        async with await txn_client(cluster) as other:
            assert await other.snapshot(read_ts).get(b"a") == b"1vvv"
            await client.pd.advance_txn_safe_point(read_ts + 1)
            await asyncio.sleep(10.0)
            await other.snapshot(read_ts + 1).get(b"a")  # asks PD in the background
            await asyncio.sleep(1.0)
            with pytest.raises(GcTooEarly):
                await other.snapshot(read_ts).get(b"a")

    run(body, replace(SETTINGS, gc=replace(SETTINGS.gc, life_time=Seconds(0.0))))
