"""The simulated clock: virtual time of the running event loop, plus a settable skew of the wall clock."""

from __future__ import annotations

import asyncio

EPOCH_MS = 1_700_000_000_000


class LoopClock:
    """`core_py.ports.Clock` over the running loop's time; `skew_ms` shifts only the wall clock."""

    def __init__(self, skew_ms: int = 0) -> None:
        self.skew_ms = skew_ms

    def monotonic(self) -> float:
        """Seconds of loop time."""
        return asyncio.get_running_loop().time()

    def wall_ms(self) -> int:
        """A fixed epoch plus loop time plus skew."""
        return EPOCH_MS + int(asyncio.get_running_loop().time() * 1000) + self.skew_ms


class PausingClock(LoopClock):
    """The clock as a process sees it that is stopped now and then: it stands, then jumps to where it would be.

    Standing is what the process cannot see; to be true to life its messages must be held back for as long. `rate` makes
    the clock run fast (above 1) or slow against the loop's time, from the moment it is set.
    """

    def __init__(self, skew_ms: int = 0) -> None:
        super().__init__(skew_ms)
        self._stands_at = self._until = 0.0
        self._rate = 1.0
        self._rate_since = self._rate_base = 0.0

    def pause(self, seconds: float) -> None:
        """Stand still from now on."""
        self._stands_at = self.monotonic()
        self._until = super().monotonic() + seconds

    def set_rate(self, rate: float) -> None:
        """Run at this rate from now on."""
        now = super().monotonic()
        self._rate_base, self._rate_since, self._rate = self._running(now), now, rate

    def _running(self, now: float) -> float:
        return self._rate_base + (now - self._rate_since) * self._rate

    def monotonic(self) -> float:
        """Seconds of this clock, as far as the process has seen it."""
        now = super().monotonic()
        return self._stands_at if now < self._until else self._running(now)

    def wall_ms(self) -> int:
        """The wall clock, as far as the process has seen it."""
        return EPOCH_MS + int(self.monotonic() * 1000) + self.skew_ms
