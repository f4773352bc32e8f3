"""What the replicated metadata store says no with."""

from __future__ import annotations

from core_py.errors import PdError, RetryClass, StorageError


class NotLeader(PdError):
    """Another member leads, or none does. The text is the public one: clients look for it."""

    code = "PD:Member:NotLeader"
    retry = RetryClass.REFRESH_REGION


class ProposalLost(PdError):
    """The change was not made: the log went on without it. It may be proposed again."""

    code = "PD:Metastore:ProposalLost"


class OutcomeUnknown(StorageError):
    """No quorum confirmed the change in time: it may still be made, or not."""

    code = "PD:Metastore:OutcomeUnknown"


class MemberRefused(PdError):
    """A change of members that cannot be made; nothing changed."""

    code = "PD:Member:Refused"
    retry = RetryClass.NEVER
