"""Raft entries kept in memory: the end of each peer's log, bounded for each peer and for the whole store.

Any entry may be evicted, applied or not: the Raft core holds what is not durable yet itself, and everything durable can be read
from the raft database. So a peer that receives faster than it applies costs reads, not memory. Oldest entries go first.

The store-wide budget counts what was added since it last looked and looks at the caches themselves only when that may be too
much; a cache that is dropped needs no farewell. Looking frees so much that the next look is far away.

Invariants: a cache holds consecutive indexes; after `append` it is within its own limits, and all caches together are
within the budget but for the entries of that one call.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from core_py.raft.messages import Entry

MAX_ENTRIES = 4096
MAX_BYTES = 8 << 20
ENTRY_OVERHEAD_BYTES = 160  # what an entry costs beside its data
STORE_BYTES = 64 << 20


class CacheBudget:
    """The limit of all caches of a store together."""

    def __init__(self, limit_bytes: int = STORE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._caches: weakref.WeakSet[EntryCache] = weakref.WeakSet()
        self._counted_bytes = 0
        self._added_bytes = 0

    def join(self, cache: EntryCache) -> None:
        """The cache counts from now on."""
        self._caches.add(cache)

    def added(self, size_bytes: int) -> None:
        """A cache grew; evicts when all of them hold too much."""
        self._added_bytes += size_bytes
        if self._counted_bytes + self._added_bytes <= self._limit_bytes:
            return
        self._added_bytes = 0
        self._counted_bytes = self.used_bytes()
        if self._counted_bytes > self._limit_bytes * 3 // 4:
            self._evict(self._limit_bytes // 2)

    def used_bytes(self) -> int:
        """What all caches hold."""
        return sum(cache.size_bytes for cache in self._caches)

    def _evict(self, wanted_bytes: int) -> None:
        """Cut the largest caches to one common size, so that all together hold at most `wanted_bytes`."""
        caches = sorted(self._caches, key=lambda cache: cache.size_bytes)
        left_bytes = wanted_bytes
        for position, cache in enumerate(caches):
            cache.shrink(left_bytes // (len(caches) - position))
            left_bytes -= cache.size_bytes
        self._counted_bytes = self.used_bytes()


class EntryCache:
    """The last entries of one log."""

    def __init__(self, budget: CacheBudget | None = None) -> None:
        self.size_bytes = 0
        self._entries: list[Entry] = []
        self._budget = budget or CacheBudget()
        self._budget.join(self)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, low: int, high: int) -> list[Entry] | None:
        """Entries of [low, high), which must be in the log; None when the first is not here."""
        entries = self._entries
        if not entries or low < entries[0].index:
            return None
        offset = entries[0].index
        return entries[low - offset : high - offset]

    def append(self, entries: Sequence[Entry]) -> None:
        """Take in new entries, which replace all from the first of them on."""
        cached = self._entries
        if cached and entries[0].index <= cached[-1].index:
            keep = max(entries[0].index - cached[0].index, 0)
            self.size_bytes -= _size(cached[keep:])
            del cached[keep:]
        cached.extend(entries)
        size = _size(entries)
        self.size_bytes += size
        if len(cached) > MAX_ENTRIES or self.size_bytes > MAX_BYTES:
            self.shrink(MAX_BYTES // 2, MAX_ENTRIES // 2)
        self._budget.added(size)

    def shrink(self, max_bytes: int, max_entries: int = MAX_ENTRIES) -> None:
        """Evict the oldest entries down to these limits."""
        entries = self._entries
        cut = max(len(entries) - max_entries, 0)
        left_bytes = self.size_bytes - _size(entries[:cut])
        while left_bytes > max_bytes:
            left_bytes -= _size(entries[cut : cut + 1])
            cut += 1
        del entries[:cut]
        self.size_bytes = left_bytes

    def trim(self, index: int) -> None:
        """Evict up to and including `index`: the log was cut there."""
        if self._entries and self._entries[0].index <= index:
            cut = index - self._entries[0].index + 1
            self.size_bytes -= _size(self._entries[:cut])
            del self._entries[:cut]

    def clear(self) -> None:
        """Evict everything."""
        self._entries.clear()
        self.size_bytes = 0


def _size(entries: Sequence[Entry]) -> int:
    return sum([len(entry.data) for entry in entries]) + ENTRY_OVERHEAD_BYTES * len(entries)
