"""Taking in one message: terms first, then the rule for (role, kind).

Why two stages: what a term does to a node is the same for all kinds (paper 5.1), with the exceptions that PreVote and
CheckQuorum need; what is left is a table lookup.

Invariants: after the first stage the message is of the node's own term, or a (pre-)vote message, or one without term
(READ_INDEX and TRANSFER_LEADER come from followers and concern whichever leader they reach).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from core_py.errors import InvariantViolation
from core_py.raft import election, follower, membership, reads, replication
from core_py.raft.errors import TooManyReads
from core_py.raft.messages import Message, MsgType, StateRole
from core_py.raft.state import Raft

_FROM_LEADER = frozenset((MsgType.APPEND, MsgType.HEARTBEAT, MsgType.SNAPSHOT))


def step(raft: Raft, msg: Message) -> None:
    """Take in a message."""
    if msg.term > raft.term:
        if not _enter_term(raft, msg):
            return
    elif msg.term < raft.term and msg.term != 0:
        _answer_stale(raft, msg)
        return
    kind = msg.msg_type
    if kind is MsgType.REQUEST_VOTE or kind is MsgType.REQUEST_PRE_VOTE:
        election.handle_vote_request(raft, msg)
        return
    if kind in _FROM_LEADER:
        if raft.role is StateRole.LEADER:
            raise InvariantViolation(f"peers {raft.id} and {msg.from_} both lead term {raft.term}")
        if raft.role is not StateRole.FOLLOWER:
            raft.become_follower(raft.term, msg.from_)
    handler = _HANDLERS[raft.role].get(kind)
    if handler is not None:
        handler(raft, msg)


def _enter_term(raft: Raft, msg: Message) -> bool:
    """A message of a higher term: follow it there if its kind asks for it; False if it must be ignored."""
    kind = msg.msg_type
    if kind is MsgType.REQUEST_VOTE or kind is MsgType.REQUEST_PRE_VOTE:
        if election.refuses_in_lease(raft, msg):
            return False
        if kind is MsgType.REQUEST_PRE_VOTE:
            return True
    elif kind is MsgType.REQUEST_PRE_VOTE_RESPONSE and not msg.reject:
        return True  # granted for a term this node has not entered yet
    raft.become_follower(msg.term, msg.from_ if kind in _FROM_LEADER else 0)
    return True


def _answer_stale(raft: Raft, msg: Message) -> None:
    """A message of a lower term gets an answer only where silence would keep its sender stuck."""
    kind = msg.msg_type
    if kind in _FROM_LEADER:
        # Under PreVote, or as a learner, this node cannot depose an old leader by campaigning: tell it (paper 5.1).
        raft.send(Message(MsgType.APPEND_RESPONSE, msg.from_, raft.id, raft.term))
    elif kind is MsgType.REQUEST_PRE_VOTE:
        raft.send(Message(MsgType.REQUEST_PRE_VOTE_RESPONSE, msg.from_, raft.id, raft.term, reject=True))


def _read_at_leader(raft: Raft, msg: Message) -> None:
    if msg.entries:
        try:
            reads.request(raft, msg.entries[0].data, msg.from_)
        except TooManyReads:
            return  # the asker asks again, as for any lost message


def _transfer_at_leader(raft: Raft, msg: Message) -> None:
    membership.begin_transfer(raft, msg.from_)


_Handler = Callable[[Raft, Message], None]
_CANDIDATE: Mapping[MsgType, _Handler] = {
    MsgType.REQUEST_VOTE_RESPONSE: election.handle_vote_response,
    MsgType.REQUEST_PRE_VOTE_RESPONSE: election.handle_vote_response,
}
_HANDLERS: Mapping[StateRole, Mapping[MsgType, _Handler]] = {
    StateRole.FOLLOWER: {
        MsgType.APPEND: follower.handle_append,
        MsgType.HEARTBEAT: follower.handle_heartbeat,
        MsgType.SNAPSHOT: follower.handle_snapshot,
        MsgType.TIMEOUT_NOW: follower.handle_timeout_now,
        MsgType.READ_INDEX_RESP: follower.handle_read_index_resp,
    },
    StateRole.PRE_CANDIDATE: _CANDIDATE,
    StateRole.CANDIDATE: _CANDIDATE,
    StateRole.LEADER: {
        MsgType.APPEND_RESPONSE: replication.handle_append_response,
        MsgType.HEARTBEAT_RESPONSE: replication.handle_heartbeat_response,
        MsgType.READ_INDEX: _read_at_leader,
        MsgType.TRANSFER_LEADER: _transfer_at_leader,
    },
}
