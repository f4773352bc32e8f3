"""The raw client on the fake cluster."""

from __future__ import annotations

import asyncio

import pytest

from core_py.region_errors import UndeterminedResult
from tests.unit.client.clusters import with_cluster
from tikv_py.client.errors import UndeterminedError
from tikv_py.client.testing.cluster import MemoryCluster
from tikv_py.client.testing.faults import once
from tikv_py.client.txn.client import TxnClient


def test_single_keys() -> None:
    async def body(cluster: MemoryCluster, _client: TxnClient) -> None:
        async with await cluster.raw_client() as raw:
            assert await raw.get(b"a") is None
            await raw.put(b"a", b"1")
            assert await raw.get(b"a") == b"1"
            assert await raw.ttl(b"a") == 0
            assert await raw.ttl(b"b") is None
            await raw.delete(b"a")
            assert await raw.get(b"a") is None

    with_cluster(body)


def test_many_keys_over_regions_that_split_meanwhile() -> None:
    async def body(cluster: MemoryCluster, _client: TxnClient) -> None:
        async with await cluster.raw_client() as raw:
            pairs = {b"k%03d" % n: b"v%d" % n for n in range(300)}
            cluster.topology.split(b"k100")
            await raw.batch_put(pairs)
            cluster.topology.split(b"k050")
            cluster.topology.split(b"k200")
            assert await raw.batch_get([*pairs, b"none"]) == pairs
            cluster.topology.split(b"k250")
            assert await raw.scan(b"") == sorted(pairs.items())
            assert await raw.scan(b"k010", b"k260", reverse=True) == sorted(pairs.items())[259:9:-1]
            assert await raw.scan(b"k090", limit=20) == sorted(pairs.items())[90:110]
            assert [key async for key, _ in raw.iterate(b"", limit=3, reverse=True)] == [b"k299", b"k298", b"k297"]
            await raw.delete_range(b"k040", b"k280")
            assert len(await raw.scan(b"")) == 60
            await raw.batch_delete(pairs)
            assert await raw.scan(b"") == []

    with_cluster(body)


def test_compare_and_swap() -> None:
    async def body(cluster: MemoryCluster, _client: TxnClient) -> None:
        async with await cluster.raw_client() as raw:
            assert (await raw.compare_and_swap(b"a", None, b"1")).swapped
            lost = await raw.compare_and_swap(b"a", b"0", b"2")
            assert not lost.swapped
            assert lost.previous == b"1"
            cluster.after.append(once("RawCompareAndSwap"))
            with pytest.raises(UndeterminedError):
                await raw.compare_and_swap(b"a", b"1", b"3")
            assert await raw.get(b"a") == b"3"

    with_cluster(body)


def test_broken_stream_is_retried() -> None:
    async def body(cluster: MemoryCluster, _client: TxnClient) -> None:
        async with await cluster.raw_client() as raw:
            cluster.after.append(once("RawPut"))
            await asyncio.gather(*(raw.put(b"%d" % n, b"v") for n in range(20)))
            assert len(await raw.scan(b"")) == 20

    with_cluster(body)


def test_compare_and_swap_whose_outcome_the_store_does_not_know_is_not_repeated() -> None:
    async def body(cluster: MemoryCluster, _client: TxnClient) -> None:
        async with await cluster.raw_client() as raw:
            await raw.put(b"a", b"1")
            cluster.before.append(once("RawCompareAndSwap", UndeterminedResult(2)))
            with pytest.raises(UndeterminedError):
                await raw.compare_and_swap(b"a", b"1", b"2")
            assert cluster.calls("RawCompareAndSwap") == 1
            assert (await raw.compare_and_swap(b"a", b"1", b"2")).swapped

    with_cluster(body)
