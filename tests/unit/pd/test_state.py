"""Timestamps, the journal, the metadata store and the region tree."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_py.codec.ts import MAX_LOGICAL, physical_ms
from core_py.errors import StorageError
from core_py.sim.disk import MemoryDisk
from pd_py.cluster.region_tree import RegionTree
from pd_py.cluster.stores import StoreNotFound, Stores
from pd_py.metastore import journal
from pd_py.metastore.durable_log import LOG_FILE
from pd_py.schedule.view import PeerView, RegionView
from pd_py.tso.allocator import TsoAllocator
from protos.kvproto import metapb_pb2
from tests.support.metadata import LoneStore

events = st.lists(
    st.one_of(
        st.tuples(st.just("clock"), st.integers(-5000, 5000)),
        st.tuples(st.just("get"), st.integers(1, MAX_LOGICAL // 3)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=60,
)


@given(events)
def test_timestamps_increase_over_clock_jumps_and_restarts(steps: list[tuple[str, int]]) -> None:
    wall, saved, last = 1_000_000, 0, 0
    allocator = TsoAllocator()
    saved = allocator.begin(wall, saved)
    allocator.saved(saved)
    for kind, amount in steps:
        if kind == "clock":
            wall = max(1, wall + amount)
        elif kind == "restart":
            allocator = TsoAllocator()
            saved = allocator.begin(wall, saved)
            allocator.saved(saved)
        else:
            ts = allocator.allocate(amount)
            if ts is not None:
                assert ts - amount >= last, "the whole batch lies above the last one"
                assert physical_ms(ts) < saved, "every timestamp is below the durable bound"
                last = ts
        bound = allocator.update(wall)
        if bound is not None:
            saved = bound
            allocator.saved(bound)


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=6), st.integers(0, 200), st.binary(max_size=12))
def test_journal_keeps_whole_records_and_cuts_a_torn_tail(payloads: list[bytes], cut: int, garbage: bytes) -> None:
    data = b"".join(journal.encode(payload) for payload in payloads)
    found, valid = journal.decode(data[:cut])
    assert found == payloads[: len(found)]
    assert valid <= cut
    assert journal.decode(data)[0] == payloads


def test_damage_in_the_middle_of_a_journal_is_refused() -> None:
    data = bytearray(journal.encode(b"first") + journal.encode(b"second"))
    data[10] ^= 1
    with pytest.raises(StorageError, match="damaged"):
        journal.decode(bytes(data))


async def test_metadata_survives_power_loss_only_when_acknowledged() -> None:
    disk = MemoryDisk()
    store = await LoneStore.open(disk)
    before = disk.syncs
    await asyncio.gather(*(store.write({f"/k{i}": b"%d" % i}) for i in range(10)))
    await store.write({"/k3": None, "/k4": b"new"})
    assert disk.syncs <= before + 4, "concurrent writes share a sync"
    disk.append(LOG_FILE, b"half a rec")
    left = disk.crash(torn_bytes=5)
    await store.close()
    again = await LoneStore.open(left)
    assert again.get("/k3") is None
    assert again.get("/k4") == b"new"
    assert [key for key, _ in again.prefix("/k")] == [f"/k{i}" for i in range(10) if i != 3]
    await again.close()


boundary = st.integers(0, 12)
reported = st.tuples(st.integers(1, 6), boundary, boundary, st.integers(1, 8))


@given(st.lists(reported, max_size=25))
def test_region_tree_never_holds_overlapping_regions(reports: list[tuple[int, int, int, int]]) -> None:
    tree = RegionTree()
    for region_id, start, size, version in reports:
        low, high = b"%02d" % start, b"%02d" % (start + size + 1)
        tree.put(RegionView(region_id, low, high, 1, version, (PeerView(region_id, 1),), 1))
        tree.check_invariants()
        assert tree.leader_count(1) == len(tree) == tree.peer_count(1)
    for key in (b"%02d" % at for at in range(26)):
        found = tree.find(key)
        slow = [r for r in tree.all() if r.start_key <= key < r.end_key]
        assert ([found] if found else []) == slow
        left = tree.find_previous(key)
        lefts = [r for r in tree.all() if r.start_key < (found.start_key if found else key)]
        assert left == (lefts[-1] if lefts else None)


def test_how_far_a_store_is_never_goes_back() -> None:
    stores = Stores()
    stores.load([metapb_pb2.Store(id=1)], 0.0)
    stores.report_min_resolved_ts(1, 200)
    stores.report_min_resolved_ts(1, 100)
    assert stores.get(1).min_resolved_ts == 200
    with pytest.raises(StoreNotFound):
        stores.report_min_resolved_ts(2, 100)
