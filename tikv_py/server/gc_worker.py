"""Removes old versions from the regions that this store leads, below PD's GC safe point.

Every `gc.poll-interval` the store learns the safe point, and from that moment refuses readers and new locks below it
(`tikv_py.txn.context`, `tikv_py.gc.late`). Then it goes through the regions that it leads, one after the other, reads a piece of
each in a worker thread, and removes what the rule of `tikv_py.mvcc.actions.gc` names by ordinary writes of the region's log, so
that replicas stay equal and a restarted or new one removes the same. There is no compaction filter.

Why the keys of a removal are latched. Only one command writes a record with an old timestamp: the rollback of a transaction that
began at the very timestamp another one committed at marks that one's record. If it had read the record before the removal
and written it after, a version would come back without the newer ones that hid it. Everything else a command decides on is newer
than what goes: the newest version at the safe point stays, and a lock of before the safe point is not given any more. So what
was decided on the view is still right when the latches are held, and nothing is read again; only values without an owner are.

Locks below the safe point are gone when PD's safe point arrives there: whoever moves it resolves them first (`tikv_py.gc.driver`).

Bounds: one piece is `PIECE_RECORDS` records or `gc.batch-keys` removals; between two pieces the loop is free, and
`gc.max-write-bytes-per-sec` paces removals. A pass ends early when the peer no longer leads, its region changed, or a
write failed; the next round, here or on the next leader, takes the region up again.

Tests: tests/integration/test_gc.py, tests/unit/gc.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from core_py.errors import DbError
from core_py.region_errors import ServerIsBusy
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from tikv_py.client.pd.client import PdClient
from tikv_py.engine.port import Snapshot
from tikv_py.gc.collect import OrphanScan, Piece, VersionScan, is_orphan
from tikv_py.gc.config import GcConfig
from tikv_py.gc.progress import GcProgress, Pass
from tikv_py.mvcc import keys
from tikv_py.mvcc.txn import Modify
from tikv_py.raftstore.commands import WriteKind
from tikv_py.raftstore.disk_space import FREES
from tikv_py.raftstore.keys import data_range
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.store import Store
from tikv_py.server.metrics import GcMetrics
from tikv_py.txn.latches import Latches

PIECE_RECORDS = 2048
SIZE_MATTERS_AT = 4096  # removals of a pass after which the region's size is measured anew
BUSY_RETRIES = 10
BUSY_WAIT_S = 0.5


class _PassEnded(Exception):
    """The region is not what it was when the pass began."""


class GcWorker:
    """See the module's text."""

    def __init__(
        self,
        store: Store,
        pd: PdClient,
        latches: Latches,
        config: GcConfig,
        metrics: GcMetrics,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._store = store
        self._pd = pd
        self._latches = latches
        self._config = config
        self._metrics = metrics
        self._scope = TaskScope("gc", on_failure=on_failure)
        self._progress = GcProgress()
        self._learned = asyncio.Event()

    async def refresh(self) -> None:
        """Learn the safe point; must be done once before the store serves. Raises PdError."""
        safe_point = await self._pd.get_gc_safe_point()
        self._store.gc_safe_point = max(self._store.gc_safe_point, safe_point)
        self._metrics.safe_point.set(self._store.gc_safe_point)

    def start(self) -> None:
        """Begin."""
        self._scope.spawn(self._poll(), name="gc safe point")
        if self._config.enable:
            self._scope.spawn(self._rounds(), name="gc rounds")

    async def stop(self) -> None:
        """End."""
        await self._scope.close()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(float(self._config.poll_interval))
            try:
                await self.refresh()
            except DbError as error:
                get_logger().info("gc safe point not learned", error=str(error))
            self._learned.set()

    async def _rounds(self) -> None:
        while True:
            await self._learned.wait()
            self._learned.clear()
            self._metrics.set_status("working")
            await self.collect()
            self._metrics.set_status("idle")

    async def collect(self) -> None:
        """One round over all regions led here. A region whose pass fails is left to the next round."""
        store = self._store
        safe_point = store.gc_safe_point
        if not safe_point:
            return
        self._progress.keep(set(store.peers))
        for region_id in list(store.peers):
            peer = store.peers.get(region_id)
            if peer is None or not self._is_due(peer, safe_point):
                continue
            began = store.clock.monotonic()
            self._metrics.tasks.labels("gc").inc()
            try:
                await self._collect_region(peer, safe_point)
            except (DbError, _PassEnded) as error:
                self._metrics.failures.labels("gc").inc()
                get_logger().info("region not collected", region=region_id, error=str(error))
            self._metrics.duration.labels("gc").observe(store.clock.monotonic() - began)

    def _is_due(self, peer: Peer, safe_point: int) -> bool:
        region = peer.region
        return (
            peer.is_complete()
            and peer.snapshot is None
            and not region.is_in_flashback
            and self._progress.is_due(
                region.id, peer.peer_id, region.region_epoch.version, peer.flow.written_keys, safe_point
            )
        )

    async def _collect_region(self, peer: Peer, safe_point: int) -> None:
        """One pass. Raises DbError, _PassEnded."""
        region_id, version = peer.region.id, peer.region.region_epoch.version
        start, end = data_range(peer.region.start_key, peer.region.end_key)
        wants_orphans = self._progress.wants_orphans(region_id, peer.peer_id, version)
        before = written = peer.flow.written_keys
        scan = VersionScan(start, end, safe_point)
        piece = None
        while piece is None or not piece.is_last:
            piece = await self._read(peer, version, scan.read, PIECE_RECORDS, self._config.batch_keys)
            written += await self._remove(peer, version, piece.removals, safe_point)
            self._metrics.keys.labels("write", "processed").inc(piece.records)
        if wants_orphans and scan.records:
            written += await self._remove_orphans(peer, version, OrphanScan(start, end, safe_point), safe_point)
        if written - before >= SIZE_MATTERS_AT:
            peer.size_known = False  # removals were counted as growth; it is measured again
        done = Pass(peer.peer_id, version, safe_point, scan.newest_ts, written)
        self._progress.finish(region_id, done)
        self._metrics.regions.labels("scan").inc()

    async def _remove_orphans(self, peer: Peer, version: int, scan: OrphanScan, safe_point: int) -> int:
        removed = 0
        piece = None
        while piece is None or not piece.is_last:
            piece = await self._read(peer, version, scan.read, PIECE_RECORDS)
            self._metrics.keys.labels("default", "processed").inc(piece.records)
            removed += await self._remove(peer, version, piece.removals, safe_point, again=True)
        return removed

    async def _read(self, peer: Peer, version: int, read: Callable[..., Piece], *limits: int) -> Piece:
        """A piece from a view of now. Raises _PassEnded."""
        self._check(peer, version)
        view = self._store.kv_db.snapshot()
        piece: Piece = await self._store.workers.run(_read_piece, read, view, limits)
        return piece

    def _check(self, peer: Peer, version: int) -> None:
        """Raise _PassEnded unless the peer still leads what it led."""
        if peer.destroyed or not peer.is_complete() or peer.region.region_epoch.version != version:
            raise _PassEnded("it is led elsewhere, or its bounds changed")
        if peer.snapshot is not None or peer.region.is_in_flashback:
            raise _PassEnded("it is set back, or its data replaced")

    async def _remove(
        self, peer: Peer, version: int, removals: Sequence[Modify], safe_point: int, *, again: bool = False
    ) -> int:
        """Remove, a batch after the other; how many. `again` looks again whether they are values without an owner."""
        size = self._config.batch_keys
        removed = 0
        for at in range(0, len(removals), size):
            batch = list(removals[at : at + size])
            removed += await self._when_free(partial(self._remove_batch, peer, version, batch, safe_point, again=again))
        return removed

    @staticmethod
    async def _when_free(remove: Callable[[], Awaitable[int]]) -> int:
        """Again after a while, as long as the region is only busy. Raises what `remove` does."""
        for _ in range(BUSY_RETRIES):
            try:
                return await remove()
            except ServerIsBusy:
                await asyncio.sleep(BUSY_WAIT_S)
        return await remove()

    async def _remove_batch(
        self, peer: Peer, version: int, batch: list[Modify], safe_point: int, *, again: bool
    ) -> int:
        """One log entry. Raises region errors, _PassEnded."""
        fail = self._store.fail
        if fail.armed and (reason := await fail.reach("gc_before_remove")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")
        latch = await self._latches.acquire({keys.user_key(one.key[: -keys.TS_SIZE]) for one in batch})
        try:
            self._check(peer, version)
            if again:
                batch = [one for one in batch if is_orphan(self._store.kv_db, one.key, safe_point)]
            written = peer.write(batch, [], disk_full_opt=FREES, kind=WriteKind(gc_safe_point=safe_point))
            self._store.activate(peer.region.id)
        except BaseException:
            self._latches.release(latch)
            raise
        # The write happens with or without this task, so the latch is released by its outcome.
        self._latches.release_when_done(latch, written)
        await asyncio.shield(written)
        for cf in {one.cf for one in batch}:
            self._metrics.keys.labels(cf, "delete").inc(sum(one.cf == cf for one in batch))
        limit = self._config.max_write_bytes_per_sec
        if limit:
            await asyncio.sleep(sum(len(one.key) for one in batch) / limit)
        return len(batch)


def _read_piece(read: Callable[..., Piece], view: Snapshot, limits: Sequence[int]) -> Piece:
    """In a worker thread; gives the view up."""
    try:
        return read(view, *limits)
    finally:
        view.release()
