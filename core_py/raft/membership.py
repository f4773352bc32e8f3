"""Conf changes in force and leader transfer (thesis chapter 4 and 3.10).

Invariants: at most one conf change lies unapplied in the log; a leader that is no voter any more steps down when it
applies that; a transfer lasts at most one election timeout, during which nothing is proposed.
"""

from __future__ import annotations

from core_py.raft import reads, replication
from core_py.raft.confchange import apply_change
from core_py.raft.errors import ConfChangePending
from core_py.raft.messages import ConfChange, ConfState, EntryType, StateRole
from core_py.raft.state import Raft


def propose(raft: Raft, change: ConfChange, data: bytes, context: bytes) -> int:
    """Append a conf change at the leader; its index. Raises ProposalDropped, EntryTooLarge, ConfChangeRefused."""
    if raft.has_pending_conf():
        raise ConfChangePending(
            f"conf change at or before {raft.pending_conf_index} may be unapplied (applied {raft.log.applied})"
        )
    apply_change(raft.tracker.conf, change)  # refuse now what every replica would refuse at apply
    is_v1 = len(change.changes) == 1 and not change.enters_joint
    index = replication.append_entry(raft, data, EntryType.CONF_CHANGE if is_v1 else EntryType.CONF_CHANGE_V2, context)
    raft.pending_conf_index = index
    return index


def apply(raft: Raft, change: ConfChange) -> ConfState:
    """Take a committed conf change into force. Raises ConfChangeRefused and changes nothing then."""
    if raft.log.has_pending_snapshot:
        # The entry lies before the snapshot, whose configuration is in force already and contains the change.
        return raft.tracker.conf
    conf = apply_change(raft.tracker.conf, change)
    raft.tracker.set_conf(conf, raft.log.last_index() + 1)
    if raft.role is StateRole.LEADER:
        _leader_switched(raft, conf)
    return conf


def _leader_switched(raft: Raft, conf: ConfState) -> None:
    if not conf.is_voter(raft.id):
        # The commit of the removal is on its way to the others; they elect among themselves.
        replication.flush(raft)
        raft.become_follower(raft.term, 0)
        return
    # A round answered under the old configuration is no lease under the new one.
    raft.read_only.lease_tick = None
    if raft.lead_transferee and not conf.is_voter(raft.lead_transferee):
        raft.lead_transferee = 0
    replication.maybe_commit(raft)  # a smaller quorum may hold more
    raft.append_due = raft.commit_due = True  # new peers are probed at once
    reads.confirm(raft)
    if raft.read_only.pending:
        raft.heartbeat_due = True


def maybe_leave_joint(raft: Raft) -> None:
    """Propose the end of an automatic joint configuration once its entry is applied."""
    conf = raft.tracker.conf
    if raft.role is StateRole.LEADER and conf.is_joint and conf.auto_leave and not raft.has_pending_conf():
        raft.pending_conf_index = replication.append_entry(raft, b"", EntryType.CONF_CHANGE_V2, b"")


def begin_transfer(raft: Raft, peer: int) -> None:
    """Bring `peer` up to date, then ask it to campaign. A learner, a stranger or the leader itself is ignored."""
    progress = raft.tracker.progress.get(peer)
    if progress is None or peer in (raft.id, raft.lead_transferee) or not raft.tracker.conf.is_voter(peer):
        return
    raft.lead_transferee = peer
    raft.election_elapsed = 0  # the transfer has one election timeout
    if progress.match == raft.log.last_index():
        replication.send_timeout_now(raft, peer)
    else:
        progress.probe_sent = False
        replication.send_append(raft, peer, progress, True)  # noqa: FBT003
