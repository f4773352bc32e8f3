"""Splitting while clients work: no call fails, no key waits long; and regions that split by themselves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from core_py.codec import memcomparable
from core_py.runtime.config import ByteSize, Seconds
from core_py.runtime.workers import InlineWorkers
from core_py.sim.loop import run_virtual
from protos.kvproto import pdpb_pb2
from tests.integration.test_region_merge import gone, merge
from tests.integration.test_storage_cluster import eventually, raw_client, three_replicas, txn_client
from tests.support.storage_cluster import FAST, StorageCluster, storage_cluster
from tikv_py.raftstore.config import LoadSplitConfig, RaftstoreConfig
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.region import contains
from tikv_py.server.app import TikvServer
from tikv_py.server.config import CoprocessorConfig, TikvConfig
from tikv_py.server.split_worker import split_region

PLAYGROUND = RaftstoreConfig(
    raft_base_tick_interval=Seconds(0.1),
    pd_heartbeat_tick_interval=Seconds(10.0),
    pd_store_heartbeat_tick_interval=Seconds(5.0),
)
WRITERS = 20
PAUSE_S = 0.005
GAP_MAX_S = 0.2


class SlowDisk(InlineWorkers):
    """Syncs take time, as on a disk."""

    async def sync(self, function: Callable[[], None]) -> None:
        await asyncio.sleep(0.003)
        function()


class Latency:
    """Every message takes about half a millisecond."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def connected(self, source: str, target: str) -> bool:
        return True

    def delay_s(self, source: str, target: str) -> float | None:
        return 0.0004 + self._rng.random() * 0.0003


def led(cluster: StorageCluster) -> list[tuple[TikvServer, Peer]]:
    """Every leader and the store it is on."""
    servers = [node.server for node in cluster.nodes if node.server is not None]
    return [
        (server, peer)
        for server in servers
        if server.store is not None
        for peer in server.store.peers.values()
        if peer.is_leader
    ]


async def split_at(cluster: StorageCluster, keys: list[bytes]) -> None:
    server, peer = next((server, peer) for server, peer in led(cluster) if contains(peer.region, keys[0]))
    assert server.store is not None
    await split_region(server.store, server.pd, peer, keys)


async def longest_gap(cluster: StorageCluster, split: Callable[[], Awaitable[object]]) -> float:
    """Write keys in turn from several tasks while `split` runs; the longest time a key waited between acknowledgements."""
    loop = asyncio.get_running_loop()
    stop = False
    longest = 0.0
    async with await raw_client(cluster) as client:

        async def write(number: int) -> None:
            nonlocal longest
            key, count, last = b"key-%02d" % number, 0, loop.time()
            while not stop:
                await client.put(key, b"%d" % count)
                longest = max(longest, loop.time() - last)
                count, last = count + 1, loop.time()
                await asyncio.sleep(PAUSE_S)
            assert await client.get(key) == b"%d" % (count - 1)

        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(write(number))
            await asyncio.sleep(1)
            await split()
            await asyncio.sleep(2)
            stop = True
    return longest


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("parts", [2, 6])
def test_a_split_under_continuous_writes_is_hardly_noticed(seed: int, parts: int) -> None:
    """Regions get a leader at once, clients learn of all of them at once, and handing leaders over afterwards is no pause."""
    keys = [b"key-%02d" % (number * WRITERS // parts) for number in range(1, parts)]

    async def main() -> None:
        async with storage_cluster(
            seed=seed, fault=Latency(seed), raftstore=PLAYGROUND, make_workers=SlowDisk
        ) as cluster:
            await three_replicas(cluster)
            gap = await longest_gap(cluster, lambda: split_at(cluster, keys))
            assert gap < GAP_MAX_S
            assert len(led(cluster)) == parts

    run_virtual(main())


SMALL = TikvConfig(coprocessor=CoprocessorConfig(region_max_size=ByteSize(60_000), region_split_size=ByteSize(40_000)))
CHECKED = replace(FAST, split_region_check_tick_interval=Seconds(0.5), region_split_check_diff=ByteSize(5_000))


def run(test: Callable[[StorageCluster], Awaitable[None]]) -> None:
    async def main() -> None:
        async with storage_cluster(raftstore=CHECKED, settings=SMALL) as cluster:
            await three_replicas(cluster)
            await test(cluster)

    run_virtual(main())


async def settled(cluster: StorageCluster, total: int) -> list[Peer]:
    """The leaders once all are measured and none is too large."""

    async def done() -> bool:
        peers = [peer for _, peer in led(cluster)]
        small = all(peer.size_known and peer.approximate_size <= 60_000 for peer in peers)
        return small and sum(peer.approximate_size for peer in peers) == total

    await eventually(done, "every region is measured and small")
    return [peer for _, peer in led(cluster)]


async def load(cluster: StorageCluster, count: int) -> int:
    """Write values of 1,000 bytes; the bytes they take."""
    async with await raw_client(cluster) as client:
        await client.batch_put({b"row-%05d" % i: b"v" * 1000 for i in range(count)})
    return count * (len(b"zrow-00000") + 1000)


def test_regions_that_grow_split_by_themselves_and_pd_knows_their_sizes() -> None:
    async def body(cluster: StorageCluster) -> None:
        total = await load(cluster, 400)
        peers = await settled(cluster, total)
        assert len(peers) >= 8
        assert cluster.pd.cluster is not None
        tree = cluster.pd.cluster.tree

        async def known() -> bool:
            return sum(region.size_bytes for region in tree.all()) == total

        await eventually(known, "PD has heard the sizes")
        assert len(tree.all()) == len(peers)
        async with await raw_client(cluster) as client:
            assert len(await client.scan(b"row", b"rox", 1000)) == 400

    run(body)


def test_a_new_leader_measures_before_it_believes_its_count() -> None:
    async def body(cluster: StorageCluster) -> None:
        total = await load(cluster, 30)
        await settled(cluster, total)
        crashed = next(node for node in cluster.nodes if node.server is led(cluster)[0][0])
        await cluster.crash(crashed)
        peers = await settled(cluster, total)
        assert len(peers) == 1
        await cluster.start_store(crashed)

    run(body)


def test_a_region_that_a_merge_made_too_large_splits_again() -> None:
    async def body(cluster: StorageCluster) -> None:
        await load(cluster, 1)
        await split_at(cluster, [b"row-00040"])
        total = await load(cluster, 80)
        assert len(await settled(cluster, total)) == 2
        merged, _ = await merge(cluster, b"row-00000", b"row-00079")
        await gone(cluster, merged)
        assert len(await settled(cluster, total)) == 2

    run(body)


def test_splits_wait_for_pd() -> None:
    async def body(cluster: StorageCluster) -> None:
        total = await load(cluster, 20)
        await settled(cluster, total)
        async with await raw_client(cluster) as client:
            await client.put(b"row-00000", b"v" * 1000)
            await cluster.crash_pd()
            await client.batch_put({b"row-%05d" % i: b"v" * 1000 for i in range(20, 90)})
            await asyncio.sleep(3)
            assert len(led(cluster)) == 1
            cluster.pd = await cluster.start_pd()
            peers = await settled(cluster, 90 * 1010)
            assert len(peers) >= 2

    run(body)


@pytest.mark.parametrize("policy", [pdpb_pb2.CheckPolicy.SCAN, pdpb_pb2.CheckPolicy.APPROXIMATE])
def test_pd_has_a_region_split_in_the_middle(policy: pdpb_pb2.CheckPolicy) -> None:
    async def body(cluster: StorageCluster) -> None:
        total = await load(cluster, 40)
        [(server, peer)] = led(cluster)
        command = pdpb_pb2.RegionHeartbeatResponse(region_id=peer.region.id)
        command.region_epoch.CopyFrom(peer.region.region_epoch)
        command.split_region.policy = policy
        assert server.pd_worker is not None
        await server.pd_worker._obey(peer, command)
        peers = await settled(cluster, total)
        assert sorted(one.approximate_size for one in peers) == [total // 2, total // 2]

    run(body)


@pytest.mark.parametrize("transactional", [False, True])
def test_a_region_that_is_read_a_lot_splits_between_its_reads(transactional: bool) -> None:
    busy = LoadSplitConfig(qps_threshold=100, detect_times=3, sample_threshold=40)
    users = [b"user-%02d" % number for number in range(40)]

    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as raw, await txn_client(cluster) as txns:
            if transactional:
                async with txns.begin() as txn:
                    for user in users:
                        txn.put(user, b"v")
            else:
                await raw.batch_put(dict.fromkeys(users, b"v"))
            snapshot = txns.snapshot(await txns.timestamp())
            rng = random.Random(7)

            async def read() -> bool:
                user = users[rng.randrange(len(users))]
                assert await (snapshot.get(user) if transactional else raw.get(user)) == b"v"
                return len(led(cluster)) == 2

            await asyncio.sleep(2)
            assert len(led(cluster)) == 1, "nobody reads"
            for _ in range(3_000):
                if await read():
                    break
                await asyncio.sleep(0.004)
            [bound] = [peer.region.start_key for _, peer in led(cluster) if peer.region.start_key]
            user = memcomparable.decode_whole(bound) if transactional else bound
            assert users[10] < user < users[30]

    async def main() -> None:
        async with storage_cluster(settings=TikvConfig(split=busy)) as cluster:
            await three_replicas(cluster)
            await body(cluster)

    run_virtual(main())
