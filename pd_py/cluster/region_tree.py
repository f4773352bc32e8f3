"""Regions by key and by id. A region that arrives takes the place of whatever it overlaps, if it is newer; else it is refused.

Sorted start keys with bisection; regions of one cluster never overlap for long, so a lookup is one bisection. Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise

from pd_py.schedule.view import RegionView


class RegionTree:
    """All regions PD knows."""

    def __init__(self) -> None:
        self._starts: list[bytes] = []
        self._by_start: dict[bytes, RegionView] = {}
        self._by_id: dict[int, RegionView] = {}
        self._led: dict[int, set[int]] = {}
        self._held: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, region_id: int) -> RegionView | None:
        """A region by id."""
        return self._by_id.get(region_id)

    def find(self, key: bytes) -> RegionView | None:
        """The region that holds a key."""
        at = bisect_right(self._starts, key) - 1
        if at < 0:
            return None
        region = self._by_start[self._starts[at]]
        return region if not region.end_key or key < region.end_key else None

    def find_previous(self, key: bytes) -> RegionView | None:
        """The region left of the one that holds the key."""
        holder = self.find(key)
        at = bisect_left(self._starts, holder.start_key if holder is not None else key) - 1
        return self._by_start[self._starts[at]] if at >= 0 else None

    def scan(self, start: bytes, end: bytes, limit: int) -> list[RegionView]:
        """Regions that touch [start, end), in key order; no limit when it is not positive."""
        at = max(bisect_right(self._starts, start) - 1, 0)
        out: list[RegionView] = []
        while at < len(self._starts) and (limit <= 0 or len(out) < limit):
            region = self._by_start[self._starts[at]]
            at += 1
            if end and region.start_key >= end:
                break
            if not region.end_key or region.end_key > start:
                out.append(region)
        return out

    def all(self) -> list[RegionView]:
        """All regions in key order."""
        return [self._by_start[start] for start in self._starts]

    def led_by(self, store_id: int) -> list[RegionView]:
        """Regions whose leader is on a store, by id."""
        return [self._by_id[region_id] for region_id in sorted(self._led.get(store_id, ()))]

    def leader_count(self, store_id: int) -> int:
        """How many leaders a store has."""
        return len(self._led.get(store_id, ()))

    def peer_count(self, store_id: int) -> int:
        """How many replicas a store has."""
        return self._held.get(store_id, 0)

    def put(self, region: RegionView) -> bool:
        """Take a region in; False when something newer stands there."""
        old = self._by_id.get(region.region_id)
        if old is not None and (region.version < old.version or region.conf_ver < old.conf_ver):
            return False
        if old is not None and 0 < region.term < old.term:
            return False
        overlapping = self._overlapping(region)
        if any(other.region_id != region.region_id and other.version > region.version for other in overlapping):
            return False
        if old is not None:
            self._remove(old)
        for other in overlapping:
            if other.region_id != region.region_id:
                self._remove(other)
        self._insert(region)
        return True

    def _overlapping(self, region: RegionView) -> list[RegionView]:
        return self.scan(region.start_key, region.end_key, 0)

    def _insert(self, region: RegionView) -> None:
        self._starts.insert(bisect_left(self._starts, region.start_key), region.start_key)
        self._by_start[region.start_key] = region
        self._by_id[region.region_id] = region
        for peer in region.peers:
            self._held[peer.store_id] = self._held.get(peer.store_id, 0) + 1
        if region.leader_store_id:
            self._led.setdefault(region.leader_store_id, set()).add(region.region_id)

    def _remove(self, region: RegionView) -> None:
        del self._starts[bisect_left(self._starts, region.start_key)]
        del self._by_start[region.start_key]
        del self._by_id[region.region_id]
        for peer in region.peers:
            self._held[peer.store_id] -= 1
        self._led.get(region.leader_store_id, set()).discard(region.region_id)

    def check_invariants(self) -> None:
        """Raise AssertionError when indexes disagree or regions overlap; for tests."""
        regions = self.all()
        assert len(regions) == len(self._by_id) == len(self._by_start)
        for left, right in pairwise(regions):
            assert left.end_key
            assert left.end_key <= right.start_key
