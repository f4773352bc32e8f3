"""Entries in memory stay within the limits of their peer and of the store, whatever is applied."""

from __future__ import annotations

import gc

from core_py.raft.messages import Entry, EntryType
from core_py.sim.loop import run_virtual
from tests.unit.raftstore.support import bench
from tikv_py.mvcc.txn import Modify
from tikv_py.raftstore import commands
from tikv_py.raftstore.entry_cache import ENTRY_OVERHEAD_BYTES, MAX_BYTES, MAX_ENTRIES, CacheBudget, EntryCache


def made(low: int, high: int, size: int = 0, term: int = 1) -> list[Entry]:
    return [Entry(term, index, bytes(size), EntryType.NORMAL, b"") for index in range(low, high)]


def test_entries_are_found_from_the_first_one_held_on() -> None:
    cache = EntryCache()
    assert cache.get(5, 6) is None
    cache.append(made(5, 10))
    assert cache.get(4, 6) is None
    assert cache.get(6, 8) == made(6, 8)
    cache.trim(6)
    assert cache.get(6, 8) is None
    assert cache.get(7, 10) == made(7, 10)
    cache.trim(3)
    cache.trim(100)
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_new_entries_replace_those_from_their_index_on() -> None:
    cache = EntryCache()
    cache.append(made(5, 10, 100))
    cache.append(made(8, 9, 10, term=2))
    assert cache.get(5, 9) == made(5, 8, 100) + made(8, 9, 10, term=2)
    assert cache.size_bytes == 310 + 4 * ENTRY_OVERHEAD_BYTES
    cache.append(made(2, 4, 1, term=3))
    assert cache.get(2, 4) == made(2, 4, 1, term=3)
    assert len(cache) == 2
    cache.clear()
    assert cache.size_bytes == 0


def test_one_peer_keeps_to_its_count_and_its_bytes() -> None:
    small, large = EntryCache(), EntryCache()
    for index in range(1, 3 * MAX_ENTRIES):
        small.append(made(index, index + 1))
        assert len(small) <= MAX_ENTRIES
    assert small.get(3 * MAX_ENTRIES - 100, 3 * MAX_ENTRIES) is not None
    for index in range(1, 40):
        large.append(made(index, index + 1, 1 << 20))
        assert large.size_bytes <= MAX_BYTES
    assert large.get(38, 40) is not None


def test_all_peers_keep_to_the_budget_and_the_largest_give_way() -> None:
    budget = CacheBudget(100_000)
    small, caches = EntryCache(budget), [EntryCache(budget) for _ in range(4)]
    small.append(made(1, 2, 100))
    for index in range(1, 200):
        for number, cache in enumerate(caches):
            cache.append(made(index, index + 1, 500 * number))
            assert budget.used_bytes() <= 100_000
    assert small.get(1, 2) is not None
    assert all(cache.get(199, 200) for cache in caches)


def test_a_single_entry_larger_than_the_budget_is_not_kept() -> None:
    budget = CacheBudget(1000)
    cache = EntryCache(budget)
    cache.append(made(1, 2, 5000))
    assert (len(cache), budget.used_bytes()) == (0, 0)


def test_a_cache_that_is_dropped_leaves_the_budget() -> None:
    budget = CacheBudget(10_000)
    for _ in range(50):
        EntryCache(budget).append(made(1, 2, 1000))
        gc.collect()
    assert budget.used_bytes() == 0


def test_evicted_entries_are_read_from_the_raft_database_and_applied() -> None:
    async def main() -> None:
        async with bench() as one:
            writes = [[Modify("default", b"zk%d" % number, b"v")] for number in range(10)]
            await one.append([commands.write_command(one.peer.region, write, []) for write in writes], 5)
            storage = one.peer.storage
            held = storage.entries(6, 16, None)
            assert one.store.entry_cache.used_bytes() == storage.cache.size_bytes > 0
            storage.cache.shrink(0)
            assert len(storage.cache) == 0
            assert storage.entries(6, 16, None) == held
            await one.append([], 15)
            assert storage.apply_state.applied_index == 15
            assert one.kv_db.get("default", b"zk9") == b"v"

    run_virtual(main())
