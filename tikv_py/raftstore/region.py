"""Small pure helpers on metapb regions; regions and peers are treated as values: copied, changed, never mutated in place."""

from __future__ import annotations

from core_py.errors import DbError
from core_py.region_errors import EpochNotMatch, KeyNotInRegion
from protos.kvproto import eraftpb_pb2, metapb_pb2
from protos.kvproto import raft_cmdpb_pb2 as cmdpb

VOTER, LEARNER, INCOMING_VOTER, DEMOTING_VOTER = range(4)


class AdminRefused(DbError):
    """An admin command cannot follow the region's present state; every replica refuses it alike."""

    code = "KV:Raftstore:AdminRefused"
    deterministic = True


def find_peer(region: metapb_pb2.Region, *, peer_id: int = 0, store_id: int = 0) -> metapb_pb2.Peer | None:
    """The peer with this id, or on this store."""
    for peer in region.peers:
        if (peer_id and peer.id == peer_id) or (store_id and peer.store_id == store_id):
            return peer
    return None


def contains(region: metapb_pb2.Region, key: bytes) -> bool:
    """Whether start <= key < end, all in the encoding of region bounds."""
    return region.start_key <= key and (not region.end_key or key < region.end_key)


def check_key(region: metapb_pb2.Region, key: bytes) -> None:
    """Raise KeyNotInRegion unless the key is inside."""
    if not contains(region, key):
        raise KeyNotInRegion(key, region)


def overlaps(a: metapb_pb2.Region, b: metapb_pb2.Region) -> bool:
    """Whether two ranges share a key."""
    return (not a.end_key or b.start_key < a.end_key) and (not b.end_key or a.start_key < b.end_key)


def same_epoch(a: metapb_pb2.RegionEpoch, b: metapb_pb2.RegionEpoch) -> bool:
    """Whether both parts are equal."""
    return a.conf_ver == b.conf_ver and a.version == b.version


def is_older(a: metapb_pb2.RegionEpoch, b: metapb_pb2.RegionEpoch) -> bool:
    """Whether `a` is behind `b` in either part."""
    return a.conf_ver < b.conf_ver or a.version < b.version


def check_epoch(region: metapb_pb2.Region, epoch: metapb_pb2.RegionEpoch, *, conf_ver: bool) -> None:
    """Raise EpochNotMatch unless the versions (for admin commands also the conf_vers) are equal."""
    current = region.region_epoch
    if epoch.version == current.version and (not conf_ver or epoch.conf_ver == current.conf_ver):
        return
    raise EpochNotMatch(
        f"region {region.id} is at epoch {current.conf_ver},{current.version}, the command is of {epoch.conf_ver},{epoch.version}",
        (region,),
    )


def split(region: metapb_pb2.Region, request: cmdpb.BatchSplitRequest) -> list[metapb_pb2.Region]:
    """The regions after a split, left to right; the last keeps the id. Raises AdminRefused, KeyNotInRegion."""
    bounds = [region.start_key]
    for one in request.requests:
        check_key(region, one.split_key)
        if one.split_key <= bounds[-1]:
            raise AdminRefused(f"split keys of region {region.id} do not ascend from its start: {one.split_key.hex()}")
        if len(one.new_peer_ids) != len(region.peers):
            raise AdminRefused(
                f"region {region.id} has {len(region.peers)} peers, {len(one.new_peer_ids)} new ids came"
            )
        bounds.append(one.split_key)
    if not request.requests:
        raise AdminRefused(f"a split of region {region.id} without keys")
    version = region.region_epoch.version + len(request.requests)
    out = []
    for at, one in enumerate(request.requests):
        child = metapb_pb2.Region(id=one.new_region_id, start_key=bounds[at], end_key=bounds[at + 1])
        child.region_epoch.conf_ver, child.region_epoch.version = region.region_epoch.conf_ver, version
        for peer, new_id in zip(region.peers, one.new_peer_ids, strict=True):
            child.peers.add(id=new_id, store_id=peer.store_id, role=peer.role)
        out.append(child)
    last = metapb_pb2.Region()
    last.CopyFrom(region)
    last.start_key, last.region_epoch.version = bounds[-1], version
    return [*out, last]


def change_peers(region: metapb_pb2.Region, changes: list[cmdpb.ChangePeerRequest]) -> metapb_pb2.Region:
    """The region after a membership change: one change is simple, several enter a joint state, none leaves it.

    Raises AdminRefused.
    """
    changed = metapb_pb2.Region()
    changed.CopyFrom(region)
    if not changes:
        return _leave_joint(changed)
    joint = len(changes) > 1
    if any(peer.role in (INCOMING_VOTER, DEMOTING_VOTER) for peer in region.peers):
        raise AdminRefused(f"region {region.id} is in a joint state; leave it first")
    for change in changes:
        _change_peer(changed, change, joint=joint)
    if joint and not any(peer.role in (INCOMING_VOTER, DEMOTING_VOTER) for peer in changed.peers):
        # The core would be in a joint configuration that the roles do not show, and nobody would leave it.
        raise AdminRefused(f"several changes of region {region.id} at once must change a voter; make them one by one")
    changed.region_epoch.conf_ver += len(changes)
    return changed


def _change_peer(region: metapb_pb2.Region, change: cmdpb.ChangePeerRequest, *, joint: bool) -> None:
    kind, peer = change.change_type, change.peer
    existing = find_peer(region, store_id=peer.store_id)
    if existing is not None and existing.id != peer.id:
        raise AdminRefused(f"region {region.id} has peer {existing.id} on store {peer.store_id} already")
    if kind == eraftpb_pb2.RemoveNode:
        if existing is None:
            raise AdminRefused(f"region {region.id} has no peer on store {peer.store_id} to remove")
        if joint and existing.role == VOTER:
            raise AdminRefused("a joint change demotes voters first, it does not remove them")
        region.peers.remove(existing)
        return
    wanted = VOTER if kind == eraftpb_pb2.AddNode else LEARNER
    if existing is None:
        role = metapb_pb2.Voter if wanted == VOTER else metapb_pb2.Learner
        if joint and wanted == VOTER:
            role = metapb_pb2.IncomingVoter
        region.peers.add(id=peer.id, store_id=peer.store_id, role=role)
    elif existing.role == wanted:
        raise AdminRefused(f"peer {peer.id} of region {region.id} has that role already")
    elif joint:
        existing.role = metapb_pb2.IncomingVoter if wanted == VOTER else metapb_pb2.DemotingVoter
    else:
        existing.role = metapb_pb2.Voter if wanted == VOTER else metapb_pb2.Learner


def _leave_joint(region: metapb_pb2.Region) -> metapb_pb2.Region:
    moved = 0
    for peer in region.peers:
        if peer.role == INCOMING_VOTER:
            peer.role, moved = metapb_pb2.Voter, moved + 1
        elif peer.role == DEMOTING_VOTER:
            peer.role, moved = metapb_pb2.Learner, moved + 1
    if not moved:
        raise AdminRefused(f"region {region.id} is not in a joint state")
    region.region_epoch.conf_ver += moved
    return region
