"""Setting a range of a whole cluster back to an older version: all its regions are closed first, then each is set back and opened.

One start_ts closes all regions and one commit_ts writes to all of them, so that readers see the range of one moment before and
behind it. A run that was broken off leaves regions closed; it is taken up by giving its start_ts again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core_py.codec import memcomparable
from core_py.errors import DbError
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.client.pd.client import PdClient
from tikv_py.gc.region_calls import RegionCalls


class FlashbackFailed(DbError):
    """A store refused a step; regions may be left closed."""

    code = "KV:Ctl:FlashbackFailed"


@dataclass(frozen=True, slots=True)
class FlashbackRange:
    """[start, end) of user keys, `end` empty for all that follow, and the timestamp to go back to."""

    start: bytes
    end: bytes
    version: int


async def flash_back(
    pd: PdClient, calls: RegionCalls, wanted: FlashbackRange, start_ts: int | None, note: Callable[[str], None]
) -> int:
    """Do it; returns how many regions were set back. `note` hears what an operator needs to take it up again.

    Raises FlashbackFailed, PdError, RpcError.
    """
    start_ts = start_ts or await pd.timestamp()
    if not 0 < wanted.version < start_ts:
        raise FlashbackFailed(f"version {wanted.version} is not a timestamp of before {start_ts}")
    note(f"to take this up again: --start-ts {start_ts}")
    prepare = pb.PrepareFlashbackToVersionRequest(
        start_key=wanted.start, end_key=wanted.end, version=wanted.version, start_ts=start_ts
    )
    regions = await _each_region(calls, wanted, "KvPrepareFlashbackToVersion", prepare)
    commit_ts = await pd.timestamp()
    note(f"{regions} regions are closed; their old version is written at {commit_ts}")
    finish = pb.FlashbackToVersionRequest(
        start_key=wanted.start, end_key=wanted.end, version=wanted.version, start_ts=start_ts, commit_ts=commit_ts
    )
    return await _each_region(calls, wanted, "KvFlashbackToVersion", finish)


async def _each_region(calls: RegionCalls, wanted: FlashbackRange, name: str, request: Any) -> int:
    """Send the request to every region of the range, in order; a store takes what lies in the region."""
    key = memcomparable.encode(wanted.start) if wanted.start else b""
    end = memcomparable.encode(wanted.end) if wanted.end else b""
    count = 0
    while True:
        region, response = await calls.call(key, name, lambda _: request)
        if response.error:
            raise FlashbackFailed(f"region {region.id}: {response.error}")
        count += 1
        key = region.end_key
        if not key or (end and key >= end):
            return count
