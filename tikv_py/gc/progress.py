"""What a store remembers of the regions it has collected, so that regions without new garbage are not read again. Pure.

A region needs no pass for a newer safe point when nothing was written to it since the last one, and that pass saw no version above
its own safe point. Writes are counted by the peer at apply, whether it leads or not; those of the pass itself do not count.
What is remembered is of one peer and one region version: a split, a merge or a new replica begins anew, and so does a store that
starts. Tests: tests/unit/gc/test_progress.py.
"""

from __future__ import annotations

from dataclasses import dataclass

ORPHANS_EVERY = 16  # passes over a region from one look for values without an owner to the next


@dataclass(slots=True)
class Pass:
    """A finished pass over a region."""

    peer_id: int
    version: int
    """Of the region's epoch."""
    safe_point: int
    newest_ts: int
    """The greatest timestamp it saw."""
    written_keys: int
    """The peer's count when the pass began, and what the pass wrote itself."""
    number: int = 1
    """How many there were of this peer and version."""


class GcProgress:
    """The last pass of each region."""

    def __init__(self) -> None:
        self._passes: dict[int, Pass] = {}

    def is_due(self, region_id: int, peer_id: int, version: int, written_keys: int, safe_point: int) -> bool:
        """Whether a pass could find garbage below the safe point."""
        last = self._last(region_id, peer_id, version)
        if last is None:
            return True
        if last.safe_point >= safe_point:
            return False
        return written_keys != last.written_keys or last.newest_ts > last.safe_point

    def wants_orphans(self, region_id: int, peer_id: int, version: int) -> bool:
        """Whether the next pass should also look for values without an owner."""
        last = self._last(region_id, peer_id, version)
        return last is None or last.number % ORPHANS_EVERY == 0

    def finish(self, region_id: int, done: Pass) -> None:
        """Remember a pass."""
        last = self._last(region_id, done.peer_id, done.version)
        if last is not None:
            done.number = last.number + 1
        self._passes[region_id] = done

    def keep(self, region_ids: set[int]) -> None:
        """Forget all other regions."""
        self._passes = {region_id: one for region_id, one in self._passes.items() if region_id in region_ids}

    def _last(self, region_id: int, peer_id: int, version: int) -> Pass | None:
        last = self._passes.get(region_id)
        return last if last is not None and (last.peer_id, last.version) == (peer_id, version) else None
