"""Steps of operators that change key ranges: merging a region into its neighbour, splitting one."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pd_py.schedule.influence import Influence
from pd_py.schedule.steps import fast_step_s
from pd_py.schedule.view import ClusterView, RegionView

MERGE_FACTOR = 10  # a merge waits for the source's log to be applied everywhere


class SplitPolicy(enum.IntEnum):
    """pdpb.CheckPolicy: how a store finds where to split."""

    SCAN = 0
    APPROXIMATE = 1
    USEKEY = 2


@dataclass(frozen=True, slots=True)
class MergeRegion:
    """Merge one region into its neighbour. The target carries a passive one, which only keeps other operators from it."""

    source: RegionView
    target: RegionView
    passive: bool = False

    def __str__(self) -> str:
        return f"merge region {self.source.region_id} into region {self.target.region_id}"

    def is_finished(self, region: RegionView) -> bool:
        """The target's range has grown. The source never sees its own end: it is gone then."""
        return self.passive and (region.start_key, region.end_key) != (self.target.start_key, self.target.end_key)

    def conf_ver_changed(self, region: RegionView) -> int:
        """A merge moves the version only."""
        return 0

    def problem(self, view: ClusterView, region: RegionView) -> str:
        """A merge under way is ended by its time only."""
        return ""

    def influence(self, influence: Influence, region: RegionView) -> None:
        """Every store of the target has one replica less, its leader one leader less."""
        if not self.passive:
            return
        for peer in region.peers:
            store = influence.on(peer.store_id)
            store.region_count -= 1
            store.leader_count -= int(peer.store_id == region.leader_store_id)

    def timeout_s(self, size_bytes: int) -> float:
        """Longer than other steps that move no data."""
        return fast_step_s(size_bytes) * MERGE_FACTOR


@dataclass(frozen=True, slots=True)
class SplitRegion:
    """Split a region at keys, or where the store finds the middle."""

    start_key: bytes
    end_key: bytes
    policy: SplitPolicy
    keys: tuple[bytes, ...] = ()

    def __str__(self) -> str:
        return f"split region with policy {self.policy.name}"

    def is_finished(self, region: RegionView) -> bool:
        """Its range has changed."""
        return (region.start_key, region.end_key) != (self.start_key, self.end_key)

    def conf_ver_changed(self, region: RegionView) -> int:
        """A split moves the version only."""
        return 0

    def problem(self, view: ClusterView, region: RegionView) -> str:
        """Nothing can get in its way but time."""
        return ""

    def influence(self, influence: Influence, region: RegionView) -> None:
        """Every store has one replica more, the leader's one leader more."""
        for peer in region.peers:
            store = influence.on(peer.store_id)
            store.region_count += 1
            store.leader_count += int(peer.store_id == region.leader_store_id)

    def timeout_s(self, size_bytes: int) -> float:
        """No data moves."""
        return fast_step_s(size_bytes)
