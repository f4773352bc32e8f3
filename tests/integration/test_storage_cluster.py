"""PD, stores and the client in one process on virtual time: replication, split, crash, catch-up, refusals.

Everything is the real server code over memory transport and memory engines that lose what was not synced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import Message

from core_py.errors import PdError, StorageError, StoreAddressConflict
from core_py.runtime.config import ByteSize
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2, metapb_pb2
from tests.support.storage_cluster import FAST, PD_ADDRESS, StorageCluster, storage_cluster
from tikv_py.client.raw.client import RawClient
from tikv_py.client.txn.client import TxnClient
from tikv_py.engine.memory import MemoryEngine
from tikv_py.raftstore.config import RaftstoreConfig


async def eventually(check: Callable[[], Awaitable[bool]], what: str, seconds: float = 60.0) -> None:
    """Wait on virtual time until a condition holds."""
    for _ in range(int(seconds / 0.05)):
        if await check():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


async def three_replicas(cluster: StorageCluster, replicas: int = 3) -> None:
    """Wait until every region has its voters and no learner."""
    assert cluster.pd.cluster is not None
    tree = cluster.pd.cluster.tree

    async def complete() -> bool:
        regions = tree.all()
        return bool(regions) and all(len(r.peers) == replicas and all(p.role == 0 for p in r.peers) for r in regions)

    await eventually(complete, f"{replicas} replicas of every region")


async def raw_client(cluster: StorageCluster) -> RawClient:
    return await RawClient.connect((PD_ADDRESS,), transport=cluster.network.transport("client"), clock=LoopClock())


async def txn_client(cluster: StorageCluster) -> TxnClient:
    return await TxnClient.connect((PD_ADDRESS,), transport=cluster.network.transport("client"), clock=LoopClock())


def run(test: Callable[[StorageCluster], Awaitable[None]], stores: int = 3, raftstore: RaftstoreConfig = FAST) -> None:
    async def main() -> None:
        async with storage_cluster(stores, raftstore=raftstore) as cluster:
            await three_replicas(cluster, min(stores, 3))
            await test(cluster)

    run_virtual(main())


def test_turns_and_syncs_of_a_store_are_counted() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            await client.put(b"k", b"v")
        await asyncio.sleep(2 * float(FAST.pd_store_heartbeat_tick_interval))
        for node in cluster.nodes:
            assert node.server is not None
            for name in ("tikv_raftstore_loop_turns_total", "tikv_raftstore_sync_log_total"):
                assert (node.server.registry.get_sample_value(name) or 0) > 0, name

    run(body)


def test_raw_data_is_the_same_on_all_replicas() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            await client.batch_put({b"k%02d" % i: b"v%d" % i for i in range(50)})
            await client.delete(b"k07")
            assert await client.get(b"k01") == b"v1"
            assert await client.get(b"k07") is None
            assert len(await client.scan(b"k", b"l", 100)) == 49
            await client.delete_range(b"k10", b"k20")
            assert len(await client.scan(b"k", b"l", 100)) == 39

        async def same() -> bool:
            contents = [list(node.kv_db.items("default")) for node in cluster.nodes]
            data = [[pair for pair in one if pair[0].startswith(b"z")] for one in contents]
            return data[0] == data[1] == data[2] and len(data[0]) == 39

        await eventually(same, "equal replicas")

    run(body)


def test_split_under_load_loses_nothing() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            written: dict[bytes, bytes] = {}

            async def writer(name: int) -> None:
                for i in range(30):
                    key, value = b"key-%d-%02d" % (name, i), b"value %d" % i
                    async with client.begin() as txn:
                        txn.put(key, value)
                    written[key] = value

            async def splitter() -> None:
                for i in range(4):
                    await client.split_region([b"key-%d" % i])
                    await asyncio.sleep(0.05)

            await asyncio.gather(*(writer(name) for name in range(4)), splitter())
            ts = await client.timestamp()
            found = {key: value async for key, value in client.snapshot(ts).scan(b"key", b"kez")}
            assert found == written
            assert len(await client.pd.scan_regions(b"", b"", 100)) == 5

    run(body)


def test_leader_crash_keeps_acknowledged_writes_and_the_store_catches_up() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            await client.put(b"before", b"1")
            leader = next(
                n
                for n in cluster.nodes
                if n.server and n.server.store and any(p.is_leader for p in n.server.store.peers.values())
            )
            await cluster.crash(leader)
            await client.put(b"while down", b"2")
            assert await client.get(b"before") == b"1"
            await cluster.start_store(leader)

            async def caught_up() -> bool:
                return (
                    leader.kv_db.get("default", b"zwhile down") == b"2"
                    and leader.kv_db.get("default", b"zbefore") == b"1"
                )

            await eventually(caught_up, "the restarted store has everything")

    run(body)


def test_power_loss_of_all_stores_at_once_keeps_acknowledged_writes() -> None:
    async def body(cluster: StorageCluster) -> None:
        expected = {}
        async with await txn_client(cluster) as client:
            for i in range(20):
                async with client.begin() as txn:
                    txn.put(b"a%d" % i, b"x" * (i * 30))
                    txn.put(b"b%d" % i, b"y%d" % i)
                expected[b"a%d" % i], expected[b"b%d" % i] = b"x" * (i * 30), b"y%d" % i
            await client.split_region([b"b"])
        for node in cluster.nodes:
            await cluster.crash(node, keep_kv=7)
        for node in cluster.nodes:
            await cluster.start_store(node)
        async with await txn_client(cluster) as client:
            found = {k: v async for k, v in client.snapshot(await client.timestamp()).scan(b"", b"")}
        assert found == expected

    run(body)


@pytest.mark.parametrize("limit", [{"raft_log_gc_count_limit": 100}, {"raft_log_gc_size_limit": ByteSize(10_000)}])
def test_new_replica_catches_up_by_snapshot_after_log_gc(limit: dict[str, Any]) -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            victim = cluster.nodes[2]
            await cluster.crash(victim)
            for i in range(400):
                await client.put(b"key%03d" % i, b"v" * 50)
            alive = [node.server.store for node in cluster.nodes if node.server and node.server.store]

            async def compacted() -> bool:
                return all(
                    peer.storage.first_index() > 100
                    for store in alive
                    for peer in store.peers.values()
                    if peer.is_leader
                )

            await eventually(compacted, "the leader cut its log")
            await cluster.start_store(victim)

            async def caught_up() -> bool:
                return len([k for k, _ in victim.kv_db.items("default") if k.startswith(b"zkey")]) == 400

            await eventually(caught_up, "the snapshot arrived")
            await client.put(b"after", b"1")

            async def follows() -> bool:
                return victim.kv_db.get("default", b"zafter") == b"1"

            await eventually(follows, "the replica follows the log again")

    run(body, raftstore=replace(FAST, raft_log_gc_threshold=10, **limit))


def test_interrupted_snapshot_is_repeated_at_start() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            victim = cluster.nodes[2]
            await cluster.crash(victim)
            for i in range(300):
                await client.put(b"key%03d" % i, b"v")
            await asyncio.sleep(3)
            await cluster.start_store(victim)
            assert victim.server is not None
            assert victim.server.store is not None
            manager = victim.server.store.snapshots
            seen = asyncio.Event()

            async def stop_before_data(*_args: object) -> None:
                seen.set()
                await asyncio.Event().wait()

            manager._replace_data = stop_before_data  # type: ignore[method-assign, assignment]
            await asyncio.wait_for(seen.wait(), 30)
            await cluster.crash(victim)
            await cluster.start_store(victim)

            async def caught_up() -> bool:
                return len([k for k, _ in victim.kv_db.items("default") if k.startswith(b"zkey")]) == 300

            await eventually(caught_up, "the staged snapshot was brought in")

    run(body, raftstore=replace(FAST, raft_log_gc_count_limit=50, raft_log_gc_threshold=10))


def test_replica_of_a_dead_store_moves_to_a_fourth() -> None:
    async def body(cluster: StorageCluster) -> None:
        assert cluster.pd.cluster is not None
        await cluster.pd.cluster.settings.set({"max-store-down-time": "5s"})
        async with await raw_client(cluster) as client:
            await client.put(b"k", b"v")
            spare = await cluster.add_store("spare")
            victim = next(n for n in cluster.nodes if n.server and n.server.store and n.server.store.peers)
            assert victim.server is not None
            assert victim.server.store is not None
            dead = victim.server.store.store_id
            await cluster.stop_store(victim)

            async def moved() -> bool:
                assert cluster.pd.cluster is not None
                region = cluster.pd.cluster.tree.all()[0]
                return len(region.peers) == 3 and all(p.store_id != dead and p.role == 0 for p in region.peers)

            await eventually(moved, "three replicas without the dead store", 120)
            assert spare.kv_db.get("default", b"zk") == b"v"
            assert await client.get(b"k") == b"v"

    run(body)


def test_pd_restart_keeps_ids_timestamps_and_regions() -> None:
    async def body(cluster: StorageCluster) -> None:
        pd = await cluster.pd_client()
        last_id, last_ts = await pd.alloc_id(), await pd.timestamp()
        await cluster.pd.stop()
        cluster.pd_disk = cluster.pd_disk.crash()
        cluster.pd = await cluster.start_pd()
        assert await pd.alloc_id() > last_id
        assert await pd.timestamp() > last_ts
        await pd.close()
        await three_replicas(cluster)
        async with await raw_client(cluster) as client:
            await client.put(b"k", b"v")
            assert await client.get(b"k") == b"v"

    run(body)


def test_two_stores_with_one_address_are_refused() -> None:
    async def body(cluster: StorageCluster) -> None:
        pd = await cluster.pd_client()
        known = (await pd.get_all_stores())[0]
        with pytest.raises(PdError, match="duplicated store address") as refused:
            await pd.put_store(metapb_pb2.Store(id=await pd.alloc_id(), address=known.address, version=known.version))
        assert isinstance(refused.value, PdError | StoreAddressConflict)
        await pd.close()

    run(body)


def test_store_with_another_clusters_data_is_refused() -> None:
    async def main() -> None:
        async with storage_cluster(1) as first:
            await first.stop_store(first.nodes[0])
            data: tuple[MemoryEngine, MemoryEngine] = (first.nodes[0].raft_db, first.nodes[0].kv_db)
            raft_db, kv_db = (one.crash(one.unsynced_batches()) for one in data)
        async with storage_cluster(1, seed=1) as second:
            node = second.nodes[0]
            await second.stop_store(node)
            node.raft_db, node.kv_db = raft_db, kv_db
            with pytest.raises(StorageError, match="belongs to cluster"):
                await second.start_store(node)
            await second.stop_store(node)

    run_virtual(main())


def test_a_partitioned_leader_answers_no_stale_read() -> None:
    class Cut:
        """Cuts one endpoint off."""

        def __init__(self) -> None:
            self.alone: str | None = None

        def connected(self, source: str, target: str) -> bool:
            return self.alone is None or (source != self.alone and target != self.alone) or "client" in (source, target)

        def delay_s(self, source: str, target: str) -> float | None:
            return 0.001

    async def main() -> None:
        fault = Cut()
        async with storage_cluster(3, fault=fault) as cluster:
            await three_replicas(cluster)
            async with await raw_client(cluster) as client:
                await client.put(b"k", b"old")
                leader = next(
                    n
                    for n in cluster.nodes
                    if n.server and n.server.store and any(p.is_leader for p in n.server.store.peers.values())
                )
                fault.alone = leader.name
                await asyncio.sleep(2)  # an election timeout of 10 ticks of 50 ms and more
                await client.put(b"k", b"new")
                assert await client.get(b"k") == b"new"
                fault.alone = None
                await asyncio.sleep(1)
                assert await client.get(b"k") == b"new"

    run_virtual(main())


def test_stores_find_each_other_while_pd_is_away() -> None:
    async def body(cluster: StorageCluster) -> None:
        first, second = (node.server for node in cluster.nodes[:2])
        assert first is not None
        assert second is not None
        assert second.store is not None
        other = second.store.store_id
        address = await first._address_of(other)
        await cluster.pd.stop()
        assert await first._address_of(other) == address
        with pytest.raises(PdError, match="is not known"):
            await first._address_of(99)
        cluster.pd = await cluster.start_pd()

    run(body)


@pytest.mark.parametrize(
    ("command", "request_", "response"),
    [
        ("RawPut", kvrpcpb_pb2.RawPutRequest(key=b"k", value=b"2"), kvrpcpb_pb2.RawPutResponse()),
        ("RawDelete", kvrpcpb_pb2.RawDeleteRequest(key=b"k"), kvrpcpb_pb2.RawDeleteResponse()),
        (
            "RawBatchPut",
            kvrpcpb_pb2.RawBatchPutRequest(pairs=[kvrpcpb_pb2.KvPair(key=b"j"), kvrpcpb_pb2.KvPair(key=b"k")]),
            kvrpcpb_pb2.RawBatchPutResponse(),
        ),
        (
            "RawBatchDelete",
            kvrpcpb_pb2.RawBatchDeleteRequest(keys=[b"j", b"k"]),
            kvrpcpb_pb2.RawBatchDeleteResponse(),
        ),
    ],
)
def test_a_write_for_cas_waits_for_its_turn(command: str, request_: Any, response: Message) -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            await client.put(b"k", b"1")
        server, peer = next(
            (node.server, peer)
            for node in cluster.nodes
            if node.server and node.server.store
            for peer in node.server.store.peers.values()
            if peer.is_leader
        )
        services = server.services
        assert services is not None
        dispatcher = services._dispatcher
        assert dispatcher is not None
        latch = await services.scheduler.latches.acquire([b"k"])
        request = type(request_)(for_cas=True)
        request.MergeFrom(request_)
        request.context.region_id = peer.region.id
        request.context.region_epoch.CopyFrom(peer.region.region_epoch)
        answers: list[object] = []
        dispatcher.start(command, request, answers.append)
        await asyncio.sleep(1)
        assert answers == []
        services.scheduler.latches.release(latch)
        await asyncio.sleep(1)
        assert answers == [response]
        assert len(services.scheduler.latches) == 0

    run(body)
