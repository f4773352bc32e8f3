"""Regions and stores of a memory cluster: who holds which keys, changed by the test and read by PD and stores alike.

Bounds are physical keys. A split raises the version of both parts by one, and the right one keeps the id, as TiKV's default is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protos.kvproto import metapb_pb2


@dataclass
class PlacedRegion:
    """A region and the store that leads it."""

    meta: metapb_pb2.Region
    leader_store: int

    @property
    def leader(self) -> metapb_pb2.Peer:
        return next(peer for peer in self.meta.peers if peer.store_id == self.leader_store)


@dataclass
class Topology:
    """The truth about regions and stores. Bounds are physical keys."""

    stores: dict[int, metapb_pb2.Store] = field(default_factory=dict)
    regions: dict[int, PlacedRegion] = field(default_factory=dict)
    next_id: int = 1000

    def new_id(self) -> int:
        self.next_id += 1
        return self.next_id

    def ordered(self) -> list[PlacedRegion]:
        return sorted(self.regions.values(), key=lambda region: region.meta.start_key)

    def holding(self, key: bytes) -> PlacedRegion:
        for region in self.ordered():
            if region.meta.start_key <= key and (not region.meta.end_key or key < region.meta.end_key):
                return region
        raise AssertionError(f"no region holds {key!r}")

    def split(self, key: bytes) -> PlacedRegion:
        """Split at a physical key; the right part keeps the id, as TiKV's default does."""
        old = self.holding(key)
        if old.meta.start_key == key:
            return old
        left = metapb_pb2.Region()
        left.CopyFrom(old.meta)
        left.id, left.end_key = self.new_id(), key
        for peer in left.peers:
            peer.id = self.new_id()
        left.region_epoch.version += 1
        old.meta.start_key = key
        old.meta.region_epoch.version += 1
        made = self.regions[left.id] = PlacedRegion(left, old.leader_store)
        return made

    def merge(self, key: bytes) -> None:
        """Merge the region that holds a physical key into the one after it, which keeps its id."""
        gone = self.holding(key)
        ordered = self.ordered()
        at = ordered.index(gone)
        if at + 1 == len(ordered):
            raise ValueError("the last region has none after it to merge into")
        into = ordered[at + 1].meta
        into.start_key = gone.meta.start_key
        into.region_epoch.version = max(into.region_epoch.version, gone.meta.region_epoch.version) + 1
        del self.regions[gone.meta.id]
