"""The regions that lack most replicas, checked before all others: they may be one failure away from losing data.

A region is in it while fewer of its replicas answer than its rules want; it is tried again after a pause that grows with each try.
"""

from __future__ import annotations

from dataclasses import dataclass

from pd_py.schedule.context import Context
from pd_py.schedule.view import RegionView, StoreState

RETRY_S = 10.0
TRIES_MAX = 6
REGIONS_MAX = 1280


@dataclass(slots=True)
class _Entry:
    missing: int
    tries: int
    due_at: float


class PriorityInspector:
    """A bounded set of regions with how much they lack."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def inspect(self, context: Context, region: RegionView, wanted: int) -> None:
        """Note or forget a region by how many replicas it lacks."""
        alive = sum(self._answers(context, region, peer.store_id, peer.peer_id) for peer in region.peers)
        missing = wanted - alive
        if missing <= 0:
            self._entries.pop(region.region_id, None)
            return
        entry = self._entries.get(region.region_id)
        if entry is not None:
            entry.missing = missing
            entry.tries = min(entry.tries + 1, TRIES_MAX)
            entry.due_at = context.now + RETRY_S * entry.tries
        elif len(self._entries) < REGIONS_MAX:
            self._entries[region.region_id] = _Entry(missing, 1, context.now + RETRY_S)

    @staticmethod
    def _answers(context: Context, region: RegionView, store_id: int, peer_id: int) -> bool:
        store = context.store(store_id)
        gone = store is None or store.state in (StoreState.DOWN, StoreState.DISCONNECTED)
        return not gone and peer_id not in region.down

    def due(self, now: float) -> list[int]:
        """Regions to check again now, those that lack most first."""
        ready = [(-entry.missing, region_id) for region_id, entry in self._entries.items() if entry.due_at <= now]
        return [region_id for _, region_id in sorted(ready)]

    def forget(self, region_id: int) -> None:
        """A region is gone."""
        self._entries.pop(region_id, None)
