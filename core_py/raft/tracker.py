"""The configuration in force together with the progress of each of its peers and the votes of the present election.

Why one place: every quorum question (commit, vote, activity, heartbeat round) must be asked of the same configuration.

Invariants: `progress` has exactly the members of `conf`, in ascending order of id, so that iteration is deterministic;
a peer's vote is recorded once per election.
"""

from __future__ import annotations

from core_py.errors import invariant
from core_py.raft.messages import ConfState
from core_py.raft.progress import Progress
from core_py.raft.quorum import VoteResult, joint_index, joint_vote


class ProgressTracker:
    """Configuration, progress and votes."""

    __slots__ = ("_max_inflight", "_max_inflight_bytes", "conf", "progress", "votes")

    def __init__(self, max_inflight: int, max_inflight_bytes: int) -> None:
        self._max_inflight = max_inflight
        self._max_inflight_bytes = max_inflight_bytes
        self.conf = ConfState()
        self.progress: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}

    def set_conf(self, conf: ConfState, next_index: int) -> None:
        """Take a configuration into force; new peers are probed at `next_index`."""
        old = self.progress
        self.conf = conf
        self.progress = {}
        for peer in conf.members():
            known = old.get(peer)
            if known is None:
                known = Progress(next_index, self._max_inflight, self._max_inflight_bytes)
                # A peer that never had the time to answer must not count against CheckQuorum.
                known.recent_active = True
            self.progress[peer] = known

    def committed_index(self) -> int:
        """The greatest index that a quorum holds durably."""
        matches = {peer: progress.match for peer, progress in self.progress.items()}
        return joint_index(self.conf.voters, self.conf.voters_outgoing, matches)

    def acked_round(self, own_id: int, last_round: int) -> int:
        """The greatest heartbeat round that a quorum answered; the leader itself has answered all."""
        rounds = {peer: progress.acked_round for peer, progress in self.progress.items()}
        rounds[own_id] = last_round
        return joint_index(self.conf.voters, self.conf.voters_outgoing, rounds)

    def take_quorum_active(self, own_id: int) -> bool:
        """Whether a quorum was heard since the last call, which also begins a new period (thesis 6.2)."""
        active: dict[int, bool] = {}
        for peer, progress in self.progress.items():
            active[peer] = progress.recent_active or peer == own_id
            progress.recent_active = False
        return joint_vote(self.conf.voters, self.conf.voters_outgoing, active) is VoteResult.WON

    def record_vote(self, peer: int, granted: bool) -> None:
        """Note a vote; a second one of the same peer is ignored."""
        self.votes.setdefault(peer, granted)

    def vote_result(self) -> VoteResult:
        """The state of the present election."""
        return joint_vote(self.conf.voters, self.conf.voters_outgoing, self.votes)

    def is_alone(self, own_id: int) -> bool:
        """True if the peer is a quorum by itself."""
        return self.conf.voters == (own_id,) and self.conf.voters_outgoing in ((), (own_id,))

    def check_invariants(self) -> None:
        """Raise InvariantViolation if the state is impossible."""
        invariant(tuple(self.progress) == self.conf.members(), "progress does not follow the configuration")
        for progress in self.progress.values():
            progress.check_invariants()
