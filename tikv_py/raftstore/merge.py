"""Carrying a merge out: what the source's leader checks first, who proposes what, and how a replica applies it.

    source's leader   PrepareMerge in the source's log: the region is closed, no write or read is taken from here on
    target's leader   finds the closed source beside it and proposes CommitMerge, with the end of the source's log in it
    every replica     applies CommitMerge: brings its source peer to the end of that log, takes its range, buries it
    otherwise         the target changed before CommitMerge could: the source's leader proposes RollbackMerge

One store's peers share one loop and one kv batch, so a replica takes all of that in one atomic write: there is no moment in
which both regions or neither hold the range.

Why it is safe. (1) PrepareMerge is proposed only when every replica has durably all but the last few entries, which
travel in CommitMerge; so any replica can finish the source's log by itself. (2) CommitMerge counts only at the very epoch of the
target that PrepareMerge named, and every change of the target moves its epoch: a replica whose target is at a newer
epoch, while its source peer is still there, knows that CommitMerge can no longer happen. (3) A peer of the source that
missed everything is buried only when its target no longer needs it here: with a snapshot that remembers the merge, or
when no target can come up from a log.

Tests: tests/unit/raftstore/test_merge.py, tests/sim.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from core_py.codec import eraft
from core_py.errors import DbError, InvariantViolation, invariant
from core_py.raft.messages import Entry, EntryType
from core_py.raft.progress import ProgressState
from core_py.region_errors import ProposalInMergingMode, RegionNotFound, StaleCommand
from core_py.runtime.log import get_logger
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_cmdpb_pb2 as cmdpb
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.raftstore import births, commands, deaths, flashback, merge_rules
from tikv_py.raftstore.peer import Peer, ignore_outcome
from tikv_py.raftstore.region import AdminRefused, is_older, overlaps, same_epoch

if TYPE_CHECKING:
    from tikv_py.raftstore.store import Store
    from tikv_py.raftstore.turn import Turn

MAX_LOG_GAP = 10
"""Entries the slowest replica may lack when a merge begins (TiKV: raftstore.merge-max-log-gap)."""
MAX_GAP_BYTES = 4 << 20  # they travel in one entry of the target, of which they may be half


def prepare(store: Store, source: Peer, target_region: metapb_pb2.Region) -> bytes:
    """The PrepareMerge command, if a merge may begin now. Raises region errors, AdminRefused."""
    if not source.is_leader:
        raise source.not_leader()
    region_id = source.region.id
    if store.fail.armed and (reason := store.fail.hit("merge_prepare")) is not None:
        raise AdminRefused(f"failpoint: {reason}")
    if source.storage.merge is not None:
        raise ProposalInMergingMode(region_id)
    target = store.peers.get(target_region.id)
    if target is None or not target.storage.is_initialized or target.snapshot is not None:
        raise RegionNotFound(target_region.id)
    if target.storage.merge is not None:
        raise ProposalInMergingMode(target_region.id)
    if not same_epoch(target.region.region_epoch, target_region.region_epoch):
        raise AdminRefused(f"region {target_region.id} has changed since its merge with {region_id} was decided")
    for region in (source.region, target.region):
        if region.is_in_flashback:
            raise flashback.in_progress(region)
    merge_rules.check_neighbours(source.region, target.region)
    if source.storage.applied_term != source.node.term or source.node.has_pending_conf or source.node.lead_transferee:
        raise StaleCommand(region_id)
    min_index = _shared_index(source, min(MAX_GAP_BYTES, store.config.raft_entry_max_size // 2))
    request = commands.prepare_merge(min_index, target.region)
    return commands.admin_command(source.region, request).SerializeToString()


def _shared_index(source: Peer, max_gap_bytes: int) -> int:
    """The index every replica holds durably. Raises AdminRefused when one lags or the entries behind it cannot travel."""
    last, region_id = source.node.last_index, source.region.id
    shared = last
    for meta in source.region.peers:
        progress = source.node.progress(meta.id)
        if progress is None or progress.state is ProgressState.SNAPSHOT:
            raise AdminRefused(f"peer {meta.id} of region {region_id} waits for a snapshot")
        shared = min(shared, progress.match)
    if last - shared > MAX_LOG_GAP or shared < source.storage.first_index() - 1:
        raise AdminRefused(f"a replica of region {region_id} lacks {last - shared} entries, {MAX_LOG_GAP} are allowed")
    gap = source.node.raft_log.entries(shared + 1, last + 1, None)
    if sum(len(entry.data) for entry in gap) > max_gap_bytes:
        raise AdminRefused(f"the entries that a replica of region {region_id} lacks are too big to travel")
    if any(_changes_region(entry) for entry in gap):
        raise AdminRefused(f"region {region_id} is changing; merge it when that has reached every replica")
    return shared


def _changes_region(entry: Entry) -> bool:
    if entry.entry_type is not EntryType.NORMAL:
        return True
    return bool(entry.data) and cmdpb.RaftCmdRequest.FromString(entry.data).HasField("admin_request")


def pursue(store: Store, source: Peer) -> None:
    """Take the next step for a closed region: commit it if its target is led here, undo it if the target has changed."""
    merge = source.storage.merge
    if merge is None or source.destroyed or source.snapshot is not None:
        return
    target = store.peers.get(merge.target.id)
    if target is not None and target.storage.is_initialized and target.snapshot is None:
        epoch = target.region.region_epoch
        if same_epoch(epoch, merge.target.region_epoch):
            if target.is_leader and not target.region.is_in_flashback:
                _propose_commit(store, source, target, merge)
            return
    elif target is None and merge.target.id in store.merged:
        epoch = store.tombstones[merge.target.id].region_epoch  # as far as its log was applied here
    else:
        return  # the other stores' peers of the target decide
    if is_older(merge.target.region_epoch, epoch):
        _want_rollback(store, source, merge.commit)


def _propose_commit(store: Store, source: Peer, target: Peer, merge: serverpb.MergeState) -> None:
    if _is_asked(source, target):
        return
    if store.fail.armed and store.fail.hit("merge_propose_commit") is not None:
        return
    entries = source.storage.entries(merge.min_index + 1, merge.commit + 1, None)
    request = commands.commit_merge(source.region, merge.commit, [eraft.entry_to_pb(entry) for entry in entries])
    _ask(store, source, target, request)


def _is_asked(source: Peer, proposer: Peer) -> bool:
    """Whether the end of the source's merge stands in this log already: proposed in this term and not applied yet."""
    if source.merge_asked is None:
        return False
    region_id, term, index = source.merge_asked
    same_log = (region_id, term) == (proposer.region.id, proposer.node.term)
    return same_log and index > proposer.storage.apply_state.applied_index


def _ask(store: Store, source: Peer, proposer: Peer, request: cmdpb.AdminRequest) -> None:
    """Propose what ends the source's merge, in the log of the target or in its own."""
    data = commands.admin_command(proposer.region, request).SerializeToString()
    try:
        ignore_outcome(proposer.propose_admin(data))
    except DbError as error:  # a later tick tries again, or whoever leads next
        get_logger().info("merge not ended yet", region=source.region.id, by=proposer.region.id, error=str(error))
        return
    source.merge_asked = (proposer.region.id, proposer.node.term, proposer.node.last_index)
    store.activate(proposer.region.id)


def _want_rollback(store: Store, source: Peer, commit: int) -> None:
    """Undo at the leader; a follower tells it what it has seen, for the leader's own target may be slow or gone."""
    if source.is_leader:
        on_want_rollback(store, source, commit)
        return
    leader = source.leader()
    if leader is not None:
        extra = serverpb.ExtraMessage(type=serverpb.MsgWantRollbackMerge, index=commit)
        store.send_extra(source, leader, extra)


def on_want_rollback(store: Store, source: Peer, commit: int) -> None:
    """A replica knows that the merge prepared at `commit` cannot be committed any more."""
    merge = source.storage.merge
    if not source.is_leader or merge is None or merge.commit != commit or _is_asked(source, source):
        return
    if store.fail.armed and store.fail.hit("merge_propose_rollback") is not None:
        return
    _ask(store, source, source, commands.rollback_merge(commit))


def commit(store: Store, target: Peer, request: cmdpb.CommitMergeRequest, turn: Turn) -> None:
    """Apply CommitMerge at a replica of the target: all of it goes into this turn's kv batch."""
    if store.fail.armed:
        store.fail.hit("apply_commit_merge")
    region_id, source = request.source.id, store.peers.get(request.source.id)
    name = f"region {target.region.id} takes over region {region_id} on store {store.store_id}"
    if source is None or not source.storage.is_initialized or source.snapshot is not None:
        raise InvariantViolation(f"{name}, but the peer that holds its data is not here")
    _finish_log(store, source, request, turn)
    merge = source.storage.merge
    invariant(
        merge is not None and merge.commit == request.commit and not source.destroyed,
        f"{name}, but its peer there is not closed at index {request.commit}",
    )
    storage = target.storage
    target.read_progress.merge(source.safe_ts(), storage.apply_state.applied_index)
    storage.merged_records = merge_rules.with_records(
        storage.merged_records, source.storage.merged_records, source.region, storage.region
    )
    storage.region = merge_rules.merged(source.region, storage.region)
    storage.put_region_state(turn.kv_batch)
    target.approximate_size += source.approximate_size
    target.approximate_keys += source.approximate_keys
    target.size_known = False  # together they may be too large, though neither was written to
    deaths.absorb(store, source, storage.region, turn.kv_batch)
    get_logger().info("region merged", region=region_id, into=target.region.id)


def _finish_log(store: Store, source: Peer, request: cmdpb.CommitMergeRequest, turn: Turn) -> None:
    """Apply what the source peer has not applied of its log up to PrepareMerge: committed, for that was applied elsewhere."""
    applied = source.storage.apply_state.applied_index
    if applied >= request.commit:
        return
    carried = [eraft.entry_from_pb(entry) for entry in request.entries]
    first_carried = carried[0].index if carried else request.commit + 1
    own = source.storage.entries(applied + 1, first_carried, None) if applied + 1 < first_carried else []
    rest = [entry for entry in carried if entry.index > applied]
    store.apply_entries(source, [*own, *rest], turn, by_core=False)


def told_of_merge(store: Store, peer: Peer, target: metapb_pb2.Region) -> None:
    """Another store says that this peer's region has become a part of `target`; bury it unless the target needs it here.

    A target peer that is behind the merge needs it: CommitMerge is in the log it has yet to apply, or a snapshot that
    remembers the merge will replace both. The same goes for a region that may still split the target off, and for a target
    that a split has made here but that does not run yet.
    """
    here = store.peers.get(target.id)
    if here is not None and here.storage.is_initialized:
        if here.snapshot is None and here.region.region_epoch.version >= target.region_epoch.version:
            deaths.destroy_merged(store, peer, target)
        return
    if target.id in store.unsettled or peer.snapshot is not None:
        return
    if births.holder_of_range(store, target, besides=frozenset({peer.region.id})) is None:
        deaths.destroy_merged(store, peer, target)


def is_outrun(merged: Iterable[metapb_pb2.Region], region: metapb_pb2.Region) -> bool:
    """Whether a snapshot of `region` is from before a merge whose source has been buried here (`merged` are the results).

    Its log would go on with the CommitMerge for which the source's data is gone; a newer snapshot will come.
    """
    version = region.region_epoch.version
    return any(overlaps(one, region) and version < one.region_epoch.version for one in merged)
