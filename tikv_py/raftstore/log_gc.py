"""Up to where a region's raft log can be cut: a pure decision of its leader.

As long as the log is within its limits, entries are kept for whoever lacks them. Beyond the limits (by count or by bytes) only a
quarter of what the limits allow is kept: a follower that is away is left behind and will need a snapshot. One that is there and
merely slow is waited for until the log has twice the allowed size, because a snapshot would make it slower still.

Invariants: entries that are not applied are never cut; a follower that is being sent a snapshot keeps what follows it, or it
would need the next one at once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogLimits:
    """`raft-log-gc-threshold`, `raft-log-gc-count-limit`, `raft-log-gc-size-limit`."""

    threshold: int
    """A cut of fewer entries is not worth an entry of its own."""
    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Follower:
    """What the leader knows of one follower's log."""

    matched: int
    snapshot_index: int = 0
    """Of the snapshot that is on its way to it; 0 when there is none."""
    active: bool = True
    """Heard within an election timeout."""


def compact_index(
    *, first: int, applied: int, log_bytes: int, followers: list[Follower], limits: LogLimits
) -> int | None:
    """The index up to which, inclusive, the log should be cut; None when it should stay. `first` is the first one held."""
    held = applied - first + 1
    index = min([applied, *[max(one.matched, one.snapshot_index) for one in followers]])
    excess = max(held / limits.count, log_bytes / limits.size_bytes)
    if excess >= 1:
        kept = int(held / (4 * excess))
        floors = [_floor(one, excess) for one in followers]
        index = max(index, min([applied - kept, *[floor for floor in floors if floor is not None]]))
    if index < first or index - first + 1 < limits.threshold:
        return None
    return index


def _floor(follower: Follower, excess: float) -> int | None:
    """The last index that may be cut for this follower's sake while the log exceeds its limits; None when it has no say."""
    if follower.snapshot_index > 0:
        return follower.snapshot_index
    return follower.matched if follower.active and excess < 2 else None
