"""How full a store is, as one number for balancing: its data by weight, more and more its lack of space as the disk fills up.

The formula is the public second version: while there is plenty of space the score is the data it holds, weighed a little more as
space shrinks; once less is free than the reserve, what is missing outweighs all data. Sizes go in as bytes; the score is in MiB.
"""

from __future__ import annotations

import math

from pd_py.schedule.context import Context
from pd_py.schedule.view import StoreView

MIB = float(1 << 20)
GIB = float(1 << 30)
MIN_WEIGHT = 1e-6
SPACE_WEIGHT = 256.0  # how much the share of free space bends the score while there is plenty
RESERVE_GIB = 50.0  # what should stay free on a large disk
FULL_PENALTY = 1.0e10


def region_load(size_bytes: float, count: float) -> float:
    """What replicas weigh, in MiB: their data, and one each for being there. An empty region is not for nothing."""
    return size_bytes / MIB + count


def region_score(context: Context, store: StoreView, delta: float = 0.0) -> float:
    """The score of a store that would hold replicas of the weight `delta` more than it does."""
    size = region_load(store.region_bytes, store.region_count)
    capacity, available, used = store.capacity_bytes / GIB, store.available_bytes / GIB, store.used_bytes / GIB
    foreign = capacity - available - used
    held = size + delta if size + delta >= 0 else size
    if size:
        after = used + used * delta / size
        if 0.5 * used < after < 2 * used:
            used = after
        left = capacity - used - foreign
        if 0 < left < capacity:
            available = left
    score = _score(held, available, capacity, context.options.low_space_ratio)
    return score / max(store.region_weight, MIN_WEIGHT)


def _score(held_mib: float, available: float, capacity: float, low_space_ratio: float) -> float:
    """Available and capacity in GiB. Continuous in `available` but for the step at the reserve."""
    if available >= capacity or capacity < 1:
        return held_mib
    reserve = max(RESERVE_GIB, capacity * (1 - low_space_ratio))
    if available > reserve:
        bend = (math.log(capacity) - math.log(available - reserve + 1)) / (capacity - available + reserve - 1)
        return held_mib * (1 + SPACE_WEIGHT * bend)
    return (
        held_mib * (1 + SPACE_WEIGHT * math.log(capacity) / capacity) + FULL_PENALTY * (reserve - available) / reserve
    )


def leader_score(store: StoreView, delta: float, *, by_size: bool) -> float:
    """Leaders of a store that would have `delta` more (by count), or more of their bytes (in MiB)."""
    value = store.leader_bytes / MIB if by_size else float(store.leader_count)
    return (value + delta) / max(store.leader_weight, MIN_WEIGHT)
