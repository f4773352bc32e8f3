"""Repairs of a stopped store: finding regions that cannot be started, and giving up replicas that are lost for good.

`remove_failed_stores` is the last resort when most replicas of a region are gone: on each store that is left the region's record is
rewritten without the peers on the failed stores, so that those left are a majority of themselves. What had been acknowledged
and was only on the failed stores is lost; a failed store that comes back must never join again. So a region that still has
its majority is left alone unless forced, and every change is reported.

The epoch stays as it is, as with the public tool: all stores that are left make the same change, and the first leader is told by PD
what to do next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.debug.inspect import BadQuestion, Inspector
from tikv_py.engine.port import CF_DEFAULT, CF_RAFT
from tikv_py.raftstore import keys
from tikv_py.raftstore.region import find_peer, overlaps

SCAN_PAIRS = 1024
_OLD_VOTERS = (metapb_pb2.Voter, metapb_pb2.DemotingVoter)
_NEW_VOTERS = (metapb_pb2.Voter, metapb_pb2.IncomingVoter)


@dataclass(frozen=True, slots=True)
class BadRegion:
    """A region that would not start, and why."""

    region_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Removal:
    """What was done about one region."""

    region_id: int
    changed: bool
    text: str


def bad_regions(inspector: Inspector) -> list[BadRegion]:
    """Look at every region's states and log. Raises NotThere on a directory without a store."""
    store_id = inspector.identity().store_id
    out: list[BadRegion] = []
    healthy: list[metapb_pb2.Region] = []
    for region_id in inspector.region_ids():
        try:
            state = inspector.region_state(region_id)
            if state.state == serverpb.Tombstone:
                continue
            reason = next(_troubles(inspector, state, store_id), None)
        except DecodeError as error:
            state, reason = serverpb.RegionLocalState(), f"a state cannot be read: {error}"
        if reason is None:
            other = next((one for one in healthy if overlaps(one, state.region)), None)
            reason = None if other is None else f"its range overlaps with that of region {other.id}"
        if reason is None:
            healthy.append(state.region)
        else:
            out.append(BadRegion(region_id, reason))
    return out


def _troubles(inspector: Inspector, state: serverpb.RegionLocalState, store_id: int) -> Iterator[str]:
    region = state.region
    if find_peer(region, store_id=store_id) is None:
        yield f"store {store_id} is not among its peers"
    if inspector.raft_db.get(CF_DEFAULT, keys.pending_snapshot_key(region.id)) is not None:
        return  # start-up brings the snapshot in; the log is void until then
    info = inspector.region_info(region.id)
    if not info.HasField("raft_apply_state"):
        yield "it has no apply state"
    applied, truncated = info.raft_apply_state.applied_index, info.raft_apply_state.truncated_state.index
    # A region born by split has no raft state before its first start: its log begins where it is cut.
    last = info.raft_local_state.last_index or truncated
    if last < applied:
        yield f"its log ends at {last}, but {applied} is applied"
    if info.raft_local_state.hard_state.commit > last:
        yield f"its log ends at {last}, but {info.raft_local_state.hard_state.commit} is committed"
    missing = _missing_entry(inspector, region.id, truncated + 1, last)
    if missing:
        yield f"entry {missing} of its log {truncated + 1}..{last} is missing"


def _missing_entry(inspector: Inspector, region_id: int, first: int, last: int) -> int:
    """The first index of [first, last] without an entry, 0 when all are there."""
    at = first
    while at <= last:
        end = min(at + SCAN_PAIRS, last + 1)
        found = inspector.raft_db.scan(CF_DEFAULT, keys.log_key(region_id, at), keys.log_key(region_id, end))
        for offset, (key, _) in enumerate(found):
            if key != keys.log_key(region_id, at + offset):
                return at + offset
        if len(found) < end - at:
            return at + len(found)
        at = end
    return 0


def has_lost_majority(region: metapb_pb2.Region, failed: Collection[int]) -> bool:
    """Whether the voters outside the failed stores are no majority; while in a joint state, of either set of voters."""
    for roles in (_OLD_VOTERS, _NEW_VOTERS):
        voters = [peer.store_id for peer in region.peers if peer.role in roles]
        if 2 * sum(store not in failed for store in voters) <= len(voters) and voters:
            return True
    return False


def remove_failed_stores(
    inspector: Inspector, failed: Collection[int], region_ids: Collection[int] | None, *, force: bool
) -> list[Removal]:
    """Give up the peers on the failed stores, of the named regions or of all (None). Durable on return.

    Raises BadQuestion, before anything is changed, when the request cannot be meant; NotThere for a region that is not here.
    """
    store_id = inspector.identity().store_id
    if not failed:
        raise BadQuestion("name the failed stores")
    if store_id in failed:
        raise BadQuestion(f"this is store {store_id} itself: a store cannot give itself up")
    states = [inspector.region_state(one) for one in (inspector.region_ids() if region_ids is None else region_ids)]
    batch = inspector.kv_db.batch()
    out = []
    for state in states:
        if state.state == serverpb.Tombstone and region_ids is None:
            continue
        removal = _remove(state, failed, force=force)
        if removal.changed:
            batch.put(CF_RAFT, keys.region_state_key(state.region.id), state.SerializeToString())
        out.append(removal)
    inspector.kv_db.write(batch)
    inspector.kv_db.sync_wal()
    return out


def _remove(state: serverpb.RegionLocalState, failed: Collection[int], *, force: bool) -> Removal:
    """Change the state in place if that is right."""
    region = state.region
    if state.state != serverpb.Normal:
        return Removal(
            region.id, changed=False, text=f"left alone: its state is {serverpb.PeerState.Name(state.state)}"
        )
    kept = [peer for peer in region.peers if peer.store_id not in failed]
    if len(kept) == len(region.peers):
        return Removal(region.id, changed=False, text="left alone: it has no peer on a failed store")
    if not has_lost_majority(region, failed) and not force:
        return Removal(
            region.id, changed=False, text="left alone: it still has a majority, PD can replace the lost peer"
        )
    if all(peer.role == metapb_pb2.Learner for peer in kept):
        return Removal(region.id, changed=False, text="left alone: no voter would be left")
    before = _members(region.peers)
    del region.peers[:]
    region.peers.extend(kept)
    return Removal(region.id, changed=True, text=f"peers {before} -> {_members(kept)}")


def _members(peers: Collection[metapb_pb2.Peer]) -> str:
    return ", ".join(f"{peer.id} on store {peer.store_id}" for peer in peers)
