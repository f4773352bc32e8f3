"""The region cache: expiry, size, loading of many at once, background refresh; and clients through storms of splits and merges."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_py.codec import memcomparable
from protos.kvproto import metapb_pb2, pdpb_pb2
from tests.unit.client.clusters import with_cluster
from tikv_py.client.region.cache import MAX_RANGES
from tikv_py.client.region.regions import RAW_KEYS, TTL_JITTER_S, TTL_S, Region, RegionMap
from tikv_py.client.testing.cluster import MemoryCluster
from tikv_py.client.txn.client import TxnClient

KEYS = st.binary(min_size=1, max_size=2)


def view(number: int, *, version: int = 1) -> Region:
    """The `number`-th of a row of regions of one byte each."""
    start = bytes([number]) if number else b""
    meta = metapb_pb2.Region(id=number + 1, start_key=start, end_key=bytes([number + 1]))
    meta.peers.add(id=1, store_id=1)
    meta.region_epoch.version = version
    return Region.of(meta, None, RAW_KEYS)


def test_unused_regions_expire_and_used_ones_do_not() -> None:
    regions = RegionMap()
    for number in range(10):
        regions.insert(view(number), 0.0, is_worn=number == 1)
    for step in range(1, 30):
        now_s = step * 60.0
        for number in (0, 1):
            found = regions.get(number + 1)
            if found is not None:
                regions.use(found, now_s)
    assert regions.get(1) is not None, "used all the time"
    assert regions.get(2) is None, "worn: it has a dead peer, so its view will change"
    unused = regions.get(3)
    assert unused is not None
    assert not regions.use(unused, 1800.0)
    assert regions.get(3) is None
    regions.check_invariants()
    assert regions.sweep(1800.0) == 7
    assert len(regions) == 1


def test_lifetimes_differ() -> None:
    regions, ends = RegionMap(), []
    for number in range(50):
        regions.insert(view(number), 0.0)
    for second in range(int(TTL_S) - 5, int(TTL_S + TTL_JITTER_S) + 5):
        before = len(regions)
        while regions.sweep(float(second)):
            pass
        ends += [second] * (before - len(regions))
    assert len(regions) == 0
    assert min(ends) >= TTL_S
    assert max(ends) - min(ends) > TTL_JITTER_S / 2
    assert len(set(ends)) > 25


@given(st.integers(10, 40), st.lists(st.tuples(st.integers(0, 199), st.booleans()), max_size=150))
@settings(max_examples=60, deadline=None)
def test_the_longest_unused_go_first(size: int, steps: list[tuple[int, bool]]) -> None:
    regions = RegionMap(size)
    now_s, used_at = 0.0, dict[int, float]()
    for number, is_insert in steps:
        now_s += 70.0  # longer than the jitter, shorter than a life
        region = view(number)
        if is_insert:
            regions.insert(region, now_s)
            used_at[region.id] = now_s
        elif (known := regions.get(region.id)) is not None and regions.use(known, now_s):
            used_at[region.id] = now_s
        regions.sweep(now_s)
        regions.check_invariants()
        assert len(regions) <= size
        kept = {number + 1 for number in range(200) if regions.get(number + 1) is not None}
        alive = {one for one, at in used_at.items() if now_s - at < TTL_S}
        newest = sorted(alive, key=used_at.__getitem__)[-(size - 1) :]
        assert set(newest) <= kept, "nothing used lately is forgotten for want of room"


def test_an_expired_region_is_loaded_again() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cache, backoffer = client.region_cache, client.new_backoffer(1000)
        await cache.locate_key(b"a", backoffer)
        for _ in range(20):
            await asyncio.sleep(TTL_S / 2)
            await cache.locate_key(b"a", backoffer)
        assert cluster.pd.calls["GetRegion"] == 1
        await asyncio.sleep(TTL_S + TTL_JITTER_S)
        await cache.locate_key(b"a", backoffer)
        assert cluster.pd.calls["GetRegion"] == 2
        await asyncio.sleep(TTL_S + TTL_JITTER_S)
        await cache.locate_id(2, backoffer)
        assert cluster.pd.calls["GetRegionByID"] == 1
        await asyncio.sleep(TTL_S + TTL_JITTER_S)
        await cache.group_keys_by_region([b"a", b"b"], backoffer)
        assert cluster.pd.calls["BatchScanRegions"] == 1
        cache.check_invariants()

    with_cluster(body)


@pytest.mark.parametrize("has_batch_scan", [True, False])
def test_regions_of_many_keys_come_in_few_calls(has_batch_scan: bool) -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.pd.has_batch_scan = has_batch_scan
        cluster.split(*(b"%03d" % number for number in range(1, 300)))
        cache, backoffer = client.region_cache, client.new_backoffer(1000)
        sparse = [b"%03d+" % number for number in (5, 100, 200, 299)]
        assert len(await cache.group_keys_by_region(sparse, backoffer)) == 4
        assert (len(cache) == 4) == has_batch_scan
        keys = [b"%03d%d" % (number, part) for number in range(300) for part in range(10)]
        groups = await cache.group_keys_by_region(keys, backoffer)
        assert [len(part) for _, part in groups] == [10] * 300
        batches, single = cluster.pd.calls["BatchScanRegions"], cluster.pd.calls["ScanRegions"]
        assert (batches <= 5, single == 0) if has_batch_scan else (batches == 1, single <= 5)
        assert cluster.pd.calls["GetRegion"] == 0
        ranges = [(b"%03d" % number, b"%03d5" % number) for number in range(0, 300, 3)]
        for region in await cache.regions_of_range(b"", b"", backoffer):
            cache.invalidate(region)
        parts = await cache.split_ranges_by_region(ranges, backoffer)
        assert [item for _, part in parts for item in part] == ranges
        assert cluster.pd.calls["BatchScanRegions"] - batches <= (2 if has_batch_scan else 0)
        cache.check_invariants()

    with_cluster(body)


def test_a_question_to_pd_is_bounded() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        asked: list[int] = []
        scan = client.pd.batch_scan_regions

        async def counted(ranges, limit=0, **options):  # type: ignore[no-untyped-def]
            asked.append(len(ranges))
            return await scan(ranges, limit, **options)

        client.pd.batch_scan_regions = counted  # type: ignore[method-assign]
        keys = [b"%06d" % number for number in range(20_000)]
        assert len(await client.region_cache.group_keys_by_region(keys, client.new_backoffer(1000))) == 1
        assert asked == [MAX_RANGES]

    with_cluster(body)


def test_concurrent_loads_of_the_same_keys_are_one_call() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(b"d", b"h")
        cache = client.region_cache
        groups = await asyncio.gather(
            *(cache.group_keys_by_region([b"a", b"e", b"z"], client.new_backoffer(1000)) for _ in range(20))
        )
        assert all(len(group) == 3 for group in groups)
        assert cluster.pd.calls["BatchScanRegions"] == 1

    with_cluster(body)


def test_a_pd_that_fails_is_asked_again_and_the_reasons_are_counted() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.pd.header_error["GetRegion"] = pdpb_pb2.Error(type=pdpb_pb2.UNKNOWN, message="overloaded")
        loop = asyncio.get_running_loop()
        began = loop.time()
        load = loop.create_task(client.region_cache.locate_key(b"a", client.new_backoffer(20_000)))
        await asyncio.sleep(1)
        cluster.pd.header_error.clear()
        region = await load
        assert loop.time() - began < 3
        client.region_cache.invalidate(region, "test")
        client.region_cache.invalidate(region, "test")
        assert client.region_cache.stats.invalidations == {"test": 1}
        assert client.region_cache.stats.loads["key"] >= 2

    with_cluster(body)


def test_pd_names_the_leader_in_the_background() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cache = client.region_cache
        region = await cache.locate_key(b"a", client.new_backoffer(1000))
        cluster.move_leader(b"a", 3)
        for _ in range(100):
            cache.refresh(region)
        await asyncio.sleep(0.1)
        known = cache.peek(region.id)
        assert known is not None
        assert known.leader.store_id == 3
        assert cluster.pd.calls["GetRegion"] == 2
        cache.refresh(region)
        await asyncio.sleep(1)
        cache.refresh(region)
        await asyncio.sleep(1)
        assert cluster.pd.calls["GetRegion"] == 3

    with_cluster(body)


def test_an_older_view_never_takes_a_newer_ones_place() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cache, backoffer = client.region_cache, client.new_backoffer(1000)
        old = await cache.locate_key(b"a", backoffer)
        old_meta = metapb_pb2.Region()
        old_meta.CopyFrom(old.meta)
        cluster.split(b"m")
        cache.invalidate(old)
        right = await cache.locate_id(2, backoffer)
        assert right.version == 2
        cache.insert(old_meta)
        assert (await cache.locate_key(b"z", backoffer)).version == 2
        assert not cache.on_epoch_not_match(right, [old_meta]), "a store behind the cache is not believed"
        assert cache.peek(2) is right
        assert cache.switch_leader(right, metapb_pb2.Peer(id=999, store_id=1)) is False
        assert cache.peek(2) is None

    with_cluster(body)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_clients_read_and_write_right_through_storms_of_splits_merges_and_leader_changes(seed: int) -> None:
    rng = random.Random(seed)

    async def storm(cluster: MemoryCluster) -> None:
        while True:
            await asyncio.sleep(rng.random() * 0.06)
            key = bytes([rng.randrange(97, 117)])
            draw = rng.random()
            if draw < 0.45:
                cluster.split(key)
            elif draw < 0.7:
                last = cluster.topology.ordered()[-1].meta
                if cluster.topology.holding(memcomparable.encode(key)).meta.id != last.id:
                    cluster.merge(key)
            else:
                cluster.move_leader(key, rng.randrange(1, 4))

    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        loop = asyncio.get_running_loop()
        raw = await cluster.raw_client()
        truth: dict[bytes, bytes] = {}
        storms = loop.create_task(storm(cluster))
        for number in range(40):
            keys = [bytes([rng.randrange(97, 117), rng.randrange(256)]) for _ in range(rng.randrange(1, 30))]
            pairs = dict.fromkeys(keys, b"%d" % number)
            await raw.batch_put(pairs)
            truth.update(pairs)
            some = rng.sample(sorted(truth), min(len(truth), 20))
            assert await raw.batch_get(some) == {key: truth[key] for key in some}
            one = rng.choice(some)
            assert await raw.get(one) == truth[one]
            assert await raw.scan(b"", b"") == sorted(truth.items())
            raw.region_cache.check_invariants()
            await asyncio.sleep(0.02)
        storms.cancel()
        assert await raw.scan(b"", b"") == sorted(truth.items())
        known = await raw.region_cache.regions_of_range(b"", b"", raw.new_backoffer())
        assert [region.id for region in known] == [region.meta.id for region in cluster.topology.ordered()]
        await raw.close()

    with_cluster(body)
