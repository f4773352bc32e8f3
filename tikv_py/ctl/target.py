"""What the commands talk to: a running store over gRPC, or the databases of a stopped one. Both answer in `debugpb` messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from core_py.errors import DbError
from protos.kvproto import debugpb_pb2 as debugpb
from protos.kvproto import eraftpb_pb2

MvccItem = debugpb.ScanMvccResponse


class WrongMode(DbError):
    """The command exists, but not for a running store, or not for a stopped one."""

    code = "KV:Ctl:WrongMode"


class Target(Protocol):
    """One store. Everything raises DbError with a message for the operator."""

    async def region_ids(self) -> Sequence[int]:
        """All regions, tombstones included."""
        ...

    async def region_info(self, region_id: int) -> debugpb.RegionInfoResponse:
        """A region's states."""
        ...

    async def raft_log(self, region_id: int, index: int) -> eraftpb_pb2.Entry:
        """A log entry."""
        ...

    async def region_size(self, region_id: int, cfs: Sequence[str]) -> debugpb.RegionSizeResponse:
        """Bytes per family."""
        ...

    async def region_properties(self, region_id: int) -> Sequence[debugpb.Property]:
        """Counts of rows and versions."""
        ...

    async def get(self, db: int, cf: str, key: bytes) -> bytes:
        """An engine key's value."""
        ...

    def scan_mvcc(self, start: bytes, end: bytes, limit: int) -> AsyncIterator[MvccItem]:
        """Keys with their versions."""
        ...

    async def compact(self, db: int, cf: str, start: bytes, end: bytes) -> None:
        """Rewrite a range."""
        ...

    async def store_id(self) -> int:
        """Who the store is."""
        ...

    async def cluster_id(self) -> int:
        """Whose it is."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...
