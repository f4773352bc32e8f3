"""Removes expired raw values from the regions led here, every `storage.ttl-check-poll-interval`.

Nobody waits for it, since expired values are invisible: it reads in turns of low priority and has one piece on its way at a time.
A removal is an ordinary write through raft, so the replicas stay the same.

A value must be removed only while it is the expired one, and a write of the same key may be in the log already when it is looked
at. So a piece's keys are condemned first; then an empty write goes through raft, behind which every write from before is
applied; every raw write takes its keys off the list meanwhile (`RawService.write`). What is left then, and still expired, is
removed in the same turn, under the same term: no other leader has written in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core_py.errors import DbError
from core_py.region_errors import StaleCommand
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.kvproto import kvrpcpb_pb2
from tikv_py.engine.port import DATA_CFS
from tikv_py.mvcc.txn import Modify
from tikv_py.raftstore.apply import Applied
from tikv_py.raftstore.disk_space import FREES
from tikv_py.raftstore.keys import data_range
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.store import Store
from tikv_py.server.metrics import TtlMetrics
from tikv_py.server.raw_values import RawValues
from tikv_py.server.read_pool import SLICE_KEYS, ReadPool

_LOW = kvrpcpb_pb2.Context(priority=kvrpcpb_pb2.Low)


class TtlWorker:
    """One per store of API V1TTL."""

    def __init__(
        self,
        store: Store,
        values: RawValues,
        pool: ReadPool,
        interval_s: float,
        metrics: TtlMetrics,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._store = store
        self._fail = store.fail
        self._values = values
        self._pool = pool
        self._interval_s = interval_s
        self._metrics = metrics
        self._scope = TaskScope("ttl worker", on_failure=on_failure)

    def start(self) -> None:
        """Begin."""
        self._scope.spawn(self._run(), name="ttl worker")

    async def stop(self) -> None:
        """End."""
        await self._scope.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.sweep()

    async def sweep(self) -> None:
        """Look through all regions that are led here now."""
        self._metrics.regions.set(0)
        for region_id, peer in list(self._store.peers.items()):
            if not peer.is_leader:
                continue
            try:
                removed = sum([await self._family(peer, cf) for cf in DATA_CFS])
            except DbError as error:  # it moved, split or is busy: the next round will find what is left
                self._metrics.actions.labels("error").inc()
                get_logger().info("expired values left for later", region=region_id, error=str(error))
                continue
            self._metrics.actions.labels("remove" if removed else "skip").inc()
            self._metrics.regions.inc()
        self._metrics.actions.labels("finish").inc()

    async def _family(self, peer: Peer, cf: str) -> int:
        """Look through one column family of a region, piece by piece; how many values were removed. Raises region errors."""
        version, removed = peer.region.region_epoch.version, 0
        at, high = data_range(peer.region.start_key, peer.region.end_key)
        clock, more = self._store.clock, True
        while more:
            await self._pool.turn(_LOW)
            if not peer.is_leader or peer.region.region_epoch.version != version:
                raise StaleCommand(peer.region.id)
            began, now_s = clock.monotonic(), self._values.now_s()
            pairs = self._store.kv_db.scan(cf, at, high, SLICE_KEYS)
            expired = [key for key, stored in pairs if self._values.live(stored, now_s) is None]
            self._pool.ran(clock.monotonic() - began)
            if expired:
                removed += await self._remove(peer, cf, expired, now_s)
            else:
                await asyncio.sleep(0)
            more = len(pairs) == SLICE_KEYS
            at = pairs[-1][0] + b"\x00" if more else high
        return removed

    async def _remove(self, peer: Peer, cf: str, expired: list[bytes], now_s: int) -> int:
        """Remove what nobody has written since. Raises region errors."""
        condemned, term = self._values.condemned, peer.node.term
        condemned.update(expired)
        try:
            await self._through_raft(peer, [])
            if self._fail.armed and await self._fail.reach("raw_ttl_before_remove") is not None:
                return 0
            if peer.node.term != term:
                raise StaleCommand(peer.region.id)
            left = [key for key in expired if key in condemned]
            found = self._store.kv_db.multi_get(cf, left)
            modifies = [
                Modify(cf, key, None)
                for key, stored in zip(left, found, strict=True)
                if stored is not None and self._values.live(stored, now_s) is None
            ]
            written = self._through_raft(peer, modifies)
        finally:
            condemned.clear()
        await written
        self._metrics.expired.inc(len(modifies))
        return len(modifies)

    def _through_raft(self, peer: Peer, modifies: list[Modify]) -> asyncio.Future[Applied]:
        written = peer.write(modifies, [], disk_full_opt=FREES)
        self._store.activate(peer.region.id)
        return written
