"""Who has room on the disk: this store, as its owner measures it, and the others, as their raft messages tell.

A full disk is worse than a refused write: a database that cannot write stops its process. So a part of the disk is reserved
(`storage.reserve-space`). With less than that free a store is ALMOST_FULL and takes no ordinary writes and no snapshots; with less
than half of it ALREADY_FULL, and takes only what frees space or must go on: deletions, the end of transactions, raft messages,
membership changes, leaders moving away. A write is also refused when the stores that have room are no majority of its
region, because their votes would need the full ones to take it. What a request is allowed is in its context
(`disk_full_opt`); it ends by itself when space is there again.

What others told is believed for a while only: stores whose regions sleep send nothing.
"""

from __future__ import annotations

import enum

from core_py.ports import Clock
from core_py.region_errors import DiskFull
from protos.kvproto import kvrpcpb_pb2, metapb_pb2

BELIEVED_S = 10.0
_OLD_VOTERS = (metapb_pb2.Voter, metapb_pb2.DemotingVoter)
_NEW_VOTERS = (metapb_pb2.Voter, metapb_pb2.IncomingVoter)


class DiskUsage(enum.IntEnum):
    """With the numbers of disk_usage.DiskUsage. A write is taken at `usage` when its DiskFullOpt is at least that number."""

    NORMAL = 0
    ALMOST_FULL = 1
    ALREADY_FULL = 2


FINISHES = int(kvrpcpb_pb2.AllowedOnAlmostFull)
"""What a write is allowed that lets others end, but frees nothing itself."""
FREES = int(kvrpcpb_pb2.AllowedOnAlreadyFull)
"""What a write is allowed that removes data or locks."""


def usage_of(free_bytes: int, reserved_bytes: int) -> DiskUsage:
    """How full a disk is. Without a reserve it is never full."""
    if free_bytes < reserved_bytes // 2:
        return DiskUsage.ALREADY_FULL
    return DiskUsage.ALMOST_FULL if free_bytes < reserved_bytes else DiskUsage.NORMAL


class DiskSpace:
    """One per store."""

    def __init__(self, store_id: int, clock: Clock) -> None:
        self._store_id = store_id
        self._clock = clock
        self.own = DiskUsage.NORMAL
        self._reason = ""
        self._others: dict[int, tuple[DiskUsage, float]] = {}
        """Of stores that are not NORMAL: (usage, when that was last heard)."""

    def measured(self, free_bytes: int, reserved_bytes: int) -> None:
        """This store's disk was looked at."""
        self.own = usage_of(free_bytes, reserved_bytes)
        self._reason = f"{free_bytes} bytes are free, {reserved_bytes} are reserved (storage.reserve-space)"

    def heard(self, store_id: int, usage: int) -> None:
        """Another store told how full it is."""
        if usage in (DiskUsage.ALMOST_FULL, DiskUsage.ALREADY_FULL):
            self._others[store_id] = DiskUsage(usage), self._clock.monotonic()
        elif self._others:
            self._others.pop(store_id, None)

    @property
    def is_tight(self) -> bool:
        """Whether any store is known not to be NORMAL, so that writes must be checked."""
        return bool(self.own or self._others)

    def check_write(self, region: metapb_pb2.Region, allowed: int) -> None:
        """Raise DiskFull unless this store and a majority of the region's may take a write with this DiskFullOpt."""
        if allowed < self.own:
            raise DiskFull((self._store_id,), self._reason)
        full = self._full(allowed)
        for roles in (_OLD_VOTERS, _NEW_VOTERS):
            voters = [peer.store_id for peer in region.peers if peer.role in roles]
            without_room = sorted(full.intersection(voters))
            if 2 * (len(voters) - len(without_room)) <= len(voters) and without_room:
                raise DiskFull(
                    tuple(without_room), f"a majority of the replicas of region {region.id} is on stores without space"
                )

    def _full(self, allowed: int) -> set[int]:
        """Stores that take no write with this DiskFullOpt."""
        oldest = self._clock.monotonic() - BELIEVED_S
        self._others = {store: known for store, known in self._others.items() if known[1] > oldest}
        return {store for store, (usage, _) in self._others.items() if allowed < usage}
