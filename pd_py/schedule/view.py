"""What scheduling looks at: regions, stores and options as values, and the cluster as a port.

Checkers and schedulers take a `ClusterView` and return operators; they change nothing and know no clock, so every decision can be
tested on a table of stores and regions.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol


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

    def on_store(self, store_id: int) -> PeerView | None:
        """The replica on a store."""
        return next((peer for peer in self.peers if peer.store_id == store_id), None)

    def peer(self, peer_id: int) -> PeerView | None:
        """A replica by id."""
        return next((peer for peer in self.peers if peer.peer_id == peer_id), None)


class StoreState(enum.Enum):
    """What a store is to the scheduler."""

    UP = "Up"
    DISCONNECTED = "Disconnected"
    DOWN = "Down"
    OFFLINE = "Offline"
    TOMBSTONE = "Tombstone"


@dataclass(frozen=True, slots=True)
class StoreView:
    """A store with its counts."""

    store_id: int
    state: StoreState
    labels: tuple[tuple[str, str], ...] = ()
    region_count: int = 0
    leader_count: int = 0
    region_bytes: int = 0
    available_bytes: int = 1 << 40
    capacity_bytes: int = 1 << 40
    busy: bool = False

    @property
    def is_up(self) -> bool:
        """Whether it can take leaders and replicas."""
        return self.state is StoreState.UP


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """What operators of the cluster can set."""

    max_replicas: int = 3
    location_labels: tuple[str, ...] = ()
    low_space_ratio: float = 0.8
    leader_tolerance: int = 1


class ClusterView(Protocol):
    """The cluster at one moment."""

    options: ScheduleOptions

    def stores(self) -> Iterable[StoreView]:
        """All stores but tombstones, by id."""
        ...

    def store(self, store_id: int) -> StoreView | None:
        """One store."""
        ...

    def regions(self) -> Iterable[RegionView]:
        """All regions, by start key."""
        ...

    def regions_led_by(self, store_id: int) -> Iterable[RegionView]:
        """Regions whose leader is on a store."""
        ...

    def has_operator(self, region_id: int) -> bool:
        """Whether something is under way for a region."""
        ...


@dataclass(slots=True)
class TableView:
    """A cluster view over plain tables, for tests and for snapshots of the real one."""

    store_table: dict[int, StoreView]
    region_table: list[RegionView]
    options: ScheduleOptions = field(default_factory=ScheduleOptions)
    busy_regions: frozenset[int] = frozenset()

    def stores(self) -> Iterable[StoreView]:
        """All stores."""
        return [self.store_table[store_id] for store_id in sorted(self.store_table)]

    def store(self, store_id: int) -> StoreView | None:
        """One store."""
        return self.store_table.get(store_id)

    def regions(self) -> Iterable[RegionView]:
        """All regions."""
        return self.region_table

    def regions_led_by(self, store_id: int) -> Iterable[RegionView]:
        """Regions led from a store."""
        return [region for region in self.region_table if region.leader_store_id == store_id]

    def has_operator(self, region_id: int) -> bool:
        """Whether a region is busy."""
        return region_id in self.busy_regions
