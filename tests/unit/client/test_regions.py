"""The region map against a dumb oracle, and the cache's loading, splitting of ranges and reactions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from core_py.codec import memcomparable
from protos.kvproto import metapb_pb2
from tests.unit.client.clusters import with_cluster
from tikv_py.client.region.regions import RAW_KEYS, TXN_KEYS, Region, RegionMap
from tikv_py.client.testing.cluster import MemoryCluster
from tikv_py.client.txn.client import TxnClient

KEYS = st.binary(min_size=1, max_size=2)


def view(region_id: int, start: bytes, end: bytes, version: int) -> Region:
    meta = metapb_pb2.Region(id=region_id, start_key=start, end_key=end, peers=[metapb_pb2.Peer(id=1, store_id=1)])
    meta.region_epoch.version = version
    return Region.of(meta, None, RAW_KEYS)


class World:
    """The truth: regions that split and merge, with every view there ever was."""

    def __init__(self) -> None:
        self.now = [view(1, b"", b"", 1)]
        self.past = list(self.now)
        self._next = 2

    def split(self, key: bytes) -> None:
        at = next(i for i, r in enumerate(self.now) if r.contains(key))
        old = self.now[at]
        if old.start_key == key:
            return
        left = view(old.id, old.start_key, key, old.version + 1)
        right = view(self._next, key, old.end_key, old.version + 1)
        self._next += 1
        self.now[at : at + 1] = [left, right]
        self.past += [left, right]

    def merge(self, key: bytes) -> None:
        at = next(i for i, r in enumerate(self.now) if r.contains(key))
        if at + 1 == len(self.now):
            return
        left, right = self.now[at : at + 2]
        merged = view(left.id, left.start_key, right.end_key, max(left.version, right.version) + 1)
        self.now[at : at + 2] = [merged]
        self.past.append(merged)


def oracle(views: Sequence[Region], key: bytes) -> Region | None:
    """Replay insertions the slow way: a view is taken unless a newer one overlaps, and then replaces all it overlaps."""
    kept: list[Region] = []
    for new in views:
        over = [r for r in kept if _overlap(r, new) or r.id == new.id]
        if any(r.version > new.version for r in over):
            continue
        kept = [r for r in kept if r not in over] + [new]
    return next((r for r in kept if r.contains(key)), None)


def _overlap(left: Region, right: Region) -> bool:
    return (not right.end_key or left.start_key < right.end_key) and (
        not left.end_key or right.start_key < left.end_key
    )


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), KEYS), max_size=12),
    st.lists(st.integers(0, 100), max_size=30),
    st.lists(KEYS, min_size=1, max_size=10),
)
def test_map_agrees_with_oracle(changes: list[tuple[bool, bytes]], picks: list[int], probes: list[bytes]) -> None:
    world = World()
    for is_split, key in changes:
        (world.split if is_split else world.merge)(key)
    views = [world.past[pick % len(world.past)] for pick in picks]
    regions = RegionMap()
    for item in views:
        regions.insert(item)
        regions.check_invariants()
    for key in probes:
        want, found = oracle(views, key), regions.locate(key)
        assert (found is None) == (want is None)
        if found is not None and want is not None:
            assert found.same_epoch(want)
        end = regions.locate_end(key)
        if end is not None:
            assert end.start_key < key
            assert not end.end_key or key <= end.end_key
    for item in world.now:
        assert regions.insert(item)
    assert [regions.locate(key) for key in probes] == [next(r for r in world.now if r.contains(k)) for k in probes]


@given(st.binary(max_size=20))
def test_user_bound_of_any_bytes_is_the_smallest_key_behind_it(bound: bytes) -> None:
    key = TXN_KEYS.decode_bound(bound)
    assert memcomparable.encode(key) >= bound or not bound
    if key:
        smaller = key[:-1] if key.endswith(b"\0") else key[:-1] + bytes((key[-1] - 1,)) + b"\xff" * 20
        assert memcomparable.encode(smaller) < bound


def test_leader_and_removal() -> None:
    regions = RegionMap()
    one = view(1, b"", b"m", 1)
    assert regions.insert(one)
    assert regions.set_leader(one, metapb_pb2.Peer(id=9, store_id=3))
    found = regions.get(1)
    assert found is not None
    assert found.leader.store_id == 3
    assert not regions.set_leader(view(1, b"", b"m", 2), metapb_pb2.Peer(id=9, store_id=3))
    regions.remove(1)
    assert regions.locate(b"a") is None
    assert len(regions) == 0


def test_concurrent_loads_of_one_key_are_one_call() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        found = await asyncio.gather(
            *(client.region_cache.locate_key(b"a", client.new_backoffer(1000)) for _ in range(50))
        )
        assert {region.id for region in found} == {2}
        assert cluster.pd.calls["GetRegion"] == 1

    with_cluster(body)


def test_a_cancelled_caller_does_not_cancel_the_others_load() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        loop = asyncio.get_running_loop()
        first, second = (
            loop.create_task(client.region_cache.locate_key(b"a", client.new_backoffer(1000))) for _ in range(2)
        )
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).id == 2

    with_cluster(body)


def test_grouping_and_splitting_by_region() -> None:
    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(b"d", b"h", b"p")
        cache, backoffer = client.region_cache, client.new_backoffer(1000)
        groups = await cache.group_keys_by_region([b"z", b"a", b"e", b"b", b"q"], backoffer)
        assert [keys for _, keys in groups] == [[b"a", b"b"], [b"e"], [b"q", b"z"]]
        assert cluster.pd.calls["BatchScanRegions"] == 1
        ranges = [(b"a", b"b"), (b"c", b"i"), (b"j", b"k"), (b"o", b"")]
        split = await cache.split_ranges_by_region(ranges, backoffer)
        assert [part for _, part in split] == [
            [(b"a", b"b"), (b"c", b"d")],
            [(b"d", b"h")],
            [(b"h", b"i"), (b"j", b"k"), (b"o", b"p")],
            [(b"p", b"")],
        ]
        assert split[0][1][0] is ranges[0]
        assert [region.start for region, _ in split] == [b"", b"d", b"h", b"p"]
        assert (await cache.locate_end_key(b"d", backoffer)).start == b""
        assert (await cache.locate_end_key(b"", backoffer)).start == b"p"
        whole = await cache.regions_of_range(b"", b"", backoffer)
        assert len(whole) == 4
        cache.check_invariants()

    with_cluster(body)


@settings(max_examples=30, deadline=None)
@given(st.sets(KEYS, max_size=6), st.lists(KEYS, min_size=2, max_size=8, unique=True))
def test_split_ranges_cover_exactly(split_at: set[bytes], bounds: list[bytes]) -> None:
    bounds.sort()
    ranges = [(bounds[i], bounds[i + 1]) for i in range(0, len(bounds) - 1, 2)]

    async def body(cluster: MemoryCluster, client: TxnClient) -> None:
        cluster.split(*split_at)
        made = await client.region_cache.split_ranges_by_region(ranges, client.new_backoffer(1000))
        joined: list[tuple[bytes, bytes]] = []
        for region, parts in made:
            for start, end in parts:
                assert start < end
                assert region.start <= start
                assert not region.end or end <= region.end
                if (joined and joined[-1][1] == start and (joined[-1][0], end) in ranges) or (
                    joined and joined[-1][1] == start and start not in {low for low, _ in ranges}
                ):
                    joined[-1] = (joined[-1][0], end)
                else:
                    joined.append((start, end))
        assert joined == ranges
        assert len({region.id for region, _ in made}) == len(made)

    with_cluster(body)
