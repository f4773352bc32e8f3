"""Merge checker: a region that has become small is merged into a neighbour.

Not merged: what was split or created a short while ago, what is hot, broken or not fully replicated, what rules, labels or (when
the option says so) tables separate, and what would be so large together that it had to be split again. A neighbour with replicas
on a store that is leaving is no target, for the source's replicas would be brought there.
"""

from __future__ import annotations

from collections.abc import Iterable

from core_py.codec import memcomparable, tablecodec
from core_py.errors import CodecError
from pd_py.schedule.builder import CannotBuild
from pd_py.schedule.context import Context
from pd_py.schedule.create import merge_regions
from pd_py.schedule.filters import is_healthy, is_replicated
from pd_py.schedule.operator import Operator, OpKind
from pd_py.schedule.options import MIB
from pd_py.schedule.view import RegionView, StoreState

TARGET_MAX_MIB = 500
SPLIT_SIZE_FACTOR = 3  # a merged region may be as large as this many merge limits
RECENT_MAX = 100_000


class MergeChecker:
    """Remembers what was split a short while ago."""

    def __init__(self) -> None:
        self._split_at: dict[int, float] = {}
        self._since: float | None = None

    def note_split(self, region_ids: Iterable[int], now: float) -> None:
        """Regions that came out of a split (of the oldest, when there are too many, nothing is known any more)."""
        for region_id in region_ids:
            self._split_at.pop(region_id, None)
            self._split_at[region_id] = now
        while len(self._split_at) > RECENT_MAX:
            del self._split_at[next(iter(self._split_at))]

    def check(self, context: Context, region: RegionView) -> tuple[Operator, ...]:
        """The two operators of a merge, or none."""
        if self._since is None:
            self._since = context.now
        options = context.options
        if context.now - self._since < options.split_merge_interval_s:
            return ()  # after a start it is not known what was split before it
        if not options.max_merge_region_size or not self._is_small(context, region):
            return ()
        if self._is_recent(context, region) or not _is_whole(context, region):
            return ()
        target = self._target(context, region)
        if target is None or not _fits_together(context, region, target):
            return ()
        try:
            return merge_regions(context, "merge-region", region, target, OpKind.MERGE)
        except CannotBuild:
            return ()

    def _is_small(self, context: Context, region: RegionView) -> bool:
        options = context.options
        return (
            region.leader_store_id != 0
            and region.size_bytes > 0  # 0: its leader has not said it yet
            and region.size_bytes <= options.max_merge_region_size * MIB
            and region.keys <= options.max_merge_region_keys
        )

    def _is_recent(self, context: Context, region: RegionView) -> bool:
        at = self._split_at.get(region.region_id)
        return at is not None and context.now - at < context.options.split_merge_interval_s

    def _target(self, context: Context, region: RegionView) -> RegionView | None:
        """The right neighbour, or the left one when it is smaller or the only one that will do."""
        left, right = context.view.neighbours(region)
        target = right if right is not None and self._may_take(context, region, right) else None
        if context.options.enable_one_way_merge or left is None or not self._may_take(context, region, left):
            return target
        return left if target is None or left.size_bytes < target.size_bytes else target

    def _may_take(self, context: Context, region: RegionView, target: RegionView) -> bool:
        return (
            not self._is_recent(context, target)
            and not context.view.has_operator(target.region_id)
            and may_merge(context, region, target)
            and not _brings_to_leaving(context, region, target)
            and _is_whole(context, target)
        )


def _is_whole(context: Context, region: RegionView) -> bool:
    return (
        region.leader_store_id != 0
        and is_healthy(region)
        and region.region_id not in context.hot_regions
        and is_replicated(context, region)
    )


def _brings_to_leaving(context: Context, region: RegionView, target: RegionView) -> bool:
    for peer in target.peers:
        store = context.store(peer.store_id)
        leaving = store is None or store.state is StoreState.OFFLINE
        if leaving and region.on_store(peer.store_id) is None:
            return True
    return False


def _fits_together(context: Context, region: RegionView, target: RegionView) -> bool:
    options = context.options
    size = region.size_bytes + target.size_bytes
    keys = region.keys + target.keys
    return (
        target.size_bytes <= TARGET_MAX_MIB * MIB
        and size <= options.max_merge_region_size * SPLIT_SIZE_FACTOR * MIB
        and keys <= options.max_merge_region_keys * SPLIT_SIZE_FACTOR
    )


def may_merge(context: Context, region: RegionView, other: RegionView) -> bool:
    """Whether two neighbours may become one: no rule, label or table stands between."""
    if region.end_key and region.end_key == other.start_key:
        left, right = region, other
    elif other.end_key and other.end_key == region.start_key:
        left, right = other, region
    else:
        return False
    start, end = left.start_key, right.end_key
    if context.options.enable_placement_rules and context.rules.split_keys(start, end):
        return False
    if context.labels.split_keys(start, end):
        return False
    if context.labels.denies_merge(left) or context.labels.denies_merge(right):
        return False
    return context.options.enable_cross_table_merge or _table_of(left) == _table_of(right)


def _table_of(region: RegionView) -> int:
    """The table a region begins in; 0 for none."""
    try:
        return tablecodec.decode_table_id(memcomparable.decode(region.start_key)[0])
    except CodecError:
        return 0
