"""All regions PD knows, by key and by id, with what each store holds of them.

A region that arrives takes the place of whatever it overlaps if it is newer; else it is refused. Of two reports the one
with the lower epoch is stale, and of two leaders with one epoch the one of the older term is.

Built for a million regions: a report that changes neither range nor peers nor leader replaces one value in a dictionary
and, when the size differs, three sums. Splits, merges and moves change `OrderedIndex`es, whose cost does not grow with the
number of regions.

Invariants: no two regions overlap; the order, the ids and the stores' indices name the same regions. It keeps no history
and no statistics (`region_statistics`); `on_removed` hears of every region that a newer one displaces. Pure.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from core_py.ports import Random
from pd_py.cluster.held_regions import HeldRegions, held_as
from pd_py.cluster.ordered_index import OrderedIndex
from pd_py.schedule.view import KeyRange, PeerKind, RegionView

_NOTHING = HeldRegions()


class RegionTree:
    """All regions."""

    def __init__(self, on_removed: Callable[[RegionView], None] | None = None) -> None:
        self._by_id: dict[int, RegionView] = {}
        self._order = OrderedIndex()
        self._held: dict[int, HeldRegions] = {}
        self._on_removed = on_removed
        self.total_bytes = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, region_id: int) -> RegionView | None:
        """A region by id."""
        return self._by_id.get(region_id)

    def find(self, key: bytes) -> RegionView | None:
        """The region that holds a key."""
        region_id = self._order.floor(key)
        if region_id is None:
            return None
        region = self._by_id[region_id]
        return region if not region.end_key or key < region.end_key else None

    def find_previous(self, key: bytes) -> RegionView | None:
        """The region left of the one that holds the key."""
        holder = self.find(key)
        region_id = self._order.below(holder.start_key if holder is not None else key)
        return None if region_id is None else self._by_id[region_id]

    def neighbours(self, region: RegionView) -> tuple[RegionView | None, RegionView | None]:
        """The regions left and right of one, where they touch it."""
        left_id = self._order.below(region.start_key)
        left = None if left_id is None else self._by_id[left_id]
        right_id = self._order.get(region.end_key) if region.end_key else None
        return (
            left if left is not None and left.end_key == region.start_key and region.start_key else None,
            None if right_id is None else self._by_id[right_id],
        )

    def scan(self, start: bytes, end: bytes, limit: int) -> list[RegionView]:
        """Regions that touch [start, end), in key order; no limit when it is not positive."""
        out: list[RegionView] = []
        by_id = self._by_id
        for region_id in self._order.ids_from(start):
            region = by_id[region_id]
            if end and region.start_key >= end:
                break
            if not region.end_key or region.end_key > start:
                out.append(region)
                if len(out) == limit:
                    break
        return out

    def all(self) -> list[RegionView]:
        """All regions in key order."""
        return [self._by_id[region_id] for region_id in self._order.all_ids()]

    def largest(self, count: int, key: Callable[[RegionView], float]) -> list[RegionView]:
        """The regions with the highest figures; looks at all of them."""
        return heapq.nlargest(count, self._by_id.values(), key)

    def held_by(self, store_id: int) -> HeldRegions:
        """What a store holds, for reading."""
        return self._held.get(store_id, _NOTHING)

    def of_store(self, store_id: int) -> Iterator[RegionView]:
        """Every region that has a replica on a store."""
        for kind, index in self.held_by(store_id).by_kind.items():
            if kind is not PeerKind.PENDING:
                for region_id in index.all_ids():
                    yield self._by_id[region_id]

    def leader_count(self, store_id: int) -> int:
        """How many leaders a store has."""
        return self.held_by(store_id).count(PeerKind.LEADER)

    def peer_count(self, store_id: int) -> int:
        """How many replicas a store has."""
        return self.held_by(store_id).region_count

    def random(
        self, store_id: int, kind: PeerKind, ranges: Sequence[KeyRange], count: int, rng: Random
    ) -> list[RegionView]:
        """Up to `count` different regions held by a store in this way, drawn from those that lie wholly in the ranges."""
        index = self.held_by(store_id).by_kind[kind]
        spans = self._spans(index, ranges)
        total = sum(high - low for low, high in spans)
        chosen: list[int] = []
        taken: set[int] = set()
        for upper in range(
            max(total - count, 0), total
        ):  # Floyd's sampling: every choice is new, no list of all is made
            pick = rng.randrange(0, upper + 1)
            pick = upper if pick in taken else pick
            taken.add(pick)
            chosen.append(pick)
        for at in range(len(chosen) - 1, 0, -1):  # the sampling favours late places for late regions
            other = rng.randrange(0, at + 1)
            chosen[at], chosen[other] = chosen[other], chosen[at]
        return [self._by_id[index.select(_rank_in(spans, pick))] for pick in chosen]

    def _spans(self, index: OrderedIndex, ranges: Sequence[KeyRange]) -> list[tuple[int, int]]:
        """The ranges as half-open spans of ranks that do not overlap, in order."""
        spans: list[tuple[int, int]] = []
        for wanted in ranges:
            low = index.rank(wanted.start)
            high = len(index)
            if wanted.end:
                high = index.rank(wanted.end)
                if high > low:
                    last = self._by_id[index.select(high - 1)]
                    high -= not last.end_key or last.end_key > wanted.end
            if high > low:
                spans.append((low, high))
        if len(spans) < 2:
            return spans
        merged: list[tuple[int, int]] = []
        for low, high in sorted(spans):
            if merged and low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        return merged

    def put(self, region: RegionView) -> bool:
        """Take a region in; False when something newer stands there."""
        old = self._by_id.get(region.region_id)
        if old is not None:
            if region.version < old.version or region.conf_ver < old.conf_ver or 0 < region.term < old.term:
                return False
            if old.start_key == region.start_key and old.end_key == region.end_key:
                self._replace(old, region)
                return True
        displaced = [
            other for other in self.scan(region.start_key, region.end_key, 0) if other.region_id != region.region_id
        ]
        if any(other.version > region.version for other in displaced):
            return False
        if old is not None:
            self._remove(old)
        for other in displaced:
            self._remove(other)
            if self._on_removed is not None:
                self._on_removed(other)
        self._insert(region)
        return True

    def _replace(self, old: RegionView, new: RegionView) -> None:
        """Put news of a region in the place of what was known, the range being the same."""
        self._by_id[new.region_id] = new
        grown = new.size_bytes - old.size_bytes
        self.total_bytes += grown
        if (
            new.leader_store_id == old.leader_store_id
            and (new.peers is old.peers or new.peers == old.peers)
            and (new.pending is old.pending or new.pending == old.pending)
        ):
            if grown:
                for store_id, kind in held_as(new):
                    self._held[store_id].grow(kind, grown)
            return
        before, after = held_as(old), held_as(new)
        for held in before:
            if held not in after:
                self._held[held[0]].remove(held[1], old)
        for held in after:
            if held not in before:
                self._of(held[0]).add(held[1], new)
            elif grown:
                self._held[held[0]].grow(held[1], grown)

    def _of(self, store_id: int) -> HeldRegions:
        held = self._held.get(store_id)
        if held is None:
            held = self._held[store_id] = HeldRegions()
        return held

    def _insert(self, region: RegionView) -> None:
        self._order.insert(region.start_key, region.region_id)
        self._by_id[region.region_id] = region
        self.total_bytes += region.size_bytes
        for store_id, kind in held_as(region):
            self._of(store_id).add(kind, region)

    def _remove(self, region: RegionView) -> None:
        self._order.remove(region.start_key)
        del self._by_id[region.region_id]
        self.total_bytes -= region.size_bytes
        for store_id, kind in held_as(region):
            self._held[store_id].remove(kind, region)

    def load(self, regions: Iterable[RegionView]) -> None:
        """Take in many regions; quick when the tree is empty and they come in order without overlaps."""
        ordered = list(regions)
        is_plain = all(left.end_key and left.end_key <= right.start_key for left, right in pairwise(ordered))
        if self._by_id or not is_plain or len({region.region_id for region in ordered}) != len(ordered):
            for region in ordered:
                self.put(region)
            return
        self._order.load((region.start_key, region.region_id) for region in ordered)
        held: dict[tuple[int, PeerKind], list[RegionView]] = {}
        for region in ordered:
            self._by_id[region.region_id] = region
            self.total_bytes += region.size_bytes
            for place in held_as(region):
                held.setdefault(place, []).append(region)
        for (store_id, kind), mine in held.items():
            self._of(store_id).load(kind, mine)

    def check_invariants(self) -> None:
        """Raise AssertionError when indices disagree or regions overlap; for tests."""
        self._order.check_invariants()
        regions = self.all()
        assert len(regions) == len(self._by_id)
        for left, right in pairwise(regions):
            assert left.end_key
            assert left.end_key <= right.start_key
        assert self.total_bytes == sum(region.size_bytes for region in regions)
        for store_id, held in self._held.items():
            mine = [(kind, region) for region in regions for at, kind in held_as(region) if at == store_id]
            for kind, index in held.by_kind.items():
                index.check_invariants()
                assert list(index.all_ids()) == [region.region_id for of, region in mine if of is kind]
            sizes = [(kind, region.size_bytes) for kind, region in mine if kind is not PeerKind.PENDING]
            assert held.region_bytes == sum(size for _, size in sizes)
            assert held.leader_bytes == sum(size for kind, size in sizes if kind is PeerKind.LEADER)


def _rank_in(spans: Sequence[tuple[int, int]], pick: int) -> int:
    """The rank of the n-th place over all spans."""
    for low, high in spans:
        if pick < high - low:
            return low + pick
        pick -= high - low
    raise IndexError(pick)
