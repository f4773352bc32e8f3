"""Old versions are removed from all replicas alike, below PD's safe point, while the cluster is in use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from core_py.codec import ts as tso
from core_py.runtime.config import ByteSize, Seconds
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2 as pb
from tests.integration.test_storage_cluster import eventually, three_replicas, txn_client
from tests.support.storage_cluster import StorageCluster, storage_cluster
from tests.support.store_rpc import StoreRpc, with_store
from tikv_py.client.errors import GcTooEarly
from tikv_py.client.txn.client import TxnClient
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE, DATA_CFS
from tikv_py.gc.config import GcConfig
from tikv_py.mvcc import keys
from tikv_py.mvcc.txn import Modify
from tikv_py.server.config import TikvConfig

GC = GcConfig(poll_interval=Seconds(1.0), life_time=Seconds(0.0))
SETTINGS = TikvConfig(gc=GC)


def run(test: Callable[[StorageCluster], Awaitable[None]], gc: GcConfig = GC) -> None:
    async def main() -> None:
        async with storage_cluster(3, settings=replace(SETTINGS, gc=gc)) as cluster:
            await three_replicas(cluster)
            await test(cluster)

    run_virtual(main())


def data(cluster: StorageCluster, cf: str) -> list[list[tuple[bytes, bytes]]]:
    """What users wrote, of each store."""
    return [[pair for pair in node.kv_db.items(cf) if pair[0].startswith(b"z")] for node in cluster.nodes]


def are_equal(cluster: StorageCluster) -> bool:
    return all(all(one == found[0] for one in found) for cf in DATA_CFS if (found := data(cluster, cf)))


async def write_versions(client: TxnClient, user_keys: list[bytes], count: int, size: int = 3) -> None:
    for number in range(count):
        async with client.begin() as txn:
            for key in user_keys:
                txn.put(key, b"%d" % number + b"v" * size)


def test_a_thousand_versions_become_one_on_all_replicas() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            await write_versions(client, [b"a"], 1000)
            await write_versions(client, [b"b"], 20, size=400)
            await client.drain(5.0)
            safe_point = await client.timestamp()
            await client.pd.update_gc_safe_point(safe_point)

            async def shrunk() -> bool:
                return are_equal(cluster) and all(len(one) == 2 for one in data(cluster, CF_WRITE))

            await eventually(shrunk, "one version per key, on every replica")
            assert [len(one) for one in data(cluster, CF_DEFAULT)] == [1, 1, 1]
            assert (await client.snapshot(safe_point).get(b"a") or b"").startswith(b"999")
            assert (await client.snapshot(safe_point).get(b"b") or b"").startswith(b"19")
            registry = next(n.server.registry for n in cluster.nodes if n.server and leads(cluster, n.name))
            labels = {"cf": "write", "tag": "delete"}
            assert registry.get_sample_value("tikv_gcworker_gc_keys_total", labels) == 999 + 19

    run(body)


def leads(cluster: StorageCluster, name: str) -> bool:
    node = next(node for node in cluster.nodes if node.name == name)
    assert node.server is not None
    assert node.server.store is not None
    return any(peer.is_leader for peer in node.server.store.peers.values())


def test_readers_at_the_safe_point_see_no_difference_beside_writers() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            user_keys = [b"k%02d" % at for at in range(30)]
            await write_versions(client, user_keys, 20)
            async with client.begin() as txn:
                txn.delete(b"k07")
            read_ts = await client.timestamp()
            expected = [pair async for pair in client.snapshot(read_ts).scan(b"k", b"l")]
            await client.pd.update_gc_safe_point(read_ts)
            stop = asyncio.Event()

            async def writer(number: int) -> None:
                while not stop.is_set():
                    await client.run_in_transaction(lambda txn: put(txn, b"k%02d" % number))
                    await asyncio.sleep(0.01)

            async def put(txn: object, key: bytes) -> None:
                txn.put(key, b"new")  # type: ignore[attr-defined]

            writers = [asyncio.ensure_future(writer(number)) for number in range(0, 30, 3)]
            for _ in range(60):
                assert [pair async for pair in client.snapshot(read_ts).scan(b"k", b"l")] == expected
                await asyncio.sleep(0.1)
            stop.set()
            await asyncio.gather(*writers)
            await client.drain(5.0)
            await client.split_region([b"k15"])
            last = await client.timestamp()
            await client.pd.update_gc_safe_point(last)

            async def shrunk() -> bool:
                return are_equal(cluster) and all(len(one) == 29 for one in data(cluster, CF_WRITE))

            await eventually(shrunk, "one version per key, none of the deleted one")
            with pytest.raises(GcTooEarly, match=f"start ts is {read_ts}"):
                await client.snapshot(read_ts).get(b"k01")

    run(body)


def test_a_new_leader_takes_up_what_the_old_one_left() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            user_keys = [b"k%03d" % at for at in range(100)]
            await write_versions(client, user_keys, 10)
            await client.drain(5.0)
            safe_point = await client.timestamp()
            await client.pd.update_gc_safe_point(safe_point)
            node = next(node for node in cluster.nodes if leads(cluster, node.name))

            async def begun() -> bool:
                return len(data(cluster, CF_WRITE)[cluster.nodes.index(node)]) < 900

            await eventually(begun, "the first removals")
            assert len(data(cluster, CF_WRITE)[cluster.nodes.index(node)]) > 500
            await cluster.crash(node)
            await cluster.start_store(node)

            async def shrunk() -> bool:
                return are_equal(cluster) and all(len(one) == 100 for one in data(cluster, CF_WRITE))

            await eventually(shrunk, "one version per key after the crash")
            for other in cluster.nodes:
                assert other.server is not None
                assert other.server.store is not None
                assert other.server.store.gc_safe_point == safe_point

    run(body, replace(GC, batch_keys=16, max_write_bytes_per_sec=ByteSize(2048)))


def test_values_without_an_owner_go_and_others_stay() -> None:
    async def body(rpc: StoreRpc) -> None:
        store = rpc.store
        key = keys.data_key(b"k")
        await rpc.prewrite(b"k", b"x" * 300, 10)
        await rpc.commit(b"k", 10, 11)
        await rpc.prewrite(b"locked", b"y" * 300, 12)
        peer = next(iter(store.peers.values()))
        orphan, young = keys.versioned(key, 5), keys.versioned(key, 900)
        written = peer.write([Modify(CF_DEFAULT, one, b"z" * 300) for one in (orphan, young, b"zraw key 12345678")], [])
        store.activate(peer.region.id)
        await written
        assert len(rpc.data()[CF_DEFAULT]) == 5
        store.gc_safe_point = 100
        await asyncio.sleep(5.0)
        left = [pair[0] for pair in rpc.data()[CF_DEFAULT]]
        assert orphan not in left
        assert len(left) == 4
        assert len(rpc.data()[CF_LOCK]) == 1

    with_store(body, settings=SETTINGS)


def test_a_transaction_from_before_the_safe_point_gets_no_lock() -> None:
    async def body(rpc: StoreRpc) -> None:
        await rpc.prewrite(b"early", b"v", 40)
        rpc.store.gc_safe_point = 50
        request = pb.PrewriteRequest(primary_lock=b"k", start_version=49, lock_ttl=3000)
        request.mutations.add(op=pb.Put, key=b"k", value=b"v")
        errors = (await rpc.call("KvPrewrite", request)).errors
        assert [error.abort for error in errors] == [
            "GC life time is shorter than transaction duration, transaction start ts is 49, txn safe point is 50"
        ]
        lock = pb.PessimisticLockRequest(primary_lock=b"k", start_version=49, for_update_ts=60, lock_ttl=3000)
        lock.mutations.add(op=pb.PessimisticLock, key=b"k")
        assert "transaction start ts is 49" in (await rpc.call("KvPessimisticLock", lock)).errors[0].abort
        await rpc.commit(b"early", 40, 51)  # who has a lock may finish
        await rpc.prewrite(b"k", b"v", 51)

        for name, read in {
            "KvGet": pb.GetRequest(key=b"early", version=49),
            "KvScan": pb.ScanRequest(start_key=b"", limit=9, version=49),
            "KvBatchGet": pb.BatchGetRequest(keys=[b"early"], version=49),
        }.items():
            assert "start ts is 49" in (await rpc.call(name, read)).error.abort, name
        assert (await rpc.call("KvGet", pb.GetRequest(key=b"early", version=51))).value == b"v"

    with_store(body, settings=SETTINGS)


def test_a_prewrite_that_comes_behind_its_rollback_and_its_collection_is_refused() -> None:
    async def body(rpc: StoreRpc) -> None:
        await rpc.prewrite(b"k", b"v", 40)
        rollback = pb.BatchRollbackRequest(start_version=40, keys=[b"k"])
        assert not (await rpc.call("KvBatchRollback", rollback)).HasField("error")
        assert len(rpc.data()[CF_WRITE]) == 1
        rpc.store.gc_safe_point = 50
        await asyncio.sleep(3.0)
        assert not any(rpc.data().values())
        request = pb.PrewriteRequest(primary_lock=b"k", start_version=40, lock_ttl=3000)
        request.mutations.add(op=pb.Put, key=b"k", value=b"v")
        assert "start ts is 40" in (await rpc.call("KvPrewrite", request)).errors[0].abort
        request.use_async_commit = True
        assert "start ts is 40" in (await rpc.call("KvPrewrite", request)).errors[0].abort
        request.try_one_pc = True
        assert "start ts is 40" in (await rpc.call("KvPrewrite", request)).errors[0].abort
        assert not any(rpc.data().values())

    with_store(body, settings=SETTINGS)


def test_a_busy_or_failing_removal_is_tried_again() -> None:
    async def body(rpc: StoreRpc) -> None:
        for start_ts in range(10, 50, 10):
            await rpc.prewrite(b"k", b"v", start_ts)
            await rpc.commit(b"k", start_ts, start_ts + 1)
        rpc.fail.configure("gc_before_remove", "3*return(disk)")
        rpc.store.gc_safe_point = 100
        await asyncio.sleep(1.1)
        assert len(rpc.data()[CF_WRITE]) == 4
        await asyncio.sleep(3.0)
        assert len(rpc.data()[CF_WRITE]) == 1

    with_store(body, settings=SETTINGS)


def test_a_region_without_new_garbage_is_not_read_again() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            await write_versions(client, [b"a"], 5)
            await client.drain(5.0)

            async def passes() -> float:
                await asyncio.sleep(3.0)
                name = "tikv_gcworker_gc_tasks_vec_total"
                return sum(
                    n.server.registry.get_sample_value(name, {"task": "gc"}) or 0 for n in cluster.nodes if n.server
                )

            await client.pd.update_gc_safe_point(await client.timestamp())
            assert await passes() == 1
            await client.pd.update_gc_safe_point(await client.timestamp())
            assert await passes() == 1
            await write_versions(client, [b"a"], 2)
            await client.drain(5.0)
            await client.pd.update_gc_safe_point(tso.compose(tso.physical_ms(await client.timestamp()) - 1, 0))
            assert await passes() == 2

    run(body)


def test_a_new_replica_knows_the_safe_point_with_its_snapshot() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            await write_versions(client, [b"a"], 5)
            await client.drain(5.0)
            safe_point = await client.timestamp()
            await client.pd.update_gc_safe_point(safe_point)
            await asyncio.sleep(3.0)
            cluster.settings = replace(SETTINGS, gc=replace(GC, poll_interval=Seconds(1000.0)))
            node = await cluster.add_store("store3")
            assert node.server is not None
            assert node.server.store is not None
            assert node.server.store.gc_safe_point == safe_point  # asked for before it serves
            node.server.store.gc_safe_point = 0

            async def has_data() -> bool:
                return len(data(cluster, CF_WRITE)[2]) == 1

            await eventually(has_data, "the third replica")
            assert node.server.store.gc_safe_point == safe_point

    async def main() -> None:
        async with storage_cluster(2, settings=SETTINGS) as cluster:
            await three_replicas(cluster, 2)
            await body(cluster)

    run_virtual(main())
