"""Which regions are in a noteworthy state: replicas too few, too many, silent or lagging; no data, too much, little enough to
merge.

Kept as regions report, so that metrics and the API read counts and lists instead of walking a million regions. A report
whose peers and sizes are as before costs a few comparisons. What also depends on stores or settings (a peer on a store that
is being removed, how well peers are isolated, limits) goes stale when those change; `refresh` then looks at all regions
again, a batch at a time.

Invariants: a region is in the set of each state that its last observation found, and counted at one isolation level; a
region that is gone is nowhere. The public server's rules decide what a state means. Pure.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pd_py.schedule.options import ScheduleOptions
from pd_py.schedule.view import RegionView, Role, StoreState, StoreView

MIB = 1 << 20
EMPTY_REGION_BYTES = MIB
OVERSIZED_BYTES = 144 * MIB
"""The stores' region-max-size by default; a region that stays above it is not being split."""
OVERSIZED_KEYS = 1_440_000
NOT_ISOLATED = "none"
LEVELS_MAX = 1 << 18
"""Combinations of stores whose isolation level is remembered; when there are more, they are computed again."""


class RegionState(enum.Enum):
    """Noteworthy states under the names of `regions/check/{state}`."""

    MISS_PEER = "miss-peer"
    EXTRA_PEER = "extra-peer"
    DOWN_PEER = "down-peer"
    PENDING_PEER = "pending-peer"
    OFFLINE_PEER = "offline-peer"
    LEARNER_PEER = "learner-peer"
    EMPTY_REGION = "empty-region"
    OVERSIZED_REGION = "oversized-region"
    UNDERSIZED_REGION = "undersized-region"


_STATES = tuple(RegionState)
_SIZES = (RegionState.EMPTY_REGION, RegionState.OVERSIZED_REGION, RegionState.UNDERSIZED_REGION)
_LEVEL_SHIFT = len(_STATES)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the states are measured against."""

    replicas: int
    merge_bytes: int
    merge_keys: int
    location_labels: tuple[str, ...]

    @staticmethod
    def of(options: ScheduleOptions) -> Limits:
        """The part of the options that matters."""
        return Limits(
            options.max_replicas,
            (options.max_merge_region_size + 1) * MIB - 1,  # the public server compares whole MiB
            options.max_merge_region_keys,
            options.location_labels,
        )


class RegionStatistics:
    """States of all regions. `wanted_replicas` says how many replicas placement rules ask for; without it max-replicas counts."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.wanted_replicas: Callable[[RegionView], int] | None = None
        self._regions: dict[RegionState, set[int]] = {state: set() for state in RegionState}
        self._seen: dict[int, int] = {}
        """Per region that is in any state or isolated: a bit for each state, the isolation level above them."""
        self._labels: dict[int, tuple[str, ...]] = {}
        self._leaving: frozenset[int] = frozenset()
        self._levels: dict[tuple[int, ...], int] = {}
        """Isolation level by the stores of a region: there are far fewer combinations than regions."""
        self._isolated: list[int] = [0] * (len(limits.location_labels) + 1)
        self._refresh_from: bytes | None = None

    def count(self, state: RegionState) -> int:
        """How many regions are in a state."""
        return len(self._regions[state])

    def regions(self, state: RegionState) -> list[int]:
        """The regions in a state, by id."""
        return sorted(self._regions[state])

    def isolation(self, total: int) -> Mapping[str, int]:
        """How many of `total` regions are isolated at each location label; the rest is under "none"."""
        found = dict(zip(self._limits.location_labels, self._isolated[1:], strict=True))
        return {**found, NOT_ISOLATED: total - sum(self._isolated[1:])}

    def set_limits(self, limits: Limits) -> None:
        """Settings have changed."""
        if limits != self._limits:
            labels_changed = limits.location_labels != self._limits.location_labels
            self._limits = limits
            if labels_changed:
                self._forget_levels()
            self._refresh_from = b""

    def set_stores(self, stores: Iterable[StoreView]) -> None:
        """Stores have come, gone, or changed their state or labels."""
        views = list(stores)
        labels = {view.store_id: tuple(view.label(key) for key in self._limits.location_labels) for view in views}
        leaving = frozenset(view.store_id for view in views if view.state is StoreState.OFFLINE)
        if leaving != self._leaving:
            self._leaving = leaving
            self._refresh_from = b""
        if labels != self._labels:
            self._labels = labels
            self._levels.clear()
            self._refresh_from = b""

    def _forget_levels(self) -> None:
        """The levels mean something else now: nobody is known to be isolated."""
        self._levels.clear()
        self._labels.clear()
        self._isolated = [0] * (len(self._limits.location_labels) + 1)
        mask = (1 << _LEVEL_SHIFT) - 1
        self._seen = {region_id: seen & mask for region_id, seen in self._seen.items() if seen & mask}

    def observe(self, region: RegionView, old: RegionView | None) -> None:
        """A region was reported; `old` is what was observed before, None to look at everything."""
        if (
            old is not None
            and old.peers is region.peers
            and old.size_bytes == region.size_bytes
            and old.keys == region.keys
            and not (old.down or region.down or old.pending or region.pending)
        ):
            return
        found = self._find(region)
        before = self._seen.get(region.region_id, 0)
        if found != before:
            self._change(region.region_id, before, found)

    def forget(self, region_id: int) -> None:
        """A region is gone."""
        before = self._seen.get(region_id, 0)
        if before:
            self._change(region_id, before, 0)

    def _change(self, region_id: int, before: int, found: int) -> None:
        if found:
            self._seen[region_id] = found
        else:
            del self._seen[region_id]
        changed = before ^ found
        for bit, state in enumerate(_STATES):
            if changed >> bit & 1:
                if found >> bit & 1:
                    self._regions[state].add(region_id)
                else:
                    self._regions[state].discard(region_id)
        self._isolated[before >> _LEVEL_SHIFT] -= 1
        self._isolated[found >> _LEVEL_SHIFT] += 1

    def _find(self, region: RegionView) -> int:
        limits = self._limits
        peers = region.peers
        wanted = limits.replicas if self.wanted_replicas is None else self.wanted_replicas(region)
        found = 0
        if len(peers) < wanted:
            found |= _BIT[RegionState.MISS_PEER]
        elif len(peers) > wanted:
            found |= _BIT[RegionState.EXTRA_PEER]
        if region.down:
            found |= _BIT[RegionState.DOWN_PEER]
        if region.pending:
            found |= _BIT[RegionState.PENDING_PEER]
        if self._leaving and any(peer.store_id in self._leaving for peer in peers):
            found |= _BIT[RegionState.OFFLINE_PEER]
        if any(peer.role is Role.LEARNER for peer in peers):
            found |= _BIT[RegionState.LEARNER_PEER]
        if region.size_bytes <= EMPTY_REGION_BYTES:
            found |= _BIT[RegionState.EMPTY_REGION]
        if region.size_bytes >= OVERSIZED_BYTES or region.keys >= OVERSIZED_KEYS:
            found |= _BIT[RegionState.OVERSIZED_REGION]
        if region.size_bytes <= limits.merge_bytes and region.keys <= limits.merge_keys:
            found |= _BIT[RegionState.UNDERSIZED_REGION]
        if limits.location_labels:
            found |= self._level(peers_stores(region)) << _LEVEL_SHIFT
        return found

    def _level(self, stores: tuple[int, ...]) -> int:
        level = self._levels.get(stores)
        if level is None:
            unknown = ("",) * len(self._limits.location_labels)
            level = isolation_level([self._labels.get(store_id, unknown) for store_id in stores])
            if len(self._levels) >= LEVELS_MAX:
                self._levels.clear()
            self._levels[stores] = level
        return level

    @property
    def refresh_from(self) -> bytes | None:
        """Where the next batch of regions to look at again begins; None when nothing is stale."""
        return self._refresh_from

    def refresh(self, batch: Sequence[RegionView]) -> None:
        """Look again at regions from `refresh_from` on; an empty batch, or one that reaches the end, completes the round."""
        for region in batch:
            self.observe(region, None)
        self._refresh_from = batch[-1].end_key if batch and batch[-1].end_key else None


_BIT = {state: 1 << bit for bit, state in enumerate(_STATES)}


def peers_stores(region: RegionView) -> tuple[int, ...]:
    """The stores of a region, ascending."""
    return tuple(sorted([peer.store_id for peer in region.peers]))


def isolation_level(labels: Sequence[tuple[str, ...]]) -> int:
    """The first label (counted from 1) that tells all stores apart, 0 when none does; a store without a label may be anywhere."""
    if not labels or not labels[0]:
        return 0
    groups = [list(labels)]
    for level in range(len(labels[0])):
        groups = [part for group in groups for part in _together(group, level)]
        if not groups:
            return level + 1
    return 0


def _together(stores: list[tuple[str, ...]], level: int) -> list[list[tuple[str, ...]]]:
    """The groups that a label does not tell apart."""
    by_value: dict[str, list[tuple[str, ...]]] = {}
    for store in stores:
        by_value.setdefault(store[level], []).append(store)
    unlabelled = by_value.pop("", [])
    if not by_value:
        return [unlabelled] if len(unlabelled) > 1 else []
    if not unlabelled:
        return [group for group in by_value.values() if len(group) > 1]
    return [[*group, *unlabelled] for group in by_value.values()]
