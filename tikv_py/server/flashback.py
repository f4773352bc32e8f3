"""KvPrepareFlashbackToVersion and KvFlashbackToVersion: a region goes back to what it was at an older timestamp.

    prepare   PrepareFlashback closes the region in its log (`tikv_py.raftstore.flashback`); then all locks are rolled back and
              the first changed key is prewritten
    finish    every other changed key gets its old version at `commit_ts`, the first one is committed, and FinishFlashback opens
              the region

The per-key rules are in `tikv_py.mvcc.actions.flashback`. Batches are decided in a worker thread on a view of the leader's applied
state and written one after the other under the flashback's flag; nobody else can write the region meanwhile, so no latch is
needed. Both steps may be repeated from the start by whoever leads, after any failure.

The client prepares all regions of a range before it finishes the first, with one start_ts, and takes commit_ts after that. Until a
region is finished everybody else is answered FlashbackInProgress there; readers below start_ts are let through.

Invariants: when the region closes, `version` is not below the GC safe point, or what is to be written would be gone; a closed
region is not collected, and its locks cannot be scanned, so that no safe point passes it (`tikv_py.gc.driver`). version <
start_ts < commit_ts. One step runs per region at a time. Tests: tests/integration/test_flashback.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from core_py.errors import DbError
from core_py.region_errors import FlashbackNotPrepared, ReadIndexNotReady, ServerIsBusy
from core_py.runtime.log import get_logger
from protos.kvproto import debugpb_pb2 as debugpb
from protos.kvproto import kvrpcpb_pb2 as pb
from protos.kvproto import raft_cmdpb_pb2 as cmdpb
from tikv_py.engine.port import Snapshot
from tikv_py.gc.errors import GcTooEarly
from tikv_py.mvcc.actions import flashback as rules
from tikv_py.mvcc.actions.flashback import Flashback, FlashbackBatch, Progress
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import Modify, MvccTxn
from tikv_py.raftstore import commands
from tikv_py.raftstore.keys import data_range
from tikv_py.raftstore.peer import Peer
from tikv_py.server.kv_read import clamp
from tikv_py.txn.context import RegionAccess

T = TypeVar("T")


class FlashbackRefused(DbError):
    """The timestamps of a flashback do not fit together."""

    code = "KV:Storage:FlashbackRefused"
    deterministic = True


class FlashbackService:
    """See the module's text."""

    def __init__(self, access: RegionAccess) -> None:
        self._access = access
        self._store = access.store
        self._running: set[int] = set()

    # ---- the commands ----

    async def prepare(self, request: pb.PrepareFlashbackToVersionRequest) -> pb.PrepareFlashbackToVersionResponse:
        """KvPrepareFlashbackToVersion."""
        peer = self._access.leader(request.context)
        bounds = clamp(peer, request.start_key, request.end_key)
        await self.prepare_region(peer, Flashback(*bounds, request.version, request.start_ts))
        return pb.PrepareFlashbackToVersionResponse()

    async def finish(self, request: pb.FlashbackToVersionRequest) -> pb.FlashbackToVersionResponse:
        """KvFlashbackToVersion."""
        peer = self._access.leader(request.context)
        bounds = clamp(peer, request.start_key, request.end_key)
        await self.finish_region(peer, Flashback(*bounds, request.version, request.start_ts, request.commit_ts))
        return pb.FlashbackToVersionResponse()

    async def debug(self, request: debugpb.FlashbackToVersionRequest) -> debugpb.FlashbackToVersionResponse:
        """debugpb.Debug/FlashbackToVersion: prepares without a commit_ts, else finishes. Bounds are those of regions."""
        peer = self._store.find(request.region_id)
        if not peer.is_leader:
            raise peer.not_leader()
        low, high = data_range(peer.region.start_key, peer.region.end_key)
        start, end = data_range(request.start_key, request.end_key)
        flashback = Flashback(max(low, start), min(high, end), request.version, request.start_ts, request.commit_ts)
        if flashback.commit_ts:
            await self.finish_region(peer, flashback)
        else:
            await self.prepare_region(peer, flashback)
        return debugpb.FlashbackToVersionResponse()

    # ---- one region ----

    async def prepare_region(self, peer: Peer, flashback: Flashback) -> None:
        """Close the region and lock its first changed key. Raises region errors, FlashbackRefused, GcTooEarly."""
        _check_timestamps(flashback)
        async with self._alone(peer.region.id):
            was_closed = peer.region.flashback_start_ts == flashback.start_ts
            if not was_closed:
                self._check_not_collected(flashback)
            await self._admin(peer, commands.prepare_flashback(flashback.start_ts))
            if not was_closed:
                await self._open_if_collected(peer, flashback)
            get_logger().info("region closed for a flashback", region=peer.region.id, version=flashback.version)
            start: bytes | None = flashback.start
            while start is not None:
                batch = await self._decide(peer, rules.roll_back_locks, flashback, start)
                await self._write(peer, batch.modifies)
                start = batch.next_key
            await self._write(peer, await self._decide(peer, _prewrite_first, flashback))

    async def finish_region(self, peer: Peer, flashback: Flashback) -> None:
        """Write the old versions and open the region.

        Raises region errors (FlashbackNotPrepared unless this very flashback is), FlashbackRefused, TxnError.
        """
        _check_timestamps(flashback)
        if flashback.commit_ts <= flashback.start_ts:
            raise FlashbackRefused(f"commit_ts {flashback.commit_ts} is not above start_ts {flashback.start_ts}")
        async with self._alone(peer.region.id):
            if peer.region.flashback_start_ts != flashback.start_ts:
                if await self._decide(peer, _is_finished, flashback):
                    return  # the answer of an earlier call was lost
                raise FlashbackNotPrepared(peer.region.id)
            first = await self._decide(peer, rules.first_changed_key, flashback)
            if first is not None:
                await self._write_versions(peer, flashback, first)
            await self._admin(peer, commands.finish_flashback())
            get_logger().info("region set back", region=peer.region.id, version=flashback.version)

    async def _write_versions(self, peer: Peer, flashback: Flashback, first: bytes) -> None:
        progress = await self._decide(peer, rules.progress, flashback, first)
        if progress is Progress.FINISHED:
            return
        if progress is Progress.NOT_PREPARED:
            raise FlashbackNotPrepared(peer.region.id)
        start: bytes | None = flashback.start
        while start is not None:
            fail = self._store.fail
            if fail.armed and (reason := await fail.reach("flashback_batch")) is not None:
                raise ServerIsBusy(f"failpoint: {reason}")
            batch: FlashbackBatch = await self._decide(peer, rules.write_old_versions, flashback, first, start)
            await self._write(peer, batch.modifies)
            start = batch.next_key
        await self._write(peer, await self._decide(peer, _commit_first, flashback, first))

    def _check_not_collected(self, flashback: Flashback) -> None:
        if flashback.version < self._store.gc_safe_point:
            raise GcTooEarly(flashback.version, self._store.gc_safe_point)

    async def _open_if_collected(self, peer: Peer, flashback: Flashback) -> None:
        """Versions may have gone right before the region closed; none goes while it is."""
        try:
            self._check_not_collected(flashback)
        except GcTooEarly:
            await self._admin(peer, commands.finish_flashback())
            raise

    @asynccontextmanager
    async def _alone(self, region_id: int) -> AsyncIterator[None]:
        """Raise ServerIsBusy while another step runs on the region."""
        if region_id in self._running:
            raise ServerIsBusy(f"a flashback of region {region_id} is running")
        self._running.add(region_id)
        try:
            yield
        finally:
            self._running.discard(region_id)

    # ---- reading and writing in it ----

    async def _admin(self, peer: Peer, request: cmdpb.AdminRequest) -> None:
        data = commands.admin_command(peer.region, request).SerializeToString()
        await self._store.admin(peer.region.id, lambda found: found.propose_admin(data))

    async def _decide(self, peer: Peer, rule: Callable[..., T], *arguments: object) -> T:
        """What a rule says about the leader's newest state, in a worker thread. Raises region errors, TxnError."""
        if not peer.is_leader:
            raise peer.not_leader()
        if not peer.is_complete() or peer.unwritten:
            raise ReadIndexNotReady(peer.region.id, "the leader has not applied its log")
        view = self._store.kv_db.snapshot()
        result: T = await self._store.workers.run(_on_view, view, rule, arguments)
        return result

    async def _write(self, peer: Peer, modifies: list[Modify]) -> None:
        if not modifies:
            return
        written = peer.write(modifies, [], kind=commands.FLASHBACK)
        self._store.activate(peer.region.id)
        await asyncio.shield(written)


def _check_timestamps(flashback: Flashback) -> None:
    if not 0 < flashback.version < flashback.start_ts:
        raise FlashbackRefused(f"version {flashback.version} is not below start_ts {flashback.start_ts}")


def _on_view(view: Snapshot, rule: Callable[..., T], arguments: tuple[object, ...]) -> T:
    """In a worker thread; gives the view up."""
    try:
        return rule(MvccReader(view), *arguments)
    finally:
        view.release()


def _is_finished(reader: MvccReader, flashback: Flashback) -> bool:
    key = rules.first_changed_key(reader, flashback)
    return key is not None and rules.progress(reader, flashback, key) is Progress.FINISHED


def _prewrite_first(reader: MvccReader, flashback: Flashback) -> list[Modify]:
    txn = MvccTxn(flashback.start_ts)
    key = rules.first_changed_key(reader, flashback)
    if key is not None:
        rules.prewrite_first_key(txn, reader, flashback, key)
    return txn.modifies


def _commit_first(reader: MvccReader, flashback: Flashback, key: bytes) -> list[Modify]:
    txn = MvccTxn(flashback.start_ts)
    rules.commit_first_key(txn, reader, flashback, key)
    return txn.modifies
