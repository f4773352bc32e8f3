"""One-phase and async commit: when they are used, when they must not be, and what happens when a store declines half-way."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from core_py.codec import ts as tso
from core_py.errors import DbError
from tests.unit.client.clusters import TWO_PHASES, with_cluster
from tikv_py.client.errors import KeyExistsError, OperationTimeout, WriteConflictError
from tikv_py.client.testing.cluster import MemoryCluster
from tikv_py.client.testing.faults import LOST, once
from tikv_py.client.txn.client import TxnClient

A, B, Z = b"a", b"b", b"z"
SAFE_WINDOW = 2000 << tso.LOGICAL_BITS


def sent(cluster: MemoryCluster, name: str) -> list[Any]:
    return [request for method, request in cluster.requests if method == name]


def decline(_store: Any, name: str, request: Any) -> None:
    """Stores that want two phases: they answer zeros."""
    if name == "KvPrewrite":
        request.use_async_commit = request.try_one_pc = False


async def read(client: TxnClient, *keys: bytes) -> dict[bytes, bytes]:
    return await client.snapshot(await client.timestamp()).batch_get(keys)


def test_one_request_commits_keys_of_one_region() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        reader_ts = await client.timestamp()
        async with client.begin() as txn:
            txn.put(A, b"1")
            txn.put(Z, b"1")
        assert txn.commit_ts > txn.start_ts > reader_ts
        assert [(r.try_one_pc, r.use_async_commit) for r in sent(cluster, "KvPrewrite")] == [(True, False)]
        assert cluster.calls("KvCommit") == 0
        assert not cluster.storage.locks()
        assert await client.snapshot(txn.commit_ts).get(Z) == b"1"
        assert await client.snapshot(txn.commit_ts - 1).get(Z) is None

    with_cluster(body)


def test_two_regions_commit_asynchronously() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(b"m")
        async with client.begin() as txn:
            for key in (A, B, Z):
                txn.put(key, b"1")
        assert cluster.calls("KvCommit") == 0  # nothing was waited for
        assert {lock.use_async_commit for lock in cluster.storage.locks().values()} == {True}
        assert cluster.storage.locks()[A].secondaries == (B, Z)
        other = await cluster.txn_client("other")
        assert await client.timestamp() >= txn.commit_ts
        assert await read(client, A, B, Z) == {A: b"1", B: b"1", Z: b"1"}
        assert await read(other, A, B, Z) == {A: b"1", B: b"1", Z: b"1"}
        await client.drain(10)
        assert not cluster.storage.locks()
        await other.close()

    with_cluster(body)


def test_commit_timestamp_is_above_all_reads_and_below_later_timestamps() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        for split in (False, True):
            if split:
                cluster.split(b"m")
            txn = await client.begin()
            txn.put(A, b"1")
            txn.put(Z, b"1")
            read_ts = await client.timestamp()
            await client.snapshot(read_ts).get(A)
            commit_ts = await txn.commit()
            assert read_ts < commit_ts <= await client.timestamp()
            await client.drain(10)

    with_cluster(body)


@pytest.mark.parametrize("keys", [1, 300])
def test_a_store_that_declines_is_followed_with_two_phases(keys: int) -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.before.append(decline)
        cluster.split(b"k0100")
        async with client.begin() as txn:
            for number in range(keys):
                txn.put(b"k%04d" % number, b"1")
        await client.drain(10)
        assert cluster.calls("KvCommit") >= 1
        assert len(await read(client, *(b"k%04d" % number for number in range(keys)))) == keys
        assert not cluster.storage.locks()

    with_cluster(body)


def test_one_region_declines_async_commit_half_way() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(b"m")

        def decline_one(store: Any, name: str, request: Any) -> None:
            if name == "KvPrewrite" and any(mutation.key == Z for mutation in request.mutations):
                decline(store, name, request)

        cluster.before.append(decline_one)
        async with client.begin() as txn:
            txn.put(A, b"1")
            txn.put(Z, b"1")
        await client.drain(10)
        assert [request.commit_version for request in sent(cluster, "KvCommit")] == [txn.commit_ts] * 2
        assert await read(client, A, Z) == {A: b"1", Z: b"1"}
        assert not cluster.storage.locks()

    with_cluster(body)


def test_many_or_long_keys_take_two_phases() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(b"m")
        for keys in ([b"k%03d" % n for n in range(256)] + [Z], [b"k" * 4090, b"z" * 10]):
            cluster.requests.clear()
            async with client.begin() as txn:
                for key in keys:
                    txn.put(key, b"1")
            await client.drain(10)
            assert not any(request.use_async_commit or request.try_one_pc for request in sent(cluster, "KvPrewrite"))
            assert sent(cluster, "KvCommit")

    with_cluster(body)


def test_a_split_on_the_way_ends_one_phase_commit() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        assert await read(client, A, Z) == {}
        cluster.split(b"m")  # the client does not know
        async with client.begin() as txn:
            txn.put(A, b"1")
            txn.put(Z, b"1")
        await client.drain(10)
        prewrites = sent(cluster, "KvPrewrite")
        assert [request.try_one_pc for request in prewrites] == [True, False, False]
        assert all(request.use_async_commit for request in prewrites[1:])
        assert await read(client, A, Z) == {A: b"1", Z: b"1"}
        assert not cluster.storage.locks()

    with_cluster(body)


@pytest.mark.parametrize("carried_out", [True, False])
def test_lost_one_phase_commit_and_a_split_is_found_out(carried_out: bool) -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        assert await read(client, A, Z) == {}

        def lose(_store: Any, name: str, _request: Any) -> Any:
            if name == "KvPrewrite" and cluster.calls("KvPrewrite") == 1:
                cluster.split(b"m")
                return LOST
            return None

        (cluster.after if carried_out else cluster.before).append(lose)
        txn = await client.begin()
        txn.put(A, b"1")
        txn.put(Z, b"1")
        if carried_out:
            commit_ts = await txn.commit()
            assert await client.snapshot(commit_ts - 1).batch_get([A, Z]) == {}
        else:
            with pytest.raises(DbError, match="rolled back"):
                await txn.commit()
        await client.drain(10)
        assert await read(client, A, Z) == ({A: b"1", Z: b"1"} if carried_out else {})
        assert not cluster.storage.locks()

    with_cluster(body)


def test_lost_answers_are_repeated_and_commit_once() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        for split in (False, True):
            if split:
                cluster.split(b"m")
            cluster.after.append(once("KvPrewrite"))
            async with client.begin() as txn:
                txn.put(A, b"%d" % split)
                txn.put(Z, b"%d" % split)
            await client.drain(10)
            assert await read(client, A, Z) == {A: b"%d" % split, Z: b"%d" % split}
            assert not cluster.storage.locks()

    with_cluster(body)


def test_a_causal_transaction_saves_the_timestamp() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        for causal, count in ((False, 2), (True, 1)):
            before = sum(cluster.pd.tso_counts)
            async with client.begin(causal_only=causal) as txn:
                txn.put(A, b"1")
            assert txn.commit_ts > txn.start_ts
            assert sum(cluster.pd.tso_counts) - before == count

    with_cluster(body)


def test_a_write_in_one_call_takes_one_timestamp_and_is_repeated_after_a_conflict() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await client.write({A: b"0", B: b"0"})
        given = len(cluster.pd.tso_counts)
        commit_ts = await client.write({A: b"1", Z: b"1"}, deletes=[B])
        assert len(cluster.pd.tso_counts) == given + 1
        assert commit_ts <= await client.timestamp()
        assert await read(client, A, B, Z) == {A: b"1", Z: b"1"}
        other = await client.begin(pessimistic=True)
        await other.lock_keys([A])
        writing = asyncio.get_running_loop().create_task(client.write({A: b"2"}))
        await asyncio.sleep(0.2)
        other.put(A, b"between")
        await other.commit()
        assert await writing > other.commit_ts
        assert await read(client, A) == {A: b"2"}

    with_cluster(body)


@pytest.mark.parametrize("split", [False, True])
def test_limit_of_the_commit_timestamp(split: bool) -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        if split:
            cluster.split(b"m")
        checks: list[int] = []

        async def check() -> None:
            checks.append(len(cluster.storage.locks()))

        async def commit(limit: int) -> None:
            cluster.requests.clear()
            checks.clear()
            txn = await client.begin()
            txn.put(A, b"1")
            txn.put(Z, b"1")
            await txn.commit(check, max_commit_ts=limit)
            await client.drain(10)

        await commit(await client.timestamp() + SAFE_WINDOW)
        assert checks == [0]  # before the first phase, which was the only one
        assert all(request.max_commit_ts for request in sent(cluster, "KvPrewrite"))
        cluster.storage.max_ts = await client.timestamp() + 2 * SAFE_WINDOW
        await commit(await client.timestamp() + SAFE_WINDOW)
        assert checks[:2] == [0, 2]  # the stores declined, so again between the phases
        assert not cluster.storage.locks()
        await commit(1)
        assert checks[0] == 2
        assert not any(request.use_async_commit or request.try_one_pc for request in sent(cluster, "KvPrewrite"))

    with_cluster(body)


def test_conflicts_and_refusals_leave_nothing() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(b"m")
        async with client.begin() as txn:
            txn.put(Z, b"old")
        stale = await client.begin(start_ts=txn.start_ts - 1)
        stale.put(A, b"new")
        stale.put(Z, b"new")
        with pytest.raises(WriteConflictError):
            await stale.commit()
        double = await client.begin()
        double.put(A, b"new")
        double.insert(Z, b"new")
        with pytest.raises(KeyExistsError):
            await double.commit()
        await client.drain(10)
        assert await read(client, A, Z) == {Z: b"old"}
        assert not cluster.storage.locks()

    with_cluster(body)


def test_assertions_travel_with_the_mutations() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        async with client.begin() as txn:
            txn.put(A, b"1", existed=False)
            txn.insert(B, b"1")
            txn.put(Z, b"1")
        request = sent(cluster, "KvPrewrite")[0]
        assert [mutation.assertion for mutation in request.mutations] == [2, 2, 0]
        assert request.assertion_level == 1
        cluster.requests.clear()
        async with client.begin() as txn:
            txn.delete(A, existed=True)
            txn.put(B, b"2")
        assert {m.key: m.assertion for r in sent(cluster, "KvPrewrite") for m in r.mutations} == {A: 1, B: 0}

    with_cluster(body)


def test_latches_refuse_before_anything_is_sent() -> None:
    async def body(cluster: MemoryCluster, _client: TxnClient) -> None:
        client = await TxnClient.connect(
            ("pd1:1",), transport=cluster.network.transport("latched"), clock=cluster.pd.clock, local_latches=64
        )
        first, second = await client.begin(), await client.begin()
        first.put(A, b"1")
        second.put(A, b"2")
        outcomes = await asyncio.gather(first.commit(), second.commit(), return_exceptions=True)
        assert isinstance(outcomes[1], WriteConflictError)
        assert outcomes[1].conflict_commit_ts == outcomes[0]
        assert cluster.calls("KvPrewrite") == 1
        async with client.begin() as third:
            third.put(A, b"3")
        assert await read(client, A) == {A: b"3"}
        await client.close()

    with_cluster(body)


def test_a_commit_with_a_timeout_is_settled_in_the_background() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        for hooks in (cluster.before, cluster.after):
            hooks.append(once("KvPrewrite", LOST))
            txn = await client.begin()
            txn.put(A, b"1")
            with pytest.raises(OperationTimeout):
                await txn.commit(timeout_s=0.5)
            hooks.clear()
            await client.drain(10)
            found = await read(client, A)
            assert found == ({} if hooks is cluster.before else {A: b"1"})
            assert not cluster.storage.locks()

    with_cluster(body)


def test_two_phases_can_be_asked_for() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        async with client.begin() as txn:
            txn.put(A, b"1")
        await client.drain(10)
        assert cluster.calls("KvCommit") == 1
        async with client.begin(try_one_pc=True) as txn:
            txn.put(A, b"2")
        assert cluster.calls("KvCommit") == 1

    with_cluster(body, defaults=replace(TWO_PHASES, causal_only=True))
