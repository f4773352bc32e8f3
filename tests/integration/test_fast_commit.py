"""Async commit and one-phase commit on whole clusters in virtual time: what readers may see while a write is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from core_py.codec import ts as tso
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2 as pb
from tests.integration.test_stale_reads import call, replicas
from tests.integration.test_storage_cluster import eventually, three_replicas, txn_client
from tests.support.storage_cluster import Node, StorageCluster, storage_cluster
from tikv_py.client.txn.client import TxnClient
from tikv_py.mvcc import keys
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.raftstore.peer import Peer
from tikv_py.server.app import TikvServer
from tikv_py.txn.concurrency import ALLOWANCE_MS, ConcurrencyManager


def run(test: Callable[[StorageCluster, TxnClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with storage_cluster(3) as cluster:
            await three_replicas(cluster)
            async with await txn_client(cluster) as client:
                await test(cluster, client)

    run_virtual(main())


def server_of(node: Node) -> TikvServer:
    assert node.server is not None
    return node.server


def leader_of(cluster: StorageCluster, key: bytes) -> tuple[Node, Peer]:
    node, peer = replicas(cluster, key)[0]
    assert peer.is_leader
    return node, peer


def concurrency_of(node: Node) -> ConcurrencyManager:
    services = server_of(node).services
    assert services is not None
    return services.access.concurrency


def with_context(request: pb.PrewriteRequest | pb.GetRequest, peer: Peer, *, replica_read: bool = False) -> None:
    context = request.context
    context.region_id, context.replica_read = peer.region.id, replica_read
    context.region_epoch.CopyFrom(peer.region.region_epoch)
    context.peer.CopyFrom(peer.meta())


def prewrite(keys: list[bytes], start_ts: int, *, one_pc: bool = False, max_commit_ts: int = 0) -> pb.PrewriteRequest:
    request = pb.PrewriteRequest(
        primary_lock=keys[0],
        start_version=start_ts,
        lock_ttl=3000,
        try_one_pc=one_pc,
        use_async_commit=not one_pc,
        secondaries=[] if one_pc else keys[1:],
        max_commit_ts=max_commit_ts,
    )
    for key in keys:
        request.mutations.add(op=pb.Put, key=key, value=b"v:" + key)
    return request


async def send(cluster: StorageCluster, key: bytes, request: pb.PrewriteRequest) -> pb.PrewriteResponse:
    node, peer = leader_of(cluster, key)
    with_context(request, peer)
    response: pb.PrewriteResponse = await call(cluster, node, "KvPrewrite", request)
    assert not response.HasField("region_error"), response.region_error
    assert not response.errors
    return response


async def get(cluster: StorageCluster, key: bytes, ts: int, which: int = 0, *, replica: bool = False) -> Any:
    node, peer = replicas(cluster, key)[which]
    request = pb.GetRequest(key=key, version=ts)
    with_context(request, peer, replica_read=replica)
    return await call(cluster, node, "KvGet", request)


def test_one_phase_commits_above_every_read_and_leaves_no_lock() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        start_ts = await client.timestamp()
        read_ts = start_ts + 1000
        assert (await get(cluster, b"k", read_ts)).not_found
        response = await send(cluster, b"k", prewrite([b"k", b"l"], start_ts, one_pc=True))
        assert response.one_pc_commit_ts > read_ts
        assert response.min_commit_ts == 0
        assert (await get(cluster, b"k", read_ts)).not_found
        assert (await get(cluster, b"l", response.one_pc_commit_ts)).value == b"v:l"
        again = await send(cluster, b"k", prewrite([b"k", b"l"], start_ts, one_pc=True))
        assert again.one_pc_commit_ts == response.one_pc_commit_ts
        assert len(concurrency_of(leader_of(cluster, b"k")[0])) == 0

    run(body)


def test_async_commit_fixes_a_timestamp_that_the_commit_must_keep() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        start_ts = await client.timestamp()
        first = await send(cluster, b"k", prewrite([b"k", b"l"], start_ts))
        assert first.min_commit_ts > start_ts
        met = (await get(cluster, b"l", first.min_commit_ts)).error.locked
        assert met.use_async_commit
        assert (await get(cluster, b"l", first.min_commit_ts - 1)).not_found
        assert (await get(cluster, b"k", first.min_commit_ts)).error.locked.secondaries == [b"l"]
        again = await send(cluster, b"k", prewrite([b"k", b"l"], start_ts))
        assert again.min_commit_ts == first.min_commit_ts
        # The owner is gone: a reader finds the outcome out, and it is a commit, for every key has its lock.
        late = await client.timestamp() + (4000 << tso.LOGICAL_BITS)
        await asyncio.sleep(5)
        assert await client.snapshot(late).batch_get([b"k", b"l"]) == {b"k": b"v:k", b"l": b"v:l"}
        assert await client.snapshot(first.min_commit_ts - 1).batch_get([b"k", b"l"]) == {}

    run(body)


def test_a_limit_that_is_passed_falls_back_to_two_phases() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        for one_pc in (False, True):
            start_ts = await client.timestamp()
            assert (await get(cluster, b"k", start_ts + 100)).not_found
            key = b"one" if one_pc else b"async"
            response = await send(cluster, key, prewrite([key], start_ts, one_pc=one_pc, max_commit_ts=start_ts + 50))
            assert (response.min_commit_ts, response.one_pc_commit_ts) == (0, 0)
            met = (await get(cluster, key, await client.timestamp())).error.locked
            assert met.lock_version == start_ts
            assert not met.use_async_commit

    run(body)


def test_readers_meet_a_lock_that_is_in_no_log_yet() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        node, peer = leader_of(cluster, b"k")
        start_ts = await client.timestamp()
        assert (await get(cluster, b"k", start_ts)).not_found
        server_of(node).fail.configure("raft_message_receive", "return")  # nothing becomes committed
        writing = asyncio.get_running_loop().create_task(send(cluster, b"k", prewrite([b"k"], start_ts, one_pc=True)))

        async def published() -> bool:
            return len(concurrency_of(node)) == 1

        await eventually(published, "the lock in memory", 1)
        low, high = start_ts, start_ts + (1000 << tso.LOGICAL_BITS)
        assert (await get(cluster, b"k", low)).not_found
        assert (await get(cluster, b"k", high)).error.locked.lock_version == start_ts
        request = pb.ScanRequest(start_key=b"a", end_key=b"z", limit=9, version=high)
        request.context.MergeFrom(_context(peer))
        scanned = await call(cluster, node, "KvScan", request)
        assert scanned.error.locked.key == b"k"
        server_of(node).fail.remove("raft_message_receive")
        assert (await writing).one_pc_commit_ts > low
        assert (await get(cluster, b"k", high)).value == b"v:k"

    run(body)


def test_a_replica_hears_of_locks_in_its_leaders_memory() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        node, _ = leader_of(cluster, b"k")
        start_ts = await client.timestamp()
        held = [(keys.data_key(b"k"), Lock(LockType.PUT, b"k", start_ts, 3000, b"v", min_commit_ts=start_ts + 5))]
        concurrency_of(node).publish(held)
        assert (await get(cluster, b"k", start_ts + 4, which=1, replica=True)).not_found
        assert (await get(cluster, b"l", start_ts + 9, which=1, replica=True)).not_found
        met = (await get(cluster, b"k", start_ts + 9, which=1, replica=True)).error.locked
        assert (met.key, met.lock_version) == (b"k", start_ts)
        concurrency_of(node).withdraw(held)
        assert (await get(cluster, b"k", start_ts + 9, which=1, replica=True)).not_found

    run(body)


def _context(peer: Peer) -> pb.Context:
    return pb.Context(region_id=peer.region.id, region_epoch=peer.region.region_epoch, peer=peer.meta())


def test_a_read_at_a_replica_pushes_later_commits_behind_it() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        start_ts = await client.timestamp()
        read_ts = start_ts + (2000 << tso.LOGICAL_BITS)
        assert (await get(cluster, b"k", read_ts, which=2, replica=True)).not_found
        assert concurrency_of(leader_of(cluster, b"k")[0]).max_ts >= read_ts
        response = await send(cluster, b"k", prewrite([b"k"], start_ts, one_pc=True))
        assert response.one_pc_commit_ts > read_ts
        assert (await get(cluster, b"k", read_ts, which=2, replica=True)).not_found

    run(body)


def test_a_new_leader_asks_pd_before_it_fixes_a_timestamp() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        start_ts = await client.timestamp()
        await send(cluster, b"k", prewrite([b"k"], start_ts, one_pc=True))
        _, old = leader_of(cluster, b"k")
        other = next(peer for _, peer in replicas(cluster, b"k") if not peer.is_leader)
        old.node.transfer_leader(other.peer_id)
        server_of(replicas(cluster, b"k")[0][0]).store.activate(old.region.id)  # type: ignore[union-attr]

        async def moved() -> bool:
            first = replicas(cluster, b"k")[0][1]
            return first is other and first.is_leader and first.is_complete()

        await eventually(moved, "the leader moved", 10)
        node, peer = leader_of(cluster, b"k")
        worker = server_of(node).max_ts
        assert worker is not None
        assert not worker.is_synced(peer)
        before = await client.timestamp()
        response = await send(cluster, b"k", prewrite([b"k"], before, one_pc=True))
        assert worker.is_synced(peer)
        assert concurrency_of(node).max_ts > before
        assert response.one_pc_commit_ts > before

    run(body)


def test_a_safe_timestamp_stays_below_a_lock_in_memory() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        node, peer = leader_of(cluster, b"k")
        start_ts = await client.timestamp()
        concurrency = concurrency_of(node)
        ts = await client.timestamp()
        held = [(keys.data_key(b"k"), Lock(LockType.PUT, b"k", start_ts, 3000, b"v", min_commit_ts=start_ts + 1))]
        concurrency.publish(held)
        worker = server_of(node).safe_ts
        assert worker is not None

        async def advanced() -> bool:
            await worker.advance()
            return peer.safe_ts() > 0

        await eventually(advanced, "a claim", 20)
        assert peer.safe_ts() <= start_ts
        concurrency.withdraw(held)

        async def past() -> bool:
            await worker.advance()
            return peer.safe_ts() > ts

        await eventually(past, "claims go on", 20)

    run(body)


def test_reads_go_through_locks_of_transactions_that_are_known_to_have_ended() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        async with client.begin() as txn:
            for key in (b"a", b"b", b"c"):
                txn.put(key, b"old")
        node, peer = leader_of(cluster, b"a")
        start_ts = await client.timestamp()
        request = pb.PrewriteRequest(primary_lock=b"a", start_version=start_ts, lock_ttl=60_000)
        long = b"new" * 200
        request.mutations.add(op=pb.Put, key=b"a", value=b"new")
        request.mutations.add(op=pb.Del, key=b"b")
        request.mutations.add(op=pb.Put, key=b"d", value=long)
        await send(cluster, b"a", request)
        ts = await client.timestamp()
        keys_read = [b"a", b"b", b"c", b"d"]
        seen = []
        for committed, resolved in (([start_ts], []), ([], [start_ts])):
            context = _context(peer)
            context.committed_locks.extend(committed)
            context.resolved_locks.extend(resolved)
            one_by_one = {}
            for key in keys_read:
                got = await call(cluster, node, "KvGet", pb.GetRequest(context=context, key=key, version=ts))
                assert not got.HasField("error")
                if not got.not_found:
                    one_by_one[key] = got.value
            batch = await call(
                cluster, node, "KvBatchGet", pb.BatchGetRequest(context=context, keys=keys_read, version=ts)
            )
            scan = pb.ScanRequest(context=context, start_key=b"a", end_key=b"z", limit=9, version=ts)
            found = await call(cluster, node, "KvScan", scan)
            backwards = pb.ScanRequest(context=context, start_key=b"z", end_key=b"a", limit=9, version=ts, reverse=True)
            found_back = await call(cluster, node, "KvScan", backwards)
            assert {pair.key: pair.value for pair in batch.pairs} == one_by_one
            assert [(pair.key, pair.value) for pair in found.pairs] == sorted(one_by_one.items())
            assert [(pair.key, pair.value) for pair in found_back.pairs] == sorted(one_by_one.items(), reverse=True)
            seen.append(one_by_one)
        assert seen == [{b"a": b"new", b"c": b"old", b"d": long}, {b"a": b"old", b"b": b"old", b"c": b"old"}]
        told = pb.GetRequest(context=_context(peer), key=b"c", version=ts, need_commit_ts=True)
        assert start_ts >= (await call(cluster, node, "KvGet", told)).commit_ts > 0
        told = pb.GetRequest(context=context, key=b"a", version=ts, need_commit_ts=True)
        told.context.committed_locks.append(start_ts)
        del told.context.resolved_locks[:]
        assert (await call(cluster, node, "KvGet", told)).error.locked.lock_version == start_ts

    run(body)


def test_a_read_from_the_future_is_put_off_and_raises_nothing() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        node, _ = leader_of(cluster, b"k")
        concurrency = concurrency_of(node)
        now = await client.timestamp()
        concurrency.learn_pd_ts(now)
        future = now + ((2 * ALLOWANCE_MS) << tso.LOGICAL_BITS)
        refused = await get(cluster, b"k", future)
        assert refused.region_error.HasField("max_timestamp_not_synced")
        assert concurrency.max_ts < future
        assert (await get(cluster, b"k", now)).not_found

    run(body)


def test_a_refusal_makes_the_store_ask_pd_how_late_it_is() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        node, _ = leader_of(cluster, b"k")
        concurrency = concurrency_of(node)
        await asyncio.sleep(30)
        long_ago = await client.timestamp() - ((10 * ALLOWANCE_MS) << tso.LOGICAL_BITS)
        concurrency._pd_ms, concurrency._pd_seen_at = tso.physical_ms(long_ago), concurrency._clock.monotonic()
        ts = await client.timestamp()
        assert (await get(cluster, b"k", ts)).region_error.HasField("max_timestamp_not_synced")
        await asyncio.sleep(0.1)
        assert (await get(cluster, b"k", ts)).not_found

    run(body)
