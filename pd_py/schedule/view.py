"""What scheduling looks at: regions, stores and options as values, and the cluster as a port.

Checkers and schedulers take a `ClusterView` and return operators; they change nothing and know no clock, so every decision can be
tested on a table of stores and regions. `pd_py.cluster` implements the port over what stores report.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from core_py.ports import Random
from pd_py.schedule.options import ScheduleOptions


class Role(enum.IntEnum):
    """metapb.PeerRole."""

    VOTER = 0
    LEARNER = 1
    INCOMING_VOTER = 2
    DEMOTING_VOTER = 3


@dataclass(frozen=True, slots=True)
class PeerView:
    """One replica."""

    peer_id: int
    store_id: int
    role: Role = Role.VOTER


@dataclass(frozen=True, slots=True)
class RegionView:
    """A region as its leader last reported it."""

    region_id: int
    start_key: bytes
    end_key: bytes
    conf_ver: int
    version: int
    peers: tuple[PeerView, ...]
    leader_store_id: int = 0
    down: frozenset[int] = frozenset()
    """Peer ids that have been silent for longer than the limit."""
    pending: frozenset[int] = frozenset()
    """Peer ids that lag behind the log."""
    size_bytes: int = 0
    keys: int = 0
    term: int = 0
    """The leader's term, 0 when unknown: of two leaders that report one epoch, the newer one is right."""
    # flow since the report before, and over how many seconds
    written_bytes: int = 0
    written_keys: int = 0
    read_bytes: int = 0
    read_keys: int = 0
    interval_s: int = 0

    def on_store(self, store_id: int) -> PeerView | None:
        """The replica on a store."""
        return next((peer for peer in self.peers if peer.store_id == store_id), None)

    def peer(self, peer_id: int) -> PeerView | None:
        """A replica by id."""
        return next((peer for peer in self.peers if peer.peer_id == peer_id), None)

    @property
    def is_joint(self) -> bool:
        """Whether the region is between two configurations."""
        return any(peer.role in (Role.INCOMING_VOTER, Role.DEMOTING_VOTER) for peer in self.peers)


class PeerKind(enum.Enum):
    """How a store holds a region, for picking one."""

    LEADER = "leader"
    FOLLOWER = "follower"
    LEARNER = "learner"
    PENDING = "pending"


class FlowKind(enum.Enum):
    """Which flow makes a peer hot."""

    READ = "read"
    WRITE = "write"


class StoreState(enum.Enum):
    """What a store is to the scheduler."""

    UP = "Up"
    DISCONNECTED = "Disconnected"
    DOWN = "Down"
    OFFLINE = "Offline"
    TOMBSTONE = "Tombstone"


@dataclass(frozen=True, slots=True)
class StoreView:
    """A store with its counts. Sizes are bytes."""

    store_id: int
    state: StoreState
    labels: tuple[tuple[str, str], ...] = ()
    region_count: int = 0
    leader_count: int = 0
    region_bytes: int = 0
    """Sum of the approximate sizes of the regions that have a replica here."""
    available_bytes: int = 1 << 40
    capacity_bytes: int = 1 << 40
    busy: bool = False
    used_bytes: int = 0
    leader_bytes: int = 0
    pending_count: int = 0
    learner_count: int = 0
    sending_snapshots: int = 0
    receiving_snapshots: int = 0
    applying_snapshots: int = 0
    slow_score: int = 1
    """1 (well) to 100 (slow), as the store reports it."""
    leader_weight: float = 1.0
    region_weight: float = 1.0
    allows_leader_in: bool = True
    """False while a scheduler (evict-leader, evict-slow-store) keeps leaders away."""
    allows_leader_out: bool = True
    """False while a scheduler (grant-leader) keeps leaders here."""

    @property
    def is_up(self) -> bool:
        """Whether it can take leaders and replicas."""
        return self.state is StoreState.UP

    def label(self, key: str) -> str:
        """The value of a label, without regard to the key's case as in the public server; empty when there is none."""
        for name, value in self.labels:
            if name == key or name.lower() == key.lower():
                return value
        return ""


@dataclass(frozen=True, slots=True)
class HotPeer:
    """A replica whose flow is noteworthy; rates are per second."""

    region_id: int
    store_id: int
    is_leader: bool
    bytes_rate: float
    keys_rate: float
    query_rate: float = 0.0
    degree: int = 0
    """For how many reports in a row it has been hot."""


@dataclass(frozen=True, slots=True)
class StoreLoad:
    """A store's flow, smoothed; rates are per second."""

    read_bytes_rate: float = 0.0
    read_keys_rate: float = 0.0
    write_bytes_rate: float = 0.0
    write_keys_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class KeyRange:
    """[start, end); an empty end is the end of the key space."""

    start: bytes = b""
    end: bytes = b""


WHOLE_RANGE = (KeyRange(),)


class ClusterView(Protocol):
    """The cluster at one moment. Nothing here costs more than what it returns, whatever the number of regions."""

    options: ScheduleOptions

    def stores(self) -> Iterable[StoreView]:
        """All stores but tombstones, by id."""
        ...

    def store(self, store_id: int) -> StoreView | None:
        """One store."""
        ...

    def region(self, region_id: int) -> RegionView | None:
        """One region."""
        ...

    def region_of(self, key: bytes) -> RegionView | None:
        """The region that holds a key."""
        ...

    def region_total(self) -> int:
        """How many regions there are."""
        ...

    def average_region_bytes(self) -> float:
        """The mean approximate size."""
        ...

    def scan(self, start: bytes, end: bytes, limit: int) -> Sequence[RegionView]:
        """Regions that touch [start, end), in key order; no limit when it is not positive."""
        ...

    def neighbours(self, region: RegionView) -> tuple[RegionView | None, RegionView | None]:
        """The regions left and right of one, where they touch it."""
        ...

    def random_regions(
        self, store_id: int, kind: PeerKind, ranges: Sequence[KeyRange], count: int, rng: Random
    ) -> Sequence[RegionView]:
        """Up to `count` regions that a store holds in this way, drawn at random from those that lie in the ranges."""
        ...

    def has_operator(self, region_id: int) -> bool:
        """Whether something is under way for a region."""
        ...

    def hot_peers(self, kind: FlowKind) -> Mapping[int, Sequence[HotPeer]]:
        """Hot replicas by store."""
        ...

    def store_load(self, store_id: int) -> StoreLoad:
        """A store's flow."""
        ...
