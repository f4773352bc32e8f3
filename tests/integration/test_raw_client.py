"""The raw client against real stores whose regions split, with times to live."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable

import pytest

from core_py.runtime.config import Seconds
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2
from tests.support.storage_cluster import PD_ADDRESS, StorageCluster, storage_cluster
from tests.support.store_rpc import METHODS
from tikv_py.client.errors import RawError
from tikv_py.client.raw.answers import Pair, RawChecksum
from tikv_py.client.raw.client import RawClient
from tikv_py.client.testing.raw import crc64
from tikv_py.server.config import StorageConfig, TikvConfig

TTL = TikvConfig(storage=StorageConfig(enable_ttl=True))
Test = Callable[[StorageCluster, RawClient], Awaitable[None]]


def run(test: Test, *, settings: TikvConfig = TTL, atomic: bool = False) -> None:
    async def main() -> None:
        async with storage_cluster(1, settings=settings) as cluster:
            transport = cluster.network.transport("client")
            async with await RawClient.connect(
                (PD_ADDRESS,), transport=transport, clock=LoopClock(), atomic=atomic
            ) as client:
                await test(cluster, client)

    run_virtual(main())


async def split(cluster: StorageCluster, client: RawClient, *keys: bytes) -> None:
    """Past the client's cache, so that it does not know of it."""
    channel = cluster.network.transport("admin").connect("store1:20160")
    for key in keys:
        found = await client.pd.get_region(key)
        assert found is not None
        region = found.region
        request = kvrpcpb_pb2.SplitRegionRequest(split_keys=[key], is_raw_kv=True)
        request.context.region_id = region.id
        request.context.region_epoch.CopyFrom(region.region_epoch)
        request.context.peer.CopyFrom(region.peers[0])
        response = await channel.unary(METHODS["SplitRegion"], request, timeout_s=5)
        assert len(response.regions) == 2
        await asyncio.sleep(1)
    await channel.close()


def test_times_to_live() -> None:
    async def test(_cluster: StorageCluster, client: RawClient) -> None:
        await client.put(b"a", b"1", ttl_s=10)
        await client.batch_put({b"b": b"2", b"c": b"3"}, ttl_s=20)
        await client.batch_put({b"d": b"4", b"e": b"5"}, ttl_s={b"d": 10})
        assert (await client.compare_and_swap(b"f", None, b"6", ttl_s=10)).swapped
        assert await client.put_if_absent(b"g", b"7", ttl_s=10) is None
        assert await client.put_if_absent(b"g", b"8") == b"7"
        assert await client.ttl(b"e") == 0
        assert await client.ttl(b"none") is None
        assert 8 <= (await client.ttl(b"g") or 0) <= 10
        await asyncio.sleep(10)
        assert await client.scan(b"") == [(b"b", b"2"), (b"c", b"3"), (b"e", b"5")]
        assert await client.batch_get([b"a", b"b", b"g"]) == {b"b": b"2"}
        assert await client.put_if_absent(b"g", b"8") is None
        assert (await client.compare_and_delete(b"g", b"7")).previous == b"8"
        assert (await client.compare_and_delete(b"g", b"8")).swapped
        assert await client.get(b"g") is None

    run(test)


def test_refusals_are_told_in_the_stores_words() -> None:
    async def test(_cluster: StorageCluster, client: RawClient) -> None:
        with pytest.raises(RawError, match="ttl is not enabled"):
            await client.put(b"a", b"1", ttl_s=10)
        with pytest.raises(RawError, match="ttl is not enabled"):
            await client.batch_put({b"a": b"1"}, ttl_s=10)
        with pytest.raises(RawError, match="ttl is not enabled"):
            await client.ttl(b"a")
        for write in (
            client.put(b"k" * 8193, b""),
            client.batch_put({b"k" * 8193: b""}),
            client.put_if_absent(b"k" * 8193, b""),
        ):
            with pytest.raises(RawError, match="a key of 8193 bytes, 8192 are allowed"):
                await write
        client._cf = "raft"
        for read in (
            client.get(b"a"),
            client.batch_get([b"a"]),
            client.scan(b"a"),
            client.batch_scan([(b"a", b"")], 1),
        ):
            with pytest.raises(RawError, match="invalid cf name: raft"):
                await read
        client._cf = ""
        assert await client.scan(b"") == []

    run(test, settings=TikvConfig())


def test_a_checksum_is_the_same_however_the_data_is_cut() -> None:
    async def test(cluster: StorageCluster, client: RawClient) -> None:
        assert await client.checksum(b"") == RawChecksum(0, 0, 0)
        pairs = {b"k%03d" % at: b"v%d" % at for at in range(300)}
        await client.batch_put(pairs)

        def expected(keys: list[bytes]) -> RawChecksum:
            total = 0
            for key in keys:
                total ^= crc64(key + pairs[key])
            return RawChecksum(total, len(keys), sum(len(key) + len(pairs[key]) for key in keys))

        keys = sorted(pairs)
        assert await client.checksum(b"") == expected(keys)
        await split(cluster, client, b"k100", b"k200")
        assert await client.checksum(b"") == expected(keys)
        assert await client.checksum(b"k050", b"k250") == expected(keys[50:250])
        assert await client.checksum(b"k100", b"k200") == expected(keys[100:200])
        assert await client.checksum(b"k100", b"k100") == expected([])

    run(test)


@pytest.mark.parametrize("reverse", [False, True])
def test_many_ranges_over_many_regions(reverse: bool) -> None:
    async def test(cluster: StorageCluster, client: RawClient) -> None:
        rng = random.Random(3)
        pairs = sorted({b"k%03d" % at: b"v%d" % at for at in range(400)}.items())
        await client.batch_put(dict(pairs))

        def expected(start: bytes, end: bytes, limit: int) -> list[Pair]:
            found = [pair for pair in pairs if start <= pair[0] and (not end or pair[0] < end)]
            return (found[::-1] if reverse else found)[:limit]

        def bound() -> bytes:
            return rng.choice([b"", b"k", b"l", b"k%03d" % rng.randrange(400), b"k%03d\0" % rng.randrange(400)])

        for round_ in range(25):
            if round_ in (5, 10, 15):
                await split(cluster, client, b"k%03d" % (round_ * 20))
            ranges = [(bound(), bound()) for _ in range(rng.randrange(12))]
            limit = rng.choice([1, 3, 50, 1000])
            found = await client.batch_scan(ranges, limit, reverse=reverse)
            assert found == [expected(*bounds, limit) for bounds in ranges], ranges
        only = await client.batch_scan([(b"k399", b"")], 9, reverse=reverse, key_only=True)
        assert only == [[(b"k399", b"")]]
        for start, end in ((b"", b""), (b"k1", b""), (b"", b"k3"), (b"k1", b"k3")):
            assert await client.scan(start, end, reverse=reverse) == expected(start, end, 999)

    run(test)


def test_an_atomic_client_waits_for_the_swaps_of_its_keys() -> None:
    """A swap that has read the old value is stopped; the put must come after it, or the swap would undo it."""

    async def race(client: RawClient, cluster: StorageCluster) -> bytes | None:
        await client.put(b"k", b"old")
        server = cluster.nodes[0].server
        assert server is not None
        server.fail.configure("raw_cas_after_latch", "1*delay(1000)")
        async with asyncio.TaskGroup() as tasks:
            swap = tasks.create_task(client.compare_and_swap(b"k", b"old", b"swapped"))
            await asyncio.sleep(0.2)
            tasks.create_task(client.put(b"k", b"put"))
        assert swap.result().swapped == client._atomic
        return await client.get(b"k")

    async def test(cluster: StorageCluster, client: RawClient) -> None:
        assert await race(client, cluster) == b"put"
        await client.batch_put({b"k": b"v"})
        await client.batch_delete([b"k"])
        await client.delete(b"k")

    run(test, atomic=True)
    run(test, atomic=False)


def test_keys_of_one_batch_may_be_many() -> None:
    async def test(_cluster: StorageCluster, client: RawClient) -> None:
        pairs = {b"k%05d" % at: b"v" for at in range(3000)}
        await client.batch_put(pairs, ttl_s=dict.fromkeys(pairs, 100))
        assert await client.batch_get(pairs) == pairs
        assert len(await client.scan(b"", limit=2500)) == 2500
        assert len(await client.scan(b"", reverse=True)) == 3000
        await client.batch_delete(pairs)
        assert await client.scan(b"") == []

    run(test)


class Expected:
    """What must be there: values with the second from which on they are expired."""

    def __init__(self) -> None:
        self.values: dict[bytes, tuple[bytes, float]] = {}
        self.now_s = 0

    def get(self, key: bytes) -> bytes | None:
        value, expiry_s = self.values.get(key, (None, 0))
        return value if expiry_s > self.now_s else None

    def put(self, key: bytes, value: bytes, ttl_s: int) -> None:
        self.values[key] = value, self.now_s + ttl_s if ttl_s else math.inf

    def pairs(self) -> list[Pair]:
        return [(key, value) for key in sorted(self.values) if (value := self.get(key)) is not None]


async def random_command(rng: random.Random, client: RawClient, expected: Expected) -> None:
    key, value, ttl_s = b"k%02d" % rng.randrange(30), b"%d" % rng.randrange(9), rng.choice([0, 1, 2, 5, 20])
    match rng.randrange(8):
        case 0 | 1:
            await client.put(key, value, ttl_s=ttl_s)
            expected.put(key, value, ttl_s)
        case 2:
            await client.delete(key)
            expected.values.pop(key, None)
        case 3:
            previous = rng.choice([None, expected.get(key), value])
            found = await client.compare_and_swap(key, previous, value, ttl_s=ttl_s)
            assert (found.swapped, found.previous) == (previous == expected.get(key), expected.get(key))
            if found.swapped:
                expected.put(key, value, ttl_s)
        case 4:
            assert await client.get(key) == expected.get(key)
            left_s = await client.ttl(key)
            assert (left_s is None) == (expected.get(key) is None)
            if left_s:
                assert left_s == expected.values[key][1] - expected.now_s
        case 5:
            batch = {b"k%02d" % rng.randrange(30): value for _ in range(8)}
            ttls = {one: rng.choice([0, 2, 4]) for one in batch}
            await client.batch_put(batch, ttl_s=ttls)
            for one in batch:
                expected.put(one, value, ttls[one])
        case 6:
            reverse, pairs = rng.random() < 0.5, expected.pairs()
            assert await client.scan(b"", reverse=reverse) == (pairs[::-1] if reverse else pairs)
        case _:
            assert (await client.checksum(b"")).total_kvs == len(expected.pairs())


@pytest.mark.parametrize("seed", range(3))
def test_any_commands_against_a_dictionary(seed: int) -> None:
    """With sweeps and splits in between; every command falls into the middle of a second, so both sides agree on it."""

    async def test(cluster: StorageCluster, client: RawClient) -> None:
        rng, expected, clock = random.Random(seed), Expected(), cluster.nodes[0].clock
        for round_ in range(120):
            await asyncio.sleep((1000 - clock.wall_ms() % 1000 + 300) / 1000)
            expected.now_s = clock.wall_ms() // 1000
            for _ in range(4):
                await random_command(rng, client, expected)
            assert clock.wall_ms() // 1000 == expected.now_s
            if round_ in (30, 60):
                await split(cluster, client, b"k%02d" % (round_ // 4))
        stored = [key for key, _ in cluster.nodes[0].kv_db.items("default") if key.startswith(b"z")]
        assert len(stored) < len(expected.values), "the sweeps have removed something"

    run(test, settings=TikvConfig(storage=StorageConfig(enable_ttl=True, ttl_check_poll_interval=Seconds(7.0))))


def test_a_range_without_an_end_is_removed_up_to_the_last_key() -> None:
    async def body(cluster: StorageCluster, client: RawClient) -> None:
        await client.delete_range(b"", b"")
        pairs = {b"k%d" % n: b"v" for n in range(5)} | {b"\xff" * 20: b"v"}
        await client.batch_put(pairs)
        await client.delete_range(b"k3", b"")
        assert [key for key, _ in await client.scan(b"")] == [b"k0", b"k1", b"k2"]
        await client.delete_range(b"", b"")
        assert await client.scan(b"") == []

    run(body)
