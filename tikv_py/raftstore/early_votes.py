"""Vote requests for regions that a split elsewhere has made and that this store has still to make itself.

The replica on the fastest store campaigns for the new region as soon as it has split, while slower stores still hold the whole
range. Their votes would come an election timeout later if the first request were lost, so it is kept and answered when
the region is born here. To Raft this is a message that took longer.

Invariants: at most `LIMIT` requests, the newest of each sender; none is given back later than `keep_s` after it came, because
by then its sender has given up and asks again.
"""

from __future__ import annotations

from dataclasses import dataclass

from protos.kvproto import raft_serverpb_pb2 as serverpb

LIMIT = 64


@dataclass(frozen=True, slots=True)
class _Kept:
    message: serverpb.RaftMessage
    came_s: float


class EarlyVotes:
    """What one store keeps. Times are seconds of the monotonic clock."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._kept: dict[tuple[int, int], _Kept] = {}

    def keep(self, message: serverpb.RaftMessage, now_s: float) -> None:
        """Keep a vote request instead of the one its sender sent before; the oldest makes room when there is none."""
        key = message.region_id, message.from_peer.id
        self._kept.pop(key, None)
        if len(self._kept) >= LIMIT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = _Kept(message, now_s)

    def take(self, region_id: int, now_s: float) -> list[serverpb.RaftMessage]:
        """What was kept for a region, oldest first; also forgets what is too old."""
        fresh = {key: one for key, one in self._kept.items() if now_s - one.came_s < self._keep_s}
        taken = [one.message for key, one in fresh.items() if key[0] == region_id]
        self._kept = {key: one for key, one in fresh.items() if key[0] != region_id}
        return taken

    def __len__(self) -> int:
        return len(self._kept)
