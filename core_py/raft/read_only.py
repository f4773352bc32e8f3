"""Reads without log entries: ReadIndex by heartbeat rounds, and the leader lease (thesis 6.4).

Why rounds: every heartbeat broadcast has a number, which followers echo as the message's context. A quorum's answers to
round r prove that the leader was leader after r was sent: reads that waited for r are confirmed, and no other leader
can exist until an election timeout after r was sent. One round confirms all reads gathered since the last one, so a
busy leader sends one broadcast per Ready, not one per read; and a late answer can only prove what its own round does.

The lease is counted in ticks of this node: it ends `election_ticks - 1` ticks after the round was sent, one tick
early because ticks are not aligned. It is as good as ticks are: an owner whose process may stall, or that stops
ticking (hibernation), must bound the lease by its own clock too.

Invariants: rounds of pending reads do not decrease; no read is answered before an entry of the leader's own term is
committed; queues are bounded by `max_pending_reads`; a new term forgets all of it (the askers ask again).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class ReadRequest(NamedTuple):
    """A read that waits: for round `round`, asked by `from_`; `read_index` is the commit index when it was taken in."""

    round: int
    read_index: int
    context: bytes
    from_: int


class ReadOnly:
    """Heartbeat rounds and the reads that wait for them, in one term of a leader."""

    __slots__ = ("lease_broken", "lease_tick", "pending", "postponed", "round", "sent")

    def __init__(self) -> None:
        self.round = 0  # the last one sent
        self.sent: deque[tuple[int, int]] = deque()  # (round, tick it was sent in), not yet answered by a quorum
        self.pending: deque[ReadRequest] = deque()
        self.postponed: deque[tuple[bytes, int]] = deque()  # (context, from) until this term has a commit
        self.lease_tick: int | None = None  # the tick in which the last round answered by a quorum was sent
        self.lease_broken = False  # TIMEOUT_NOW was sent: a late one may begin an election at any time in this term

    def waiting(self) -> int:
        """How many reads wait."""
        return len(self.pending) + len(self.postponed)

    def begin_round(self, tick: int, keep_ticks: int) -> int:
        """Number a heartbeat broadcast; rounds older than `keep_ticks` can no longer carry a lease and are dropped."""
        self.round += 1
        self.sent.append((self.round, tick))
        while self.sent[0][1] < tick - keep_ticks:
            self.sent.popleft()
        return self.round

    def quorum_answered(self, acked_round: int) -> list[ReadRequest]:
        """A quorum answered up to `acked_round`: extend the lease, and give the reads that are confirmed."""
        while self.sent and self.sent[0][0] <= acked_round:
            self.lease_tick = self.sent.popleft()[1]
        confirmed: list[ReadRequest] = []
        while self.pending and self.pending[0].round <= acked_round:
            confirmed.append(self.pending.popleft())
        return confirmed
