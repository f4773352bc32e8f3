"""The memory cluster as users of the client see it: waits, deadlocks, faults, regions, time to live, the past."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from core_py.region_errors import ServerIsBusy
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.client.errors import DeadlockError, LockWaitTimeout, OperationTimeout, WriteConflictError
from tikv_py.client.region.regions import TXN_KEYS, Region
from tikv_py.client.testing.cluster import MemoryCluster, memory_cluster
from tikv_py.client.testing.faults import LOST, BreakStream, Delay, once
from tikv_py.client.testing.raw import crc64
from tikv_py.client.testing.table import Lock
from tikv_py.client.txn.client import TxnClient

A, B, Z = b"a", b"b", b"z"


def run(test: Callable[[MemoryCluster, TxnClient], Awaitable[None]], **options: Any) -> None:
    """On virtual time."""

    async def body() -> None:
        async with memory_cluster(**options) as cluster:
            await test(cluster, await cluster.txn_client())

    run_virtual(body())


def now() -> float:
    return asyncio.get_running_loop().time()


async def read(client: TxnClient, key: bytes) -> bytes | None:
    return await client.snapshot(await client.timestamp()).get(key)


def test_a_lock_is_given_on_when_it_goes() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        first, second = await client.begin(pessimistic=True), await client.begin(pessimistic=True)
        await first.lock_keys([A])
        began = now()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(second.lock_keys([A], return_values=True))
            await asyncio.sleep(0.5)
            first.put(A, b"1")
            await first.commit()
        assert waiting.result() == {A: b"1"}
        assert now() - began < 0.6  # the store woke it: no pause of the client is over by then
        with pytest.raises(LockWaitTimeout):
            await (await client.begin(pessimistic=True)).lock_keys([A], wait_ms=1500)
        await second.rollback()
        await client.drain(5)
        assert not cluster.storage.locks()

    run(body)


def test_a_circle_of_three_is_broken() -> None:
    async def body(_cluster: MemoryCluster, client: TxnClient) -> None:
        txns = [await client.begin(pessimistic=True) for _ in range(3)]
        for txn, key in zip(txns, (A, B, Z), strict=True):
            await txn.lock_keys([key])

        async def close_circle(number: int) -> str:
            await asyncio.sleep(0.01 * number)
            try:
                await txns[number].lock_keys([(B, Z, A)[number]])
            except DeadlockError:
                await txns[number].rollback()
                return "gave way"
            await txns[number].commit()
            await txns[number].rollback()
            return "locked"

        began = now()
        assert await asyncio.gather(*map(close_circle, range(3))) == ["locked", "locked", "gave way"]
        assert now() - began < 1

    run(body, split_at=[B, Z])


def test_snapshot_isolation() -> None:
    async def body(_cluster: MemoryCluster, client: TxnClient) -> None:
        old = await client.begin()
        async with client.begin() as txn:
            txn.put(A, b"1")
            txn.put(Z, b"2")
        assert await old.batch_get([A, Z]) == {}
        old.put(A, b"lost update")
        with pytest.raises(WriteConflictError):
            await old.commit()
        assert [pair async for pair in client.snapshot(await client.timestamp()).scan(b"")] == [(A, b"1"), (Z, b"2")]

    run(body, split_at=[b"m"])


def test_a_dead_owners_lock_is_settled() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        start_ts = await client.timestamp()
        cluster.storage.place_lock(A, Lock(pb.Put, A, start_ts, 1000, b"never"))
        began = now()
        assert await read(client, A) is None
        assert 0.9 < now() - began < 5
        assert not cluster.storage.locks()

    run(body)


def test_regions_change_under_the_client() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        async with client.begin() as txn:
            for number in range(50):
                txn.put(b"%02d" % number, b"x")
        changes: list[Callable[[], None]] = [
            lambda: cluster.split(b"10", b"20", b"30"),
            lambda: cluster.move_leader(b"15", 3),
            lambda: cluster.merge(b"10"),
            lambda: cluster.merge(b"00"),
        ]
        for change in changes:
            change()
            assert len([key async for key, _ in client.snapshot(await client.timestamp()).scan(b"")]) == 50
        assert len(cluster.topology.regions) == 2
        with pytest.raises(ValueError, match="last region"):
            cluster.merge(b"40")

    run(body)


def test_a_store_refuses_keys_of_other_regions() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        placed = cluster.topology.holding(b"")
        region = Region.of(placed.meta, placed.leader, TXN_KEYS)
        context = pb.Context(region_id=region.id, region_epoch=placed.meta.region_epoch, peer=placed.leader)
        request = pb.PrewriteRequest(context=context, primary_lock=Z, start_version=1)
        request.mutations.add(op=pb.Put, key=Z, value=b"x")
        response = cluster.stores[1].handle("KvPrewrite", request)
        assert response.region_error.HasField("key_not_in_region")
        assert not cluster.storage.locks()

    run(body, split_at=[b"m"])


def test_faults() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        async with client.begin() as txn:
            txn.put(A, b"1")
        cluster.before.append(once("KvGet", ServerIsBusy("overloaded"), times=2))
        assert await read(client, A) == b"1"
        assert cluster.calls("KvGet") == 3
        cluster.before[:] = [once("KvGet", Delay(0.2), after=1)]
        began = now()
        assert await read(client, A) == await read(client, A) == b"1"
        assert 0.2 <= now() - began < 0.3
        cluster.before[:] = [once("KvGet", LOST)]
        with pytest.raises(OperationTimeout):
            await client.snapshot(await client.timestamp()).get(A, timeout_s=1)
        cluster.before[:] = [once("KvGet", BreakStream())]
        assert await read(client, A) == b"1"

    run(body)


def test_raw_commands() -> None:
    async def body(cluster: MemoryCluster, _client: TxnClient) -> None:
        client = await cluster.raw_client()
        await client.put(A, b"1", ttl_s=10)
        await client.put(B, b"2")
        assert (await client.ttl(A), await client.ttl(B), await client.ttl(Z)) == (10, 0, None)
        total = await client.checksum(b"")
        assert (total.total_kvs, total.total_bytes) == (2, 4)
        assert (await client.compare_and_swap(B, b"1", b"3")).previous == b"2"
        assert (await client.compare_and_swap(B, b"2", b"3")).swapped
        assert await client.batch_scan([(A, B), (B, b"")], 5) == [[(A, b"1")], [(B, b"3")]]
        await asyncio.sleep(11)
        assert await client.get(A) is None
        assert await client.scan(b"", reverse=True) == [(B, b"3")]
        await client.delete_range(b"", b"")
        assert await client.scan(b"") == []

    run(body)


def test_stale_reads_go_up_to_the_safe_timestamp() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        async with client.begin() as txn:
            txn.put(A, b"1")
        ts = await client.timestamp()
        cluster.safe_lag_s = 2.0
        assert await client.snapshot(ts, stale_read=True).get(A) == b"1"  # from the leader: no replica is so far
        refused = cluster.calls("KvGet")
        await asyncio.sleep(3)
        assert await client.snapshot(ts, stale_read=True).get(A) == b"1"
        assert cluster.calls("KvGet") == refused + 1

    run(body)


async def test_it_runs_on_the_users_own_loop_too() -> None:
    async with memory_cluster(stores=1) as cluster:
        client = await cluster.txn_client()
        async with client.begin() as txn:
            txn.put(A, b"1")
        assert await read(client, A) == b"1"


def test_checksums_are_those_of_xz() -> None:
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA
