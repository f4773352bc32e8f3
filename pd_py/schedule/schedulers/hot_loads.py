"""What stores carry of a flow: the numbers that hot-region balancing works on.

Stores report their flow smoothed, so a move shows there only half a minute later, and a replica that has just begun to lead is not
yet known to be hot. To decide by such figures would move one region after the other off a store that has given enough. So the load
of a store is summed up from the hot regions as they stand now, or will stand when what is under way is done; for a while after its
move a region is counted by what it carried when the move was decided. The stores' own figures are used only to hold a move back.
"""

from __future__ import annotations

from dataclasses import dataclass

from pd_py.schedule.context import Context
from pd_py.schedule.view import FlowKind, HotPeer, RegionView

REST_S = 60.0
"""For how long after its move a region is left alone, and its load known from before."""
MOVES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Load:
    """Rates per second."""

    bytes_rate: float = 0.0
    keys_rate: float = 0.0

    def plus(self, other: Load) -> Load:
        """The sum."""
        return Load(self.bytes_rate + other.bytes_rate, self.keys_rate + other.keys_rate)

    def dims(self) -> tuple[float, float]:
        """The two rates."""
        return self.bytes_rate, self.keys_rate


@dataclass(frozen=True, slots=True)
class HotRegion:
    """A region with its flow, and where it is, or will be when its operator is done."""

    region: RegionView
    load: Load
    degree: int
    leader: int
    stores: tuple[int, ...]

    def places(self, flow: FlowKind, *, leaders: bool) -> tuple[int, ...]:
        """The stores that carry it: reads and the leaders' part of writes one, writes all."""
        return (self.leader,) if leaders or flow is FlowKind.READ else self.stores


@dataclass(slots=True)
class _Move:
    leader_only: bool
    source: int
    target: int
    loads: dict[FlowKind, Load]
    ended_at: float | None = None


class PendingMoves:
    """Moves under way, and those of late, by region."""

    def __init__(self) -> None:
        self._moves: dict[int, _Move] = {}

    def __contains__(self, region_id: int) -> bool:
        return region_id in self._moves

    def add(self, hot: HotRegion, flow: FlowKind, source: int, target: int, *, leader_only: bool) -> None:
        """A move was decided: of the leadership only, or of a replica."""
        if len(self._moves) < MOVES_MAX:
            self._moves[hot.region.region_id] = _Move(leader_only, source, target, {flow: hot.load})

    def settle(self, context: Context) -> None:
        """Look how the moves stand; one that came to nothing is forgotten."""
        for region_id, move in list(self._moves.items()):
            if context.view.has_operator(region_id):
                continue
            if move.ended_at is None:
                move.ended_at = context.now
            over = context.now - move.ended_at > REST_S
            if over or not _has_happened(context, region_id, move):
                del self._moves[region_id]

    def of_flow(self, flow: FlowKind) -> dict[int, Load]:
        """What regions carried when their moves were decided."""
        return {region_id: move.loads[flow] for region_id, move in self._moves.items() if flow in move.loads}

    def place(self, region: RegionView, load: Load, degree: int) -> HotRegion:
        """Where a region is, or will be."""
        leader, stores = region.leader_store_id, tuple(peer.store_id for peer in region.peers)
        move = self._moves.get(region.region_id)
        if move is not None and move.ended_at is None:
            if leader == move.source:
                leader = move.target
            if not move.leader_only and move.target not in stores:
                stores = tuple(move.target if store_id == move.source else store_id for store_id in stores)
        return HotRegion(region, load, degree, leader, stores)


def _has_happened(context: Context, region_id: int, move: _Move) -> bool:
    region = context.view.region(region_id)
    if region is None:
        return False
    if move.leader_only:
        return region.leader_store_id == move.target
    return region.on_store(move.target) is not None and region.on_store(move.source) is None


def hot_regions(context: Context, flow: FlowKind, pending: PendingMoves) -> list[HotRegion]:
    """The hot regions of a flow."""
    found: dict[int, HotPeer] = {}
    for peers in context.view.hot_peers(flow).values():
        for peer in peers:
            known = found.get(peer.region_id)
            if known is None or (peer.degree, peer.bytes_rate) > (known.degree, known.bytes_rate):
                found[peer.region_id] = peer
    loads = {region_id: Load(peer.bytes_rate, peer.keys_rate) for region_id, peer in found.items()}
    loads |= pending.of_flow(flow)
    out = []
    for region_id in sorted(loads):
        region = context.view.region(region_id)
        if region is not None:
            degree = found[region_id].degree if region_id in found else 0
            out.append(pending.place(region, loads[region_id], degree))
    return out


def reported_loads(context: Context, flow: FlowKind) -> dict[int, Load]:
    """What each store says it carries, smoothed."""
    out: dict[int, Load] = {}
    for store_id in context.stores:
        seen = context.view.store_load(store_id)
        if flow is FlowKind.READ:
            out[store_id] = Load(seen.read_bytes_rate, seen.read_keys_rate)
        else:
            out[store_id] = Load(seen.write_bytes_rate, seen.write_keys_rate)
    return out
