"""Between metapb and the scheduler's values."""

from __future__ import annotations

from pd_py.schedule.view import PeerView, RegionView, Role
from protos.kvproto import metapb_pb2, pdpb_pb2

DOWN_PEER_S = 1800


def region_view(
    region: metapb_pb2.Region,
    heartbeat: pdpb_pb2.RegionHeartbeatRequest | None = None,
    *,
    down_peer_s: float = DOWN_PEER_S,
) -> RegionView:
    """A region, with what its leader's heartbeat adds."""
    peers = tuple(PeerView(peer.id, peer.store_id, Role(int(peer.role))) for peer in region.peers)
    epoch = region.region_epoch
    if heartbeat is None:
        return RegionView(region.id, region.start_key, region.end_key, epoch.conf_ver, epoch.version, peers)
    return RegionView(
        region.id,
        region.start_key,
        region.end_key,
        epoch.conf_ver,
        epoch.version,
        peers,
        heartbeat.leader.store_id,
        frozenset(stats.peer.id for stats in heartbeat.down_peers if stats.down_seconds >= down_peer_s),
        frozenset(peer.id for peer in heartbeat.pending_peers),
        heartbeat.approximate_size,
        heartbeat.approximate_keys,
        heartbeat.term,
    )


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
