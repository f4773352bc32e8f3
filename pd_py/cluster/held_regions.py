"""What one store holds: its regions in key order by the way it holds them, and the sums of their sizes.

A replica is indexed as leader, follower (any other voter, also one that is coming or going) or learner, and once more as
pending while it lags. So counts and sums are at hand, and a region of one kind can be drawn at random from a key range
without looking at the others. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from pd_py.cluster.ordered_index import OrderedIndex
from pd_py.schedule.view import PeerKind, RegionView, Role


def held_as(region: RegionView) -> list[tuple[int, PeerKind]]:
    """Every (store, kind) under which a region is indexed."""
    out: list[tuple[int, PeerKind]] = []
    for peer in region.peers:
        if peer.role is Role.LEARNER:
            kind = PeerKind.LEARNER
        elif peer.store_id == region.leader_store_id:
            kind = PeerKind.LEADER
        else:
            kind = PeerKind.FOLLOWER
        out.append((peer.store_id, kind))
        if region.pending and peer.peer_id in region.pending:
            out.append((peer.store_id, PeerKind.PENDING))
    return out


class HeldRegions:
    """One store's part of the region tree. Sizes are bytes."""

    __slots__ = ("by_kind", "leader_bytes", "region_bytes")

    def __init__(self) -> None:
        self.by_kind = {kind: OrderedIndex() for kind in PeerKind}
        self.leader_bytes = 0
        self.region_bytes = 0

    @property
    def region_count(self) -> int:
        """How many replicas there are."""
        return sum(len(index) for kind, index in self.by_kind.items() if kind is not PeerKind.PENDING)

    def count(self, kind: PeerKind) -> int:
        """How many regions are held in this way."""
        return len(self.by_kind[kind])

    def add(self, kind: PeerKind, region: RegionView) -> None:
        """Index a region."""
        self.by_kind[kind].insert(region.start_key, region.region_id)
        self.grow(kind, region.size_bytes)

    def load(self, kind: PeerKind, regions: Sequence[RegionView]) -> None:
        """Index many regions in key order; there are none of this kind yet."""
        self.by_kind[kind].load((region.start_key, region.region_id) for region in regions)
        self.grow(kind, sum(region.size_bytes for region in regions))

    def remove(self, kind: PeerKind, region: RegionView) -> None:
        """Take a region out; it must be given as it was added."""
        self.by_kind[kind].remove(region.start_key)
        self.grow(kind, -region.size_bytes)

    def grow(self, kind: PeerKind, by_bytes: int) -> None:
        """A region that is held in this way has grown."""
        if kind is PeerKind.LEADER:
            self.leader_bytes += by_bytes
        if kind is not PeerKind.PENDING:
            self.region_bytes += by_bytes
