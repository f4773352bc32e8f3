"""The values Raft nodes exchange and store: messages, entries, configurations, snapshots.

Why own dataclasses and not protobuf: the core must be importable without the wire, and a frozen slotted value is
cheaper to make and compare than a generated message. raftstore converts at its edge; the numbers below are those of
eraftpb, so the conversion is a copy of fields.

Invariants: all values are immutable; `ConfState` tuples are sorted and without duplicates when made by this package;
index 0 and term 0 mean "none".

What it does not do: encode or decode anything. Tests: tests/unit/raft.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

CAMPAIGN_TRANSFER = b"CampaignTransfer"
"""Context of a vote request made on the leader's own wish: voters in lease must answer it (thesis 4.2.3)."""


class MsgType(enum.IntEnum):
    """Message kinds with eraftpb's numbers; kinds a node would only send to itself are methods of `RawNode` instead."""

    APPEND = 3
    APPEND_RESPONSE = 4
    REQUEST_VOTE = 5
    REQUEST_VOTE_RESPONSE = 6
    SNAPSHOT = 7
    HEARTBEAT = 8
    HEARTBEAT_RESPONSE = 9
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESP = 16
    REQUEST_PRE_VOTE = 17
    REQUEST_PRE_VOTE_RESPONSE = 18


class EntryType(enum.IntEnum):
    """What an entry's data is; the core reads only this, never the data."""

    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


class StateRole(enum.Enum):
    """The role of a node in its term (paper figure 4, with the pre-vote role of thesis 9.6)."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class Entry:
    """One log entry. Empty `data` of type NORMAL is the no-op of a new leader; of CONF_CHANGE_V2 it leaves joint."""

    term: int
    index: int
    data: bytes = b""
    entry_type: EntryType = EntryType.NORMAL
    context: bytes = b""


@dataclass(frozen=True, slots=True)
class ConfState:
    """A configuration: who votes and who only learns. It is joint while `voters_outgoing` is not empty (thesis 4.3).

    `learners_next` are outgoing voters that become learners when the joint configuration is left.
    """

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False

    @property
    def is_joint(self) -> bool:
        """True between entering and leaving a joint configuration."""
        return bool(self.voters_outgoing)

    def members(self) -> tuple[int, ...]:
        """Every peer of the configuration, sorted."""
        return tuple(sorted({*self.voters, *self.learners, *self.voters_outgoing, *self.learners_next}))

    def is_voter(self, peer_id: int) -> bool:
        """True if the peer votes in either half of the configuration."""
        return peer_id in self.voters or peer_id in self.voters_outgoing


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """The log position a snapshot stands for, and the configuration at that position."""

    index: int
    term: int
    conf_state: ConfState


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state machine image; `data` is the owner's (raftstore: a description, the files travel apart)."""

    meta: SnapshotMeta
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Message:
    """One Raft message; the meaning of the fields per kind is eraftpb's.

    `log_term` is the term of the entry at `index` (of the entry at `reject_hint` in a rejection). `context` carries the
    heartbeat round, or CAMPAIGN_TRANSFER. READ_INDEX and its answer carry the caller's context as data of one entry.
    """

    msg_type: MsgType
    to: int
    from_: int
    term: int = 0
    log_term: int = 0
    index: int = 0
    entries: tuple[Entry, ...] = ()
    commit: int = 0
    commit_term: int = 0
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: int = 0
    request_snapshot: int = 0
    priority: int = 0
    context: bytes = b""


@dataclass(frozen=True, slots=True)
class HardState:
    """What a node must remember over a crash (paper figure 2); `commit` only saves re-learning it."""

    term: int = 0
    vote: int = 0
    commit: int = 0


class ConfChangeType(enum.IntEnum):
    """One membership step, with eraftpb's numbers."""

    ADD_NODE = 0
    REMOVE_NODE = 1
    ADD_LEARNER = 2


class ConfChangeTransition(enum.IntEnum):
    """How to go through a change, with eraftpb's numbers.

    AUTO: one change goes simply, several through a joint configuration left automatically. IMPLICIT: joint, left
    automatically. EXPLICIT: joint, left only by a proposed empty `ConfChange`.
    """

    AUTO = 0
    IMPLICIT = 1
    EXPLICIT = 2


@dataclass(frozen=True, slots=True)
class ConfChangeSingle:
    """One step of a conf change."""

    change_type: ConfChangeType
    node_id: int


@dataclass(frozen=True, slots=True)
class ConfChange:
    """A membership change; without changes it leaves the joint configuration. `context` is the proposer's."""

    changes: tuple[ConfChangeSingle, ...] = ()
    context: bytes = b""
    transition: ConfChangeTransition = field(default=ConfChangeTransition.AUTO)

    @property
    def leaves_joint(self) -> bool:
        """True for the change that ends a joint configuration."""
        return not self.changes

    @property
    def enters_joint(self) -> bool:
        """True if the change goes through a joint configuration."""
        return bool(self.changes) and (len(self.changes) > 1 or self.transition != ConfChangeTransition.AUTO)
