"""TSO timestamps: physical milliseconds << 18 | logical counter."""

from __future__ import annotations

from core_py.ids import Ts

LOGICAL_BITS = 18
MAX_LOGICAL = 1 << LOGICAL_BITS
TS_MAX = Ts((1 << 64) - 1)


def compose(physical_ms: int, logical: int) -> Ts:
    """A timestamp from its parts; `logical` < 2^18."""
    return Ts(physical_ms << LOGICAL_BITS | logical)


def physical_ms(ts: int) -> int:
    """Milliseconds since the epoch."""
    return ts >> LOGICAL_BITS


def logical(ts: int) -> int:
    """The counter within the millisecond."""
    return ts & (MAX_LOGICAL - 1)
