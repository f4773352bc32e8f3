"""The synchronous facade: the same answers and errors, from any thread, and never from inside a loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from core_py.errors import RetryClass
from tikv_py.client.errors import KeyExistsError, SyncInsideLoop, TxnClosed, WriteConflictError
from tikv_py.client.event_thread import EventThread
from tikv_py.client.sync import SyncRawClient, SyncTransaction, SyncTxnClient
from tikv_py.client.testing.cluster import MemoryCluster, memory_cluster

A, B = b"a", b"b"


@contextmanager
def cluster_on_a_thread() -> Iterator[tuple[MemoryCluster, EventThread]]:
    """A memory cluster on the facade's loop, which runs in real time."""
    thread = EventThread("test")
    manager = memory_cluster(split_at=[b"m"])
    cluster = thread.run(manager.__aenter__())
    try:
        yield cluster, thread
    finally:
        thread.run(_leave(manager))
        thread.stop()


async def _leave(manager: object) -> None:
    await manager.__aexit__(None, None, None)  # type: ignore[attr-defined]


@contextmanager
def txn_client() -> Iterator[SyncTxnClient]:
    with cluster_on_a_thread() as (cluster, thread), SyncTxnClient(thread.run(cluster.txn_client()), thread) as client:
        yield client


def test_transactions() -> None:
    with txn_client() as client:
        with client.begin() as txn:
            txn.put(A, b"1")
            txn.put(b"z", b"1")
            mark = txn.checkpoint()
            txn.delete(A)
            txn.rollback_to(mark)
            assert txn.get(A) == b"1"
            assert list(txn.scan(b"")) == [(A, b"1"), (b"z", b"1")]
            assert txn.batch_get([A, B]) == {A: b"1"}
        assert txn.commit_ts > txn.start_ts
        assert txn.is_closed
        with pytest.raises(TxnClosed):
            txn.get(A)
        assert client.get(A) == b"1"
        assert client.snapshot(txn.start_ts).get(A) is None
        found = client.snapshot().get_with_commit_ts(A)
        assert found is not None
        assert found.value == b"1"
        with pytest.raises(KeyExistsError), client.begin() as txn:
            txn.insert(A, b"2")
        with pytest.raises(ZeroDivisionError), client.begin() as txn:
            txn.put(A, b"%d" % (1 // 0))
        assert client.snapshot().batch_get([A, b"z"]) == {A: b"1", b"z": b"1"}
        with client.begin(pessimistic=True) as txn:
            assert txn.lock_key(A).value == b"1"
            assert txn.lock_keys([b"z"], return_values=True) == {b"z": b"1"}
            txn.put(A, b"3")
            txn.rollback()
        assert client.get(A) == b"1"


def test_long_scans_change_threads_seldom_and_may_be_left() -> None:
    with txn_client() as client:
        with client.begin() as txn:
            for number in range(700):
                txn.put(b"k%03d" % number, b"%d" % number)
        want = [(b"k%03d" % number, b"%d" % number) for number in range(700)]
        assert list(client.snapshot().scan(b"k", b"l")) == want
        assert list(client.snapshot().scan(b"k", b"l", 3, reverse=True)) == want[:-4:-1]
        for pair in client.snapshot().scan(b"k"):
            assert pair == want[0]
            break


def test_run_in_transaction_from_many_threads() -> None:
    with txn_client() as client:

        def add(txn: SyncTransaction) -> int:
            now = int(txn.get(A) or b"0") + 1
            txn.put(A, b"%d" % now)
            return now

        def work() -> None:
            for _ in range(5):
                client.run_in_transaction(add, retries=200)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.get(A) == b"20"
        assert WriteConflictError.retry is RetryClass.RESTART_TXN


def test_raw_client() -> None:
    with cluster_on_a_thread() as (cluster, thread), SyncRawClient(thread.run(cluster.raw_client()), thread) as client:
        client.put(A, b"1")
        client.batch_put({B: b"2", b"z": b"3"})
        assert client.get(A) == b"1"
        assert client.batch_get([A, B, b"c"]) == {A: b"1", B: b"2"}
        assert client.scan(b"") == [(A, b"1"), (B, b"2"), (b"z", b"3")]
        assert client.compare_and_swap(A, b"1", b"4").swapped
        assert not client.compare_and_swap(A, b"1", b"5").swapped
        client.delete(A)
        client.batch_delete([B])
        client.delete_range(b"y", b"")
        assert client.scan(b"") == []
        assert client.ttl(A) is None


def test_not_inside_a_loop() -> None:
    with txn_client() as client:

        async def body() -> None:
            client.get(A)

        with pytest.raises(SyncInsideLoop, match="running event loop"):
            asyncio.run(body())
