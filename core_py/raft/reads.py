"""ReadIndex and lease over `read_only.ReadOnly`: taking reads in, sending rounds, answering (thesis 6.4).

Invariants: see `read_only.py`.
"""

from __future__ import annotations

from core_py.raft.errors import TooManyReads
from core_py.raft.messages import Entry, Message, MsgType, StateRole
from core_py.raft.progress import Progress
from core_py.raft.read_only import ReadRequest
from core_py.raft.ready import ReadState
from core_py.raft.state import Raft


def request(raft: Raft, context: bytes, from_: int) -> None:
    """Take in a read at the leader. Raises TooManyReads."""
    read_only = raft.read_only
    if read_only.waiting() >= raft.config.max_pending_reads:
        raise TooManyReads(f"{read_only.waiting()} reads wait already; ask again")
    if not raft.commit_to_current_term():
        # The commit index may be behind what an older leader has answered for.
        read_only.postponed.append((context, from_))
    elif raft.tracker.is_alone(raft.id) or (raft.config.read_only_lease and in_lease(raft)):
        _answer(raft, raft.log.committed, context, from_)
    else:
        read_only.pending.append(ReadRequest(read_only.round + 1, raft.log.committed, context, from_))
        raft.heartbeat_due = True


def release_postponed(raft: Raft) -> None:
    """Something was committed: if it is of this term, take in the reads that waited for it."""
    postponed = raft.read_only.postponed
    if postponed and raft.commit_to_current_term():
        waiting = list(postponed)
        postponed.clear()
        for context, from_ in waiting:
            request(raft, context, from_)


def in_lease(raft: Raft) -> bool:
    """True if no other node can be leader: a quorum answered a round sent less than an election timeout ago."""
    read_only = raft.read_only
    if raft.role is not StateRole.LEADER or not raft.config.check_quorum:
        return False
    if raft.lead_transferee or read_only.lease_broken:
        return False
    if raft.tracker.is_alone(raft.id):
        return True
    sent = read_only.lease_tick
    return sent is not None and raft.tick_count - sent < raft.config.election_ticks - 1


def broadcast_heartbeat(raft: Raft) -> None:
    """Send a numbered round to every peer."""
    raft.heartbeat_due = False
    number = raft.read_only.begin_round(raft.tick_count, raft.config.election_ticks)
    context = number.to_bytes(8, "big")
    committed = raft.log.committed
    for peer, progress in raft.tracker.progress.items():
        if peer != raft.id:
            # Not past match: the follower may not have the entry yet.
            commit = min(progress.match, committed)
            raft.messages.append(Message(MsgType.HEARTBEAT, peer, raft.id, raft.term, commit=commit, context=context))


def note_answer(raft: Raft, progress: Progress, context: bytes) -> None:
    """A peer answered the round in `context`."""
    number = int.from_bytes(context, "big") if len(context) == 8 else 0
    if progress.acked_round < number <= raft.read_only.round:
        progress.acked_round = number
        confirm(raft)


def confirm(raft: Raft) -> None:
    """Answer the reads whose round a quorum has answered."""
    read_only = raft.read_only
    for read in read_only.quorum_answered(raft.tracker.acked_round(raft.id, read_only.round)):
        _answer(raft, read.read_index, read.context, read.from_)


def _answer(raft: Raft, index: int, context: bytes, from_: int) -> None:
    if from_ == raft.id:
        raft.read_states.append(ReadState(index, context))
    else:
        entry = Entry(0, 0, context)
        raft.send(Message(MsgType.READ_INDEX_RESP, from_, raft.id, raft.term, index=index, entries=(entry,)))
