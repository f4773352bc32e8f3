"""The timestamp oracle's state, pure: physical milliseconds and a logical counter below a persisted upper bound.

Rules (wire facts 2.2): a timestamp is handed out only while physical < saved bound, and the bound is durable before
that; a new leader starts above the bound it finds, so it can never repeat what an older one gave. When the wall clock
stands still or goes back, the physical part does not; when the counter is used up, the caller waits for the next
update.

Invariant: timestamps strictly increase, over restarts too.
"""

from __future__ import annotations

from core_py.codec.ts import MAX_LOGICAL, compose
from core_py.errors import invariant
from core_py.ids import Ts

UPDATE_INTERVAL_MS = 50
SAVE_AHEAD_MS = 3000
GUARD_MS = 1
LOGICAL_HIGH_WATER = MAX_LOGICAL // 2  # past it, an update moves the physical part even if the clock did not


class TsoAllocator:
    """State of one leader's term. `begin` first, then `update` often, `allocate` at will."""

    def __init__(self) -> None:
        self._physical_ms = 0
        self._logical = 0
        self._saved_ms = 0
        self._used_up = False
        """A request did not fit into what is left of this millisecond."""

    @property
    def saved_ms(self) -> int:
        """The durable upper bound: every timestamp given is below it."""
        return self._saved_ms

    def begin(self, wall_ms: int, persisted_ms: int) -> int:
        """Start above the persisted bound; returns the bound to persist before `saved`."""
        self._physical_ms = max(wall_ms, persisted_ms + GUARD_MS)
        self._logical = 0
        return self._physical_ms + SAVE_AHEAD_MS

    def saved(self, bound_ms: int) -> None:
        """The bound is durable now."""
        invariant(bound_ms >= self._saved_ms, f"the timestamp bound went back from {self._saved_ms} to {bound_ms}")
        self._saved_ms = bound_ms

    def update(self, wall_ms: int) -> int | None:
        """Follow the clock; returns a bound to persist when the present one comes near."""
        following = self._physical_ms
        if wall_ms > self._physical_ms:
            following = wall_ms
        elif self._logical > LOGICAL_HIGH_WATER or self._used_up:
            following = self._physical_ms + 1
        if following > self._physical_ms and following < self._saved_ms:
            self._physical_ms = following
            self._logical = 0
            self._used_up = False
        if self._saved_ms - max(following, self._physical_ms) <= SAVE_AHEAD_MS // 2:
            return max(following, self._physical_ms) + SAVE_AHEAD_MS
        return None

    def allocate(self, count: int) -> Ts | None:
        """The last of `count` timestamps in a row, or None when an update must come first."""
        invariant(0 < count <= MAX_LOGICAL, f"{count} timestamps at once")
        if self._physical_ms >= self._saved_ms:
            return None
        if self._logical + count >= MAX_LOGICAL:
            self._used_up = True
            return None
        self._logical += count
        return compose(self._physical_ms, self._logical)

    def clock_lag_ms(self, wall_ms: int) -> int:
        """How far the wall clock is behind the timestamps; above zero it went back or was overtaken."""
        return self._physical_ms - wall_ms
