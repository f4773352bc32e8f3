"""Reads away from the leader, on whole clusters in virtual time: stale reads, follower reads, and what stores say about both.

Timestamps are advanced every half second here, so a replica is complete up to about a second ago.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from core_py.codec import memcomparable, row, tablecodec
from core_py.codec import ts as tso
from core_py.ports import methods_of
from core_py.runtime.config import Seconds
from core_py.sim.loop import run_virtual
from core_py.sim.network import NoFault
from protos.kvproto import debugpb_pb2, tikvpb_pb2
from protos.kvproto import kvrpcpb_pb2 as pb
from protos.tipb import select_pb2
from tests.integration.test_failpoints_commands import counting
from tests.integration.test_storage_cluster import eventually, three_replicas, txn_client
from tests.support.storage_cluster import FAST, Node, StorageCluster, storage_cluster
from tikv_py.engine.port import CF_LOCK
from tikv_py.mvcc import keys
from tikv_py.raftstore import admin
from tikv_py.raftstore.config import RaftstoreConfig
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.store import Store
from tikv_py.resolved_ts.progress import Claim
from tikv_py.server.config import ResolvedTsConfig, TikvConfig
from tikv_py.server.split_worker import split_region

METHODS = methods_of(tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"])
DEBUG = methods_of(debugpb_pb2.DESCRIPTOR.services_by_name["Debug"])
SETTINGS = TikvConfig(resolved_ts=ResolvedTsConfig(advance_ts_interval=Seconds(0.5)))


BY_HAND = TikvConfig(resolved_ts=ResolvedTsConfig(enable=False))


def run(
    test: Callable[[StorageCluster], Awaitable[None]],
    raftstore: RaftstoreConfig = FAST,
    settings: TikvConfig = SETTINGS,
    stores: int = 3,
) -> None:
    async def main() -> None:
        async with storage_cluster(stores, raftstore=raftstore, settings=settings) as cluster:
            await three_replicas(cluster, stores)
            await test(cluster)

    run_virtual(main())


def store_of(node: Node) -> Store:
    assert node.server is not None
    assert node.server.store is not None
    return node.server.store


def replicas(cluster: StorageCluster, user_key: bytes) -> list[tuple[Node, Peer]]:
    """The replicas of the region of a key, the leader first."""
    key = memcomparable.encode(user_key)
    found = [
        (node, peer)
        for node in cluster.nodes
        if node.server is not None
        for peer in store_of(node).peers.values()
        if peer.region.start_key <= key and (not peer.region.end_key or key < peer.region.end_key)
    ]
    return sorted(found, key=lambda one: not one[1].is_leader)


async def call(cluster: StorageCluster, node: Node, name: str, request: Any) -> Any:
    channel = cluster.network.transport("client").connect(f"{node.name}:20160")
    try:
        return await channel.unary({**DEBUG, **METHODS}[name], request, timeout_s=10)
    finally:
        await channel.close()


async def stale_get(cluster: StorageCluster, node: Node, peer: Peer, key: bytes, ts: int) -> pb.GetResponse:
    request = pb.GetRequest(key=key, version=ts)
    context = request.context
    context.region_id, context.stale_read = peer.region.id, True
    context.region_epoch.CopyFrom(peer.region.region_epoch)
    context.peer.CopyFrom(peer.meta())
    response: pb.GetResponse = await call(cluster, node, "KvGet", request)
    return response


async def complete_up_to(cluster: StorageCluster, key: bytes, ts: int) -> None:
    """Wait until every replica of the key's region can be read at `ts`."""

    async def complete() -> bool:
        return all(peer.safe_ts() >= ts for _, peer in replicas(cluster, key))

    await eventually(complete, f"every replica complete up to {ts}")


def test_every_replica_answers_below_its_safe_ts_and_none_above() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            async with client.begin() as txn:
                txn.put(b"k", b"old")
            old_ts = await client.timestamp()
            async with client.begin() as txn:
                txn.put(b"k", b"new")
            new_ts = await client.timestamp()
            await complete_up_to(cluster, b"k", new_ts)
            for node, peer in replicas(cluster, b"k"):
                assert (await stale_get(cluster, node, peer, b"k", old_ts)).value == b"old"
                assert (await stale_get(cluster, node, peer, b"k", new_ts)).value == b"new"
                safe_ts = peer.safe_ts()
                refused = (await stale_get(cluster, node, peer, b"k", await client.timestamp())).region_error
                assert refused.data_is_not_ready.region_id == peer.region.id
                assert refused.data_is_not_ready.peer_id == peer.peer_id
                assert refused.data_is_not_ready.safe_ts == safe_ts
                stale_epoch = await _with_epoch(cluster, node, peer, new_ts, version=99)
                assert stale_epoch.region_error.HasField("epoch_not_match")

    run(body)


async def _with_epoch(cluster: StorageCluster, node: Node, peer: Peer, ts: int, version: int) -> pb.GetResponse:
    request = pb.GetRequest(key=b"k", version=ts)
    request.context.region_id, request.context.stale_read = peer.region.id, True
    request.context.region_epoch.version = version
    response: pb.GetResponse = await call(cluster, node, "KvGet", request)
    return response


def test_the_client_reads_stale_from_any_replica_and_from_the_leader_what_is_too_new() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            data = {b"k%02d" % n: b"v%d" % n for n in range(20)}
            async with client.begin() as txn:
                for key, value in data.items():
                    txn.put(key, value)
            ts = await client.timestamp()
            for wait in (False, True):
                if wait:
                    await complete_up_to(cluster, b"k", ts)
                    before = [_reads(node) for node in cluster.nodes]
                for _ in range(6):
                    snapshot = client.snapshot(ts, stale_read=True)
                    assert await snapshot.get(b"k03") == b"v3"
                    assert await snapshot.batch_get(list(data)) == data
                    assert {key: value async for key, value in snapshot.scan(b"k", b"l")} == data
            served = [_reads(node) - old for node, old in zip(cluster.nodes, before, strict=True)]
            assert all(served), "some replica was never asked"
            assert await client.snapshot(ts, replica_read=True).get(b"k03") == b"v3"

    run(body)


def _reads(node: Node) -> int:
    return sum(peer.flow.read_keys for peer in store_of(node).peers.values())


def test_locks_hold_the_safe_ts_back_only_while_they_can_commit_below() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            async with client.begin() as txn:
                txn.put(b"k", b"old")
            reserved = await client.begin(pessimistic=True)
            await reserved.lock_keys([b"k"])
            assert cluster.nodes[0].kv_db.get(CF_LOCK, keys.data_key(b"k"))
            await complete_up_to(cluster, b"k", await client.timestamp())
            await reserved.rollback()

            start_ts = await client.timestamp()
            node, peer = replicas(cluster, b"k")[0]
            request = pb.PrewriteRequest(primary_lock=b"k", start_version=start_ts, lock_ttl=60_000)
            request.mutations.add(op=pb.Put, key=b"k", value=b"new")
            _address(request.context, peer)
            assert not (await call(cluster, node, "KvPrewrite", request)).errors
            await complete_up_to(cluster, b"k", start_ts)
            await asyncio.sleep(5)
            for node, peer in replicas(cluster, b"k"):
                assert tso.physical_ms(peer.safe_ts()) < tso.physical_ms(start_ts) + 500
                response = await stale_get(cluster, node, peer, b"k", peer.safe_ts())
                assert not response.HasField("error"), "a stale read waits for no lock"
                assert response.value == b"old"
            progress = await call(
                cluster,
                replicas(cluster, b"k")[0][0],
                "GetRegionReadProgress",
                debugpb_pb2.GetRegionReadProgressRequest(region_id=peer.region.id),
            )
            assert progress.region_read_progress_exist
            assert (progress.num_locks, progress.num_transactions) == (1, 1)
            assert start_ts <= progress.safe_ts <= progress.read_state_ts

            node, peer = replicas(cluster, b"k")[0]
            commit = pb.CommitRequest(start_version=start_ts, keys=[b"k"], commit_version=await client.timestamp())
            _address(commit.context, peer)
            assert not (await call(cluster, node, "KvCommit", commit)).HasField("error")
            await complete_up_to(cluster, b"k", commit.commit_version)

    run(body)


def _address(context: pb.Context, peer: Peer) -> None:
    context.region_id = peer.region.id
    context.region_epoch.CopyFrom(peer.region.region_epoch)
    context.peer.CopyFrom(peer.meta())


def test_push_down_reads_the_past_on_any_replica_past_all_locks() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            first, second = tablecodec.record_key(1, 1), tablecodec.record_key(1, 2)
            async with client.begin() as txn:
                txn.put(first, row.encode([]))
            async with client.begin() as txn:
                txn.put(second, row.encode([]))
            ts = await client.timestamp()
            await complete_up_to(cluster, first, ts)
            old = txn.commit_ts - 1
            # A transaction that began long ago locks the rows now; it cannot commit below what is published.
            node, leader = replicas(cluster, first)[0]
            request = pb.PrewriteRequest(primary_lock=second, start_version=txn.commit_ts, lock_ttl=60_000)
            request.mutations.add(op=pb.Put, key=second, value=row.encode([]))
            _address(request.context, leader)
            assert not (await call(cluster, node, "KvPrewrite", request)).errors
            for node, peer in replicas(cluster, first):
                assert await _rows(cluster, node, peer, old) == 1
                assert await _rows(cluster, node, peer, ts) == 2
                assert await _rows(cluster, node, peer, await client.timestamp()) is None

    run(body)


async def _rows(cluster: StorageCluster, node: Node, peer: Peer, ts: int) -> int | None:
    """How many rows a stale count finds; None where it is refused."""
    request = counting(ts)
    _address(request.context, peer)
    request.context.stale_read = True
    response = await call(cluster, node, "Coprocessor", request)
    if response.region_error.HasField("data_is_not_ready"):
        return None
    assert not response.HasField("locked")
    return sum(select_pb2.SelectResponse.FromString(response.data).output_counts)


def test_sleeping_regions_stay_asleep_and_advance() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            async with client.begin() as txn:
                txn.put(b"k", b"v")

            async def asleep() -> bool:
                return not any(store_of(node).hibernation.awake for node in cluster.nodes)

            await eventually(asleep, "all peers sleep")
            turns = [store_of(node).turns for node in cluster.nodes]
            ts = await client.timestamp()
            await complete_up_to(cluster, b"k", ts)
            for node, peer in replicas(cluster, b"k"):
                assert (await stale_get(cluster, node, peer, b"k", ts)).value == b"v"
            assert await asleep()
            assert [store_of(node).turns for node in cluster.nodes] == turns

    run(body)


class Cut:
    """One store and all other stores do not hear each other; PD and clients reach everybody."""

    def __init__(self, name: str) -> None:
        self._name = name

    def connected(self, source: str, target: str) -> bool:
        return not (source.startswith("store") and target.startswith("store") and self._name in (source, target))

    def delay_s(self, _source: str, _target: str) -> float | None:
        return 0.0


def test_a_leader_that_was_replaced_in_its_sleep_claims_nothing() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            async with client.begin() as txn:
                txn.put(b"k", b"old")
            await complete_up_to(cluster, b"k", await client.timestamp())
            await eventually(
                lambda: _true(not any(store_of(node).hibernation.awake for node in cluster.nodes)), "all peers sleep"
            )
            node, old = replicas(cluster, b"k")[0]
            cluster.network.fault = Cut(node.name)
            known = old.safe_ts()
            others = [peer for _, peer in replicas(cluster, b"k")[1:]]
            await eventually(lambda: _true(any(peer.is_leader for peer in others)), "another leader")
            await asyncio.sleep(3)
            assert old.is_leader, "asleep, it cannot know better"
            assert old.safe_ts() <= known + (1000 << 18), "what was under way when the network broke"
            async with client.begin() as txn:
                txn.put(b"k", b"new")
            ts = await client.timestamp()
            await eventually(lambda: _true(any(peer.safe_ts() >= ts for peer in others)), "the new leader advances")
            assert (await stale_get(cluster, node, old, b"k", ts)).region_error.HasField("data_is_not_ready")
            cluster.network.fault = NoFault()
            await complete_up_to(cluster, b"k", ts)
            assert (await stale_get(cluster, node, old, b"k", ts)).value == b"new"

    run(body)


def test_a_leader_claims_nothing_before_it_has_applied_its_own_term() -> None:
    async def body(cluster: StorageCluster) -> None:
        _, leader = replicas(cluster, b"k")[0]
        async with await txn_client(cluster) as client:
            await complete_up_to(cluster, b"k", await client.timestamp())
            leader.storage.applied_term -= 1
            await asyncio.sleep(1)
            known = leader.safe_ts()
            await asyncio.sleep(3)
            assert leader.safe_ts() == known
            leader.storage.applied_term += 1
            await complete_up_to(cluster, b"k", await client.timestamp())

    run(body)


def test_the_new_part_of_a_split_begins_with_nothing() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            async with client.begin() as txn:
                txn.put(b"a", b"1")
                txn.put(b"z", b"2")
            ts = await client.timestamp()
            await complete_up_to(cluster, b"a", ts)
            node, peer = replicas(cluster, b"a")[0]
            assert node.server is not None
            await split_region(store_of(node), node.server.pd, peer, [memcomparable.encode(b"m")])

            async def born() -> bool:
                return len(replicas(cluster, b"a")) == 3 and replicas(cluster, b"a")[0][1].is_leader

            await eventually(born, "three replicas of the new part")
            left, right = replicas(cluster, b"a"), replicas(cluster, b"z")
            assert all(peer.safe_ts() >= ts for _, peer in right), (
                "the part that keeps the log keeps what is known of it"
            )
            for node, peer in left:
                assert not peer.safe_ts()
                refused = (await stale_get(cluster, node, peer, b"a", ts)).region_error
                assert refused.data_is_not_ready.safe_ts == 0
            await complete_up_to(cluster, b"a", await client.timestamp())

    run(body)


async def _true(condition: bool) -> bool:
    return condition


def test_a_new_leader_goes_on_and_a_store_that_was_away_begins_with_nothing() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            async with client.begin() as txn:
                txn.put(b"k", b"v")
            await complete_up_to(cluster, b"k", await client.timestamp())
            node, _ = replicas(cluster, b"k")[0]
            others = [peer for _, peer in replicas(cluster, b"k")[1:]]
            known = [peer.safe_ts() for peer in others]
            await cluster.crash(node)
            assert [peer.safe_ts() for peer in others] == known
            await complete_up_to(cluster, b"k", await client.timestamp())
            await cluster.start_store(node)
            back = next(peer for other, peer in replicas(cluster, b"k") if other is node)
            assert not back.safe_ts()
            refused = (await stale_get(cluster, node, back, b"k", known[0])).region_error
            assert refused.HasField("data_is_not_ready")
            await complete_up_to(cluster, b"k", await client.timestamp())

    run(body)


def test_a_snapshot_begins_anew() -> None:
    raftstore = replace(
        FAST, raft_log_gc_threshold=5, raft_log_gc_count_limit=20, raft_log_gc_tick_interval=Seconds(0.2)
    )

    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            async with client.begin() as txn:
                txn.put(b"k", b"v")
            await complete_up_to(cluster, b"k", await client.timestamp())
            node, peer = replicas(cluster, b"k")[2]
            seen: list[int] = []
            begin = store_of(node).snapshots.begin

            def watched(*args: Any) -> None:
                begin(*args)
                seen.append(peer.safe_ts())

            store_of(node).snapshots.begin = watched  # type: ignore[assignment,method-assign]
            cluster.network.fault = Cut(node.name)
            for n in range(60):
                async with client.begin() as txn:
                    txn.put(b"k%d" % n, b"v")
            await asyncio.sleep(5)
            cluster.network.fault = NoFault()
            await eventually(lambda: _true(bool(seen)), "a snapshot")
            assert seen[0] == 0
            ts = await client.timestamp()
            await complete_up_to(cluster, b"k", ts)
            assert (await stale_get(cluster, node, peer, b"k59", ts)).value == b"v"

    run(body, raftstore)


def test_what_stores_and_pd_say_about_how_far_they_are() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            await client.split_region([b"m"])
            ts = await client.timestamp()
            await complete_up_to(cluster, b"a", ts)
            await complete_up_to(cluster, b"z", ts)
            for node in cluster.nodes:
                everywhere = await call(cluster, node, "GetStoreSafeTS", pb.StoreSafeTSRequest())
                assert everywhere.safe_ts == min(peer.safe_ts() for peer in store_of(node).peers.values())
                left = pb.KeyRange(start_key=memcomparable.encode(b"a"), end_key=memcomparable.encode(b"b"))
                part = await call(cluster, node, "GetStoreSafeTS", pb.StoreSafeTSRequest(key_range=left))
                assert part.safe_ts == next(peer.safe_ts() for one, peer in replicas(cluster, b"a") if one is node)
            for node in cluster.nodes:
                assert node.server is not None
                gap = node.server.registry.get_sample_value("tikv_resolved_ts_min_resolved_ts_gap_millis")
                assert gap is not None
                assert gap <= 600, "of the leaders here, or of none"
            assert cluster.pd.cluster is not None
            told = cluster.pd.cluster
            await eventually(lambda: _true(told.min_resolved_ts() >= ts), "PD knows")

    run(body)


def test_read_index_and_follower_reads_wait_for_what_was_answered_before() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await txn_client(cluster) as client:
            for n in range(10):
                async with client.begin() as txn:
                    txn.put(b"k", b"%d" % n)
                ts = await client.timestamp()
                written = replicas(cluster, b"k")[0][1].storage.apply_state.applied_index
                for node, peer in replicas(cluster, b"k"):
                    index = pb.ReadIndexRequest(start_ts=ts)
                    _address(index.context, peer)
                    index.context.replica_read = True
                    response = await call(cluster, node, "ReadIndex", index)
                    assert response.read_index >= written
                    assert peer.storage.apply_state.applied_index >= response.read_index
                    read = pb.GetRequest(key=b"k", version=ts)
                    _address(read.context, peer)
                    read.context.replica_read = True
                    assert (await call(cluster, node, "KvGet", read)).value == b"%d" % n
            node, peer = replicas(cluster, b"k")[1]
            _address(index.context, peer)
            index.context.replica_read = False
            assert (await call(cluster, node, "ReadIndex", index)).region_error.HasField("not_leader")

    run(body)


def test_raw_requests_ignore_the_flag() -> None:
    async def body(cluster: StorageCluster) -> None:
        node, peer = replicas(cluster, b"k")[0]
        put = pb.RawPutRequest(key=b"r", value=b"v")
        get = pb.RawGetRequest(key=b"r")
        for request in (put, get):
            _address(request.context, peer)
            request.context.stale_read = True
        await call(cluster, node, "RawPut", put)
        assert (await call(cluster, node, "RawGet", get)).value == b"v"
        node, peer = replicas(cluster, b"k")[1]
        _address(get.context, peer)
        assert (await call(cluster, node, "RawGet", get)).region_error.HasField("not_leader")

    run(body)


def test_a_merged_region_is_complete_as_far_as_both_parts_are() -> None:
    async def body(cluster: StorageCluster) -> None:
        left, right = partial(replicas, cluster, b"a"), partial(replicas, cluster, b"z")
        assert cluster.pd.cluster is not None
        await cluster.pd.cluster.settings.set({"leader-schedule-limit": 0})
        async with await txn_client(cluster) as client:
            await client.split_region([b"m"])
        await eventually(
            lambda: _true(all(len(found) == 3 and found[0][1].is_leader for found in (left(), right()))), "two regions"
        )
        source, target = left()[0], next(one for one in right() if one[0] is left()[0][0])
        if not target[1].is_leader:
            holder, leader = right()[0]
            admin.transfer_leader(store_of(holder), leader, target[1].meta())
            await eventually(lambda: _true(target[1].is_leader), "leaders on one store")
        await asyncio.sleep(1)
        for (_, one), (_, other) in zip(left(), right(), strict=True):
            one.read_progress.offer(Claim(one.storage.apply_state.applied_index, 100))
            other.read_progress.offer(Claim(other.storage.apply_state.applied_index, 200))
            other.read_progress.offer(Claim(other.storage.apply_state.applied_index + 1, 300))
        await admin.merge_region(store_of(source[0]), source[1], target[1].region)
        await eventually(
            lambda: _true(all(not peer.region.start_key for _, peer in right()) and len(right()) == 3),
            "merged everywhere",
        )
        assert [peer.safe_ts() for _, peer in right()] == [100, 100, 100]
        assert all(peer.read_progress.front is None for _, peer in right())

    run(body, settings=BY_HAND)


def test_a_lock_holds_back_the_region_that_its_key_is_in() -> None:
    async def body(cluster: StorageCluster) -> None:
        left, right = partial(replicas, cluster, b"a"), partial(replicas, cluster, b"z")
        async with await txn_client(cluster) as client:
            await complete_up_to(cluster, b"a", await client.timestamp())
            start_ts = await client.timestamp()
            request = pb.PrewriteRequest(primary_lock=b"a", start_version=start_ts, lock_ttl=60_000)
            request.mutations.add(op=pb.Put, key=b"a", value=b"v")
            _address(request.context, left()[0][1])
            assert not (await call(cluster, left()[0][0], "KvPrewrite", request)).errors

            await client.split_region([b"m"])
            await complete_up_to(cluster, b"z", await client.timestamp())
            await complete_up_to(cluster, b"a", start_ts)
            await asyncio.sleep(2)
            assert {peer.safe_ts() for _, peer in left()} == {start_ts}

            (node, source), (_, target) = left()[0], right()[0]
            await admin.merge_region(store_of(node), source, target.region)
            await eventually(lambda: _true(all(not peer.region.start_key for _, peer in right())), "merged everywhere")
            await asyncio.sleep(3)
            assert {peer.safe_ts() for _, peer in right()} == {start_ts}

            commit = pb.CommitRequest(start_version=start_ts, keys=[b"a"], commit_version=await client.timestamp())
            _address(commit.context, right()[0][1])
            assert not (await call(cluster, right()[0][0], "KvCommit", commit)).HasField("error")
            await complete_up_to(cluster, b"a", commit.commit_version)

    run(body, stores=1)  # where no leader moves, which would have the locks read again anyway


def test_check_leader_agrees_to_the_leader_of_the_term_and_takes_claims_about_the_same_range() -> None:
    async def body(cluster: StorageCluster) -> None:
        _, leader = replicas(cluster, b"k")[0]
        node, follower = replicas(cluster, b"k")[1]

        async def ask(term: int, peer_id: int, version: int, claim: Claim) -> list[int]:
            request = pb.CheckLeaderRequest(ts=5)
            info = request.regions.add(region_id=leader.region.id, peer_id=peer_id, term=term)
            info.region_epoch.CopyFrom(leader.region.region_epoch)
            info.region_epoch.version = version
            info.read_state.applied_index, info.read_state.safe_ts = claim
            request.regions.add(region_id=999, peer_id=1, term=term)
            response = await call(cluster, node, "CheckLeader", request)
            assert response.ts == 5
            return list(response.regions)

        term, version = leader.node.term, leader.region.region_epoch.version
        applied = follower.storage.apply_state.applied_index
        assert await ask(term, leader.peer_id, version + 1, Claim(applied, 100)) == [leader.region.id]
        assert follower.safe_ts() == 0
        assert await ask(term + 1, leader.peer_id, version, Claim(applied, 100)) == []
        assert follower.safe_ts() == 100
        assert await ask(term, follower.peer_id, version, Claim(applied + 1, 200)) == []
        assert follower.safe_ts() == 100
        assert await ask(term, leader.peer_id, version, Claim(applied, 150)) == [leader.region.id]
        assert follower.safe_ts() == 100, "what waits says more"

    run(body, settings=BY_HAND)


@pytest.mark.parametrize("enabled", [True, False])
def test_nothing_advances_where_it_is_switched_off(*, enabled: bool) -> None:
    async def main() -> None:
        settings = replace(SETTINGS, resolved_ts=replace(SETTINGS.resolved_ts, enable=enabled))
        async with storage_cluster(1, settings=settings) as cluster:
            await asyncio.sleep(5)
            assert all(bool(peer.safe_ts()) is enabled for peer in store_of(cluster.nodes[0]).peers.values())

    run_virtual(main())
