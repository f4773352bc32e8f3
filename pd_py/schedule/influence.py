"""What operators under way will change on each store: counts and bytes, and what their steps cost of the stores' limits.

Schedulers add it to the counts they see, so that a move already decided is not decided again. Costs are in the unit of
`pd_py.schedule.limits`: a regular region 1000, a small one 200, an empty one nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from pd_py.schedule.options import MIB

EMPTY_REGION_BYTES = MIB
SMALL_REGION_BYTES = 20 * MIB
REGULAR_COST = 1000
SMALL_COST = 200


def step_cost(size_bytes: int) -> int:
    """What adding or removing a replica of this size costs of a store's limit."""
    if size_bytes > SMALL_REGION_BYTES:
        return REGULAR_COST
    return SMALL_COST if size_bytes > EMPTY_REGION_BYTES else 0


@dataclass(slots=True)
class StoreInfluence:
    """What one store gains (or, below zero, loses)."""

    region_count: int = 0
    region_bytes: int = 0
    leader_count: int = 0
    leader_bytes: int = 0
    add_cost: int = 0
    remove_cost: int = 0


NO_INFLUENCE = StoreInfluence()


class Influence:
    """What all stores gain."""

    def __init__(self) -> None:
        self.stores: dict[int, StoreInfluence] = {}

    def on(self, store_id: int) -> StoreInfluence:
        """A store's part, for adding to it."""
        return self.stores.setdefault(store_id, StoreInfluence())

    def of(self, store_id: int) -> StoreInfluence:
        """A store's part, for reading."""
        return self.stores.get(store_id, NO_INFLUENCE)

    def add(self, other: Influence) -> None:
        """Take another influence in."""
        for store_id, theirs in other.stores.items():
            mine = self.on(store_id)
            mine.region_count += theirs.region_count
            mine.region_bytes += theirs.region_bytes
            mine.leader_count += theirs.leader_count
            mine.leader_bytes += theirs.leader_bytes
            mine.add_cost += theirs.add_cost
            mine.remove_cost += theirs.remove_cost
