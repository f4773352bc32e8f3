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
