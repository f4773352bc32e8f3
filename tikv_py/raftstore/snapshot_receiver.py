"""Taking in snapshot streams: who may send, how much, how fast; then the data waits, durable, for the store loop.

A stream is refused before anything is allocated when too many are running, when the region has one already, when its range
is another region's, or when what it announces does not fit on the disk; it is ended when more comes than fits. The sender
is told so by a status and tries again later. One message and one chunk of each stream are in memory.

Invariant: a region's stage is in exactly one place: being received, waiting for its message, taken in this turn, or claimed by
a peer that brings it in. Whatever else is staged on the disk is of no use to anybody and is removed at start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from core_py.errors import CodecError, StorageError
from core_py.ports import StatusError
from core_py.runtime.rate import ByteRate
from protos.kvproto import eraftpb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.raftstore import births, merge_rules
from tikv_py.raftstore.config import SnapshotSettings
from tikv_py.raftstore.snapshot import MAX_CHUNK_BYTES
from tikv_py.raftstore.staged_snapshot import StagedSnapshot

if TYPE_CHECKING:
    from tikv_py.raftstore.store import Store

MIN_FREE_BYTES = 64 << 20  # of the disk, which snapshots leave to the logs
ROOM_CHECK_BYTES = 8 << 20  # received between two looks at the disk


class SnapshotReceiver:
    """The incoming streams of one store, and the stages that wait for the store loop."""

    def __init__(self, store: Store, settings: SnapshotSettings, rate: ByteRate) -> None:
        self._store = store
        self._settings = settings
        self._rate = rate
        self._number = 0
        self._receiving: dict[int, StagedSnapshot] = {}
        """By region: streams that run, and complete ones whose message the store loop has not looked at."""
        self._waiting: set[int] = set()
        """Regions whose stage is complete and waits for the store loop."""
        self._announced: dict[int, int] = {}
        self._taken: dict[int, StagedSnapshot] = {}

    async def receive(self, chunks: AsyncIterator[serverpb.SnapshotChunk]) -> serverpb.Done:
        """Stage a snapshot and give its message to the store. Raises StatusError when it must not be taken."""
        message: serverpb.RaftMessage | None = None
        stage: StagedSnapshot | None = None
        delivered = False
        try:
            async for chunk in chunks:
                if stage is None and chunk.HasField("message"):
                    message = chunk.message
                    stage = self._admit(message)
                elif stage is None or chunk.HasField("message") or len(chunk.data) > MAX_CHUNK_BYTES:
                    raise StatusError(
                        "INVALID_ARGUMENT", "a snapshot begins with its message, chunks are of at most 16 MiB"
                    )
                else:
                    await self._add(stage, chunk.data)
            if message is None or stage is None or not stage.complete:
                raise StatusError("INVALID_ARGUMENT", "the snapshot stream ended early")
            fail = self._store.fail
            if fail.armed and (reason := await fail.reach("snapshot_received")) is not None:
                raise StatusError("UNAVAILABLE", f"failpoint: {reason}")
            delivered = True
            self._waiting.add(stage.region.id)
            self._store.deliver(message)
            return serverpb.Done()
        except CodecError as error:
            raise StatusError("DATA_LOSS", str(error)) from error
        except StorageError as error:
            raise StatusError("INTERNAL", str(error)) from error
        finally:
            if stage is not None and not delivered:
                self._release(stage.region.id)
                self._discard([stage])

    async def _add(self, stage: StagedSnapshot, chunk: bytes) -> None:
        fail = self._store.fail
        if fail.armed and (reason := await fail.reach("snapshot_receive_chunk")) is not None:
            raise StatusError("UNAVAILABLE", f"failpoint: {reason}")
        await self._rate.take(len(chunk))
        before = stage.received_bytes
        await self._store.workers.run(stage.add, chunk)
        if before // ROOM_CHECK_BYTES != stage.received_bytes // ROOM_CHECK_BYTES:
            self._check_room(stage.region.id, 0)

    def _admit(self, message: serverpb.RaftMessage) -> StagedSnapshot:
        region_id = message.region_id
        store = self._store
        if not store.started:
            raise StatusError("UNAVAILABLE", "the store is starting and may still need what was staged before")
        if store.disk.own:
            raise StatusError("RESOURCE_EXHAUSTED", f"the disk of store {store.store_id} has no room for snapshots")
        peer = store.peers.get(region_id)
        if (
            region_id in self._receiving
            or region_id in store.unsettled
            or (peer is not None and peer.snapshot is not None)
        ):
            raise StatusError("RESOURCE_EXHAUSTED", f"a snapshot of region {region_id} is on its way already")
        if message.to_peer.store_id != store.store_id:
            raise StatusError("INVALID_ARGUMENT", f"snapshot for store {message.to_peer.store_id}")
        if len(self._receiving) >= self._settings.concurrent_recv_limit:
            raise StatusError("RESOURCE_EXHAUSTED", f"{len(self._receiving)} snapshots are being received")
        data, position = _content(message)
        if data.region.id != region_id:
            raise StatusError("INVALID_ARGUMENT", f"region {data.region.id} in a snapshot for region {region_id}")
        holder = births.holder_of_range(store, data.region, besides=merge_rules.sources(data.merged_records))
        if holder is not None:
            raise StatusError("RESOURCE_EXHAUSTED", f"the range of region {region_id} is held by region {holder}")
        self._check_room(region_id, data.file_size)
        if message.extra_ctx:
            store.gc_safe_point = max(store.gc_safe_point, int.from_bytes(message.extra_ctx[:8], "big"))
        self._number += 1
        stage = StagedSnapshot(store.kv_db, f"{region_id}-{self._number}", data.region, position.index, position.term)
        self._receiving[region_id] = stage
        self._announced[region_id] = data.file_size
        return stage

    def _check_room(self, region_id: int, announced: int) -> None:
        """Whether `announced` more bytes of a region fit beside everything else that is on its way."""
        received = sum(stage.received_bytes for stage in self._receiving.values())
        total = received + announced
        limit = self._settings.max_total_bytes
        if limit and total > limit:
            raise StatusError("RESOURCE_EXHAUSTED", f"{total} bytes of snapshots, {limit} are allowed")
        expected = announced + sum(
            max(self._announced[other] - stage.received_bytes, 0) for other, stage in self._receiving.items()
        )
        free = self._settings.free_bytes()
        if free - expected < MIN_FREE_BYTES:
            raise StatusError(
                "RESOURCE_EXHAUSTED",
                f"region {region_id}: {expected} bytes of snapshots are expected, {free} are free on the disk",
            )

    def take(self, message: serverpb.RaftMessage) -> bool:
        """The store loop looks at a snapshot message: whether its data is staged. Another stream may come from now on."""
        region_id = message.region_id
        if region_id not in self._waiting:
            return False
        stage, position = self._receiving[region_id], message.message.snapshot.metadata
        if (stage.index, stage.term) != (position.index, position.term):
            return False
        self._waiting.discard(region_id)
        self._release(region_id)
        self._taken[region_id] = stage
        return True

    def claim(self, region_id: int) -> StagedSnapshot | None:
        """The stage that was taken in this turn; from now on the caller's."""
        return self._taken.pop(region_id, None)

    def end_turn(self) -> None:
        """What was taken and not claimed is of no use."""
        if self._taken:
            useless, self._taken = list(self._taken.values()), {}
            self._discard(useless)

    def _discard(self, useless: list[StagedSnapshot]) -> None:
        """Remove stages in a thread; what a store that is being stopped leaves behind is removed at its start."""
        if self._store.started:
            self._store.scope.spawn(self._remove(useless), name="removal of snapshots")

    async def _remove(self, useless: list[StagedSnapshot]) -> None:
        for stage in useless:
            await self._store.workers.run(stage.abandon)

    def _release(self, region_id: int) -> None:
        self._receiving.pop(region_id, None)
        self._announced.pop(region_id, None)


def _content(message: serverpb.RaftMessage) -> tuple[serverpb.RaftSnapshotData, eraftpb_pb2.SnapshotMetadata]:
    """What a snapshot message describes, and its position in the log. Raises CodecError."""
    snapshot = message.message.snapshot
    try:
        return serverpb.RaftSnapshotData.FromString(snapshot.data), snapshot.metadata
    except DecodeError as error:
        raise CodecError(f"snapshot message of region {message.region_id} is not readable: {error}") from error
