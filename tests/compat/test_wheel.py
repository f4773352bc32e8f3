"""The PyPI wheel tikv-client, a real client that nobody here wrote, unmodified against our PD and stores."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tidb_py.testing.playground import PlaygroundCluster, playground

tikv_client = pytest.importorskip("tikv_client", reason="the wheel exists for CPython 3.11 and older")
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("processes")]


@pytest.fixture(scope="module", autouse=True)
def event_loop_of_the_wheel() -> Iterator[None]:
    """Its synchronous clients take the thread's event loop, which a test that ran before may have taken away."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[PlaygroundCluster]:
    with playground("--db", "0") as running:
        yield running


def test_raw_commands(cluster: PlaygroundCluster) -> None:
    client = tikv_client.RawClient.connect([cluster.pd])
    client.put(b"raw-a", b"1")
    assert client.get(b"raw-a") == b"1"
    assert client.get(b"raw-missing") is None
    client.batch_put({b"raw-%02d" % i: b"v%d" % i for i in range(30)})
    assert dict(client.batch_get([b"raw-01", b"raw-29", b"raw-zz"])) == {b"raw-01": b"v1", b"raw-29": b"v29"}
    scanned = client.scan(b"raw-00", end=b"raw-99", limit=100, include_start=True, include_end=False)
    assert [key for key, _ in scanned] == [b"raw-%02d" % i for i in range(30)]
    assert len(client.scan(b"raw-00", end=b"raw-99", limit=7, include_start=True, include_end=False)) == 7
    client.delete(b"raw-01")
    assert client.get(b"raw-01") is None
    client.batch_delete([b"raw-02", b"raw-03"])
    client.delete_range(b"raw-10", end=b"raw-20", include_start=True, include_end=False)
    left = client.scan_keys(b"raw-00", end=b"raw-99", limit=100, include_start=True, include_end=False)
    assert len(list(left)) == 30 - 3 - 10


def test_optimistic_transaction_and_conflict(cluster: PlaygroundCluster) -> None:
    client = tikv_client.TransactionClient.connect([cluster.pd])
    txn = client.begin(pessimistic=False)
    for i in range(20):
        txn.put(b"opt-%02d" % i, b"%d" % i)
    assert txn.get(b"opt-03") == b"3"
    txn.commit()

    first, second = client.begin(pessimistic=False), client.begin(pessimistic=False)
    first.put(b"opt-00", b"first")
    second.put(b"opt-00", b"second")
    first.commit()
    with pytest.raises(Exception, match="conflict"):
        second.commit()
    snapshot = client.snapshot(client.current_timestamp(), pessimistic=False)
    assert snapshot.get(b"opt-00") == b"first"
    assert len(snapshot.scan(b"opt-", end=b"opt-99", limit=50, include_start=True, include_end=False)) == 20


def test_pessimistic_transaction(cluster: PlaygroundCluster) -> None:
    client = tikv_client.TransactionClient.connect([cluster.pd])
    txn = client.begin(pessimistic=True)
    assert txn.get_for_update(b"pes-a") is None
    txn.put(b"pes-a", b"1")
    txn.put(b"pes-b", b"2")
    txn.commit()
    txn = client.begin(pessimistic=True)
    assert txn.get_for_update(b"pes-a") == b"1"
    txn.delete(b"pes-a")
    txn.rollback()
    snapshot = client.snapshot(client.current_timestamp(), pessimistic=False)
    assert dict(snapshot.batch_get([b"pes-a", b"pes-b"])) == {b"pes-a": b"1", b"pes-b": b"2"}


def test_a_snapshot_does_not_see_later_commits(cluster: PlaygroundCluster) -> None:
    client = tikv_client.TransactionClient.connect([cluster.pd])
    before = client.current_timestamp()
    txn = client.begin(pessimistic=False)
    txn.put(b"snap", b"new")
    txn.commit()
    assert client.snapshot(before, pessimistic=False).get(b"snap") is None
    assert client.snapshot(client.current_timestamp(), pessimistic=False).get(b"snap") == b"new"
