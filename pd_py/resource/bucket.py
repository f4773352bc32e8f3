"""The token bucket of one resource group: request units per second, shared by all SQL servers that ask. Pure.

A server asks for what it expects to use in the next period. What is there is given at once. What is lacking is lent, a fair share
of what the bucket will take in during the period, to be used drop by drop (`trickle_ms`); what was lent is owed, so over time
no more goes out than the rate lets in.

    burst limit -1   no limit: whatever is asked for
    burst limit -2   as -1, but at most ten times the rate
    burst limit  0   the rate, and what is not used is saved without end
    burst limit > 0  the rate, and at most so many tokens are saved

Invariants: tokens given <= initial tokens + rate * time + the largest debt; the debt is at most two periods' income.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

UNLIMITED, MODERATED = -1, -2
MODERATED_FACTOR = 10
INITIAL_TOKENS = 100_000.0
DEBT_PERIODS = 2
CLIENT_EXPIRES_S = 600.0
MAX_CLIENTS = 4096
DEFAULT_PERIOD_MS = 5_000
MAX_PERIOD_MS = 60_000


@dataclass(frozen=True, slots=True)
class Grant:
    """Tokens, and over how long they are to be used; 0 is at once."""

    tokens: float
    trickle_ms: int


class TokenBucket:
    """State of one group in one term of leadership. Times are seconds of a monotonic clock."""

    def __init__(self, now: float) -> None:
        self.tokens = INITIAL_TOKENS
        self._filled_at = now
        self._clients: dict[int, float] = {}

    def request(
        self, asked: float, client: int, period_ms: int, now: float, *, fill_rate: int, burst_limit: int
    ) -> Grant:
        """What a client gets of `asked` tokens. Nonsense (negative, not a number) gets nothing."""
        self._fill(now, fill_rate, burst_limit)
        self._see(client, now)
        if not math.isfinite(asked) or asked <= 0:
            return Grant(0.0, 0)
        if burst_limit == UNLIMITED:
            return Grant(asked, 0)
        rate = float(fill_rate * MODERATED_FACTOR if burst_limit == MODERATED else fill_rate)
        if asked <= self.tokens:
            self.tokens -= asked
            return Grant(asked, 0)
        period_ms = min(period_ms or DEFAULT_PERIOD_MS, MAX_PERIOD_MS)
        income = rate * period_ms / 1000
        lent = min(income / len(self._clients), max(DEBT_PERIODS * income + min(self.tokens, 0.0), 0.0))
        given = min(asked, max(self.tokens, 0.0) + lent)
        self.tokens -= given
        return Grant(given, period_ms)

    def add(self, tokens: float) -> None:
        """Change what is there by hand."""
        if math.isfinite(tokens):
            self.tokens += tokens

    def _fill(self, now: float, fill_rate: int, burst_limit: int) -> None:
        rate = fill_rate * MODERATED_FACTOR if burst_limit == MODERATED else fill_rate
        self.tokens += rate * max(now - self._filled_at, 0.0)
        self._filled_at = now
        most = burst_limit if burst_limit > 0 else rate if burst_limit == MODERATED else math.inf
        self.tokens = min(self.tokens, float(max(most, 0)))

    def _see(self, client: int, now: float) -> None:
        """Count the clients among whom the income is shared."""
        self._clients.pop(client, None)
        self._clients[client] = now
        while True:
            oldest, seen = next(iter(self._clients.items()))
            if now - seen <= CLIENT_EXPIRES_S and len(self._clients) <= MAX_CLIENTS:
                return
            del self._clients[oldest]
