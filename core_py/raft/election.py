"""Elections: timeouts, pre-votes, votes (paper 5.2 and 5.4.1, thesis 4.2.3, 6.2 and 9.6).

Invariants: a vote is granted at most once per term, only to a log at least as good as the own one; a follower that
heard its leader within an election timeout grants none and begins none, in any term (CheckQuorum and lease), unless
the leader itself asked for the election; a node that is no voter, or has committed conf changes to apply, begins none.

What it does not do: count ticks (`node.py`) or write votes (`Ready.hard_state`).
"""

from __future__ import annotations

from core_py.raft import replication
from core_py.raft.messages import CAMPAIGN_TRANSFER, Message, MsgType, StateRole
from core_py.raft.quorum import VoteResult
from core_py.raft.state import Raft


def begin(raft: Raft, *, transfer: bool = False) -> None:
    """Begin an election if the node may. `transfer`: on the leader's wish, without pre-vote."""
    if raft.role is StateRole.LEADER or not raft.is_promotable() or raft.log.has_unapplied_conf_change():
        return
    # The own vote breaks a lease as any other would; a node alone has no leader but itself.
    if raft.owes_silence() and not transfer and not raft.tracker.is_alone(raft.id):
        return
    if transfer:
        _ask_votes(raft, CAMPAIGN_TRANSFER)
    elif raft.config.pre_vote:
        _ask_pre_votes(raft)
    else:
        _ask_votes(raft, b"")


def _ask_pre_votes(raft: Raft) -> None:
    raft.become_pre_candidate()
    # A pre-vote promises nothing, so the own one counts at once.
    raft.tracker.record_vote(raft.id, granted=True)
    if raft.tracker.vote_result() is VoteResult.WON:
        _ask_votes(raft, b"")
    else:
        _broadcast_request(raft, MsgType.REQUEST_PRE_VOTE, raft.term + 1, b"")


def _ask_votes(raft: Raft, context: bytes) -> None:
    raft.become_candidate()
    _broadcast_request(raft, MsgType.REQUEST_VOTE, raft.term, context)


def _broadcast_request(raft: Raft, msg_type: MsgType, term: int, context: bytes) -> None:
    last_index, last_term = raft.log.last_index(), raft.log.last_term()
    commit = raft.log.committed
    commit_term = raft.log.term_or_zero(commit)
    for peer in raft.tracker.progress:
        if peer != raft.id and raft.tracker.conf.is_voter(peer):
            raft.send(
                Message(
                    msg_type,
                    peer,
                    raft.id,
                    term,
                    log_term=last_term,
                    index=last_index,
                    commit=commit,
                    commit_term=commit_term,
                    priority=raft.config.priority,
                    context=context,
                )
            )


def count_own_vote(raft: Raft) -> None:
    """The candidate's own vote may have become durable: count it."""
    durable = raft.durable_hard_state
    if raft.role is StateRole.CANDIDATE and durable.term == raft.term and durable.vote == raft.id:
        raft.tracker.record_vote(raft.id, granted=True)
        _settle(raft)


def handle_vote_response(raft: Raft, msg: Message) -> None:
    """Count an answer to this node's present election."""
    pre = msg.msg_type is MsgType.REQUEST_PRE_VOTE_RESPONSE
    if raft.role is not (StateRole.PRE_CANDIDATE if pre else StateRole.CANDIDATE):
        return
    if pre and not msg.reject and msg.term != raft.term + 1:
        return  # granted for an earlier election of this node
    if _learn_commit(raft, msg):
        return
    raft.tracker.record_vote(msg.from_, granted=not msg.reject)
    _settle(raft)


def _settle(raft: Raft) -> None:
    result = raft.tracker.vote_result()
    if result is VoteResult.LOST:
        raft.become_follower(raft.term, 0)
    elif result is VoteResult.WON and raft.role is StateRole.PRE_CANDIDATE:
        _ask_votes(raft, b"")
    elif result is VoteResult.WON:
        durable = raft.durable_hard_state
        if durable.term == raft.term and durable.vote == raft.id:
            raft.become_leader()
            replication.append_noop(raft)


def refuses_in_lease(raft: Raft, msg: Message) -> bool:
    """True if a vote must not be given because a leader may hold a lease (thesis 6.4.1)."""
    if not raft.config.check_quorum or msg.context == CAMPAIGN_TRANSFER:
        return False
    return raft.role is StateRole.LEADER or raft.owes_silence()


def handle_vote_request(raft: Raft, msg: Message) -> None:
    """Grant or refuse a vote or pre-vote; the message's term is not below the own one."""
    pre = msg.msg_type is MsgType.REQUEST_PRE_VOTE
    answer = MsgType.REQUEST_PRE_VOTE_RESPONSE if pre else MsgType.REQUEST_VOTE_RESPONSE
    free = (raft.vote == 0 and raft.leader_id == 0) or (pre and msg.term > raft.term)
    free = raft.vote == msg.from_ or (free and not refuses_in_lease(raft, msg))
    if free and raft.log.is_up_to_date(msg.index, msg.log_term) and _priority_allows(raft, msg):
        # The term of a granted pre-vote is the one asked for: the asker ignores answers of its past terms.
        raft.send(Message(answer, msg.from_, raft.id, msg.term))
        if not pre:
            raft.election_elapsed = 0
            raft.vote = msg.from_
        return
    commit = raft.log.committed
    raft.send(
        Message(
            answer,
            msg.from_,
            raft.id,
            raft.term,
            commit=commit,
            commit_term=raft.log.term_or_zero(commit),
            reject=True,
        )
    )
    _learn_commit(raft, msg)


def _priority_allows(raft: Raft, msg: Message) -> bool:
    # Only between equal logs: whoever refuses a better log cannot win its vote either, and nobody would ever lead.
    is_equal = msg.index == raft.log.last_index() and msg.log_term == raft.log.last_term()
    return not is_equal or raft.config.priority <= msg.priority


def _learn_commit(raft: Raft, msg: Message) -> bool:
    """Take over the sender's commit index if the own log has that very entry (safe by log matching).

    True if that ended the own campaign.

    A node with a committed but unapplied conf change cannot campaign; this frees it when nobody leads.
    """
    if msg.commit_term == 0 or msg.commit <= raft.log.committed or raft.role is StateRole.LEADER:
        return False
    if raft.log.match_term(msg.commit, msg.commit_term) and raft.log.commit_to(msg.commit):
        campaigns = raft.role in (StateRole.CANDIDATE, StateRole.PRE_CANDIDATE)
        if campaigns and raft.log.has_unapplied_conf_change():
            raft.become_follower(raft.term, 0)
            return True
    return False
