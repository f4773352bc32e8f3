"""How the leading member lets the others have its regions: `pdpb.PD/SyncRegions`, the serving side.

A follower names the position in the leader's history up to which it has everything. If the history still reaches back that
far, it gets the changes since; else it gets all regions, batch by batch, and then the changes that came meanwhile. From
then on changes follow as they happen, and an empty message now and then says that nothing did.

Positions begin anew with each term of leadership, far from those of other terms, so a follower never takes the one history
for the other.

    all regions:  start_index 0, 1000, 2000, ... with regions; then an empty message with the position that follows
    changes:      start_index is the position of the message's first region

The copy is for reads and for a good start of the next leader; it may lag, and heartbeats correct it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from core_py.ports import CallContext, StatusError
from core_py.runtime.log import get_logger
from pd_py.cluster.convert import leader_pb, peer_pb, region_pb
from pd_py.cluster.regions import Regions
from pd_py.schedule.view import RegionView
from protos.kvproto import pdpb_pb2

BATCH = 1000
HISTORY = 100_000
KEEP_ALIVE_S = 10.0
TERM_SHIFT = 40


class RegionHistory:
    """The last changes, by position."""

    def __init__(self, term: int, size: int = HISTORY) -> None:
        self._ring: list[RegionView | None] = [None] * size
        self.next = (term << TERM_SHIFT) + 1
        self._begin = self.next

    @property
    def first(self) -> int:
        """The oldest position that is still there."""
        return max(self._begin, self.next - len(self._ring))

    def record(self, region: RegionView) -> None:
        """A region changed."""
        self._ring[self.next % len(self._ring)] = region
        self.next += 1

    def since(self, position: int, limit: int) -> list[RegionView] | None:
        """Up to `limit` changes from a position on; None when the history does not hold it."""
        if not self.first <= position <= self.next:
            return None
        end = min(self.next, position + limit)
        found = (self._ring[at % len(self._ring)] for at in range(position, end))
        return [region for region in found if region is not None]


class RegionSyncer:
    """The streams of one term of leadership. `close` ends them."""

    def __init__(self, regions: Regions, cluster_id: int, term: int) -> None:
        self._regions = regions
        self._cluster_id = cluster_id
        self._history = RegionHistory(term)
        self._wakers: list[asyncio.Event] = []
        self._closed = False
        regions.on_change.append(self._record)

    def _record(self, region: RegionView) -> None:
        self._history.record(region)
        for waker in self._wakers:
            waker.set()

    def close(self) -> None:
        """End all streams; followers look for the next leader."""
        self._closed = True
        self._regions.on_change.remove(self._record)
        for waker in self._wakers:
            waker.set()

    async def serve(
        self, requests: AsyncIterator[pdpb_pb2.SyncRegionRequest], _context: CallContext
    ) -> AsyncIterator[pdpb_pb2.SyncRegionResponse]:
        """The stream's handler."""
        request = await anext(requests, None)
        if request is None:
            return
        if request.header.cluster_id != self._cluster_id:
            raise StatusError(
                "FAILED_PRECONDITION",
                f"mismatch cluster id, need {self._cluster_id} but got {request.header.cluster_id}",
            )
        get_logger().info("regions are sent", member=request.member.name, position=request.start_index)
        waker = asyncio.Event()
        self._wakers.append(waker)
        position, is_quiet = request.start_index, True
        try:
            while not self._closed:
                waker.clear()
                changes = self._history.since(position, BATCH)
                if changes is None:
                    position = self._history.next
                    async with aclosing(self._everything(position)) as everything:
                        async for response in everything:
                            yield response
                elif changes or is_quiet:
                    yield self._response(changes, position)
                    position += len(changes)
                    is_quiet = False
                else:
                    is_quiet = not await _woken(waker)
        finally:
            self._wakers.remove(waker)

    async def _everything(self, position: int) -> AsyncGenerator[pdpb_pb2.SyncRegionResponse]:
        """All regions; `position` is where their changes begin."""
        sent, key = 0, b""
        while not self._closed:
            batch = self._regions.tree.scan(key, b"", BATCH)
            if batch:
                yield self._response(batch, sent)
                sent += len(batch)
                key = batch[-1].end_key
                await asyncio.sleep(0)
            if not batch or not key:
                break
        yield self._response((), position)

    def _response(self, regions: Sequence[RegionView], position: int) -> pdpb_pb2.SyncRegionResponse:
        response = pdpb_pb2.SyncRegionResponse(start_index=position)
        response.header.cluster_id = self._cluster_id
        for region in regions:
            response.regions.append(region_pb(region))
            response.region_leaders.append(leader_pb(region))
            response.region_stats.add(
                bytes_written=region.written_bytes,
                bytes_read=region.read_bytes,
                keys_written=region.written_keys,
                keys_read=region.read_keys,
            )
            down, pending = response.down_peers.add(), response.pending_peers.add()
            seconds = self._regions.down_seconds(region.region_id)
            if seconds or region.pending:
                for peer in region.peers:
                    if peer.peer_id in seconds:
                        down.peers.add(peer=peer_pb(peer), down_seconds=seconds[peer.peer_id])
                    if peer.peer_id in region.pending:
                        pending.peers.append(peer_pb(peer))
        return response


async def _woken(waker: asyncio.Event) -> bool:
    """Wait until something changed; False when it is time to say that nothing did."""
    try:
        async with asyncio.timeout(KEEP_ALIVE_S):
            await waker.wait()
    except TimeoutError:
        return False
    return True
