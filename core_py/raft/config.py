"""The settings of one Raft node, checked before use.

Why ticks: the core knows no clock; the owner says what a tick is (TiKV: 1 s), so tests and hibernation are free.

Invariants: heartbeat < election; the randomized election timeout never begins before `election_ticks`, on which the
leader lease relies; a lease needs CheckQuorum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from core_py.errors import ConfigError


class RandomSource(Protocol):
    """The part of `random.Random` that election timeouts need."""

    def randrange(self, start: int, stop: int) -> int:
        """A number of [start, stop)."""


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Settings of one node. Byte limits count entry data only.

    `applied` is the last index the state machine holds at start. `restarted` says that the peer existed before this
    process: it then refuses votes for its first election timeout, because it may have promised a lease it forgot.
    """

    id: int
    election_ticks: int = 10
    heartbeat_ticks: int = 2
    min_election_ticks: int = 0  # 0: election_ticks
    max_election_ticks: int = 0  # exclusive; 0: 2 * election_ticks
    max_entry_bytes: int = 8 << 20  # a larger proposal is refused
    max_bytes_per_msg: int = 1 << 20  # one entry is sent however large
    max_inflight_msgs: int = 256
    max_inflight_bytes: int = 64 << 20
    max_uncommitted_bytes: int = 64 << 20
    max_apply_bytes: int = 16 << 20  # of committed entries in one Ready; at least one entry is given
    max_pending_reads: int = 4096  # past it read_index is dropped, the caller asks again
    pre_vote: bool = True
    check_quorum: bool = True
    read_only_lease: bool = True
    applied: int = 0
    priority: int = 0
    restarted: bool = False

    @property
    def min_timeout_ticks(self) -> int:
        """The shortest randomized election timeout."""
        return self.min_election_ticks or self.election_ticks

    @property
    def max_timeout_ticks(self) -> int:
        """One past the longest randomized election timeout."""
        return self.max_election_ticks or 2 * self.election_ticks

    def validate(self) -> None:
        """Raise ConfigError naming the first setting that breaks a rule."""
        rules = (
            (self.id > 0, "id must be positive: 0 means no peer"),
            (self.heartbeat_ticks > 0, "heartbeat_ticks must be positive"),
            (self.election_ticks > self.heartbeat_ticks, "election_ticks must be greater than heartbeat_ticks"),
            (self.min_timeout_ticks >= self.election_ticks, "min_election_ticks must not be below election_ticks"),
            (self.max_timeout_ticks > self.min_timeout_ticks, "max_election_ticks must be above min_election_ticks"),
            (self.max_entry_bytes > 0, "max_entry_bytes must be positive"),
            (self.max_bytes_per_msg >= 0, "max_bytes_per_msg must not be negative"),
            (self.max_inflight_msgs > 0, "max_inflight_msgs must be positive"),
            (self.max_inflight_bytes > 0, "max_inflight_bytes must be positive"),
            (self.max_uncommitted_bytes > 0, "max_uncommitted_bytes must be positive"),
            (self.max_pending_reads > 0, "max_pending_reads must be positive"),
            (self.check_quorum or not self.read_only_lease, "read_only_lease needs check_quorum"),
        )
        for holds, message in rules:
            if not holds:
                raise ConfigError(f"raft peer {self.id}: {message}")
