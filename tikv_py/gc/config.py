"""`[gc]`: what a store collects, how fast, and how long versions live when nobody else decides it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from core_py.runtime.config import ByteSize, Seconds


@dataclass(frozen=True, slots=True)
class GcConfig:
    """See the module's text. `batch-keys` and `max-write-bytes-per-sec` are TiKV's, the other keys are of this store."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {
            "ratio-threshold",
            "enable-compaction-filter",
            "compaction-filter-skip-version-check",
            "num-threads",
            "auto-compaction",
        }
    )

    enable: bool = True
    """Whether this store removes what PD's safe point lets go. It refuses readers below the safe point either way."""
    poll_interval: Seconds = Seconds(10.0)
    """How often PD is asked for the safe point."""
    batch_keys: int = 512
    """Versions removed by one log entry; their keys are latched while it is written."""
    max_write_bytes_per_sec: ByteSize = ByteSize(8 << 20)
    """Of the removals' keys, all regions of a store together; 0 is no limit."""
    life_time: Seconds = Seconds(600.0)
    """The cluster moves the safe point to so long ago; 0 leaves that to clients."""
    run_interval: Seconds = Seconds(600.0)
    """How often it does."""

    def validate(self) -> None:
        """Raises ValueError for settings that cannot work."""
        if self.poll_interval <= 0 or self.run_interval <= 0:
            raise ValueError("gc.poll-interval and gc.run-interval must be positive")
        if not 1 <= self.batch_keys <= 1 << 16:
            raise ValueError("gc.batch-keys must be from 1 to 65536")
        if self.life_time < 0:
            raise ValueError("gc.life-time must not be negative")
