"""An ordered map from start keys to region ids that stays quick with a million entries.

Keys lie in blocks of a few hundred, so an insertion moves one block's pointers and never the whole list; finding a key is a
bisection over the blocks' lowest keys and one within the block. Positions (the n-th key, how many keys lie below one) use
the blocks' running totals, which are made again when they are asked for after a change: a few dozen additions for one
store, a few thousand for all regions.

Invariants: every block but a lone first one holds at least one key; keys ascend strictly within and over blocks; `_lows[i]`
is the first key of block i. It does not know regions; see `pd_py.cluster.region_tree`. Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain

BLOCK = 512
"""Half the size at which a block is cut in two."""


class OrderedIndex:
    """Region ids by start key."""

    __slots__ = ("_ids", "_keys", "_lows", "_offsets", "_size")

    def __init__(self) -> None:
        self._keys: list[list[bytes]] = []
        self._ids: list[list[int]] = []
        self._lows: list[bytes] = []
        self._offsets: list[int] | None = None
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def insert(self, key: bytes, region_id: int) -> None:
        """Add a key that is not there."""
        self._offsets = None
        self._size += 1
        if not self._keys:
            self._keys, self._ids, self._lows = [[key]], [[region_id]], [key]
            return
        at = max(bisect_right(self._lows, key) - 1, 0)
        keys, ids = self._keys[at], self._ids[at]
        pos = bisect_left(keys, key)
        keys.insert(pos, key)
        ids.insert(pos, region_id)
        if pos == 0:
            self._lows[at] = key
        if len(keys) > 2 * BLOCK:
            self._cut(at)

    def _cut(self, at: int) -> None:
        keys, ids = self._keys[at], self._ids[at]
        # A full last block is most often one that grows at its end (a load in order): it keeps all but the newest keys.
        half = 2 * BLOCK if at == len(self._keys) - 1 else BLOCK
        self._keys.insert(at + 1, keys[half:])
        self._ids.insert(at + 1, ids[half:])
        self._lows.insert(at + 1, keys[half])
        del keys[half:]
        del ids[half:]

    def remove(self, key: bytes) -> None:
        """Take out a key that is there. Raises KeyError."""
        at = bisect_right(self._lows, key) - 1
        keys = self._keys[at] if at >= 0 else []
        pos = bisect_left(keys, key)
        if pos == len(keys) or keys[pos] != key:
            raise KeyError(key)
        self._offsets = None
        self._size -= 1
        del keys[pos]
        del self._ids[at][pos]
        if not keys:
            del self._keys[at], self._ids[at], self._lows[at]
            return
        if pos == 0:
            self._lows[at] = keys[0]
        if len(keys) < BLOCK // 4 and at + 1 < len(self._keys) and len(keys) + len(self._keys[at + 1]) <= BLOCK:
            keys += self._keys.pop(at + 1)
            self._ids[at] += self._ids.pop(at + 1)
            del self._lows[at + 1]

    def get(self, key: bytes) -> int | None:
        """The id at exactly this key."""
        at = bisect_right(self._lows, key) - 1
        if at < 0:
            return None
        keys = self._keys[at]
        pos = bisect_left(keys, key)
        return self._ids[at][pos] if pos < len(keys) and keys[pos] == key else None

    def floor(self, key: bytes) -> int | None:
        """The id at the greatest key that is not above this one."""
        at = bisect_right(self._lows, key) - 1
        if at < 0:
            return None
        return self._ids[at][bisect_right(self._keys[at], key) - 1]

    def below(self, key: bytes) -> int | None:
        """The id at the greatest key below this one."""
        at = bisect_left(self._lows, key) - 1
        if at < 0:
            return None
        return self._ids[at][bisect_left(self._keys[at], key) - 1]

    def ids_from(self, key: bytes) -> Iterator[int]:
        """Ids in order, beginning with the greatest key that is not above this one; the index must not change meanwhile."""
        at = max(bisect_right(self._lows, key) - 1, 0)
        if at < len(self._keys):
            yield from self._ids[at][max(bisect_right(self._keys[at], key) - 1, 0) :]
        for later in range(at + 1, len(self._ids)):
            yield from self._ids[later]

    def all_ids(self) -> Iterator[int]:
        """Every id, in key order."""
        return chain.from_iterable(self._ids)

    def rank(self, key: bytes) -> int:
        """How many keys lie below this one."""
        at = bisect_right(self._lows, key) - 1
        if at < 0:
            return 0
        return self._totals()[at] + bisect_left(self._keys[at], key)

    def select(self, rank: int) -> int:
        """The id of the key with so many below it. Raises IndexError."""
        if not 0 <= rank < self._size:
            raise IndexError(rank)
        totals = self._totals()
        at = bisect_right(totals, rank) - 1
        return self._ids[at][rank - totals[at]]

    def _totals(self) -> list[int]:
        if self._offsets is None:
            self._offsets = list(accumulate(map(len, self._keys), initial=0))[:-1]
        return self._offsets

    def load(self, pairs: Iterable[tuple[bytes, int]]) -> None:
        """Fill an empty index from pairs in ascending key order, which costs far less than one insertion for each."""
        keys: list[bytes] = []
        ids: list[int] = []
        for key, region_id in pairs:
            keys.append(key)
            ids.append(region_id)
        size = BLOCK + BLOCK // 2
        self._keys = [keys[at : at + size] for at in range(0, len(keys), size)]
        self._ids = [ids[at : at + size] for at in range(0, len(ids), size)]
        self._lows = [block[0] for block in self._keys]
        self._offsets = None
        self._size = len(keys)

    def check_invariants(self) -> None:
        """Raise AssertionError when the blocks contradict each other; for tests."""
        keys = list(chain.from_iterable(self._keys))
        assert keys == sorted(set(keys))
        assert len(keys) == self._size == sum(map(len, self._ids))
        assert self._lows == [block[0] for block in self._keys]
        assert all(len(block) == len(ids) <= 2 * BLOCK for block, ids in zip(self._keys, self._ids, strict=True))
