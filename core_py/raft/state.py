"""The state of one Raft node and its role changes; the rules that use it are in the modules by role.

Why state apart from rules: each rule module (`election`, `replication`, `follower`, `reads`, `membership`) is a set of
functions over this one object, so each can be read with one section of the paper at hand.

    FOLLOWER -> PRE_CANDIDATE -> CANDIDATE -> LEADER; every role -> FOLLOWER; a node alone skips waiting, not roles

Invariants: the term never decreases; at most one vote per term; a leader's term and vote are durable before it is
leader, because a candidate's own vote counts only when it is durable; messages that promise durability go to
`persisted_messages`, all others to `messages`.

What it does not do: keep time; every timer counts `RawNode.tick`.
"""

from __future__ import annotations

from core_py.errors import invariant
from core_py.raft.confchange import check_configuration
from core_py.raft.config import RaftConfig, RandomSource
from core_py.raft.log import RaftLog
from core_py.raft.messages import HardState, Message, MsgType, StateRole
from core_py.raft.read_only import ReadOnly
from core_py.raft.ready import ReadState
from core_py.raft.storage import RaftStorage
from core_py.raft.tracker import ProgressTracker

_PROMISES = frozenset((MsgType.APPEND_RESPONSE, MsgType.REQUEST_VOTE, MsgType.REQUEST_VOTE_RESPONSE))


class Raft:
    """Everything one node knows."""

    __slots__ = (
        "append_due",
        "commit_due",
        "config",
        "durable_hard_state",
        "election_elapsed",
        "heartbeat_due",
        "heartbeat_elapsed",
        "id",
        "lead_transferee",
        "leader_id",
        "log",
        "messages",
        "pending_conf_index",
        "persisted_messages",
        "promise_ends",
        "randomized_timeout",
        "read_only",
        "read_states",
        "rng",
        "role",
        "term",
        "tick_count",
        "tracker",
        "uncommitted_bytes",
        "vote",
    )

    def __init__(self, config: RaftConfig, storage: RaftStorage, rng: RandomSource) -> None:
        config.validate()
        hard_state, conf_state = storage.initial_state()
        self.id = config.id
        self.config = config
        self.rng = rng
        self.log = RaftLog(storage, hard_state.commit, config.applied)
        self.tracker = ProgressTracker(config.max_inflight_msgs, config.max_inflight_bytes)
        check_configuration(conf_state)
        self.tracker.set_conf(conf_state, self.log.last_index() + 1)
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.durable_hard_state = hard_state  # what a crash would leave behind
        self.role = StateRole.FOLLOWER
        self.leader_id = 0
        self.messages: list[Message] = []
        self.persisted_messages: list[Message] = []
        self.read_states: list[ReadState] = []
        self.read_only = ReadOnly()
        self.tick_count = 0
        self.election_elapsed = 0  # ticks; of a leader: since the last CheckQuorum
        self.heartbeat_elapsed = 0  # ticks; only of a leader
        self.randomized_timeout = 0  # ticks
        # The tick until which this node keeps silent for a leader it heard, or may have heard before a restart.
        self.promise_ends = config.election_ticks if config.restarted else 0
        self.lead_transferee = 0
        self.pending_conf_index = 0  # a leader proposes no conf change before this index is applied
        self.uncommitted_bytes = 0  # of entries this leader appended and did not hand out as committed yet
        self.append_due = False  # flags that one broadcast per Ready serves
        self.commit_due = False
        self.heartbeat_due = False
        self._reset(self.term)

    def hard_state(self) -> HardState:
        """What must be durable now."""
        return HardState(self.term, self.vote, self.log.committed)

    def is_promotable(self) -> bool:
        """True if the node may begin elections: it votes, and its log is not waiting for a snapshot."""
        return self.tracker.conf.is_voter(self.id) and not self.log.has_pending_snapshot

    def commit_to_current_term(self) -> bool:
        """True if an entry of the node's own term is committed."""
        return self.log.term_or_zero(self.log.committed) == self.term

    def owes_silence(self) -> bool:
        """True while a leader may hold a lease because of this node, which then neither campaigns nor votes.

        The promise is counted in ticks and outlives terms and roles: the leader learns of neither.
        """
        return self.config.check_quorum and self.tick_count < self.promise_ends

    def has_pending_conf(self) -> bool:
        """True while a conf change may be in the log and not applied (thesis 4.1: one at a time)."""
        return self.pending_conf_index > self.log.applied

    def send(self, message: Message) -> None:
        """Queue a message: at once, or after persistence if it promises something."""
        if message.msg_type in _PROMISES:
            self.persisted_messages.append(message)
        else:
            self.messages.append(message)

    def _reset(self, term: int) -> None:
        if self.term != term:
            invariant(term > self.term, f"term goes back from {self.term} to {term}")
            self.term = term
            self.vote = 0
        self.leader_id = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_timeout = self.rng.randrange(self.config.min_timeout_ticks, self.config.max_timeout_ticks)
        self.lead_transferee = 0
        self.pending_conf_index = 0
        self.uncommitted_bytes = 0
        self.append_due = self.commit_due = self.heartbeat_due = False
        self.read_only = ReadOnly()
        self.tracker.votes.clear()
        next_index = self.log.last_index() + 1
        for progress in self.tracker.progress.values():
            progress.reset(next_index)

    def become_follower(self, term: int, leader_id: int) -> None:
        """Follow in `term`, whose leader may be unknown (0)."""
        self._reset(term)
        self.role = StateRole.FOLLOWER
        self.leader_id = leader_id

    def become_pre_candidate(self) -> None:
        """Ask whether an election could be won, without disturbing terms (thesis 9.6)."""
        invariant(self.role is not StateRole.LEADER, "a leader cannot become pre-candidate")
        self.role = StateRole.PRE_CANDIDATE
        self.tracker.votes.clear()
        # Without a leader in mind, so that other nodes' pre-votes are not refused because of a lost one.
        self.leader_id = 0

    def become_candidate(self) -> None:
        """Begin an election in a new term; the own vote counts when it is durable."""
        invariant(self.role is not StateRole.LEADER, "a leader cannot become candidate")
        self._reset(self.term + 1)
        self.role = StateRole.CANDIDATE
        self.vote = self.id

    def become_leader(self) -> None:
        """Lead the term that was won; the caller appends the no-op."""
        invariant(self.role is StateRole.CANDIDATE, f"{self.role.value} cannot become leader")
        durable = self.durable_hard_state
        alone_or_voted = durable.term == self.term and durable.vote == self.id
        invariant(alone_or_voted, f"leader of term {self.term} with the durable state {durable}")
        self._reset(self.term)
        self.role = StateRole.LEADER
        self.leader_id = self.id
        # Any entry behind the commit index may be a conf change; none is proposed until all of them are applied.
        self.pending_conf_index = self.log.last_index()
        own = self.tracker.progress[self.id]
        own.match = self.log.persisted
        own.become_replicate()
        own.next = self.log.last_index() + 1
        own.recent_active = True

    def check_invariants(self) -> None:
        """Raise InvariantViolation if the state is impossible."""
        self.log.check_invariants()
        self.tracker.check_invariants()
        check_configuration(self.tracker.conf)
        last = self.log.last_index()
        invariant(self.log.last_term() <= self.term, f"log of term {self.log.last_term()} in term {self.term}")
        invariant(self.durable_hard_state.term <= self.term, "durable term ahead of the term")
        is_leader = self.role is StateRole.LEADER
        invariant(is_leader == (self.leader_id == self.id), f"{self.role.value} with leader {self.leader_id}")
        if not is_leader:
            invariant(self.lead_transferee == 0 and self.read_only.waiting() == 0, "leader's work without leadership")
            return
        invariant(self.vote == self.id, f"leader of term {self.term} voted for {self.vote}")
        own = self.tracker.progress.get(self.id)
        invariant(own is None or own.match <= self.log.persisted, "leader counts entries it may lose")
        for peer, progress in self.tracker.progress.items():
            invariant(progress.match <= last, f"peer {peer} matches {progress.match} past the log's end {last}")
