"""Transactions end to end on the fake cluster: commit, conflicts, merged reads, checkpoints, crashes, unknown outcomes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core_py.codec.ts import TS_MAX
from core_py.errors import DbError
from core_py.region_errors import ServerIsBusy, StaleCommand
from protos.kvproto import kvrpcpb_pb2
from tests.unit.client.clusters import TWO_PHASES, with_cluster
from tikv_py.client.errors import (
    EntryTooLarge,
    KeyExistsError,
    TxnAborted,
    TxnClosed,
    UndeterminedError,
    WriteConflictError,
)
from tikv_py.client.testing.cluster import MemoryCluster
from tikv_py.client.testing.faults import BreakStream, once
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.transaction import Transaction

A, B, C, M, Z = b"a", b"b", b"c", b"m", b"z"


async def put(client: TxnClient, **pairs: str) -> None:
    async with client.begin() as txn:
        for key, value in pairs.items():
            txn.put(key.encode(), value.encode())
    await client.drain(10)


async def read(client: TxnClient, key: bytes) -> bytes | None:
    return await client.snapshot(await client.timestamp()).get(key)


def test_commit_then_read() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        before = await client.timestamp()
        await put(client, a="1", z="2")
        assert await read(client, A) == b"1"
        assert await client.snapshot(before).get(A) is None
        assert await client.snapshot(TS_MAX).get(Z) == b"2"
        assert await client.snapshot(await client.timestamp()).batch_get([A, Z, M]) == {A: b"1", Z: b"2"}
        assert not cluster.storage.locks()

    with_cluster(body, defaults=TWO_PHASES)


def test_commit_over_many_regions() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(b"k03", b"k05", b"k09")
        async with client.begin() as txn:
            for number in range(12):
                txn.put(b"k%02d" % number, b"v%d" % number)
        assert txn.commit_ts > txn.start_ts
        await client.drain(10)
        assert not cluster.storage.locks()
        snapshot = client.snapshot(await client.timestamp())
        assert [key async for key, _ in snapshot.scan(b"", b"")] == [b"k%02d" % n for n in range(12)]
        assert [key async for key, _ in snapshot.scan(b"k02", b"k10", reverse=True)] == [
            b"k%02d" % n for n in range(9, 1, -1)
        ]
        assert [k async for k, _ in snapshot.scan(b"", b"", 5, batch_size=2)] == [b"k%02d" % n for n in range(5)]
        assert [k async for k, _ in snapshot.scan(b"", b"", 4, reverse=True, batch_size=3)] == [
            b"k11",
            b"k10",
            b"k09",
            b"k08",
        ]
        commits = [request for name, request in cluster.requests if name == "KvCommit"]
        assert commits[0].keys[0] == b"k00"  # the primary first

    with_cluster(body, defaults=TWO_PHASES)


def test_split_between_locating_and_prewriting() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, a="0")
        cluster.split(M, B)
        txn = await client.begin()
        txn.put(A, b"1")
        txn.put(B, b"2")
        txn.put(Z, b"3")
        await txn.commit()
        await client.drain(10)
        assert await client.snapshot(await client.timestamp()).batch_get([A, B, Z]) == {A: b"1", B: b"2", Z: b"3"}
        assert not cluster.storage.locks()

    with_cluster(body, defaults=TWO_PHASES)


def test_split_between_prewrite_and_commit() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        def split(_store: Any, name: str, _request: Any) -> None:
            if name == "KvPrewrite":
                cluster.split(M)

        cluster.after.append(split)
        await put(client, a="1", z="2")
        assert await client.snapshot(await client.timestamp()).batch_get([A, Z]) == {A: b"1", Z: b"2"}
        assert not cluster.storage.locks()

    with_cluster(body, defaults=TWO_PHASES)


def test_optimistic_conflict() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        first, second = await client.begin(), await client.begin()
        first.put(A, b"1")
        second.put(A, b"2")
        second.put(B, b"2")
        await first.commit()
        with pytest.raises(WriteConflictError) as caught:
            await second.commit()
        assert caught.value.mysql_code == 9007
        assert caught.value.key == A
        with pytest.raises(TxnClosed):
            await second.get(A)
        await client.drain(10)
        assert not cluster.storage.locks()
        assert await read(client, A) == b"1"
        assert await read(client, B) is None

    with_cluster(body, defaults=TWO_PHASES)


def test_run_in_transaction_retries_conflicts() -> None:
    async def body(_cluster: MemoryCluster, client: TxnClient) -> None:
        async def add(txn: Transaction) -> None:
            now = int(await txn.get(A) or b"0")
            await asyncio.sleep(0.01)
            txn.put(A, b"%d" % (now + 1))

        await asyncio.gather(*(client.run_in_transaction(add, retries=50) for _ in range(8)))
        assert await read(client, A) == b"8"

    with_cluster(body, defaults=TWO_PHASES)


def test_insert_of_an_existing_key() -> None:
    async def body(_cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, a="1")
        txn = await client.begin()
        txn.insert(A, b"2")
        with pytest.raises(KeyExistsError) as caught:
            await txn.commit()
        assert caught.value.mysql_code == 1062
        txn = await client.begin()
        txn.insert(B, b"2")
        with pytest.raises(KeyExistsError):
            txn.insert(B, b"3")
        txn.delete(B)
        await txn.commit()
        txn = await client.begin()
        txn.delete(A)
        txn.insert(A, b"new")
        await txn.commit()
        assert await read(client, A) == b"new"

    with_cluster(body, defaults=TWO_PHASES)


def test_scan_merges_own_writes() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(b"d")
        await put(client, a="1", c="3", e="5", g="7")
        txn = await client.begin()
        txn.put(b"b", b"2")
        txn.put(b"c", b"three")
        txn.delete(b"e")
        txn.put(b"h", b"8")
        want = [(b"a", b"1"), (b"b", b"2"), (b"c", b"three"), (b"g", b"7"), (b"h", b"8")]
        assert [pair async for pair in txn.scan(b"")] == want
        assert [pair async for pair in txn.scan(b"", reverse=True)] == want[::-1]
        assert [pair async for pair in txn.scan(b"b", b"h")] == want[1:4]
        assert [pair async for pair in txn.scan(b"", limit=3)] == want[:3]
        assert [pair async for pair in txn.scan(b"", limit=2, reverse=True)] == want[:-3:-1]
        assert await txn.batch_get([b"a", b"b", b"e"]) == {b"a": b"1", b"b": b"2"}
        await txn.rollback()

    with_cluster(body, defaults=TWO_PHASES)


def test_checkpoints_take_writes_back() -> None:
    async def body(_cluster: MemoryCluster, client: TxnClient) -> None:
        txn = await client.begin()
        txn.put(A, b"1")
        statement = txn.checkpoint()
        txn.put(A, b"2")
        txn.put(B, b"2")
        nested = txn.checkpoint()
        txn.delete(A)
        txn.rollback_to(nested)
        assert await txn.get(A) == b"2"
        txn.rollback_to(statement)
        assert await txn.get(A) == b"1"
        assert await txn.get(B) is None
        await txn.commit()
        assert await read(client, A) == b"1"

    with_cluster(body, defaults=TWO_PHASES)


async def crash_after(cluster: MemoryCluster, method: str, **pairs: str) -> None:
    """A client that goes away as soon as `method` was answered, leaving its locks."""
    crashed = await cluster.txn_client("crashing")
    crashed.defaults = TWO_PHASES
    txn = await crashed.begin()
    for key, value in pairs.items():
        txn.put(key.encode(), value.encode())
    wanted = asyncio.Event()

    def stop(_store: Any, name: str, _request: Any) -> None:
        if name == method:
            wanted.set()

    cluster.after.append(stop)

    def refuse(_store: Any, name: str, _request: Any) -> None:
        if wanted.is_set() and name != "KvPrewrite":
            raise BreakStream

    cluster.before.append(refuse)
    commit = asyncio.get_running_loop().create_task(txn.commit())
    await wanted.wait()
    await asyncio.sleep(0.001)
    commit.cancel()
    await asyncio.gather(commit, return_exceptions=True)
    for scope in (crashed._heart_beats, crashed._background):
        await scope.close()
    cluster.after.remove(stop)
    cluster.before.remove(refuse)
    await crashed.close()


def test_reader_rolls_a_crashed_transaction_back_after_its_time() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, a="old", z="old")
        cluster.split(M)
        await crash_after(cluster, "KvPrewrite", a="new", z="new")
        await asyncio.sleep(0.5)
        assert len(cluster.storage.locks()) == 2
        # A snapshot older than the lock's possible commit passes it at once by pushing it.
        began = asyncio.get_running_loop().time()
        assert await read(client, Z) == b"old"
        assert asyncio.get_running_loop().time() - began < 0.1
        # A writer has to wait for the time to live.
        await put(client, z="mine")
        assert asyncio.get_running_loop().time() - began > 1
        assert await read(client, A) == b"old"
        await put(client, a="mine")
        assert not cluster.storage.locks()

    with_cluster(body, defaults=TWO_PHASES)


def test_reader_finishes_a_committed_transaction() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(M)
        await crash_after(cluster, "KvCommit", a="new", z="new")
        assert set(cluster.storage.locks()) == {Z}
        assert await read(client, Z) == b"new"
        assert not cluster.storage.locks()
        assert [pair async for pair in client.snapshot(await client.timestamp()).scan(b"")] == [
            (A, b"new"),
            (Z, b"new"),
        ]

    with_cluster(body, defaults=TWO_PHASES)


def test_scan_and_batch_get_settle_locks() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(M)
        await crash_after(cluster, "KvCommit", a="1", n="2", z="3")
        snapshot = client.snapshot(await client.timestamp())
        assert await snapshot.batch_get([A, b"n", Z]) == {A: b"1", b"n": b"2", Z: b"3"}
        assert not cluster.storage.locks()

    with_cluster(body, defaults=TWO_PHASES)


def test_lost_commit_answer_is_found_out_by_asking_again() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.after.append(once("KvCommit"))
        await put(client, a="1")
        assert await read(client, A) == b"1"
        assert cluster.calls("KvCommit") >= 2

    with_cluster(body, defaults=TWO_PHASES)


def test_undetermined_commit() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        txn = await client.begin()
        txn.put(A, b"1")
        cluster.after.append(once("KvCommit", times=10**6))
        cluster.after.append(once("KvCheckTxnStatus", times=10**6))
        with pytest.raises(UndeterminedError) as caught:
            await txn.commit()
        assert caught.value.mysql_code == 8501
        cluster.after.clear()
        await client.drain(1)
        assert cluster.calls("KvBatchRollback") == 0
        assert await read(client, A) == b"1"

    with_cluster(body, defaults=TWO_PHASES)


def test_commit_without_answers_is_looked_up_on_the_primary() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        for carried_out in (True, False):
            txn = await client.begin()
            txn.put(A, b"%d" % carried_out)
            hooks = cluster.after if carried_out else cluster.before
            hooks.append(once("KvCommit", times=10**6))
            if carried_out:
                commit_ts = await txn.commit()
                assert await client.snapshot(commit_ts - 1).get(A) is None
            else:
                with pytest.raises(TxnAborted):
                    await txn.commit()
            hooks.clear()
            await client.drain(10)
            assert await read(client, A) == b"1"
            assert not cluster.storage.locks()

    with_cluster(body, defaults=TWO_PHASES)


def test_commit_that_never_left_is_not_undetermined() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        txn = await client.begin()
        txn.put(A, b"1")
        cluster.before.append(once("KvCommit", StaleCommand(2), times=10**6))
        with pytest.raises(Exception, match="budget") as caught:
            await txn.commit()
        assert not isinstance(caught.value, UndeterminedError)
        await client.drain(10)
        assert not cluster.storage.locks()

    with_cluster(body, defaults=TWO_PHASES)


def test_rolled_back_by_another_client() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        def roll_back(_store: Any, name: str, request: Any) -> None:
            if name == "KvCommit":
                undo = kvrpcpb_pb2.BatchRollbackRequest(start_version=request.start_version, keys=request.keys)
                cluster.storage.run("KvBatchRollback", undo, (b"", b""))

        cluster.before.append(roll_back)
        txn = await client.begin()
        txn.put(A, b"1")
        with pytest.raises(TxnAborted):
            await txn.commit()

    with_cluster(body, defaults=TWO_PHASES)


def test_reader_pushes_a_slow_commit_and_it_takes_a_newer_timestamp() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, a="old")
        reader = await cluster.txn_client("reader")
        seen: list[bytes | None] = []
        gate = asyncio.Event()
        original = client.pd.timestamp

        async def slow(*_args: Any) -> int:
            ts = await original()
            await gate.wait()
            return ts

        txn = await client.begin()
        txn.put(A, b"new")
        client.pd.timestamp = slow  # type: ignore[method-assign,assignment]
        commit = asyncio.get_running_loop().create_task(txn.commit())
        await asyncio.sleep(0.05)
        seen.append(await read(reader, A))
        gate.set()
        commit_ts = await commit
        client.pd.timestamp = original  # type: ignore[method-assign]
        assert seen == [b"old"]
        assert cluster.calls("KvCommit") == 3  # the first put's, one refused as expired, one accepted
        assert commit_ts > txn.start_ts
        assert await read(reader, A) == b"new"
        await reader.close()

    with_cluster(body, defaults=TWO_PHASES)


def test_busy_store_is_waited_for() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.before.append(once("KvPrewrite", ServerIsBusy("full"), times=2))
        began = asyncio.get_running_loop().time()
        await put(client, a="1")
        assert asyncio.get_running_loop().time() - began >= 2
        assert await read(client, A) == b"1"

    with_cluster(body, defaults=TWO_PHASES)


def test_batch_sizes_and_limits() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        async with client.begin() as txn:
            for number in range(40):
                txn.put(b"k%02d" % number, b"x" * 4000)
        prewrites = [request for name, request in cluster.requests if name == "KvPrewrite"]
        assert max(len(request.mutations) for request in prewrites) == 4
        assert sum(len(request.mutations) for request in prewrites) == 40
        assert {request.txn_size for request in prewrites} == {40}
        await client.drain(10)
        assert not cluster.storage.locks()
        txn = await client.begin()
        with pytest.raises(EntryTooLarge):
            txn.put(A, b"x" * (7 << 20))
        await txn.rollback()

    with_cluster(body, defaults=TWO_PHASES)


def test_flags_for_one_phase_and_async_fall_back() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        async with client.begin(try_one_pc=True) as one:
            one.put(A, b"1")
        cluster.split(M)
        async with client.begin(use_async_commit=True) as two:
            two.put(A, b"2")
            two.put(Z, b"2")
        await client.drain(10)
        assert await client.snapshot(await client.timestamp()).batch_get([A, Z]) == {A: b"2", Z: b"2"}
        assert not cluster.storage.locks()

    with_cluster(body, defaults=TWO_PHASES)


def test_read_only_commit_is_a_no_op() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        async with client.begin() as txn:
            assert await txn.get(A) is None
        assert txn.commit_ts == 0
        assert cluster.calls("KvPrewrite") == 0

    with_cluster(body, defaults=TWO_PHASES)


def test_check_before_the_commit_runs_with_all_locks_in_place_and_can_refuse() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(b"m")
        seen: list[set[bytes]] = []

        async def look() -> None:
            seen.append(set(cluster.storage.locks()))

        async def refuse() -> None:
            await look()
            raise DbError("no")

        for check in (look, refuse):
            txn = await client.begin(try_one_pc=True, use_async_commit=True)
            txn.put(b"a", b"1")
            txn.put(b"z", check.__name__.encode())
            if check is refuse:
                with pytest.raises(DbError):
                    await txn.commit(check)
            else:
                await txn.commit(check)
            await client.drain(10)
        assert seen == [{b"a", b"z"}] * 2
        assert not cluster.storage.locks()
        assert await client.snapshot(await client.timestamp()).get(b"z") == b"look"
        assert not any(r.use_async_commit or r.try_one_pc for name, r in cluster.requests if name == "KvPrewrite")

    with_cluster(body, defaults=TWO_PHASES)
