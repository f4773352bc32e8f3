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
    """The leader did not take the proposal now; each subclass is a reason. Nothing was appended: try again."""

    code = "KV:Raft:ProposalDropped"


class TransferInProgress(ProposalDropped):
    """Leadership is being handed to `transferee`: another peer leads in a moment, or this one again after a timeout."""

    code = "KV:Raft:TransferInProgress"

    def __init__(self, message: str, transferee: int) -> None:
        super().__init__(message)
        self.transferee = transferee


class TooMuchUncommitted(ProposalDropped):
    """The entries that wait for a quorum fill the limit: the group is slower than its clients, or has no quorum."""

    code = "KV:Raft:TooMuchUncommitted"


class ConfChangePending(ProposalDropped):
    """An earlier conf change may be in the log and not applied (thesis 4.1: one at a time)."""

    code = "KV:Raft:ConfChangePending"


class TooManyReads(ProposalDropped):
    """The reads that wait for a quorum fill the limit."""

    code = "KV:Raft:TooManyReads"


class EntryTooLarge(RaftError):
    """The entry of `size_bytes` of data exceeds the limit and would hold up everything behind it: propose less at once."""

    code = "KV:Raft:EntryTooLarge"
    retry = RetryClass.NEVER

    def __init__(self, message: str, size_bytes: int) -> None:
        super().__init__(message)
        self.size_bytes = size_bytes


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
    """The snapshot cannot be made yet; the core asks again when it next wants to send something to the follower."""

    code = "KV:Raft:SnapshotTemporarilyUnavailable"
