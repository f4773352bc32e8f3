"""The real clock, and waiting that stops the thread."""

from __future__ import annotations

import time


class SystemClock:
    """`core_py.ports.Clock` over the operating system's clocks."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000


def block(seconds: float) -> None:
    """Stop the calling thread; what the `sleep` action of failpoints does to a real process."""
    time.sleep(seconds)
