"""Two timestamps the cluster remembers: up to which its replicas can be read without asking leaders, and one set from outside.

The first is the lowest that stores with leaders have reported; it is written down now and then, so that it does not fall
back when the leader of PD changes. The second belongs to whoever sets it, but lies below every timestamp that is yet to be
given and only rises. Both are stored as the public server does, in base 16.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core_py.errors import PdError
from pd_py.metastore.port import Metadata


class InvalidTimestamp(PdError):
    """A timestamp that would go back, or lies in the future."""

    code = "PD:Cluster:InvalidTimestamp"


class ClusterTimestamps:
    """Both of them. `reported` gives the lowest that stores say now, 0 when one has not said any."""

    def __init__(self, metastore: Metadata, prefix: str, reported: Callable[[], int]) -> None:
        self._metastore = metastore
        self._resolved_key = f"{prefix}/raft/min_resolved_ts"
        self._external_key = f"{prefix}/raft/external_timestamp"
        self._reported = reported
        self._setting = asyncio.Lock()
        self._saved = int(self._metastore.get(self._resolved_key) or b"0", 16)
        self.external = int(self._metastore.get(self._external_key) or b"0", 16)

    def min_resolved_ts(self) -> int:
        """Up to which timestamp every region can be read on any replica; never goes back."""
        return max(self._saved, self._reported())

    async def save(self) -> None:
        """Write down how far the stores are, if they have come farther."""
        now = self._reported()
        if now > self._saved:
            await self._metastore.write({self._resolved_key: f"{now:x}".encode()})
            self._saved = max(now, self._saved)

    async def set_external(self, ts: int, newest_ts: int) -> None:
        """Set the other; `newest_ts` is the newest timestamp given out. Raises InvalidTimestamp."""
        async with self._setting:
            if ts > newest_ts:
                raise InvalidTimestamp("the external timestamp should not be larger than global ts")
            if ts <= self.external:
                raise InvalidTimestamp("the external timestamp should be larger than current external timestamp")
            await self._metastore.write({self._external_key: f"{ts:x}".encode()})
            self.external = ts
