"""A rate limit for bytes, by the clock port: whoever takes waits until the amount may pass.

Takers are served in the order in which they came, and each amount is charged whole, so one larger than the burst only makes the
next taker wait longer. What was not used beyond the burst is lost.
"""

from __future__ import annotations

import asyncio

from core_py.ports import Clock

BURST_S = 0.05  # of the rate; what may pass at once after a pause


class ByteRate:
    """At most `per_second` bytes on average; 0 is no limit."""

    def __init__(self, clock: Clock, per_second: int) -> None:
        self._clock = clock
        self._per_second = per_second
        self._paid_until = clock.monotonic()

    async def take(self, amount: int) -> None:
        """Wait until `amount` more bytes may pass."""
        if self._per_second <= 0:
            return
        now = self._clock.monotonic()
        self._paid_until = max(self._paid_until, now - BURST_S) + amount / self._per_second
        if self._paid_until > now:
            await asyncio.sleep(self._paid_until - now)
