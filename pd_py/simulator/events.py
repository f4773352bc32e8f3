"""Virtual time: things happen in the order of their moments, and nobody waits between them."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

BEGIN_S = 1000.0
EPOCH_MS = 1_700_000_000_000


class Events:
    """A queue of what will happen; also the clock (`core_py.ports.Clock`) of all that takes part."""

    def __init__(self) -> None:
        self.now = BEGIN_S
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0

    def monotonic(self) -> float:
        """Virtual seconds."""
        return self.now

    def wall_ms(self) -> int:
        """A fixed epoch plus virtual time."""
        return EPOCH_MS + int(self.now * 1000)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Let something happen in a while."""
        self._sequence += 1
        heappush(self._queue, (self.now + seconds, self._sequence, action))

    def every(self, seconds: float, action: Callable[[], None], first: float = 0.0) -> None:
        """Let something happen again and again."""

        def again() -> None:
            action()
            self.after(seconds, again)

        self.after(first, again)

    def run_until(self, moment: float) -> None:
        """Let all happen that is due before a moment, and go there."""
        while self._queue and self._queue[0][0] <= moment:
            at, _, action = heappop(self._queue)
            self.now = max(self.now, at)
            action()
        self.now = moment
