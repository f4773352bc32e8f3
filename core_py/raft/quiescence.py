"""Standing still: when a group has nothing left to say, its owner may stop ticking it until somebody speaks.

Why here: only the core knows that nothing is owed to anybody, and what a pause does to its counters.

Invariants: a leader that stood still has no lease until a quorum answers it anew, because its ticks did not count the
pause; a follower takes the pause into its silence, so that it refuses votes for no longer than it promised, and no shorter.

What it does not do: detect that the leader's machine died meanwhile; the owner watches machines, not groups.
"""

from __future__ import annotations

from core_py.raft.messages import StateRole
from core_py.raft.progress import ProgressState
from core_py.raft.state import Raft


def is_settled(raft: Raft) -> bool:
    """True if nothing is under way at this node; of a leader also: every member has the whole log."""
    log = raft.log
    last = log.last_index()
    if not log.applied == log.committed == log.persisted == last or log.has_pending_snapshot:
        return False
    if raft.role is StateRole.FOLLOWER:
        return raft.leader_id != 0
    if raft.role is not StateRole.LEADER or raft.lead_transferee or raft.has_pending_conf():
        return False
    if raft.read_only.waiting() or raft.tracker.conf.is_joint:
        return False
    return all(
        progress.match == last and progress.state is ProgressState.REPLICATE
        for progress in raft.tracker.progress.values()
    )


def fall_asleep(raft: Raft) -> None:
    """No ticks will come until `wake`."""
    raft.read_only.lease_tick = None
    raft.read_only.sent.clear()


def wake(raft: Raft, elapsed_ticks: int) -> None:
    """Ticks come again, after a pause worth `elapsed_ticks`."""
    raft.promise_ends -= elapsed_ticks
    if raft.role is StateRole.LEADER:
        # The members were not asked during the pause: a whole period passes before silence counts against them.
        raft.election_elapsed = 0
        raft.heartbeat_due = True
    else:
        raft.election_elapsed = max(
            raft.election_elapsed, min(raft.election_elapsed + elapsed_ticks, raft.config.election_ticks)
        )
