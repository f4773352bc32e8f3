"""Pessimistic locks, their heart beat and release, and the recovery of dead owners of every kind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core_py.codec import ts as tso
from core_py.region_errors import ServerIsBusy
from protos.kvproto import kvrpcpb_pb2
from protos.kvproto.deadlock_pb2 import WaitForEntry
from tests.unit.client.clusters import with_cluster
from tikv_py.client.errors import (
    DeadlockError,
    KeyExistsError,
    LockNotFree,
    LockWaitTimeout,
    OperationTimeout,
    WriteConflictError,
    from_key_error,
)
from tikv_py.client.testing.cluster import MemoryCluster
from tikv_py.client.testing.faults import once
from tikv_py.client.testing.table import Lock
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.transaction import LockedValue, Transaction

A, B, Z = b"a", b"b", b"z"


async def put(client: TxnClient, **pairs: str) -> None:
    async with client.begin() as txn:
        for key, value in pairs.items():
            txn.put(key.encode(), value.encode())
    await client.drain(10)


async def read(client: TxnClient, key: bytes) -> bytes | None:
    return await client.snapshot(await client.timestamp()).get(key)


def test_lock_write_commit() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(b"m")
        await put(client, a="1")
        async with client.begin(pessimistic=True) as txn:
            assert await txn.lock_keys([A, Z], return_values=True) == {A: b"1", Z: None}
            assert set(txn.locked_keys) == {A, Z}
            txn.put(A, b"2")
        await client.drain(10)
        assert await read(client, A) == b"2"
        assert not cluster.storage.locks()

    with_cluster(body)


def test_writes_to_keys_that_are_not_locked_are_checked_unless_the_caller_vouches_for_them() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, a="1", z="1")
        for trust in (False, True):
            txn = await client.begin(pessimistic=True, trust_unlocked=trust)
            seen = await txn.get(Z)
            await put(client, z="between")
            await txn.lock_keys([A])
            txn.put(A, b"2")
            txn.put(Z, seen or b"")
            if trust:
                await txn.commit()
                assert await read(client, Z) == seen
            else:
                with pytest.raises(WriteConflictError):
                    await txn.commit()
                assert await read(client, Z) == b"between"
            await client.drain(10)

    with_cluster(body)


def test_conflict_is_the_callers_decision() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        txn = await client.begin(pessimistic=True)
        await put(client, a="newer")
        with pytest.raises(WriteConflictError) as caught:
            await txn.lock_keys([A, B], for_update_ts=txn.start_ts)
        assert caught.value.reason == "PessimisticRetry"
        await client.drain(10)
        assert not cluster.storage.locks()
        assert await txn.lock_keys([A], return_values=True) == {A: b"newer"}
        txn.put(A, b"mine")
        await txn.commit()
        assert await read(client, A) == b"mine"

    with_cluster(body)


def test_waiting_and_not_waiting() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        first, second = await client.begin(pessimistic=True), await client.begin(pessimistic=True)
        await first.lock_keys([A])
        with pytest.raises(LockNotFree) as busy:
            await second.lock_keys([A], wait_ms=0)
        assert busy.value.mysql_code == 3572
        began = asyncio.get_running_loop().time()
        with pytest.raises(LockWaitTimeout) as late:
            await second.lock_keys([A], wait_ms=2000)
        assert late.value.mysql_code == 1205
        assert 2 <= asyncio.get_running_loop().time() - began < 6
        waiting = asyncio.get_running_loop().create_task(second.lock_keys([A], return_values=True))
        await asyncio.sleep(0.5)
        first.put(A, b"1")
        await first.commit()
        assert await waiting == {A: b"1"}  # locked as it is now
        await second.rollback()
        await client.drain(10)
        assert not cluster.storage.locks()

    with_cluster(body)


def test_heart_beat_keeps_a_long_transaction_alive() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        txn = await client.begin(pessimistic=True)
        await txn.lock_keys([A])
        await asyncio.sleep(120)
        other = await client.begin(pessimistic=True)
        with pytest.raises(LockWaitTimeout):
            await other.lock_keys([A], wait_ms=1000)
        txn.put(A, b"1")
        await txn.commit()
        assert await read(client, A) == b"1"
        assert cluster.calls("KvTxnHeartBeat") >= 10

    with_cluster(body)


def test_dead_owners_lock_is_taken_over() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        dead = await cluster.txn_client("dead")
        owner = await dead.begin(pessimistic=True)
        await owner.lock_keys([A, B])
        await dead.close()
        assert set(cluster.storage.locks()) == {A, B}
        txn = await client.begin(pessimistic=True)
        began = asyncio.get_running_loop().time()
        await txn.lock_keys([B])
        assert 15 < asyncio.get_running_loop().time() - began < 25
        txn.put(B, b"mine")
        await txn.commit()
        await put(client, a="mine")
        await client.drain(10)
        assert not cluster.storage.locks()

    with_cluster(body)


def test_insert_with_lock() -> None:
    async def body(_cluster: MemoryCluster, client: TxnClient) -> None:
        await put(client, a="1")
        txn = await client.begin(pessimistic=True)
        txn.insert(A, b"2")
        with pytest.raises(KeyExistsError):
            await txn.lock_keys([A])
        mark = txn.checkpoint()
        assert mark
        txn.rollback_to(0)
        txn.insert(B, b"2")
        await txn.lock_keys([B])
        await txn.commit()
        assert await read(client, B) == b"2"

    with_cluster(body)


def test_commit_without_writes_releases_locks() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        async with client.begin(pessimistic=True) as txn:
            await txn.lock_keys([A])
        await client.drain(10)
        assert not cluster.storage.locks()
        with pytest.raises(ValueError, match="pessimistic"):
            await (await client.begin()).lock_keys([A])

    with_cluster(body)


def plant(cluster: MemoryCluster, key: bytes, lock: Lock) -> None:
    cluster.storage.place_lock(key, lock)


@pytest.mark.parametrize("complete", [True, False])
def test_async_commit_owner_is_decided_by_its_secondaries(complete: bool) -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(b"m")
        start_ts = await client.timestamp()
        low = Lock(
            kvrpcpb_pb2.Put,
            A,
            start_ts,
            1000,
            b"v",
            min_commit_ts=start_ts + 5,
            use_async_commit=True,
            secondaries=(B, Z),
        )
        plant(cluster, A, low)
        plant(
            cluster,
            B,
            Lock(kvrpcpb_pb2.Put, A, start_ts, 1000, b"v", min_commit_ts=start_ts + 9, use_async_commit=True),
        )
        if complete:
            far = Lock(kvrpcpb_pb2.Put, A, start_ts, 1000, b"v", min_commit_ts=start_ts + 7, use_async_commit=True)
            plant(cluster, Z, far)
        await asyncio.sleep(3)
        want = b"v" if complete else None
        assert await read(client, B) == want
        assert [await read(client, key) for key in (A, B, Z)] == [want] * 3
        assert not cluster.storage.locks()
        if complete:
            assert await client.snapshot(start_ts + 8).get(A) is None
            assert await client.snapshot(start_ts + 9).get(A) == b"v"

    with_cluster(body)


def test_async_commit_owner_that_fell_back() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        start_ts = await client.timestamp()
        plant(
            cluster,
            A,
            Lock(
                kvrpcpb_pb2.Put,
                A,
                start_ts,
                1000,
                b"v",
                min_commit_ts=start_ts + 5,
                use_async_commit=True,
                secondaries=(B,),
            ),
        )
        plant(cluster, B, Lock(kvrpcpb_pb2.Put, A, start_ts, 1000, b"v"))
        await asyncio.sleep(3)
        assert await read(client, B) is None
        assert await read(client, A) is None
        assert not cluster.storage.locks()

    with_cluster(body)


def test_lock_without_a_trace_on_its_primary() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        start_ts = await client.timestamp()
        plant(cluster, B, Lock(kvrpcpb_pb2.Put, A, start_ts, 3000, b"v"))
        began = asyncio.get_running_loop().time()
        assert await read(client, B) is None
        assert 2.5 < asyncio.get_running_loop().time() - began < 5
        lock = kvrpcpb_pb2.LockInfo(primary_lock=A, lock_version=start_ts, key=B, lock_ttl=1)
        fate = await client.lock_resolver.fate_of(lock, 0, client.new_backoffer(1000))
        assert not fate.alive
        assert fate.commit_ts == 0
        assert tso.physical_ms(start_ts) > 0

    with_cluster(body)


def test_lock_left_by_a_failed_statement_follows_the_new_primary() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(b"m")
        txn = await client.begin(pessimistic=True)
        early = await client.timestamp()
        await put(client, z="newer")
        cluster.before.append(
            lambda _store, name, _request: ServerIsBusy("later") if name == "KVPessimisticRollback" else None
        )
        with pytest.raises(WriteConflictError):
            await txn.lock_keys([A, B, Z], for_update_ts=early)  # leaves B, of the primary A, behind for a while
        await txn.lock_keys([B, Z])
        assert {key: lock.primary for key, lock in cluster.storage.locks().items() if key != A} == {B: B, Z: B}
        cluster.before.clear()
        await client.drain(30)
        txn.put(B, b"mine")
        await txn.commit()
        assert await read(client, B) == b"mine"

    with_cluster(body)


def test_a_hot_key_is_handed_on_with_one_request_each() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        early = await client.begin(pessimistic=True)
        await put(client, a="1")
        found = await early.lock_key(A, for_update_ts=early.start_ts)
        assert found.value == b"1"
        assert found.conflict_ts > early.start_ts
        assert early.for_update_ts == found.conflict_ts
        assert cluster.calls("KvPessimisticLock") == 1
        early.put(A, b"2")
        await early.commit()
        prewrite = [request for name, request in cluster.requests if name == "KvPrewrite"][-1]
        constraints = [(c.index, c.expected_for_update_ts) for c in prewrite.for_update_ts_constraints]
        assert constraints == [(0, found.conflict_ts)]
        assert await read(client, A) == b"2"
        late = await client.begin(pessimistic=True)
        assert await late.lock_key(A) == LockedValue(b"2", 0)
        assert await late.lock_key(B) == LockedValue(None, 0)
        await late.rollback()
        await client.drain(10)
        assert not cluster.storage.locks()

    with_cluster(body)


def test_a_lost_answer_over_a_conflict_is_told_again() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        early = await client.begin(pessimistic=True)
        await put(client, a="1")
        cluster.after.append(once("KvPessimisticLock"))
        found = await early.lock_key(A, for_update_ts=early.start_ts)
        assert found.value == b"1"
        early.put(A, b"2")
        await early.commit()
        assert await read(client, A) == b"2"

    with_cluster(body)


def test_stores_without_forced_locks_are_asked_again() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        def older(_store: object, name: str, request: Any) -> None:
            if name == "KvPessimisticLock":
                request.wake_up_mode = kvrpcpb_pb2.WakeUpModeNormal

        cluster.before.append(older)
        early = await client.begin(pessimistic=True)
        await put(client, a="1")
        found = await early.lock_key(A, for_update_ts=early.start_ts)
        assert found.value == b"1"
        assert found.conflict_ts > early.start_ts
        early.put(A, b"2")
        await early.commit()
        assert await read(client, A) == b"2"

    with_cluster(body)


def test_lock_only_what_exists() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(b"m")
        await put(client, b="1", z="1")
        txn = await client.begin(pessimistic=True)
        assert await txn.lock_keys([A, B, b"c", Z], only_if_exists=True) == {A: None, B: b"1", b"c": None, Z: b"1"}
        assert set(cluster.storage.locks()) == {B, Z}
        assert {lock.primary for lock in cluster.storage.locks().values()} == {B}
        assert set(txn.locked_keys) == {B, Z}
        nothing = await client.begin(pessimistic=True)
        assert await nothing.lock_keys([A, b"c"], only_if_exists=True) == {A: None, b"c": None}
        assert await nothing.commit() == 0
        txn.put(A, b"2")
        txn.delete(Z)
        await txn.commit()
        await client.drain(10)
        assert [await read(client, key) for key in (A, B, Z)] == [b"2", b"1", None]
        assert not cluster.storage.locks()

    with_cluster(body)


def test_waiting_without_a_limit() -> None:
    async def body(_cluster: MemoryCluster, client: TxnClient) -> None:
        owner, patient = await client.begin(pessimistic=True), await client.begin(pessimistic=True)
        await owner.lock_keys([A])
        waiting = asyncio.get_running_loop().create_task(patient.lock_keys([A], return_values=True, wait_ms=None))
        await asyncio.sleep(300)
        assert not waiting.done()
        owner.put(A, b"1")
        await owner.commit()
        assert await waiting == {A: b"1"}
        await patient.rollback()

    with_cluster(body)


def test_a_cancelled_lock_call_leaves_no_lock() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        owner, other = await client.begin(pessimistic=True), await client.begin(pessimistic=True)
        await owner.lock_keys([A])
        await other.lock_keys([B])
        waiting = asyncio.get_running_loop().create_task(other.lock_keys([A]))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await owner.rollback()  # the store may now give the key to the request that nobody waits for
        await asyncio.sleep(5)
        await other.rollback()
        await client.drain(10)
        assert not cluster.storage.locks()

    with_cluster(body)


def test_deadlock_names_the_chain() -> None:
    chain = [WaitForEntry(txn=1, wait_for_txn=2, key=A), WaitForEntry(txn=2, wait_for_txn=1, key=B)]
    error = from_key_error(kvrpcpb_pb2.KeyError(deadlock=kvrpcpb_pb2.Deadlock(lock_ts=2, lock_key=A, wait_chain=chain)))
    assert isinstance(error, DeadlockError)
    assert error.chain == ((1, 2, A), (2, 1, B))
    assert "2 waits for 1 on key 62" in error.message


def test_a_transaction_function_is_repeated_and_bounded_in_time() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        async def add(txn: Transaction) -> int:
            found = await txn.lock_keys([A, B], return_values=True)
            value = int(found[A] or b"0") + 1
            txn.put(A, b"%d" % value)
            return value

        jobs = [client.run_in_transaction(add, pessimistic=True, retries=50) for _ in range(10)]
        assert sorted(await asyncio.gather(*jobs)) == list(range(1, 11))

        async def never(txn: Transaction) -> None:
            await txn.lock_keys([A])
            await asyncio.sleep(1000)

        began = asyncio.get_running_loop().time()
        with pytest.raises(OperationTimeout):
            await client.run_in_transaction(never, pessimistic=True, timeout_s=3)
        assert asyncio.get_running_loop().time() - began < 4
        await client.drain(10)
        assert not cluster.storage.locks()

    with_cluster(body)
