"""How a store does, as far as replicas are chosen by it: alive or not, and slow or not. Pure: times are given in seconds.

Slow is what the store says of itself (`slow_score` in its health feedback, 1 to 100, 80 and more is slow) or what this client
sees of its point reads. Both are forgotten with time, because a store that is avoided gives no news.
"""

from __future__ import annotations

import enum

SLOW_SCORE = 80
DECAY_PER_S = 20 / 60
FEEDBACK_AGE_S = 15.0  # a score this old is asked for again, and fades
SLOW_LATENCY_S = 0.3
LATENCY_WEIGHT = 0.2  # of the newest answer in the mean
LATENCY_HALF_LIFE_S = 5.0


class Liveness(enum.Enum):
    """What is known of a store's process. UNKNOWN: it failed and was not asked yet, or it does not know itself."""

    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"


class StoreHealth:
    """One store's speed."""

    __slots__ = ("_latency_at", "_latency_s", "_score", "_score_at")

    def __init__(self) -> None:
        self._score, self._score_at = 1.0, 0.0
        self._latency_s, self._latency_at = 0.0, 0.0

    def told(self, score: int, now_s: float) -> None:
        """The store gave its slow score."""
        self._score, self._score_at = float(min(max(score, 1), 100)), now_s

    def answered(self, latency_s: float, now_s: float) -> None:
        """A point read took so long."""
        mean = self.latency_s(now_s)
        self._latency_s = latency_s if mean == 0 else mean + (latency_s - mean) * LATENCY_WEIGHT
        self._latency_at = now_s

    def timed_out(self, now_s: float) -> None:
        """A point read was not answered in time: slow at once."""
        self._latency_s, self._latency_at = max(self.latency_s(now_s), 4 * SLOW_LATENCY_S), now_s

    def score(self, now_s: float) -> float:
        """The store's own score; it fades when nothing is heard."""
        silent_s = now_s - self._score_at - FEEDBACK_AGE_S
        return self._score if silent_s <= 0 else max(1.0, self._score - DECAY_PER_S * silent_s)

    def latency_s(self, now_s: float) -> float:
        """The mean latency of point reads; it halves every few seconds without one."""
        return float(self._latency_s * 0.5 ** ((now_s - self._latency_at) / LATENCY_HALF_LIFE_S))

    def is_slow(self, now_s: float) -> bool:
        """Whether another replica should be asked if there is one."""
        return self.score(now_s) >= SLOW_SCORE or self.latency_s(now_s) >= SLOW_LATENCY_S

    def wants_feedback(self, now_s: float) -> bool:
        """Whether the score is not a healthy one and so old that the store should be asked."""
        return self._score > 1 and now_s - self._score_at >= FEEDBACK_AGE_S
