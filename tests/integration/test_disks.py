"""Full and slow disks in a cluster: who refuses what, who is told, and that it ends by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from core_py.region_errors import DiskFull
from core_py.runtime.workers import InlineWorkers
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2 as pb
from protos.kvproto import pdpb_pb2, tikvpb_pb2
from tests.integration.test_storage_cluster import eventually, raw_client, three_replicas
from tests.support.storage_cluster import FAST, Node, StorageCluster, storage_cluster
from tests.support.store_rpc import StoreRpc, with_store
from tikv_py.raftstore.peer import Peer

GIB = 1 << 30
ROOMY, ALMOST, FULL = (100 * GIB, 50 * GIB), (100 * GIB, 200 << 20), (100 * GIB, 100 << 20)
SEEN_S = 5.0


def put(key: bytes, disk_full_opt: int = 0) -> pb.RawPutRequest:
    request = pb.RawPutRequest(key=key, value=b"v")
    request.context.disk_full_opt = disk_full_opt  # type: ignore[assignment]
    return request


async def is_full(rpc: StoreRpc, name: str, request: Any) -> bool:
    response = await rpc.call(name, request)
    if response.HasField("region_error"):
        assert response.region_error.HasField("disk_full"), response
        assert list(response.region_error.disk_full.store_id) == [rpc.store.store_id]
        assert "are reserved" in response.region_error.disk_full.reason
    return bool(response.HasField("region_error"))


def test_what_a_full_store_takes() -> None:
    async def test(rpc: StoreRpc) -> None:
        node = rpc.cluster.nodes[0]
        await rpc.prewrite(b"a", b"1", 10)
        await rpc.prewrite(b"b", b"1", 10)
        await rpc.prewrite(b"c", b"1", 10)
        for free, levels in ((ALMOST, [True, False, False]), (FULL, [True, True, False]), (ROOMY, [False] * 3)):
            node.disk = free
            await asyncio.sleep(SEEN_S)
            assert [await is_full(rpc, "RawPut", put(b"k", level)) for level in range(3)] == levels
        node.disk = FULL
        await asyncio.sleep(SEEN_S)
        prewrite = pb.PrewriteRequest(primary_lock=b"n", start_version=20, lock_ttl=3000)
        prewrite.mutations.add(op=pb.Put, key=b"n", value=b"v")
        lock = pb.PessimisticLockRequest(primary_lock=b"n", start_version=20, for_update_ts=20, lock_ttl=3000)
        lock.mutations.add(op=pb.PessimisticLock, key=b"n")
        heart_beat = pb.TxnHeartBeatRequest(primary_lock=b"a", start_version=10, advise_lock_ttl=9000)
        assert await is_full(rpc, "KvPrewrite", prewrite)
        assert await is_full(rpc, "KvPessimisticLock", lock)
        assert await is_full(rpc, "RawBatchPut", pb.RawBatchPutRequest(pairs=[pb.KvPair(key=b"k", value=b"v")]))
        assert await is_full(
            rpc, "RawCompareAndSwap", pb.RawCASRequest(key=b"new", value=b"v", previous_not_exist=True)
        )
        assert await is_full(rpc, "KvTxnHeartBeat", heart_beat)
        await rpc.commit(b"a", 10, 11)
        taken = {
            "KvBatchRollback": pb.BatchRollbackRequest(start_version=10, keys=[b"b"]),
            "KvResolveLock": pb.ResolveLockRequest(start_version=10, keys=[b"c"]),
            "KvCleanup": pb.CleanupRequest(key=b"z", start_version=10),
            "RawDelete": pb.RawDeleteRequest(key=b"k"),
            "RawBatchDelete": pb.RawBatchDeleteRequest(keys=[b"k"]),
            "RawDeleteRange": pb.RawDeleteRangeRequest(start_key=b"k", end_key=b"l"),
            "KvDeleteRange": pb.DeleteRangeRequest(start_key=b"x", end_key=b"y"),
            "RawGet": pb.RawGetRequest(key=b"k"),
        }
        for name, request in taken.items():
            assert not await is_full(rpc, name, request), name
        assert rpc.server.registry.get_sample_value("tikv_store_disk_usage") == 2

    with_store(test)


def leader(cluster: StorageCluster) -> tuple[Node, Peer]:
    for node in cluster.nodes:
        assert node.server is not None
        assert node.server.store is not None
        for peer in node.server.store.peers.values():
            if peer.is_leader:
                return node, peer
    raise AssertionError("no leader")


def test_a_leader_knows_of_full_followers_and_of_their_recovery() -> None:
    async def main() -> None:
        async with storage_cluster(3) as cluster:
            await three_replicas(cluster)
            async with await raw_client(cluster) as client:
                await client.put(b"k", b"1")
                node, peer = leader(cluster)
                followers = [other for other in cluster.nodes if other is not node]
                followers[0].disk = FULL
                await asyncio.sleep(SEEN_S)
                await client.put(b"k", b"2")
                followers[1].disk = ALMOST
                await asyncio.sleep(SEEN_S)
                await client.put(b"k", b"3")  # makes the followers answer, if the region slept
                await asyncio.sleep(1)
                with pytest.raises(DiskFull, match="majority") as refused:
                    peer.write([], [])
                assert len(refused.value.store_ids) == 2
                followers[1].disk = ROOMY
                await client.put(b"k", b"4")  # the client waits until there is room
                assert await client.get(b"k") == b"4"

    run_virtual(main())


def test_pd_is_told_that_nothing_is_available() -> None:
    async def main() -> None:
        async with storage_cluster(1) as cluster:
            seen: list[pdpb_pb2.StoreStats] = []
            server = cluster.nodes[0].server
            assert server is not None
            send = server.pd.store_heartbeat

            async def heard(stats: pdpb_pb2.StoreStats) -> Any:
                seen.append(stats)
                return await send(stats)

            server.pd.store_heartbeat = heard  # type: ignore[method-assign]
            cluster.nodes[0].disk = ROOMY
            await asyncio.sleep(SEEN_S)
            assert (seen[-1].capacity, seen[-1].available) == (100 * GIB, 50 * GIB - (256 << 20))
            cluster.nodes[0].disk = ALMOST
            await asyncio.sleep(SEEN_S)
            assert (seen[-1].capacity, seen[-1].available) == (100 * GIB, 0)

    run_virtual(main())


class SlowWorkers(InlineWorkers):
    """Syncs take as long as a test says."""

    delay_s = 0.0

    async def sync(self, function: Callable[[], Any]) -> None:
        await asyncio.sleep(SlowWorkers.delay_s)
        await super().sync(function)


def test_a_slow_disk_is_reported_to_clients() -> None:
    async def test(rpc: StoreRpc) -> None:
        async def score() -> int:
            response = await rpc.call("GetHealthFeedback", pb.GetHealthFeedbackRequest())
            assert response.health_feedback.store_id == rpc.store.store_id
            return int(response.health_feedback.slow_score)

        assert await score() == 1
        slow = rpc.store.log_sync.slow_score
        slow.value = 64.0
        assert await score() == 64
        stream = rpc.stream("BatchCommands")
        numbers = []
        for number in range(40):
            request = tikvpb_pb2.BatchCommandsRequest(request_ids=[number])
            request.requests.add(Empty=tikvpb_pb2.BatchCommandsEmptyRequest(test_id=number))
            await stream.send(request)
            response = await stream.receive()
            assert response.responses[0].Empty.test_id == number
            if response.HasField("health_feedback"):
                assert response.health_feedback.slow_score == 64
                numbers.append((number, response.health_feedback.feedback_seq_no))
            await asyncio.sleep(0.1)
        assert numbers[0][0] == 0, "with the first answer"
        assert 3 <= len(numbers) <= 5, "then once a second"
        assert [seq for _, seq in numbers] == sorted({seq for _, seq in numbers})
        stream.cancel()

    with_store(test)


def test_a_slow_disk_is_reported_to_pd() -> None:
    async def main() -> None:
        SlowWorkers.delay_s = 0.0
        async with storage_cluster(1, make_workers=SlowWorkers, raftstore=FAST) as cluster:
            server = cluster.nodes[0].server
            assert server is not None
            seen: list[int] = []
            send = server.pd.store_heartbeat

            async def heard(stats: pdpb_pb2.StoreStats) -> Any:
                seen.append(stats.slow_score)
                return await send(stats)

            server.pd.store_heartbeat = heard  # type: ignore[method-assign]
            await asyncio.sleep(5)
            assert set(seen) == {1}
            SlowWorkers.delay_s = 1.0

            async def worst() -> bool:
                return seen[-1] == 100

            await eventually(worst, "the score of a slow disk", 200)
            SlowWorkers.delay_s = 0.0

    run_virtual(main())
