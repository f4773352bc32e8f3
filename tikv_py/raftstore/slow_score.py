"""How slow a store's disk is, from 1 (well) to 100, computed as the public servers do so that PD reads it the same.

Every sync of the raft log is a sample; one that takes `timeout_s` or longer is late, also while it still runs. Once in a round of
`ROUND_TICKS` ticks the score is updated: without a late sample it falls, by 100 in `RECOVERY_S`; with late ones it is multiplied by
up to 2, reached when a tenth of the samples was late. So a score of 100 takes seven bad rounds, a single slow sync
is forgotten in seconds. PD takes leaders from a store above 80.
"""

from __future__ import annotations

LATE_RATIO = 0.1
RECOVERY_S = 300.0
ROUND_TICKS = 30
IDLE_TICKS = 10
BEST, WORST = 1.0, 100.0


class SlowScore:
    """See the module's text. `now_s` is of one monotonic clock; `tick` comes every `timeout_s`."""

    def __init__(self, timeout_s: float, now_s: float) -> None:
        self._timeout_s = timeout_s
        self._updated_s = now_s
        self._began_s: float | None = None
        self._ticks = 0
        self._idle_ticks = 0
        self._late = 0
        self._total = 0
        self.value = BEST

    def began(self, now_s: float) -> None:
        """A sync begins; one at a time."""
        self._began_s = now_s
        self._idle_ticks = 0

    def ended(self, now_s: float) -> float:
        """The sync is done; how many seconds it took."""
        took_s = now_s - (now_s if self._began_s is None else self._began_s)
        self._began_s = None
        self._total += 1
        self._late += took_s >= self._timeout_s
        return took_s

    def tick(self, now_s: float) -> bool:
        """Time passes; whether nothing was synced for so long that the disk should be asked."""
        if self._began_s is not None and now_s - self._began_s >= self._timeout_s:
            self._total += 1
            self._late += 1
        self._ticks += 1
        if self._ticks >= ROUND_TICKS:
            self._ticks = 0
            self._update(now_s)
        self._idle_ticks += 1
        if self._idle_ticks < IDLE_TICKS or self._began_s is not None:
            return False
        self._idle_ticks = 0
        return True

    def _update(self, now_s: float) -> None:
        if self._late:
            near = min(self._late / self._total, LATE_RATIO) / LATE_RATIO
            self.value = min(self.value * (1 + near), WORST)
        else:
            self.value = max(self.value - WORST * (now_s - self._updated_s) / RECOVERY_S, BEST)
        self._updated_s = now_s
        self._late = self._total = 0
