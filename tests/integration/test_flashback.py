"""A range goes back to an older version: closed to everybody else meanwhile, by the log, on every replica."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from core_py.ports import methods_of
from core_py.region_errors import FlashbackInProgress, ServerIsBusy
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from protos.kvproto import debugpb_pb2 as debugpb
from protos.kvproto import kvrpcpb_pb2 as pb
from tests.integration.test_gc import are_equal, data, leads
from tests.integration.test_gc_driver import send
from tests.integration.test_storage_cluster import eventually, three_replicas, txn_client
from tests.support.storage_cluster import StorageCluster, storage_cluster
from tests.support.store_rpc import StoreRpc, with_store
from tikv_py.client.txn.client import TxnClient
from tikv_py.ctl.cluster_flashback import FlashbackRange, flash_back
from tikv_py.engine.port import CF_LOCK, CF_WRITE
from tikv_py.gc.region_calls import RegionCalls
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.router import StoreCalls

DEBUG = methods_of(debugpb.DESCRIPTOR.services_by_name["Debug"])


def run(test: Callable[[StorageCluster, TxnClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with storage_cluster(3) as cluster:
            await three_replicas(cluster)
            async with await txn_client(cluster) as client:
                await test(cluster, client)

    run_virtual(main())


async def prepare(client: TxnClient, key: bytes, version: int, start_ts: int) -> None:
    request = pb.PrepareFlashbackToVersionRequest(version=version, start_ts=start_ts)
    response = await send(client, "KvPrepareFlashbackToVersion", key, request)
    assert not response.error


async def finish(client: TxnClient, key: bytes, version: int, start_ts: int, commit_ts: int) -> None:
    request = pb.FlashbackToVersionRequest(version=version, start_ts=start_ts, commit_ts=commit_ts)
    response = await send(client, "KvFlashbackToVersion", key, request)
    assert not response.error


async def contents(client: TxnClient, ts: int) -> dict[bytes, bytes]:
    return {key: value async for key, value in client.snapshot(ts).scan(b"", b"")}


async def put(client: TxnClient, pairs: dict[bytes, bytes | None]) -> None:
    async with client.begin() as txn:
        for key, value in pairs.items():
            if value is None:
                txn.delete(key)
            else:
                txn.put(key, value)
    await client.drain(5.0)


def regions(cluster: StorageCluster) -> list[Peer]:
    """All peers."""
    return [
        peer for node in cluster.nodes if node.server and node.server.store for peer in node.server.store.peers.values()
    ]


def test_two_regions_go_back_while_a_writer_runs() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        before = {b"k%03d" % at: b"old %d" % at + b"x" * (at % 3 * 200) for at in range(600)}
        await put(client, dict(before))
        await client.split_region([b"k300"])
        version = await client.timestamp()
        await put(client, {b"k000": b"new", b"k299": None, b"k300": b"new" * 200, b"k999": b"added", b"k500": None})
        stop = asyncio.Event()
        written = refused = 0

        async def writer() -> None:
            nonlocal written, refused
            while not stop.is_set():
                try:
                    async with client.begin() as txn:
                        txn.put(b"k400", b"by the writer")
                    written += 1
                except FlashbackInProgress:
                    refused += 1
                await asyncio.sleep(0.01)

        writing = asyncio.ensure_future(writer())
        await asyncio.sleep(0.5)
        start_ts = await client.timestamp()
        for key in (b"a", b"k300"):
            await prepare(client, key, version, start_ts)
        assert written > 0
        with pytest.raises(FlashbackInProgress):
            await client.snapshot(await client.timestamp()).get(b"k000")
        assert await client.snapshot(version).get(b"k000") == before[b"k000"]
        await asyncio.sleep(0.5)
        stop.set()
        await writing
        assert refused > 0
        commit_ts = await client.timestamp()
        for key in (b"k300", b"a"):
            await finish(client, key, version, start_ts, commit_ts)
        assert await contents(client, commit_ts) == before
        assert (await client.snapshot(start_ts).get(b"k000")) == b"new"
        await put(client, {b"k400": b"after"})
        assert await client.snapshot(await client.timestamp()).get(b"k400") == b"after"
        assert are_equal(cluster) or await settle(cluster)

    run(body)


async def settle(cluster: StorageCluster) -> bool:
    async def same() -> bool:
        return are_equal(cluster)

    await eventually(same, "equal replicas")
    return True


def test_locks_are_rolled_back_and_cannot_be_committed() -> None:
    async def body(_cluster: StorageCluster, client: TxnClient) -> None:
        await put(client, {b"a": b"old"})
        version = await client.timestamp()
        lock_ts = await client.timestamp()
        request = pb.PrewriteRequest(primary_lock=b"a", start_version=lock_ts, lock_ttl=60_000)
        request.mutations.add(op=pb.Put, key=b"a", value=b"half")
        assert not (await send(client, "KvPrewrite", b"a", request)).errors
        start_ts = await client.timestamp()
        await prepare(client, b"a", version, start_ts)
        await finish(client, b"a", version, start_ts, await client.timestamp())
        commit = pb.CommitRequest(start_version=lock_ts, keys=[b"a"], commit_version=await client.timestamp())
        assert (await send(client, "KvCommit", b"a", commit)).HasField("error")
        assert await client.snapshot(await client.timestamp()).get(b"a") == b"old"

    run(body)


def test_a_crash_in_the_middle_is_taken_up_and_the_region_stays_closed() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        before: dict[bytes, bytes | None] = {b"k%04d" % at: b"old" for at in range(600)}
        await put(client, dict(before))
        version = await client.timestamp()
        await put(client, dict.fromkeys(before, b"new"))
        start_ts = await client.timestamp()
        await prepare(client, b"a", version, start_ts)
        await prepare(client, b"a", version, start_ts)
        commit_ts = await client.timestamp()
        node = next(node for node in cluster.nodes if leads(cluster, node.name))
        assert node.server is not None
        node.server.fail.configure("flashback_batch", "1*off->return(cut)")
        request = pb.FlashbackToVersionRequest(version=version, start_ts=start_ts, commit_ts=commit_ts)
        sending = asyncio.ensure_future(send(client, "KvFlashbackToVersion", b"a", request))
        await asyncio.sleep(1.0)
        assert len(data(cluster, CF_WRITE)[0]) == 1200 + 256
        await cluster.crash(node)
        await cluster.start_store(node)
        assert not (await sending).error
        assert await contents(client, commit_ts) == before
        assert await settle(cluster)
        assert not any(data(cluster, CF_LOCK))
        assert [peer.region.is_in_flashback for peer in regions(cluster)] == [False, False, False]
        await finish(client, b"a", version, start_ts, commit_ts)  # the answer was lost, it is asked again

    run(body)


def test_a_restarted_cluster_knows_that_it_is_closed() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        await put(client, {b"a": b"old"})
        version = await client.timestamp()
        start_ts = await client.timestamp()
        await prepare(client, b"a", version, start_ts)
        await settle(cluster)
        for node in cluster.nodes:
            await cluster.crash(node)
        for node in cluster.nodes:
            await cluster.start_store(node)
        with pytest.raises(FlashbackInProgress, match=f"start_ts {start_ts}"):
            await client.snapshot(await client.timestamp()).get(b"a")
        assert all(peer.region.flashback_start_ts == start_ts for peer in regions(cluster))
        with pytest.raises(FlashbackInProgress):
            await prepare(client, b"a", version, await client.timestamp())
        with pytest.raises(FlashbackInProgress):
            await client.split_region([b"m"])
        with pytest.raises(FlashbackInProgress):
            await client.gc(await client.timestamp())
        assert (await client.pd.get_gc_state()).gc_safe_point == 0  # its old versions are still needed
        await finish(client, b"a", version, start_ts, await client.timestamp())
        assert await client.snapshot(await client.timestamp()).get(b"a") == b"old"

    run(body)


def test_what_does_not_fit_together_is_refused() -> None:
    async def body(rpc: StoreRpc) -> None:
        await rpc.prewrite(b"a", b"v", 10)
        await rpc.commit(b"a", 10, 11)

        async def prepared(version: int, start_ts: int) -> Any:
            request = pb.PrepareFlashbackToVersionRequest(version=version, start_ts=start_ts)
            return await rpc.call("KvPrepareFlashbackToVersion", request)

        async def finished(version: int, start_ts: int, commit_ts: int) -> Any:
            request = pb.FlashbackToVersionRequest(version=version, start_ts=start_ts, commit_ts=commit_ts)
            return await rpc.call("KvFlashbackToVersion", request)

        assert "version 20 is not below start_ts 20" in (await prepared(20, 20)).error
        assert "version 0 is not below" in (await prepared(0, 20)).error
        assert (await finished(12, 20, 30)).region_error.HasField("FlashbackNotPrepared")
        rpc.store.gc_safe_point = 13
        assert "safe point is 13" in (await prepared(12, 20)).error
        assert not (await prepared(14, 20)).HasField("region_error")
        rpc.store.gc_safe_point = 18  # a closed region is not collected
        assert not (await prepared(14, 20)).error
        assert "commit_ts 20 is not above" in (await finished(14, 20, 20)).error
        assert (await finished(14, 19, 30)).region_error.HasField("FlashbackNotPrepared")
        raw = await rpc.call("RawPut", pb.RawPutRequest(key=b"r", value=b"v"))
        assert raw.region_error.FlashbackInProgress.flashback_start_ts == 20
        assert not (await finished(14, 20, 30)).HasField("region_error")
        assert not (await rpc.call("RawPut", pb.RawPutRequest(key=b"r", value=b"v"))).HasField("region_error")

    with_store(body)


def test_the_debug_service_does_it_region_by_region() -> None:
    async def body(rpc: StoreRpc) -> None:
        for start_ts, value in ((10, b"old"), (20, b"new")):
            await rpc.prewrite(b"a", value, start_ts)
            await rpc.commit(b"a", start_ts, start_ts + 1)
        channel = rpc.cluster.network.transport("client").connect("store1:20160")
        region_id = rpc.context().region_id

        async def call(start_ts: int, commit_ts: int) -> None:
            request = debugpb.FlashbackToVersionRequest(
                version=15, region_id=region_id, start_ts=start_ts, commit_ts=commit_ts
            )
            await channel.unary(DEBUG["FlashbackToVersion"], request, timeout_s=20)

        await call(30, 0)
        with pytest.raises(Exception, match="not prepared"):
            await call(31, 40)
        await call(30, 40)
        await channel.close()
        assert (await rpc.call("KvGet", pb.GetRequest(key=b"a", version=40))).value == b"old"
        assert (await rpc.call("KvGet", pb.GetRequest(key=b"a", version=39))).value == b"new"

    with_store(body)


def test_an_operator_sets_the_cluster_back_and_takes_up_a_broken_run() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        await put(client, {b"a": b"old", b"m": b"old", b"z": b"old"})
        version = await client.timestamp()
        await put(client, {b"a": b"new", b"m": b"new", b"z": b"new"})
        await client.split_region([b"k", b"p"])
        transport, clock = cluster.network.transport("operator"), LoopClock()
        pd = await cluster.pd_client()

        async def address_of(store_id: int) -> str:
            return (await pd.get_store(store_id)).address

        calls = RegionCalls(pd, StoreCalls(transport, address_of), clock)
        notes: list[str] = []
        wanted = FlashbackRange(b"b", b"", version)
        for node in cluster.nodes:
            assert node.server is not None
            node.server.fail.configure("flashback_batch", "return(broken)")
        with pytest.raises(ServerIsBusy):
            await flash_back(pd, calls, wanted, None, notes.append)
        for node in cluster.nodes:
            assert node.server is not None
            node.server.fail.remove("flashback_batch")
        assert await flash_back(pd, calls, wanted, int(notes[0].split()[-1]), notes.append) == 3
        assert await contents(client, await client.timestamp()) == {b"a": b"new", b"m": b"old", b"z": b"old"}
        await calls.close()
        await pd.close()

    run(body)
