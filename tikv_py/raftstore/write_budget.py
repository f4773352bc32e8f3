"""How many bytes of writes a store holds for its clients: from the moment a write is taken until it is answered.

A write waits in memory for its turn, for the disk, for a quorum and for apply. One limit for all regions of a store covers all of
that; what comes beyond it is refused before anything is done, so that the client can wait instead. (A single region's
unconfirmed entries are limited by the Raft core as well.)
"""

from __future__ import annotations

import asyncio
from typing import Any

from core_py.region_errors import ServerIsBusy


class WriteBudget:
    """One per store."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def check(self, size: int) -> None:
        """Raise ServerIsBusy when `size` more bytes do not fit. A write fits always when it is the only one."""
        if self.held_bytes and self.held_bytes + size > self._limit_bytes:
            raise ServerIsBusy(f"raftstore: {self.held_bytes} bytes wait to be proposed and replicated")

    def hold(self, size: int, until: asyncio.Future[Any]) -> None:
        """Count a write until it is answered."""
        self.held_bytes += size
        until.add_done_callback(lambda _: self._release(size))

    def _release(self, size: int) -> None:
        self.held_bytes -= size
