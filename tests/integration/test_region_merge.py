"""Merging regions of a whole cluster on virtual time: data stays, replicas agree, what cannot be merged is opened again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from core_py.errors import DbError
from core_py.sim.loop import run_virtual
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_cmdpb_pb2 as cmdpb
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tests.integration.test_storage_cluster import eventually, raw_client, three_replicas
from tests.support.storage_cluster import FAST, Node, StorageCluster, storage_cluster
from tikv_py.client.raw.client import RawClient
from tikv_py.engine.port import CF_RAFT
from tikv_py.raftstore import admin, keys
from tikv_py.raftstore.apply import Applied
from tikv_py.raftstore.config import RaftstoreConfig
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.region import AdminRefused
from tikv_py.raftstore.store import Store
from tikv_py.server.split_worker import split_region


def run(test: Callable[[StorageCluster], Awaitable[None]], raftstore: RaftstoreConfig = FAST) -> None:
    async def main() -> None:
        async with storage_cluster(3, raftstore=raftstore) as cluster:
            await three_replicas(cluster)
            await test(cluster)

    run_virtual(main())


def store_of(node: Node) -> Store:
    assert node.server is not None
    assert node.server.store is not None
    return node.server.store


def leader_of(cluster: StorageCluster, key: bytes) -> tuple[Node, Peer]:
    for node in cluster.nodes:
        if node.server is None:
            continue
        for peer in store_of(node).peers.values():
            region = peer.region
            inside = region.start_key <= key and (not region.end_key or key < region.end_key)
            if peer.is_leader and peer.storage.is_initialized and inside:
                return node, peer
    raise AssertionError(f"no leader for {key!r}")


async def led(cluster: StorageCluster, key: bytes) -> tuple[Node, Peer]:
    async def there() -> bool:
        try:
            leader_of(cluster, key)
        except AssertionError:
            return False
        return True

    await eventually(there, f"a leader for {key!r}")
    return leader_of(cluster, key)


async def split_at(cluster: StorageCluster, key: bytes) -> None:
    node, peer = await led(cluster, key)
    assert node.server is not None
    await split_region(store_of(node), node.server.pd, peer, [key])
    await led(cluster, key)


async def merge(cluster: StorageCluster, source_key: bytes, target_key: bytes) -> tuple[int, int]:
    """Merge until it is accepted; (source, target) region ids."""
    for _ in range(100):
        node, source = await led(cluster, source_key)
        _, target = await led(cluster, target_key)
        try:
            await admin.merge_region(store_of(node), source, target.region)
        except DbError:
            await asyncio.sleep(0.1)
        else:
            return source.region.id, target.region.id
    raise AssertionError("the merge was never accepted")


async def gone(cluster: StorageCluster, region_id: int) -> None:
    async def no_peer() -> bool:
        return all(region_id not in store_of(node).peers for node in cluster.nodes if node.server is not None)

    await eventually(no_peer, f"region {region_id} is gone from all stores")


def states(cluster: StorageCluster) -> list[dict[int, serverpb.RegionLocalState]]:
    """Region states on each store's disk."""
    found = []
    for node in cluster.nodes:
        pairs = node.kv_db.scan(CF_RAFT, keys.REGION_META_MIN, keys.REGION_META_MAX)
        found.append({keys.decode_region_state_key(k): serverpb.RegionLocalState.FromString(v) for k, v in pairs})
    return found


@pytest.mark.parametrize(("source", "target"), [(b"a", b"m"), (b"m", b"a")])
def test_two_regions_become_one_under_writes(source: bytes, target: bytes) -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            await split_at(cluster, b"m")
            wrote: dict[bytes, int] = {}
            stopping = False

            async def writer(prefix: bytes) -> None:
                number = 0
                while not stopping:
                    number += 1
                    key = prefix + b"%d" % (number % 7)
                    await client.put(key, b"%d" % number)
                    wrote[key] = number
                    await asyncio.sleep(0.003)

            async with asyncio.TaskGroup() as group:
                for prefix in (b"a", b"b", b"p", b"z"):
                    group.create_task(writer(prefix))
                await asyncio.sleep(0.3)
                source_id, target_id = await merge(cluster, source, target)
                await gone(cluster, source_id)
                await asyncio.sleep(0.5)
                stopping = True
            for key, number in wrote.items():
                assert await client.get(key) == b"%d" % number
            for node in cluster.nodes:
                region = store_of(node).peers[target_id].region
                assert (region.start_key, region.end_key) == (b"", b"")
                assert region.region_epoch.version == 4, "a split (2), PrepareMerge (3), the greater one plus one"
            assert cluster.pd.cluster is not None

            async def known() -> bool:
                assert cluster.pd.cluster is not None
                return [region.region_id for region in cluster.pd.cluster.tree.all()] == [target_id]

            await eventually(known, "PD knows one region")

    run(body)


async def merged_without_one(cluster: StorageCluster, client: RawClient) -> tuple[Node, int, int]:
    """Two regions with a key each are merged while one store, which leads neither, goes down: (store, source, target)."""
    await split_at(cluster, b"m")
    await client.put(b"a", b"1")
    await client.put(b"p", b"1")
    node, _ = await led(cluster, b"a")
    leaders = {id(node), id((await led(cluster, b"p"))[0])}
    away = next(one for one in cluster.nodes if id(one) not in leaders)
    await asyncio.sleep(0.5)
    source_id, target_id = await merge(cluster, b"a", b"p")
    await cluster.crash(away)
    await gone(cluster, source_id)
    return away, source_id, target_id


def test_a_replica_that_was_away_catches_up_through_the_target() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            away, source_id, target_id = await merged_without_one(cluster, client)
            for number in range(40):
                await client.put(b"b%d" % number, b"x" * 10)
            await cluster.start_store(away)

            async def same() -> bool:
                held = [one.kv_db.scan("default", b"z", b"{") for one in cluster.nodes]
                return held[0] == held[1] == held[2] and len(held[0]) == 42

            await eventually(same, "equal replicas")
            assert source_id not in store_of(away).peers
            assert states(cluster)[0][target_id].merged_records[0].source_region_id == source_id

    run(body)


def test_a_replica_that_gets_the_merged_region_by_snapshot_gives_up_the_source() -> None:
    """It holds a range that the snapshot needs, and its own region will never speak to it again."""

    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            away, source_id, target_id = await merged_without_one(cluster, client)
            for number in range(300):
                await client.put(b"b%d" % number, b"x" * 10)
            _, peer = await led(cluster, b"a")
            await eventually(lambda: _log_is_cut(peer), "the log is cut behind the absent replica")
            await cluster.start_store(away)
            assert source_id in store_of(away).peers, "as far as it knows"

            async def same() -> bool:
                held = [one.kv_db.scan("default", b"z", b"{") for one in cluster.nodes]
                return held[0] == held[1] == held[2] and len(held[0]) == 302

            await eventually(same, "equal replicas")
            assert source_id not in store_of(away).peers
            ended = states(cluster)[cluster.nodes.index(away)][source_id]
            assert (ended.state, ended.merge_state.target.id) == (serverpb.Tombstone, target_id)

    run(body, replace(FAST, raft_log_gc_count_limit=20, raft_log_gc_threshold=5))


async def _log_is_cut(peer: Peer) -> bool:
    return peer.storage.first_index() > 100


def test_a_target_that_changes_first_opens_the_source_again() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            await split_at(cluster, b"m")
            await client.put(b"a", b"1")
            await asyncio.sleep(0.5)
            node, source = await led(cluster, b"a")
            _, target = await led(cluster, b"m")
            hold_back(cluster, target.region.id)
            await admin.merge_region(store_of(node), source, target.region)
            closed = source.region.region_epoch.version
            await split_at(cluster, b"x")
            release(cluster, target.region.id)

            async def opened() -> bool:
                return all(not store_of(one).closed for one in cluster.nodes)

            await eventually(opened, "the source is opened again")
            assert source.region.region_epoch.version == closed + 1
            await client.put(b"a", b"2")
            assert await client.get(b"a") == b"2"

    run(body)


def hold_back(cluster: StorageCluster, region_id: int) -> None:
    """Nobody proposes a CommitMerge to this region."""
    for one in cluster.nodes:
        peer = store_of(one).peers[region_id]
        propose = peer.propose_admin

        def without_merges(
            data: bytes, propose: Callable[[bytes], asyncio.Future[Applied]] = propose
        ) -> asyncio.Future[Applied]:
            if cmdpb.RaftCmdRequest.FromString(data).admin_request.cmd_type == cmdpb.CommitMerge:
                raise AdminRefused("not now")
            return propose(data)

        peer.propose_admin = without_merges  # type: ignore[method-assign]


def release(cluster: StorageCluster, region_id: int) -> None:
    for one in cluster.nodes:
        del store_of(one).peers[region_id].propose_admin


def test_a_merge_is_refused_where_it_is_not_safe() -> None:
    async def body(cluster: StorageCluster) -> None:
        await split_at(cluster, b"g")
        await split_at(cluster, b"m")
        node, left = await led(cluster, b"a")
        _, right = await led(cluster, b"m")
        with pytest.raises(AdminRefused, match="do not touch"):
            await admin.merge_region(store_of(node), left, right.region)
        _, middle = await led(cluster, b"g")
        old = metapb_pb2.Region()
        old.CopyFrom(middle.region)
        old.region_epoch.version -= 1
        with pytest.raises(AdminRefused, match="has changed"):
            await admin.merge_region(store_of(node), left, old)
        learner = metapb_pb2.Region()
        learner.CopyFrom(middle.region)
        middle_here = store_of(node).peers[middle.region.id]
        kept = middle_here.storage.region
        learner.peers[0].role = metapb_pb2.Learner
        middle_here.storage.region = learner
        with pytest.raises(AdminRefused, match="not voters"):
            await admin.merge_region(store_of(node), left, learner)
        middle_here.storage.region = kept

    run(body)


def test_the_closed_source_takes_no_commands() -> None:
    """Whatever follows PrepareMerge in the source's log would be lost, because the target takes the log up to it."""

    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            await split_at(cluster, b"m")
            await client.put(b"a", b"1")
            node, source = await led(cluster, b"a")
            _, target = await led(cluster, b"m")
            hold_back(cluster, target.region.id)
            await asyncio.sleep(0.5)
            await admin.merge_region(store_of(node), source, target.region)
            assert source.storage.merge is not None
            with pytest.raises(DbError, match="being merged"):
                source.write([], [])
            assert not source.can_read_locally()
            data = source.region.SerializeToString()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2):
                    await client.put(b"a", b"2")
            release(cluster, target.region.id)
            await gone(cluster, source.region.id)
            assert source.region.SerializeToString() == data
            await client.put(b"a", b"3")
            assert await client.get(b"a") == b"3"

    run(body)


@pytest.mark.parametrize("keep", range(12))
def test_a_loss_of_power_leaves_both_regions_or_one(keep: int) -> None:
    """All stores lose power in the middle; whatever prefix of their writes is left, the merge ends or is repeated."""

    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            await split_at(cluster, b"m")
            await client.put(b"a", b"1")
            await client.put(b"p", b"1")
            await asyncio.sleep(0.5)
            source_id, target_id = await merge(cluster, b"a", b"p")
            await asyncio.sleep(0.002 * keep)
            for node in cluster.nodes:
                await cluster.cut_power(node, keep, keep)
            for node in cluster.nodes:
                await cluster.start_store(node)
            await led(cluster, b"a")
            await client.put(b"a", b"2")
            assert await client.get(b"a") == b"2"
            assert await client.get(b"p") == b"1"
            await gone(cluster, source_id)
            for state in states(cluster):
                assert state[source_id].state == serverpb.Tombstone
                assert state[source_id].merge_state.target.id == target_id

    run(body)
