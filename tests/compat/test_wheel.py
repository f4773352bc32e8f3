"""The PyPI wheel tikv-client, a real client that nobody here wrote, unmodified against our PD and stores: all that it offers.

Each test runs twice, over its synchronous and its asynchronous classes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.compat.wheel import Driven
from tidb_py.testing.playground import PlaygroundCluster

tikv_client = pytest.importorskip("tikv_client", reason="the wheel exists for CPython 3.11 and older")
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("processes")]


@pytest.fixture(scope="module", autouse=True)
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Its synchronous clients take the thread's event loop, which a test that ran before may have taken away."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(scope="module", params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def raw(cluster: PlaygroundCluster, face: str, loop: asyncio.AbstractEventLoop) -> Any:
    if face == "sync":
        return tikv_client.RawClient.connect([cluster.pd])
    return Driven(tikv_client.asynchronous.RawClient, loop).connect([cluster.pd])


@pytest.fixture
def client(cluster: PlaygroundCluster, face: str, loop: asyncio.AbstractEventLoop) -> Any:
    if face == "sync":
        return tikv_client.TransactionClient.connect([cluster.pd])
    return Driven(tikv_client.asynchronous.TransactionClient, loop).connect([cluster.pd])


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> bytes:
    """Keys of this test only."""
    return f"{request.node.name}/".encode()


def write(client: Any, pairs: dict[bytes, bytes]) -> None:
    txn = client.begin(pessimistic=False)
    for key, value in pairs.items():
        txn.put(key, value)
    txn.commit()


def now(client: Any) -> Any:
    return client.snapshot(client.current_timestamp(), pessimistic=False)


# ---- raw ----


def test_raw_single_keys(raw: Any, prefix: bytes) -> None:
    assert raw.get(prefix) is None
    raw.put(prefix, b"1")
    raw.put(prefix, b"2" * 100_000)
    assert raw.get(prefix) == b"2" * 100_000
    raw.delete(prefix)
    raw.delete(prefix)
    assert raw.get(prefix) is None


def test_raw_batches(raw: Any, prefix: bytes) -> None:
    pairs = {prefix + b"%04d" % i: b"v%d" % i for i in range(1000)}
    raw.batch_put(pairs)
    keys = [*pairs, prefix + b"missing"]
    assert dict(raw.batch_get(keys)) == pairs
    raw.batch_delete(list(pairs)[:999])
    assert raw.batch_get(keys) == [(prefix + b"0999", b"v999")]
    assert raw.batch_get([]) == []


def test_raw_scans(raw: Any, prefix: bytes) -> None:
    keys = [prefix + b"%02d" % i for i in range(30)]
    raw.batch_put({key: key[-2:] for key in keys})
    end = prefix + b"29"
    assert [key for key, _ in raw.scan(keys[0], end, 100)] == keys[:29]
    assert [key for key, _ in raw.scan(keys[0], end, 100, include_end=True)] == keys
    assert [key for key, _ in raw.scan(keys[0], end, 100, include_start=False)] == keys[1:29]
    assert [value for _, value in raw.scan(keys[0], end, 7)] == [b"%02d" % i for i in range(7)]
    assert list(raw.scan_keys(keys[3], keys[6], 100, include_start=False, include_end=True)) == keys[4:7]
    assert [key for key, _ in raw.scan(keys[28], None, 2)] == keys[28:]
    with pytest.raises(Exception, match=r"[Ll]imit"):
        raw.scan(keys[0], end, 10_241)


def test_raw_delete_range(raw: Any, prefix: bytes) -> None:
    keys = [prefix + b"%02d" % i for i in range(10)]
    raw.batch_put(dict.fromkeys(keys, b"x"))
    raw.delete_range(keys[2], keys[4])
    raw.delete_range(keys[6], keys[8], include_start=False, include_end=True)
    left = list(raw.scan_keys(keys[0], keys[9], 100, include_end=True))
    assert left == [keys[i] for i in (0, 1, 4, 5, 6, 9)]


def test_raw_column_families(raw: Any, prefix: bytes) -> None:
    raw.put(prefix, b"of default")
    raw.put(prefix, b"of write", cf="write")
    raw.batch_put({prefix + b"1": b"of lock"}, cf="lock")
    assert raw.get(prefix) == raw.get(prefix, cf="default") == b"of default"
    assert raw.get(prefix, cf="write") == b"of write"
    assert raw.get(prefix, cf="lock") is None
    assert raw.batch_get([prefix, prefix + b"1"], cf="lock") == [(prefix + b"1", b"of lock")]
    assert raw.scan(prefix, prefix + b"9", 10, cf="write") == [(prefix, b"of write")]
    assert list(raw.scan_keys(prefix, prefix + b"9", 10, cf="lock")) == [prefix + b"1"]
    raw.delete(prefix, cf="write")
    raw.delete_range(prefix, prefix + b"9", cf="lock")
    assert raw.get(prefix, cf="write") is raw.get(prefix + b"1", cf="lock") is None
    with pytest.raises(Exception, match="nonsense"):
        raw.get(prefix, cf="nonsense")


# ---- transactions ----


@pytest.mark.parametrize("pessimistic", [False, True])
def test_a_transaction_sees_its_own_writes(client: Any, prefix: bytes, *, pessimistic: bool) -> None:
    write(client, {prefix + b"a": b"old", prefix + b"b": b"old", prefix + b"c": b"old"})
    a, b, c, d = (prefix + name for name in (b"a", b"b", b"c", b"d"))
    txn = client.begin(pessimistic=pessimistic)
    txn.put(a, b"new")
    txn.delete(b)
    txn.insert(d, b"new")
    assert (txn.get(a), txn.get(b), txn.get(c), txn.get(d)) == (b"new", None, b"old", b"new")
    assert [txn.key_exists(key) for key in (a, b, c, d)] == [True, False, True, True]
    assert dict(txn.batch_get([a, b, c, d])) == {a: b"new", c: b"old", d: b"new"}
    assert list(txn.scan(prefix, d, 10)) == [(a, b"new"), (c, b"old")]
    assert list(txn.scan_keys(prefix, d, 10, include_end=True)) == [a, c]  # its scans do not look at own inserts
    assert list(txn.scan_keys(a, d, 10, include_start=False)) == [c]
    assert [key for key, _ in now(client).scan(prefix, prefix + b"z", 10)] == [a, b, c]
    txn.commit()
    snapshot = now(client)
    assert list(snapshot.scan(prefix, prefix + b"z", 10)) == [(a, b"new"), (c, b"old"), (d, b"new")]


def test_snapshots(client: Any, prefix: bytes) -> None:
    before = client.current_timestamp()
    keys = [prefix + b"%02d" % i for i in range(20)]
    write(client, dict.fromkeys(keys, b"x"))
    assert client.snapshot(before, pessimistic=False).get(keys[0]) is None
    assert list(client.snapshot(before, pessimistic=True).scan(prefix, keys[-1], 100)) == []
    for pessimistic in (False, True):
        snapshot = client.snapshot(client.current_timestamp(), pessimistic=pessimistic)
        assert snapshot.get(keys[0]) == b"x"
        assert snapshot.key_exists(keys[0])
        assert not snapshot.key_exists(prefix + b"missing")
        assert dict(snapshot.batch_get([*keys, prefix + b"missing"])) == dict.fromkeys(keys, b"x")
        assert list(snapshot.scan_keys(keys[0], keys[9], 100)) == keys[:9]
        assert len(list(snapshot.scan(keys[0], keys[9], 100, include_start=False, include_end=True))) == 9
        assert len(list(snapshot.scan(keys[0], keys[-1], 7))) == 7


def test_optimistic_conflict(client: Any, prefix: bytes) -> None:
    first, second = client.begin(pessimistic=False), client.begin(pessimistic=False)
    first.put(prefix, b"first")
    second.put(prefix, b"second")
    first.commit()
    with pytest.raises(Exception, match="conflict"):
        second.commit()
    assert now(client).get(prefix) == b"first"


def test_optimistic_locks_are_checked_at_commit(client: Any, prefix: bytes) -> None:
    a, b = prefix + b"a", prefix + b"b"
    write(client, {a: b"1", b: b"2"})
    txn = client.begin(pessimistic=False)
    assert txn.get_for_update(a) == b"1"
    assert dict(txn.batch_get_for_update([a, b])) == {a: b"1", b: b"2"}
    txn.lock_keys([a, b])
    txn.put(prefix + b"c", b"3")
    write(client, {a: b"meanwhile"})
    with pytest.raises(Exception, match="conflict"):
        txn.commit()
    assert now(client).get(prefix + b"c") is None


def test_insert_of_an_existing_key(client: Any, prefix: bytes) -> None:
    write(client, {prefix: b"old"})
    txn = client.begin(pessimistic=False)
    txn.insert(prefix, b"new")
    with pytest.raises(Exception, match=r"(?i)already.?exist"):
        txn.commit()
    txn = client.begin(pessimistic=True)
    with pytest.raises(Exception, match=r"(?i)already.?exist"):
        txn.insert(prefix, b"new")
    txn.rollback()
    assert now(client).get(prefix) == b"old"


def test_pessimistic_locks(client: Any, prefix: bytes) -> None:
    a, b = prefix + b"a", prefix + b"b"
    txn = client.begin(pessimistic=True)
    assert txn.get_for_update(a) is None
    txn.put(a, b"1")
    txn.put(b, b"2")
    txn.commit()
    txn = client.begin(pessimistic=True)
    write(client, {b: b"later"})
    assert txn.get(b) == b"2"
    assert txn.get_for_update(b) == b"later"  # locks the newest, not what the snapshot has
    assert dict(txn.batch_get_for_update([a, b])) == {a: b"1", b: b"later"}
    txn.lock_keys([a, b, prefix + b"c"])
    txn.delete(a)
    txn.commit()
    assert dict(now(client).batch_get([a, b])) == {b: b"later"}


def test_rollback(client: Any, prefix: bytes) -> None:
    for pessimistic in (False, True):
        txn = client.begin(pessimistic=pessimistic)
        txn.put(prefix, b"x")
        txn.rollback()
        with pytest.raises(Exception, match=r"[Cc]ommit|rolled back|[Oo]peration"):
            txn.put(prefix, b"y")
    assert now(client).get(prefix) is None
    write(client, {prefix: b"z"})  # no lock is left in the way


def test_a_large_transaction(client: Any, prefix: bytes) -> None:
    pairs = {prefix + b"%04d" % i: b"%d" % i * 100 for i in range(2000)}
    write(client, pairs)
    found = list(now(client).scan(prefix, prefix + b"z", 5000))
    assert dict(found) == pairs
    assert [key for key, _ in found] == sorted(pairs)


def test_gc_of_the_inner_object(cluster: PlaygroundCluster, loop: asyncio.AbstractEventLoop, prefix: bytes) -> None:
    client = tikv_client.TransactionClient.connect([cluster.pd])
    write(client, {prefix: b"x"})
    safe_point = client.current_timestamp()

    async def collect() -> Any:
        return await client.inner.inner.gc(safe_point)

    assert loop.run_until_complete(collect()) is True
    assert now(client).get(prefix) == b"x"
