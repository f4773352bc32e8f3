"""Settling locks: how few requests it takes, what concurrent readers share, and what a reader need not wait for."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from core_py.codec import ts as tso
from core_py.codec.ts import TS_MAX
from core_py.sim.clock import LoopClock
from protos.kvproto import kvrpcpb_pb2
from tests.unit.client.clusters import TWO_PHASES, with_cluster
from tikv_py.client.errors import TxnClientError
from tikv_py.client.testing.cluster import MemoryCluster
from tikv_py.client.testing.faults import BreakStream, Delay
from tikv_py.client.testing.table import Lock
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.fates import CACHE_SIZE, TxnFate
from tikv_py.client.txn.lock_removal import LITE_TXN_SIZE, Finished, requests_for

A, B, M, Z = b"a", b"b", b"m", b"z"


def plant(cluster: MemoryCluster, *locks: tuple[bytes, Lock]) -> None:
    for key, lock in locks:
        cluster.storage.place_lock(key, lock)


def put_lock(primary: bytes, start_ts: int, ttl_ms: int = 1000, **more: Any) -> Lock:
    return Lock(kvrpcpb_pb2.Put, primary, start_ts, ttl_ms, b"v", **more)


def forget_committed(_store: Any, _name: str, request: Any) -> None:
    """Stores that know nothing of `committed_locks`."""
    del request.context.committed_locks[:]


async def abandon(cluster: MemoryCluster, count: int) -> int:
    """A client prewrites many keys and dies; returns its start_ts."""
    dead = await cluster.txn_client("dead")
    dead.defaults = TWO_PHASES
    txn = await dead.begin()
    for number in range(count):
        txn.put(b"k%05d" % number, b"v")
    prewritten = asyncio.Event()

    def die(_store: Any, name: str, _request: Any) -> None:
        if name not in ("KvPrewrite", "KvBatchGet"):
            prewritten.set()
            raise BreakStream

    cluster.before.append(die)
    commit = asyncio.get_running_loop().create_task(txn.commit())
    await prewritten.wait()
    commit.cancel()
    await asyncio.gather(commit, return_exceptions=True)
    for scope in (dead._heart_beats, dead._background):
        await scope.close()
    await dead.close()
    cluster.before.remove(die)
    assert len(cluster.storage.locks()) == count
    return txn.start_ts


def test_many_locks_of_a_crashed_client() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(*(b"k%05d" % number for number in range(0, 2000, 250)))
        start_ts = await abandon(cluster, 2000)
        loop = asyncio.get_running_loop()
        ttl_ms = cluster.storage.locks()[b"k00000"].ttl_ms

        async def scan() -> list[tuple[bytes, bytes]]:
            for store in cluster.stores.values():
                store.calls.clear()
            snapshot = client.snapshot(await client.timestamp())
            return [pair async for pair in snapshot.scan(b"k", b"l")]

        began = loop.time()
        assert await scan() == []  # the dead transaction is pushed behind the reader
        assert loop.time() - began < 0.1
        assert cluster.calls("KvResolveLock") == 0
        assert cluster.calls("KvCheckTxnStatus") == 1
        writer = await client.begin()
        writer.put(b"k00999", b"mine")
        await writer.commit()
        waited_ms = tso.physical_ms(await client.timestamp()) - tso.physical_ms(start_ts)
        assert ttl_ms <= waited_ms <= ttl_ms + 1000
        assert await scan() == [(b"k00999", b"mine")]
        ts = await client.timestamp()
        everything = [b"k%05d" % number for number in range(2000)]
        assert await client.snapshot(ts).batch_get(everything) == {b"k00999": b"mine"}
        await client.drain(30)
        assert not cluster.storage.locks()
        assert cluster.calls("KvResolveLock") <= 9 + 1  # one for each region, and the first one's for both reads
        assert cluster.calls("KvCheckTxnStatus") == 0  # the writer has found out

    with_cluster(body)


def test_readers_share_one_settling_of_an_async_commit() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(M)
        start_ts = await client.timestamp()
        more = {"min_commit_ts": start_ts + 5, "use_async_commit": True}
        plant(
            cluster,
            (A, put_lock(A, start_ts, secondaries=(B, Z), **more)),
            (B, put_lock(A, start_ts, **more)),
            (Z, put_lock(A, start_ts, **more)),
        )
        await asyncio.sleep(3)
        cluster.before.append(lambda _store, name, _request: Delay(0.05) if name.startswith("KvCheck") else None)
        ts = await client.timestamp()
        found = await asyncio.gather(*(client.snapshot(ts).get(key) for key in (A, B, Z) * 20))
        assert found == [b"v"] * 60
        assert cluster.calls("KvCheckTxnStatus") == 1
        assert cluster.calls("KvCheckSecondaryLocks") == 2  # one for each region
        await client.drain(10)
        assert not cluster.storage.locks()

    with_cluster(body)


def test_a_reader_does_not_wait_for_the_removal() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(M)
        first, second = await client.timestamp(), await client.timestamp()
        plant(cluster, (A, put_lock(A, first)), (Z, put_lock(A, first)))
        plant(cluster, (B, put_lock(B, second)), (b"y", put_lock(B, second)))
        reader_ts = await client.timestamp()
        commit = kvrpcpb_pb2.CommitRequest(start_version=first, keys=[A], commit_version=await client.timestamp())
        cluster.storage.run("KvCommit", commit, (b"", b""))
        await asyncio.sleep(3)
        cluster.before.append(lambda _store, name, _request: Delay(5) if name == "KvResolveLock" else None)
        began = asyncio.get_running_loop().time()
        assert await client.snapshot(await client.timestamp()).get(Z) == b"v"  # committed: read through the lock
        assert await client.snapshot(reader_ts).get(Z) is None  # committed behind the reader: passed over
        assert await client.snapshot(await client.timestamp()).get(b"y") is None  # rolled back: passed over
        assert await client.snapshot(TS_MAX).get(Z) == b"v"
        assert asyncio.get_running_loop().time() - began < 1
        assert set(cluster.storage.locks()) == {Z, b"y"}
        await client.drain(30)
        assert not cluster.storage.locks()

    with_cluster(body)


def test_a_store_that_cannot_read_through_is_waited_for() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.before.append(forget_committed)
        cluster.split(M)
        start_ts = await client.timestamp()
        plant(cluster, (A, put_lock(A, start_ts)), (Z, put_lock(A, start_ts)))
        commit = kvrpcpb_pb2.CommitRequest(start_version=start_ts, keys=[A], commit_version=await client.timestamp())
        cluster.storage.run("KvCommit", commit, (b"", b""))
        assert await client.snapshot(await client.timestamp()).get(Z) == b"v"
        assert cluster.calls("KvResolveLock") == 1
        assert cluster.calls("KvGet") <= 3
        assert not cluster.storage.locks()

    with_cluster(body)


def test_locks_of_several_dead_transactions_go_in_one_request() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        for number in range(40):
            key = b"k%02d" % number
            plant(cluster, (key, put_lock(key, await client.timestamp())))
        await asyncio.sleep(3)
        assert await client.snapshot(await client.timestamp()).batch_get([b"k%02d" % n for n in range(40)]) == {}
        await client.drain(10)
        assert cluster.calls("KvCheckTxnStatus") == 40
        assert cluster.calls("KvResolveLock") == 1
        assert not cluster.storage.locks()

    with_cluster(body)


def test_dead_reservations_of_a_transaction_go_together() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        start_ts = await client.timestamp()
        for number in range(30):
            lock = Lock(kvrpcpb_pb2.PessimisticLock, b"k00", start_ts, 1000, for_update_ts=start_ts + number)
            plant(cluster, (b"k%02d" % number, lock))
        await asyncio.sleep(3)
        txn = await client.begin()
        for number in range(30):
            txn.put(b"k%02d" % number, b"1")
        await txn.commit()
        await client.drain(10)
        assert cluster.calls("KVPessimisticRollback") <= 2
        assert not cluster.storage.locks()

    with_cluster(body)


def test_requests_for_one_region() -> None:
    def shape(*locks: Finished) -> list[tuple[int, int, int]]:
        return [(r.start_version, len(r.keys), len(r.txn_infos)) for r in requests_for(locks)]

    few = [Finished(b"k%d" % n, 7, 9, True) for n in range(3)]
    assert shape(*few) == [(7, 3, 0)]
    assert shape(*(Finished(b"k%d" % n, 7, 9, True) for n in range(LITE_TXN_SIZE))) == [(7, 0, 0)]
    assert shape(Finished(b"k", 7, 9, False)) == [(7, 0, 0)]
    assert shape(*few, Finished(b"z", 8, 0, True)) == [(0, 0, 2)]
    many = [Finished(b"k%d" % n, n, 0, True) for n in range(1, 600)]
    assert [count for _, _, count in shape(*many)] == [256, 256, 87]


def test_secondaries_that_disagree_are_an_error() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(M)
        start_ts = await client.timestamp()
        low = put_lock(A, start_ts, use_async_commit=True, min_commit_ts=start_ts + 50, secondaries=(B, Z))
        plant(cluster, (A, low), (B, put_lock(A, start_ts)))
        commit = kvrpcpb_pb2.CommitRequest(start_version=start_ts, keys=[B], commit_version=start_ts + 9)
        cluster.storage.run("KvCommit", commit, (b"", b""))
        await asyncio.sleep(3)
        with pytest.raises(TxnClientError, match="disagree"):
            await client.snapshot(await client.timestamp()).get(A)
        assert A in cluster.storage.locks()

    with_cluster(body)


def test_fates_are_bounded_and_only_final_ones_kept() -> None:
    async def body(_cluster: MemoryCluster, client: TxnClient) -> None:
        fates = client.lock_resolver._fates
        for start_ts in range(1, CACHE_SIZE + 11):
            fates.remember(start_ts, TxnFate(commit_ts=start_ts + 1))
        assert fates.known(10) is None
        assert fates.known(11) is not None
        fates.remember(5, TxnFate(ttl_ms=10))
        fates.remember(6, TxnFate(action=kvrpcpb_pb2.LockNotExistDoNothing))
        assert fates.known(5) is fates.known(6) is None

    with_cluster(body)


def test_a_recent_timestamp_saves_requests_and_proves_expiry() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        recent = client.lock_resolver.timestamps
        first = await recent.recent()
        counts = Counter({"tso": sum(cluster.pd.tso_counts)})
        assert await recent.recent() == first
        assert await recent.for_check(first, 1000) == first
        await asyncio.sleep(1.5)
        assert await recent.recent() == first
        assert -600 < await recent.left_ms(first, 1000) < -400
        proof = await recent.for_check(first, 1000)
        assert tso.physical_ms(proof) > tso.physical_ms(first) + 1000
        assert sum(cluster.pd.tso_counts) == counts["tso"] + 1
        await asyncio.sleep(3)
        assert await recent.recent() > proof

    with_cluster(body)


def test_a_reader_that_is_cancelled_does_not_fail_the_others() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        start_ts = await client.timestamp()
        plant(cluster, (Z, put_lock(A, start_ts)))
        await asyncio.sleep(3)
        cluster.before.append(lambda _store, name, _request: Delay(0.5) if name == "KvCheckTxnStatus" else None)
        ts = await client.timestamp()
        loop = asyncio.get_running_loop()
        first, second = (loop.create_task(client.snapshot(ts).get(Z)) for _ in range(2))
        await asyncio.sleep(0.1)
        first.cancel()
        assert await second is None
        assert cluster.calls("KvCheckTxnStatus") <= 2  # unknown there, so asked again to end it
        assert LoopClock().monotonic() > 0

    with_cluster(body)
