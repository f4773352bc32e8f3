"""The cache of regions on a member's disk: what comes back after a restart, after damage, and when the disk fails."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core_py.runtime.workers import InlineWorkers
from core_py.sim.disk import MemoryDisk
from core_py.sim.loop import run_virtual
from pd_py.cluster import region_storage
from pd_py.cluster.cluster import new_regions
from pd_py.cluster.region_storage import FILE, RegionStorage
from pd_py.cluster.regions import Regions
from pd_py.metastore import journal
from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.view import PeerView, RegionView, Role

PEERS = (PeerView(11, 1), PeerView(12, 2, Role.LEARNER))


def region(region_id: int, start: int, end: int, version: int = 1) -> RegionView:
    return RegionView(
        region_id, b"%04d" % start, b"%04d" % end, 3, version, PEERS, size_bytes=region_id * 10, keys=region_id
    )


async def kept(disk: MemoryDisk) -> tuple[Regions, RegionStorage]:
    regions = new_regions(ScheduleOptions())
    storage = RegionStorage(disk, InlineWorkers(), regions.tree.all)
    regions.load(await storage.load())
    regions.on_meta.append(storage.put)
    regions.on_gone.append(storage.gone)
    return regions, storage


changes = st.lists(
    st.tuples(st.integers(1, 8), st.integers(0, 20), st.integers(1, 9), st.integers(1, 6), st.booleans()), max_size=30
)


@settings(deadline=None)
@given(changes, st.booleans())
def test_a_restart_finds_what_was_flushed(reports: list[tuple[int, int, int, int, bool]], small: bool) -> None:
    async def main() -> None:
        disk = MemoryDisk()
        regions, storage = await kept(disk)
        for region_id, start, length, version, is_flush in reports:
            regions.put(region(region_id, start, start + length, version))
            if is_flush:
                await storage.flush()
        await storage.close()
        again, _ = await kept(disk)
        assert again.tree.all() == regions.tree.all()
        again.tree.check_invariants()

    real, region_storage.COMPACT_BYTES = region_storage.COMPACT_BYTES, 100 if small else region_storage.COMPACT_BYTES
    try:
        run_virtual(main())
    finally:
        region_storage.COMPACT_BYTES = real


def test_the_file_does_not_grow_without_end() -> None:
    async def main() -> None:
        disk = MemoryDisk()
        regions, storage = await kept(disk)
        for version in range(1, 300):
            regions.put(region(1, 0, 5, version))
            await storage.flush()
        assert len(disk.read(FILE) or b"") < 3 * 1000

    real, region_storage.COMPACT_BYTES = region_storage.COMPACT_BYTES, 1000
    try:
        run_virtual(main())
    finally:
        region_storage.COMPACT_BYTES = real


@settings(deadline=None)
@given(st.integers(0, 1 << 32))
def test_damage_ends_the_file_and_nothing_is_lost_behind_it_later(seed: int) -> None:
    async def main() -> None:
        rng = random.Random(seed)
        disk = MemoryDisk()
        regions, storage = await kept(disk)
        for number in range(1, 6):
            regions.put(region(number, number * 10, number * 10 + 10))
            await storage.flush()
        data = bytearray(disk.read(FILE) or b"")
        at = rng.randrange(0, len(data))
        if rng.random() < 0.5:
            data[at] ^= 1 << rng.randrange(0, 8)
        else:
            del data[at:]
        disk.replace(FILE, bytes(data))
        damaged, storage = await kept(disk)
        found = damaged.tree.all()
        assert found == regions.tree.all()[: len(found)]
        assert len(found) < 5
        damaged.put(region(9, 90, 95))
        await storage.flush()
        again, _ = await kept(disk)
        assert again.tree.all() == damaged.tree.all()

    run_virtual(main())


def test_garbage_in_a_sound_record_ends_the_file_too() -> None:
    async def main() -> None:
        disk = MemoryDisk()
        disk.append(FILE, journal.encode(b"\xff\xff\xff no protobuf"))
        regions, storage = await kept(disk)
        assert len(regions.tree) == 0
        twins = replace(region(1, 0, 1), peers=(PeerView(1, 1), PeerView(2, 1)))
        disk.replace(FILE, b"".join(region_storage._encode([(1, twins)])))
        regions, storage = await kept(disk)
        assert len(regions.tree) == 0
        await storage.flush()
        assert disk.read(FILE) == b""

    run_virtual(main())


def test_a_failing_disk_switches_the_cache_off() -> None:
    class BadDisk(MemoryDisk):
        def append(self, name: str, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    async def main() -> None:
        regions, storage = await kept(BadDisk())
        regions.put(region(1, 0, 5))
        await storage.flush()
        assert not storage.is_working
        regions.put(region(2, 5, 9))
        await storage.close()

    run_virtual(main())


def test_changes_during_a_write_are_in_the_next() -> None:
    class SlowWorkers(InlineWorkers):
        between: Callable[[], object] = staticmethod(lambda: None)

        async def run(self, function: Callable[..., Any], *args: Any) -> Any:
            result = await super().run(function, *args)
            self.between()
            return result

    async def main() -> None:
        disk, workers = MemoryDisk(), SlowWorkers()
        regions = new_regions(ScheduleOptions())
        storage = RegionStorage(disk, workers, regions.tree.all)
        regions.on_meta.append(storage.put)
        await storage.load()
        regions.put(region(1, 0, 5))
        workers.between = lambda: regions.put(region(1, 0, 5, 2))
        await storage.flush()
        workers.between = lambda: None
        await storage.flush()
        again, _ = await kept(disk)
        assert [one.version for one in again.tree.all()] == [2]

    run_virtual(main())
