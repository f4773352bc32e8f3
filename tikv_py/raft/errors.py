"""What the Raft core refuses, as typed errors.

Why apart from `core_py.errors`: these never reach the wire; raftstore turns them into region errors. A broken
invariant is not here: it is `core_py.errors.InvariantViolation` and stops the process.
"""

from __future__ import annotations

from core_py.errors import DbError, RetryClass


class RaftError(DbError):
    """Base of everything the Raft core refuses."""

    code = "KV:Raft:Unknown"
    retry = RetryClass.BACKOFF


class NotLeaderError(RaftError):
    """The node is not the leader; `leader_id` is the peer it believes to be, 0 when it knows none."""

    code = "KV:Raft:NotLeader"
    retry = RetryClass.REFRESH_REGION

    def __init__(self, message: str, leader_id: int = 0) -> None:
        super().__init__(message)
        self.leader_id = leader_id


class ProposalDropped(RaftError):
    """The leader did not append the proposal (transferring, too much uncommitted, conf change pending): try again."""

    code = "KV:Raft:ProposalDropped"


class ConfChangeRefused(RaftError):
    """The conf change cannot follow the present configuration; every replica refuses it alike."""

    code = "KV:Raft:ConfChangeRefused"
    retry = RetryClass.NEVER
    deterministic = True


class LogCompacted(RaftError):
    """The index lies before the first one kept: only a snapshot can stand for it."""

    code = "KV:Raft:LogCompacted"


class LogUnavailable(RaftError):
    """The index lies past the last one of the log."""

    code = "KV:Raft:LogUnavailable"


class SnapshotTemporarilyUnavailable(RaftError):
    """The snapshot is being made; the core asks again at the follower's next answer."""

    code = "KV:Raft:SnapshotTemporarilyUnavailable"
