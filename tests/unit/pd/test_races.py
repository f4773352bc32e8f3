"""What PD decides from durable state while other calls do the same, callers go away, or the disk fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from core_py.codec.ts import MAX_LOGICAL
from core_py.errors import PdError, StoreAddressConflict
from core_py.sim.clock import LoopClock
from core_py.sim.disk import MemoryDisk
from core_py.sim.loop import run_virtual
from pd_py.cluster.cluster import AlreadyBootstrapped, Cluster
from pd_py.cluster.coordinator import Coordinator
from pd_py.cluster.region_tree import RegionTree
from pd_py.metastore.errors import OutcomeUnknown
from pd_py.schedule.operator import AddLearner, Step
from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.view import PeerView, RegionView
from pd_py.tso.allocator import TsoAllocator
from protos.kvproto import metapb_pb2, pdpb_pb2
from tests.support.metadata import LoneStore


class SlowWorkers:
    """A sync takes a while, so that calls overlap."""

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0.01)
        return function(*args)

    async def sync(self, function: Callable[[], None]) -> None:
        await asyncio.sleep(0.01)
        function()


async def cluster_on(disk: MemoryDisk) -> Cluster:
    metastore = (await LoneStore.open(disk, SlowWorkers())).fenced()
    return await Cluster.open(metastore, LoopClock(), random.Random(1), options=ScheduleOptions())


def first_region(number: int) -> tuple[metapb_pb2.Store, metapb_pb2.Region]:
    region = metapb_pb2.Region(id=100 + number)
    region.peers.add(id=200 + number, store_id=number)
    return metapb_pb2.Store(id=number, address=f"store{number}:1"), region


def test_two_stores_that_bootstrap_at_once_make_one_first_region() -> None:
    async def main() -> None:
        cluster = await cluster_on(MemoryDisk())
        outcomes = await asyncio.gather(
            *(cluster.bootstrap(*first_region(number)) for number in (1, 2)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), AlreadyBootstrapped]
        assert [region.region_id for region in cluster.tree.all()] == [101]

    run_virtual(main())


def test_two_stores_that_register_one_address_at_once_are_told_apart() -> None:
    async def main() -> None:
        disk = MemoryDisk()
        cluster = await cluster_on(disk)
        await cluster.bootstrap(*first_region(1))
        metas = [metapb_pb2.Store(id=number, address="same:1") for number in (2, 3)]
        outcomes = await asyncio.gather(*map(cluster.put_store, metas), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), StoreAddressConflict]
        assert [info.meta.id for info in (await cluster_on(disk)).stores_info.all()] == [1, 2]

    run_virtual(main())


def test_ids_never_repeat_when_calls_and_the_tick_open_windows_at_once() -> None:
    async def main() -> None:
        disk = MemoryDisk()
        cluster = await cluster_on(disk)
        await cluster.bootstrap(*first_region(1))
        seen: set[int] = set()
        for _ in range(5):
            await cluster.alloc_id(990)
            _, last, _ = await asyncio.gather(cluster.tick(), cluster.alloc_id(20), cluster.alloc_id(300))
            while cluster.ids.at_hand:
                seen.add(cluster.ids.take() or 0)
            assert cluster.ids.take() is None
            disk = disk.crash()
            cluster = await cluster_on(disk)
            assert last in range(1, 1 << 40)
            assert await cluster.alloc_id() > max(seen)

    run_virtual(main())


def test_a_caller_that_goes_away_takes_no_other_change_with_it() -> None:
    async def main() -> None:
        disk = MemoryDisk()
        store = await LoneStore.open(disk, SlowWorkers())
        loop = asyncio.get_running_loop()
        first, second = (loop.create_task(store.write({key: b"1"})) for key in "ab")
        await asyncio.sleep(0.001)
        first.cancel()
        await second
        assert [store.get(key) for key in "ab"] == [b"1", b"1"], "what was begun is finished"
        await store.write({"c": b"1"})
        left = disk.crash()
        await store.close()
        again = await LoneStore.open(left, SlowWorkers())
        assert again.prefix("") == [("a", b"1"), ("b", b"1"), ("c", b"1")]
        await again.close()

    run_virtual(main())


def test_a_log_that_could_not_be_written_ends_the_member() -> None:
    class FullDisk(MemoryDisk):
        full = False

        def append(self, name: str, data: bytes) -> None:
            super().append(name, data[: len(data) // 2] if self.full else data)
            if self.full:
                raise OSError(28, "No space left on device")

    async def main() -> None:
        disk = FullDisk()
        store = await LoneStore.open(disk, SlowWorkers())
        await store.write({"a": b"1"})
        disk.full = True
        with pytest.raises(OutcomeUnknown):
            await store.write({"b": b"1"})
        assert [type(failure) for failure in store.failures] == [OSError], "the process is told to end"
        assert store.prefix("") == [("a", b"1")]
        left = disk.crash(torn_bytes=1 << 20)
        again = await LoneStore.open(left)
        assert again.prefix("") == [("a", b"1")], "half a record is cut off"
        await again.close()

    run_virtual(main())


def region(term: int, leader: int) -> RegionView:
    peers = (PeerView(11, 1), PeerView(12, 2))
    return RegionView(1, b"", b"", 1, 1, peers, leader, term=term)


def test_a_leader_of_an_older_term_does_not_replace_a_newer_one() -> None:
    tree = RegionTree()
    assert tree.put(region(6, 2))
    assert not tree.put(region(5, 1))
    found = tree.get(1)
    assert found is not None
    assert found.leader_store_id == 2


def test_a_reported_split_keeps_leaders_and_never_undoes_news() -> None:
    async def main() -> None:
        cluster = await cluster_on(MemoryDisk())
        cluster.tree.put(replace(region(6, 2), size_bytes=100, keys=10))
        parts = [metapb_pb2.Region(id=9, end_key=b"m"), metapb_pb2.Region(id=1, start_key=b"m")]
        for part in parts:
            part.region_epoch.conf_ver, part.region_epoch.version = 1, 2
            part.peers.add(id=part.id + 10, store_id=1)
            part.peers.add(id=part.id + 20, store_id=2)
        cluster.region_split(parts)
        assert [(one.region_id, one.leader_store_id) for one in cluster.tree.all()] == [(9, 2), (1, 2)]
        assert [(one.size_bytes, one.keys) for one in cluster.tree.all()] == [(50, 5), (50, 5)]
        cluster.region_split([metapb_pb2.Region(id=1)])
        assert len(cluster.tree.all()) == 2
        cluster.tree.check_invariants()

    run_virtual(main())


def test_bootstrap_needs_one_region_over_all_keys() -> None:
    async def main() -> None:
        cluster = await cluster_on(MemoryDisk())
        store, region = first_region(1)
        region.end_key = b"m"
        with pytest.raises(PdError, match="must all be empty for bootstrap"):
            await cluster.bootstrap(store, region)

    run_virtual(main())


def test_a_big_batch_is_served_although_the_wall_clock_stands() -> None:
    allocator = TsoAllocator()
    allocator.saved(allocator.begin(1_000_000, 0))
    assert allocator.allocate(MAX_LOGICAL // 3) is not None
    assert allocator.allocate(MAX_LOGICAL - 10) is None
    allocator.update(1_000_000)
    assert allocator.allocate(MAX_LOGICAL - 10) is not None


def test_a_replica_made_later_has_a_larger_id_than_all_ids_given_before() -> None:
    """Stores take a message to a peer for late if they buried one with a larger id: ids must rise in the order of time."""

    async def main() -> None:
        cluster = await cluster_on(MemoryDisk())
        await cluster.bootstrap(*first_region(1))
        told: list[Step] = []
        coordinator = Coordinator(
            cluster,
            cluster.metastore,
            cluster.prefix,
            cluster.clock,
            random.Random(1),
            cluster.ids,
            lambda _region, step: told.append(step),
        )
        await coordinator.load()
        await coordinator.patrol()
        for number in (2, 3):
            store, _ = first_region(number)
            await cluster.put_store(store)
        given = [await cluster.alloc_id(count) for count in (1, 600, 3)]
        for number in (1, 2, 3):
            cluster.store_heartbeat(pdpb_pb2.StoreStats(store_id=number, capacity=1 << 40, available=1 << 39))
        (one,) = cluster.tree.all()
        cluster.regions.put(replace(one, leader_store_id=1))
        await asyncio.sleep(2)
        await coordinator.patrol()
        made = [step.peer_id for step in told if isinstance(step, AddLearner)]
        assert made[0] > max(given)
        assert await cluster.alloc_id() > made[0]

    run_virtual(main())
