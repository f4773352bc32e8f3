"""Between metapb and the scheduler's values.

A heartbeat that brings little news makes little garbage: what equals the view before (keys, the tuple of peers, the sets of
silent and lagging ones) is taken over from it. That keeps memory flat, and lets those who look for changes compare by
identity first.

Reports come from sockets: ids that are missing, ranges that are empty and peers that share a store are refused here, before
anything is changed.
"""

from __future__ import annotations

from collections.abc import Sequence

from core_py.errors import PdError
from pd_py.schedule.view import PeerView, RegionView, Role
from protos.kvproto import metapb_pb2, pdpb_pb2

IMPOSSIBLE_FLOW = 1 << 50
"""Counters that went backwards at the store wrap around; such figures count as nothing (as in the public server)."""
MAX_PEERS = 128
"""More replicas than any placement asks for; a region that claims more is refused."""
MAX_INTERVAL_S = 3600
"""Flow over a longer time says nothing about the present; the interval is taken as this long at most."""

_ROLES = tuple(Role)
_NONE: frozenset[int] = frozenset()


class InvalidRegion(PdError):
    """A report about a region that no store could mean."""

    code = "PD:Cluster:InvalidRegion"


def region_view(region: metapb_pb2.Region) -> RegionView:
    """A region as its meta alone tells it. Raises InvalidRegion."""
    _check_range(region.id, region.start_key, region.end_key)
    epoch = region.region_epoch
    peers = _peers(region.id, region.peers)
    return RegionView(region.id, region.start_key, region.end_key, epoch.conf_ver, epoch.version, peers)


def heartbeat_view(
    heartbeat: pdpb_pb2.RegionHeartbeatRequest, old: RegionView | None, down_peer_s: float
) -> RegionView:
    """The region of a leader's heartbeat; `old` is the view before, a peer is down from `down_peer_s`. Raises InvalidRegion."""
    region = heartbeat.region
    epoch = region.region_epoch
    region_id, start_key, end_key = region.id, region.start_key, region.end_key
    _check_range(region_id, start_key, end_key)
    leader = heartbeat.leader
    if not region_id:
        raise InvalidRegion("invalid request region, zero region id")
    if not leader.id:
        raise InvalidRegion(f"invalid request leader, region {region_id} names none")
    size_bytes, keys = heartbeat.approximate_size, heartbeat.approximate_keys
    if old is None:
        peers = _peers(region_id, region.peers)
    else:
        region_id = old.region_id
        if start_key == old.start_key:
            start_key = old.start_key
        if end_key == old.end_key:
            end_key = old.end_key
        peers = old.peers if _same_peers(region.peers, old.peers) else _peers(region_id, region.peers)
        if not size_bytes:  # a new leader has not measured yet; an empty region says one byte
            size_bytes, keys = old.size_bytes, old.keys
    if not peers:
        raise InvalidRegion(f"invalid region, zero region peer count: region {region_id}")
    down, pending = _NONE, _NONE
    if heartbeat.down_peers or heartbeat.pending_peers:
        down, pending = _unwell(heartbeat, peers, old, down_peer_s)
    written_bytes, written_keys, interval_s = heartbeat.bytes_written, heartbeat.keys_written, 0
    if written_bytes >= IMPOSSIBLE_FLOW or written_keys >= IMPOSSIBLE_FLOW:
        written_bytes = written_keys = 0
    read_bytes, read_keys = heartbeat.bytes_read, heartbeat.keys_read
    if read_bytes >= IMPOSSIBLE_FLOW or read_keys >= IMPOSSIBLE_FLOW:
        read_bytes = read_keys = 0
    if heartbeat.HasField("interval"):
        interval_s = interval_seconds(heartbeat.interval)
    return RegionView(
        region_id,
        start_key,
        end_key,
        epoch.conf_ver,
        epoch.version,
        peers,
        leader.store_id,
        down,
        pending,
        size_bytes,
        keys,
        heartbeat.term,
        written_bytes,
        written_keys,
        read_bytes,
        read_keys,
        interval_s,
    )


def synced_view(
    message: pdpb_pb2.SyncRegionResponse, number: int, old: RegionView | None, down_peer_s: float
) -> tuple[RegionView, dict[int, int]]:
    """One region of what the leading member sends, and for how long its silent peers have been silent. Raises InvalidRegion.

    The message does not tell sizes: they stay as they were known.
    """
    region = message.regions[number]
    epoch, stats = region.region_epoch, message.region_stats
    _check_range(region.id, region.start_key, region.end_key)
    if old is not None and _same_peers(region.peers, old.peers):
        peers = old.peers
    else:
        peers = _peers(region.id, region.peers)
    ids = {peer.peer_id for peer in peers}
    silent: dict[int, int] = {}
    if number < len(message.down_peers):
        silent = {one.peer.id: one.down_seconds for one in message.down_peers[number].peers if one.peer.id in ids}
    pending = _NONE
    if number < len(message.pending_peers):
        pending = frozenset([peer.id for peer in message.pending_peers[number].peers if peer.id in ids])
    flows = (0, 0, 0, 0)
    if number < len(stats):
        stat = stats[number]
        flows = (stat.bytes_written, stat.keys_written, stat.bytes_read, stat.keys_read)
        if max(flows) >= IMPOSSIBLE_FLOW:
            flows = (0, 0, 0, 0)
    view = RegionView(
        region.id,
        region.start_key,
        region.end_key,
        epoch.conf_ver,
        epoch.version,
        peers,
        message.region_leaders[number].store_id if number < len(message.region_leaders) else 0,
        frozenset([peer_id for peer_id, seconds in silent.items() if seconds >= down_peer_s]),
        pending,
        0 if old is None else old.size_bytes,
        0 if old is None else old.keys,
        0,
        *flows,
    )
    return view, silent


def _unwell(
    heartbeat: pdpb_pb2.RegionHeartbeatRequest, peers: Sequence[PeerView], old: RegionView | None, down_peer_s: float
) -> tuple[frozenset[int], frozenset[int]]:
    """(ids of peers that are down, of peers that lag)."""
    down = frozenset(peer_id for peer_id, silent_s in down_seconds(heartbeat, peers).items() if silent_s >= down_peer_s)
    ids = {peer.peer_id for peer in peers}
    pending = frozenset(peer.id for peer in heartbeat.pending_peers if peer.id in ids)
    if old is not None and pending == old.pending:
        pending = old.pending
    return down, pending


def down_seconds(heartbeat: pdpb_pb2.RegionHeartbeatRequest, peers: Sequence[PeerView]) -> dict[int, int]:
    """For how long the leader has not heard of peers, by peer id; peers that the region does not have are left out."""
    ids = {peer.peer_id for peer in peers}
    return {one.peer.id: one.down_seconds for one in heartbeat.down_peers if one.peer.id in ids}


def interval_seconds(interval: pdpb_pb2.TimeInterval) -> int:
    """How long a report's figures cover; 0 when it does not say."""
    return min(max(interval.end_timestamp - interval.start_timestamp, 0), MAX_INTERVAL_S)


def _check_range(region_id: int, start_key: bytes, end_key: bytes) -> None:
    if end_key and end_key <= start_key:
        raise InvalidRegion(f"invalid region {region_id}, its end key is not above its start key")


def _same_peers(peers: Sequence[metapb_pb2.Peer], known: tuple[PeerView, ...]) -> bool:
    if len(peers) != len(known):
        return False
    for peer, view in zip(peers, known, strict=True):
        role: int = peer.role
        if peer.id != view.peer_id or peer.store_id != view.store_id or role != view.role:
            return False
    return True


def _peers(region_id: int, peers: Sequence[metapb_pb2.Peer]) -> tuple[PeerView, ...]:
    if len(peers) > MAX_PEERS:
        raise InvalidRegion(f"invalid region {region_id}, {len(peers)} peers are too many")
    views = []
    for peer in peers:
        if not 0 <= peer.role < len(_ROLES):
            raise InvalidRegion(f"invalid region {region_id}, peer {peer.id} has the unknown role {peer.role}")
        views.append(PeerView(peer.id, peer.store_id, _ROLES[peer.role]))
    if len({view.store_id for view in views}) != len(views):
        raise InvalidRegion(f"invalid region {region_id}, two of its peers share a store")
    return tuple(views)


def peer_pb(peer: PeerView) -> metapb_pb2.Peer:
    """A replica for the wire."""
    return metapb_pb2.Peer(id=peer.peer_id, store_id=peer.store_id, role=metapb_pb2.PeerRole.Name(int(peer.role)))


def region_pb(region: RegionView) -> metapb_pb2.Region:
    """A region for the wire."""
    out = metapb_pb2.Region(id=region.region_id, start_key=region.start_key, end_key=region.end_key)
    out.region_epoch.conf_ver, out.region_epoch.version = region.conf_ver, region.version
    out.peers.extend([peer_pb(peer) for peer in region.peers])
    return out


def leader_pb(region: RegionView) -> metapb_pb2.Peer:
    """The leader; an empty peer when unknown."""
    peer = region.on_store(region.leader_store_id)
    return metapb_pb2.Peer() if peer is None else peer_pb(peer)
