"""Ranges that nobody uses any more: KvDeleteRange for one region through raft, UnsafeDestroyRange for a whole store past it.

KvDeleteRange is a command of a region's log: every replica removes the same. With `notify_only` it writes nothing, but is
answered like any write, so whoever waits for it knows that all earlier entries are applied on the leader.

UnsafeDestroyRange asks each store separately, for dropped tables: it removes the range from the data families at once, also
of regions that this store only follows, and gives the space back by compacting what it removed. The databases here cannot drop
whole files, so a range deletion hides the data and the compaction, in a worker thread, removes it. Nothing in the range may be in
use: replicas differ until every store was asked, a snapshot on its way may bring data back, and a reader sees half of it.

Invariants: the range is removed and synced before the answer; what is kept about it in memory (locks watched for stale reads,
sizes of regions) is corrected in the same step; one destruction runs at a time.
"""

from __future__ import annotations

import asyncio

from core_py.region_errors import RegionError, ServerIsBusy
from protos.kvproto import kvrpcpb_pb2 as pb
from protos.kvproto import metapb_pb2
from tikv_py.engine.port import CF_LOCK, DATA_CFS
from tikv_py.mvcc import keys
from tikv_py.raftstore.disk_space import FREES
from tikv_py.raftstore.keys import data_range, region_bounds
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.region import overlaps
from tikv_py.server.kv_read import clamp
from tikv_py.txn.context import RegionAccess
from tikv_py.txn.scheduler import Scheduler

WAITING_MAX = 64


class RangeRefused(RegionError):
    """A range that cannot be meant: without bounds, or empty."""

    code = "KV:Server:RangeRefused"


class RangeService:
    """Handlers of the commands on whole ranges."""

    def __init__(self, access: RegionAccess, scheduler: Scheduler) -> None:
        self._access = access
        self._scheduler = scheduler
        self._store = access.store
        self._destroying = asyncio.Semaphore(1)
        self._waiting = 0

    async def delete_range(self, request: pb.DeleteRangeRequest) -> pb.DeleteRangeResponse:
        """KvDeleteRange: physical, for data that nothing reads any more."""
        peer = self._access.leader(request.context)
        start, end = clamp(peer, request.start_key, request.end_key)
        if request.notify_only:
            done = peer.write([], [], disk_full_opt=FREES)
            self._store.activate(peer.region.id)
            await done
        elif start < end:
            await self._scheduler.write_unlatched(request.context, [(cf, start, end) for cf in DATA_CFS], start[1:])
        return pb.DeleteRangeResponse()

    async def unsafe_destroy_range(self, request: pb.UnsafeDestroyRangeRequest) -> pb.UnsafeDestroyRangeResponse:
        """UnsafeDestroyRange of [start, end), user keys; neither bound may be open."""
        if not request.start_key or not request.end_key or request.start_key >= request.end_key:
            raise RangeRefused("unsafe_destroy_range needs a start_key below its end_key, and neither empty")
        if self._waiting >= WAITING_MAX:
            raise ServerIsBusy(f"{self._waiting} ranges wait to be destroyed")
        fail = self._store.fail
        if fail.armed and (reason := await fail.reach("destroy_range_begin")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")
        start, end = keys.data_key(request.start_key), keys.data_key(request.end_key)
        self._waiting += 1
        try:
            async with self._destroying:
                await self._destroy(start, end)
        finally:
            self._waiting -= 1
        return pb.UnsafeDestroyRangeResponse()

    async def _destroy(self, start: bytes, end: bytes) -> None:
        store = self._store
        engine = store.kv_db
        batch = engine.batch()
        for cf in DATA_CFS:
            batch.delete_range(cf, start, end)
        engine.write(batch)
        low, high = region_bounds(start, end)
        range_ = metapb_pb2.Region(start_key=low, end_key=high)
        for peer in store.peers.values():
            if peer.storage.is_initialized and overlaps(peer.region, range_):
                _forget(peer, start, end)
        await store.workers.sync(engine.sync_wal)
        for cf in DATA_CFS:
            await store.workers.run(engine.compact, cf, start, end)


def _forget(peer: Peer, start: bytes, end: bytes) -> None:
    """Correct what is known of a region that lost a part of its data outside its log."""
    if peer.applier.locks is not None:
        peer.applier.locks.apply((), [(CF_LOCK, start, end)])
    low, high = data_range(peer.region.start_key, peer.region.end_key)
    if start <= low and high <= end:
        peer.approximate_size = peer.approximate_keys = 0
    else:
        peer.size_known = False  # it is measured again
