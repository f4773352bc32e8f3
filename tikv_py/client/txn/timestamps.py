"""A recent timestamp without asking PD each time, to judge whether a lock's time is up.

A timestamp of PD is kept with the clock's reading when it came. How much time has passed since is known from the local clock, so an
owner's remaining time is estimated without a request. What is *sent* to stores is always a timestamp that PD gave out, never
an estimate: stores raise their max_ts by it, and one from the future would let later commits be missed by reads.

Invariants: `recent` is at most MAX_AGE_S old; when the estimate says that a lock has expired, `for_check` returns one that
proves it.
"""

from __future__ import annotations

from core_py.codec import ts as tso
from core_py.ports import Clock
from tikv_py.client.pd.client import PdClient

MAX_AGE_S = 2.0


class RecentTimestamp:
    """The newest timestamp seen by its users."""

    def __init__(self, pd: PdClient, clock: Clock) -> None:
        self._pd, self._clock = pd, clock
        self._ts, self._at = 0, 0.0

    async def fresh(self) -> int:
        """A new timestamp. Raises PdUnavailable."""
        ts = await self._pd.timestamp()
        self.note(ts)
        return ts

    def note(self, ts: int) -> None:
        """Take in a timestamp that PD gave out just now."""
        if ts > self._ts:
            self._ts, self._at = ts, self._clock.monotonic()

    async def recent(self) -> int:
        """A timestamp of the last MAX_AGE_S seconds."""
        if not self._ts or self._clock.monotonic() - self._at > MAX_AGE_S:
            return await self.fresh()
        return self._ts

    def _now_ms(self) -> int:
        """PD's present physical time in milliseconds, estimated."""
        return tso.physical_ms(self._ts) + int((self._clock.monotonic() - self._at) * 1000)

    async def left_ms(self, start_ts: int, ttl_ms: int) -> int:
        """Milliseconds until a lock of `start_ts` expires; negative = it has expired."""
        await self.recent()
        return tso.physical_ms(start_ts) + ttl_ms - self._now_ms()

    async def for_check(self, start_ts: int, ttl_ms: int) -> int:
        """A timestamp to judge a lock by; a fresh one when that may show that it has expired."""
        left = await self.left_ms(start_ts, ttl_ms)
        if left < 0 and tso.physical_ms(self._ts) <= tso.physical_ms(start_ts) + ttl_ms:
            return await self.fresh()
        return self._ts
