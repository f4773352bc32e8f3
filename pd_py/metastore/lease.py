"""How long a leader may act without asking: the lease in seconds of a clock, from the rounds that a quorum answered. Pure.

The Raft core counts its lease in ticks, which stand still with a process that is stopped. So the time of each tick is kept, and a
round that a quorum answered is worth (election_ticks - 1) ticks from the tick it was sent in, less a fifth: a tenth because a
follower's ticks may be closer together than their interval by that much, a tenth for clocks that run at different speeds. For at
least that long no member of that quorum helps another one to lead.

Invariant: the lease is counted from before the round was sent. The clock must go on while the process or machine sleeps.
"""

from __future__ import annotations

from collections import deque

DRIFT = 0.8


class ClockLease:
    """The lease of one member's node."""

    def __init__(self, election_ticks: int, tick_s: float) -> None:
        self._worth_s = (election_ticks - 1) * tick_s * DRIFT
        self._ticked: deque[tuple[int, float]] = deque(maxlen=2 * election_ticks)
        """(tick, seconds just before it)."""

    def tick(self, number: int, now: float) -> None:
        """Tick `number` comes now; call it before the node is ticked."""
        self._ticked.append((number, now))

    def until(self, lease_tick: int | None) -> float:
        """When the lease ends whose round was sent in `lease_tick`; 0.0 without one."""
        if lease_tick is None:
            return 0.0
        for number, at in self._ticked:
            if number == lease_tick:
                return at + self._worth_s
        return 0.0
