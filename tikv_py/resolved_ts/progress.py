"""Up to which timestamp one replica can be read without asking anybody: its safe ts.

A *claim* (index, ts) says of a region's log: once the entry at `index` is applied, no later entry commits anything at or
below `ts`. That is a fact about the log and stays true, whoever leads; a replica may use it as soon as it has applied that
far. A leader's own claims hold at once, a follower's may have to wait. Two waiting claims are enough: the older one, which is
reached first however far the replica is behind, and the newest.

Invariants: the safe ts never goes back, except that a snapshot or a merge begins anew; all claims are of the replica's
present range.

What it does not do: make claims (`tikv_py.server.safe_ts_worker`) or know the apply index; it is told with each question, so
that applying an entry costs nothing. Tests: tests/unit/resolved_ts/test_progress.py.
"""

from __future__ import annotations

from typing import NamedTuple


class Claim(NamedTuple):
    """See the module's text."""

    applied_index: int
    ts: int


NOTHING = Claim(0, 0)


class ReadProgress:
    """See the module's text."""

    __slots__ = ("back", "front", "reached")

    def __init__(self) -> None:
        self.reached = NOTHING
        self.front: Claim | None = None
        self.back: Claim | None = None

    def offer(self, claim: Claim) -> None:
        """Learn a claim; one that says no more than is known is ignored."""
        newest = self.back or self.front or self.reached
        if claim.ts <= newest.ts:
            return
        if self.front is None or claim.applied_index <= self.front.applied_index:
            self.front, self.back = claim, None
        else:
            self.back = claim

    def safe_ts(self, applied: int) -> int:
        """The greatest timestamp that may be read at, `applied` being the last entry applied; 0 for none."""
        while self.front is not None and self.front.applied_index <= applied:
            self.reached = self.front
            self.front, self.back = self.back, None
        return self.reached.ts

    def merge(self, source_safe_ts: int, index: int) -> None:
        """The region takes over another one with the entry at `index`: both halves are known up to the lesser timestamp.

        What waited for earlier entries is reached with it; what a leader claims later says that it is about both.
        """
        self.reached = Claim(index, min(self.safe_ts(index), source_safe_ts))
        self.front = self.back = None

    def reset(self) -> None:
        """The data was replaced as a whole."""
        self.reached, self.front, self.back = NOTHING, None, None
