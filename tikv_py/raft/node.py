"""The signatures of `RawNode`, against which drivers are typed."""

from __future__ import annotations

from tikv_py.raft.config import RaftConfig, RandomSource
from tikv_py.raft.messages import ConfChange, ConfState, Message, StateRole
from tikv_py.raft.ready import Ready
from tikv_py.raft.storage import RaftStorage


class RawNode:
    """One Raft node; see `ready.py` for the order in which its work is done."""

    id: int
    term: int
    role: StateRole
    leader_id: int
    applied: int
    committed: int
    persisted: int
    last_index: int
    conf_state: ConfState

    def __init__(self, config: RaftConfig, storage: RaftStorage, rng: RandomSource) -> None:
        raise NotImplementedError

    def tick(self) -> None:
        """One tick of logical time."""
        raise NotImplementedError

    def step(self, msg: Message) -> None:
        """Take in a message of another node."""
        raise NotImplementedError

    def campaign(self) -> None:
        """Begin an election now."""
        raise NotImplementedError

    def propose(self, data: bytes, context: bytes = b"") -> int:
        """Append data; the index it got. Raises NotLeaderError, ProposalDropped."""
        raise NotImplementedError

    def propose_conf_change(self, change: ConfChange, data: bytes, context: bytes = b"") -> int:
        """Append an encoded conf change; the index it got. Raises NotLeaderError, ProposalDropped."""
        raise NotImplementedError

    def apply_conf_change(self, change: ConfChange) -> ConfState:
        """Take a committed conf change into force. Raises ConfChangeRefused, then nothing has changed."""
        raise NotImplementedError

    def transfer_leader(self, peer_id: int) -> None:
        """Hand leadership to a voter."""
        raise NotImplementedError

    def read_index(self, context: bytes) -> None:
        """Ask for a safe read index. Raises NotLeaderError, ProposalDropped."""
        raise NotImplementedError

    def report_unreachable(self, peer_id: int) -> None:
        """Messages to the peer are being lost."""
        raise NotImplementedError

    def report_snapshot(self, peer_id: int, ok: bool) -> None:
        """The snapshot sent to the peer was delivered or failed."""
        raise NotImplementedError

    def has_ready(self) -> bool:
        """True if `ready` has something to give."""
        raise NotImplementedError

    def ready(self) -> Ready:
        """Take the work there is."""
        raise NotImplementedError

    def on_persist(self, number: int) -> None:
        """All Readys up to this number are durable."""
        raise NotImplementedError

    def advance_apply_to(self, index: int) -> None:
        """The state machine has applied up to index."""
        raise NotImplementedError

    def in_lease(self) -> bool:
        """True if no other leader can exist within the lease."""
        raise NotImplementedError

    def commit_to_current_term(self) -> bool:
        """True if an entry of the node's own term is committed."""
        raise NotImplementedError

    def check_invariants(self) -> None:
        """Raise InvariantViolation if the state is impossible."""
        raise NotImplementedError
