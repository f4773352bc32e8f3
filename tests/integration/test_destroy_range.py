"""Whole ranges removed: KvDeleteRange through raft, UnsafeDestroyRange on each store."""

from __future__ import annotations

import asyncio

from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2 as pb
from tests.integration.test_gc import are_equal, data, write_versions
from tests.integration.test_storage_cluster import eventually, three_replicas, txn_client
from tests.support.storage_cluster import storage_cluster
from tests.support.store_rpc import METHODS, StoreRpc, with_store
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE, DATA_CFS


def test_destroying_a_range_on_every_store_leaves_only_what_is_outside() -> None:
    async def main() -> None:
        async with storage_cluster(3) as cluster:
            await three_replicas(cluster)
            async with await txn_client(cluster) as client:
                await write_versions(client, [b"a", b"t1", b"t2", b"z"], 3, size=400)
                await client.split_region([b"t2"])
                await client.drain(5.0)

                async def same() -> bool:
                    return are_equal(cluster)

                await eventually(same, "equal replicas")
                for node in cluster.nodes:
                    channel = cluster.network.transport("client").connect(f"{node.name}:20160")
                    request = pb.UnsafeDestroyRangeRequest(start_key=b"t", end_key=b"u")
                    response = await channel.unary(METHODS["UnsafeDestroyRange"], request, timeout_s=60)
                    assert not response.error
                    await channel.close()
                    await cluster.crash(node)
                    await cluster.start_store(node)
                assert are_equal(cluster)
                assert [len(data(cluster, cf)[0]) for cf in (CF_WRITE, CF_DEFAULT, CF_LOCK)] == [6, 6, 0]
                snapshot = client.snapshot(await client.timestamp())
                assert [key async for key, _ in snapshot.scan(b"", b"")] == [b"a", b"z"]

    run_virtual(main())


def test_what_is_remembered_of_a_region_goes_with_its_range() -> None:
    async def body(rpc: StoreRpc) -> None:
        peer = next(iter(rpc.store.peers.values()))
        for _ in range(100):
            if peer.applier.locks is not None and peer.applier.locks.ready:
                break
            await asyncio.sleep(1.0)
        assert peer.applier.locks is not None
        await rpc.prewrite(b"t1", b"v" * 300, 10)
        assert peer.applier.locks.is_current()
        assert peer.applier.locks.held()[0] == 1
        response = await call(rpc, pb.UnsafeDestroyRangeRequest(start_key=b"t", end_key=b"u"))
        assert not response.error
        assert not any(rpc.data().values())
        assert peer.applier.locks.is_current()
        assert peer.applier.locks.held()[0] == 0

    with_store(body)


def test_ranges_without_bounds_and_a_closed_door_are_refused() -> None:
    async def body(rpc: StoreRpc) -> None:
        await rpc.prewrite(b"t1", b"v", 10)
        for start, end in ((b"", b"u"), (b"t", b""), (b"u", b"t"), (b"t", b"t")):
            refused = await call(rpc, pb.UnsafeDestroyRangeRequest(start_key=start, end_key=end))
            assert "start_key below its end_key" in refused.region_error.message
        rpc.fail.configure("destroy_range_begin", "return(maintenance)")
        busy = await call(rpc, pb.UnsafeDestroyRangeRequest(start_key=b"t", end_key=b"u"))
        assert busy.region_error.HasField("server_is_busy")
        assert len(rpc.data()[CF_LOCK]) == 1

    with_store(body)


def test_delete_range_removes_or_only_tells_when_earlier_writes_are_applied() -> None:
    async def body(rpc: StoreRpc) -> None:
        for key in (b"a", b"t1", b"z"):
            await rpc.prewrite(key, b"v" * 300, 10)
        applied = next(iter(rpc.store.peers.values())).storage.apply_state
        before = applied.applied_index
        response = await rpc.call(
            "KvDeleteRange", pb.DeleteRangeRequest(start_key=b"t", end_key=b"u", notify_only=True)
        )
        assert not response.error
        assert applied.applied_index > before
        assert len(rpc.data()[CF_LOCK]) == 3
        await rpc.call("KvDeleteRange", pb.DeleteRangeRequest(start_key=b"t", end_key=b"u"))
        assert [len(rpc.data()[cf]) for cf in DATA_CFS] == [2, 2, 0]

    with_store(body)


async def call(rpc: StoreRpc, request: pb.UnsafeDestroyRangeRequest) -> pb.UnsafeDestroyRangeResponse:
    """Without a region's context: it is a command of the store."""
    channel = rpc.cluster.network.transport("client").connect("store1:20160")
    try:
        response: pb.UnsafeDestroyRangeResponse = await channel.unary(
            METHODS["UnsafeDestroyRange"], request, timeout_s=60
        )
    finally:
        await channel.close()
    return response
