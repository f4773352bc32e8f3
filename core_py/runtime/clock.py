"""The real clock, and waiting that stops the thread."""

from __future__ import annotations

import time

_MONOTONIC = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the second stands still while a machine sleeps


class SystemClock:
    """`core_py.ports.Clock` over the operating system's clocks."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point. Goes on while the machine sleeps: leases are counted by it."""
        return time.clock_gettime(_MONOTONIC)

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000


def block(seconds: float) -> None:
    """Stop the calling thread; what the `sleep` action of failpoints does to a real process."""
    time.sleep(seconds)
