"""The follower's side: appends, heartbeats, snapshots, and the leader's wish to hand over (paper 5.3 and 7).

Invariants: an answer to an append or snapshot leaves only when what it promises is durable (`Raft.send`); the commit
index never passes what the leader has shown to match.
"""

from __future__ import annotations

from core_py.raft import election
from core_py.raft.confchange import check_configuration
from core_py.raft.messages import Message, MsgType, Snapshot
from core_py.raft.ready import ReadState
from core_py.raft.state import Raft


def handle_append(raft: Raft, msg: Message) -> None:
    """Take a leader's entries or refuse them with a hint where the logs may fit."""
    _heard_leader(raft, msg.from_)
    log = raft.log
    if msg.index < log.committed:
        raft.send(Message(MsgType.APPEND_RESPONSE, msg.from_, raft.id, raft.term, index=log.committed))
        return
    last = log.maybe_append(msg.index, msg.log_term, msg.entries)
    if last is not None:
        log.commit_to(min(msg.commit, last))
        raft.send(Message(MsgType.APPEND_RESPONSE, msg.from_, raft.id, raft.term, index=last))
        return
    hint, hint_term = log.find_conflict_by_term(msg.index, msg.log_term)
    raft.send(
        Message(
            MsgType.APPEND_RESPONSE,
            msg.from_,
            raft.id,
            raft.term,
            log_term=hint_term,
            index=msg.index,
            reject=True,
            reject_hint=hint,
        )
    )


def handle_heartbeat(raft: Raft, msg: Message) -> None:
    """The leader lives; its round number is echoed."""
    _heard_leader(raft, msg.from_)
    raft.log.commit_to(msg.commit)
    raft.send(Message(MsgType.HEARTBEAT_RESPONSE, msg.from_, raft.id, raft.term, context=msg.context))


def handle_snapshot(raft: Raft, msg: Message) -> None:
    """Take a snapshot, or answer with the commit index if it is of no use."""
    _heard_leader(raft, msg.from_)
    if msg.snapshot is not None and _restore(raft, msg.snapshot):
        index = raft.log.last_index()
    else:
        index = raft.log.committed
    raft.send(Message(MsgType.APPEND_RESPONSE, msg.from_, raft.id, raft.term, index=index))


def _restore(raft: Raft, snapshot: Snapshot) -> bool:
    meta = snapshot.meta
    if meta.index <= raft.log.committed:
        return False
    if raft.id not in meta.conf_state.members():
        return False  # an older snapshot than this node's membership: a newer one must come
    if raft.log.match_term(meta.index, meta.term):
        raft.log.commit_to(meta.index)  # the log is there already
        return False
    check_configuration(meta.conf_state)
    raft.log.restore(snapshot)
    raft.tracker.set_conf(meta.conf_state, raft.log.last_index() + 1)
    return True


def handle_timeout_now(raft: Raft, msg: Message) -> None:
    """The leader wants this node to lead: campaign at once, without pre-vote (thesis 3.10)."""
    if msg.from_ == raft.leader_id:
        election.begin(raft, transfer=True)


def handle_read_index_resp(raft: Raft, msg: Message) -> None:
    """The leader confirmed a read of this node."""
    if msg.entries:
        raft.read_states.append(ReadState(msg.index, msg.entries[0].data))


def _heard_leader(raft: Raft, leader_id: int) -> None:
    raft.election_elapsed = 0
    raft.promise_ends = raft.tick_count + raft.config.election_ticks
    raft.leader_id = leader_id
