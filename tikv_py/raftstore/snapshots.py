"""The store's side of snapshots: making them for the core, sending, receiving, bringing in, repeating after a crash.

The format and the order of steps that makes a crash harmless are described in `snapshot`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from core_py.errors import CodecError
from core_py.ports import StatusError
from core_py.runtime.log import get_logger
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.engine.port import CF_DEFAULT, CF_RAFT, DATA_CFS, Range, Snapshot, WriteBatch
from tikv_py.raft.errors import SnapshotTemporarilyUnavailable
from tikv_py.raft.messages import Snapshot as RaftSnapshot
from tikv_py.raft.messages import SnapshotMeta
from tikv_py.raftstore import codec, keys, lifecycle
from tikv_py.raftstore import snapshot as layout
from tikv_py.raftstore.peer import Peer, SnapshotProgress
from tikv_py.raftstore.peer_storage import ApplyState, clear_raft_data, region_state_bytes
from tikv_py.raftstore.region import find_peer, is_older, overlaps

if TYPE_CHECKING:
    from tikv_py.raftstore.store import Store

MAX_CHUNK_BYTES = 8 << 20


class SnapshotManager:
    """Snapshots of all regions of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._made: dict[tuple[int, int], Snapshot] = {}
        self._sending = 0
        self._receiving: set[int] = set()
        """Regions whose stage is being filled, or is full and waits for the store loop to look at its message."""
        self._staged: set[int] = set()
        self._accepted: list[metapb_pb2.Region] = []
        """Ranges promised to snapshots in this turn, before their peers have taken them over."""

    def make(self, peer: Peer, to: int) -> RaftSnapshot:
        """Freeze the applied state for a follower. Raises SnapshotTemporarilyUnavailable when too many wait to be sent."""
        store, region = self._store, peer.region
        old = self._made.pop((region.id, to), None)
        if old is not None:
            old.release()
        if len(self._made) + self._sending >= store.config.snap_max_pending:
            raise SnapshotTemporarilyUnavailable(f"{len(self._made) + self._sending} snapshots are being sent")
        if find_peer(region, peer_id=to) is None:
            raise SnapshotTemporarilyUnavailable(f"peer {to} is not a member of region {region.id} yet")
        start, end = keys.data_range(region.start_key, region.end_key)
        # Entries of this turn may be counted as applied although their batch is not written yet: the view would miss them.
        if peer.unwritten:
            raise SnapshotTemporarilyUnavailable("entries of this turn are not written yet")
        self._made[region.id, to] = store.kv_db.snapshot([Range(cf, start, end) for cf in DATA_CFS])
        storage = peer.storage
        data = serverpb.RaftSnapshotData(region=region, version=2)
        meta = SnapshotMeta(
            storage.apply_state.applied_index, storage.applied_term, codec.conf_state_of_peers(region.peers)
        )
        return RaftSnapshot(meta, data.SerializeToString())

    def send(self, peer: Peer, target: metapb_pb2.Peer, message: serverpb.RaftMessage) -> None:
        """The core sent a snapshot message: stream the frozen data behind it."""
        view = self._made.pop((peer.region.id, target.id), None)
        if view is None:
            peer.node.report_snapshot(target.id, ok=False)
            return
        self._sending += 1

        def done(arrived: bool) -> None:
            self._sending -= 1
            view.release()
            if not peer.destroyed:
                peer.node.report_snapshot(target.id, ok=arrived)
                self._store.activate(peer.region.id)

        get_logger().info("sending snapshot", region=peer.region.id, to=target.store_id)
        self._store.router.send_snapshot(target.store_id, message, layout.chunks_of(view), done)

    def forget(self, region_id: int) -> None:
        """The region's peer is gone: nothing it made will be sent."""
        for made in [made for made in self._made if made[0] == region_id]:
            self._made.pop(made).release()

    def not_sent(self, region_id: int, to: int) -> None:
        """A snapshot message was dropped."""
        view = self._made.pop((region_id, to), None)
        if view is not None:
            view.release()

    async def receive(self, chunks: AsyncIterator[serverpb.SnapshotChunk]) -> serverpb.Done:
        """Stage an incoming snapshot and give its message to the store. Raises StatusError when it must not be taken."""
        message: serverpb.RaftMessage | None = None
        stage: layout.Stage | None = None
        complete = False
        try:
            async for chunk in chunks:
                if chunk.HasField("message"):
                    message = chunk.message
                    stage = self._begin_stage(message)
                elif stage is None or len(chunk.data) > MAX_CHUNK_BYTES:
                    raise StatusError(
                        "INVALID_ARGUMENT", "a snapshot begins with its message, chunks are of at most 8 MiB"
                    )
                else:
                    complete = stage.add(chunk.data)
            if message is None or stage is None or not complete:
                raise StatusError("INVALID_ARGUMENT", "the snapshot stream ended early")
            self._staged.add(message.region_id)
            self._store.deliver(message)
            return serverpb.Done()
        except CodecError as error:
            raise StatusError("DATA_LOSS", str(error)) from error
        finally:
            if stage is not None and stage.region_id not in self._staged:
                self._receiving.discard(stage.region_id)

    def _begin_stage(self, message: serverpb.RaftMessage) -> layout.Stage:
        region_id = message.region_id
        if not self._store.started:
            raise StatusError("UNAVAILABLE", "the store is starting and may still need what was staged before")
        peer = self._store.peers.get(region_id)
        if (
            region_id in self._receiving
            or region_id in self._store.unsettled
            or (peer is not None and peer.snapshot is not None)
        ):
            raise StatusError("RESOURCE_EXHAUSTED", f"a snapshot of region {region_id} is on its way already")
        if message.to_peer.store_id != self._store.store_id:
            raise StatusError("INVALID_ARGUMENT", f"snapshot for store {message.to_peer.store_id}")
        self._receiving.add(region_id)
        return layout.Stage(self._store.raft_db, region_id)

    def take_stage(self, region_id: int) -> bool:
        """The store loop looks at a snapshot message: whether its data is staged. Another stream may come from now on."""
        if region_id not in self._staged:
            return False
        self._staged.discard(region_id)
        self._receiving.discard(region_id)
        return True

    def end_turn(self) -> None:
        """Every accepted snapshot has begun, or the core had no use for it."""
        self._accepted.clear()

    def may_accept(self, peer: Peer, message: serverpb.RaftMessage) -> bool:
        """Whether a snapshot's range is free on this store and the peer is not busy with another."""
        region = serverpb.RaftSnapshotData.FromString(message.message.snapshot.data).region
        if peer.snapshot is not None or is_older(region.region_epoch, peer.region.region_epoch):
            return False
        holder = lifecycle.holder_of_range(self._store, region)
        if holder is None:
            holder = next((other.id for other in self._accepted if overlaps(other, region)), None)
        if holder is not None:
            get_logger().info("snapshot refused: range is taken", region=region.id, by=holder)
            return False
        self._accepted.append(region)
        return True

    def begin(self, peer: Peer, number: int, snapshot: RaftSnapshot, raft_batch: WriteBatch) -> None:
        """Step 1: the snapshot takes the log's place, with the marker, in the raft batch of this turn."""
        region = serverpb.RaftSnapshotData.FromString(snapshot.data).region
        meta = snapshot.meta
        storage = peer.storage
        peer.snapshot = SnapshotProgress(number, meta.index, old_region=peer.region)
        peer.fail_proposals()
        storage.reset_to_snapshot(raft_batch, meta.index, meta.term)
        storage.region = region
        marker = layout.pending_marker(region.SerializeToString(), meta.index, meta.term)
        raft_batch.put(CF_DEFAULT, keys.pending_snapshot_key(region.id), marker)

    async def bring_in(self, peer: Peer) -> None:
        """Steps 2 and 3, then let the peer go on."""
        progress = peer.snapshot
        assert progress is not None
        store = self._store
        state = peer.storage.apply_state
        await self._replace_data(peer.region, progress.old_region, state.truncated_index, state.truncated_term)
        peer.snapshot = None
        if peer.destroyed:
            return
        get_logger().info("snapshot applied", region=peer.region.id, index=progress.index)
        peer.node.on_persist(progress.number)
        peer.node.advance_apply_to(progress.index)
        store.send(peer, progress.messages)
        store.listener.on_region_change(peer)
        peer.on_applied()
        store.activate(peer.region.id)

    async def recover(self) -> None:
        """Repeat step 2 for every marker found at start."""
        found = self._store.raft_db.scan(CF_DEFAULT, keys.PENDING_SNAPSHOT_MIN, keys.PENDING_SNAPSHOT_MAX)
        for _, data in found:
            raw, index, term = layout.decode_pending_marker(data)
            region = metapb_pb2.Region.FromString(raw)
            if self._is_buried(region):
                batch = self._store.raft_db.batch()
                clear_raft_data(batch, region.id)
                self._store.raft_db.write(batch)
                continue
            get_logger().info("repeating an interrupted snapshot", region=region.id, index=index)
            await self._replace_data(region, None, index, term)

    def _is_buried(self, region: metapb_pb2.Region) -> bool:
        """Whether the peer that this snapshot was for has been destroyed since."""
        data = self._store.kv_db.get(CF_RAFT, keys.region_state_key(region.id))
        if data is None:
            return False
        state = serverpb.RegionLocalState.FromString(data)
        dead = find_peer(state.region, store_id=self._store.store_id)
        meant = find_peer(region, store_id=self._store.store_id)
        return state.state == serverpb.Tombstone and dead is not None and meant is not None and dead.id >= meant.id

    async def _replace_data(
        self, region: metapb_pb2.Region, old: metapb_pb2.Region | None, index: int, term: int
    ) -> None:
        store = self._store
        batch = store.kv_db.batch()
        for start, end in self._ranges_to_clear(region, old):
            for cf in DATA_CFS:
                batch.delete_range(cf, start, end)
        store.kv_db.write(batch)
        pairs = await store.workers.run(layout.staged_pairs, store.raft_db, region.id)
        await store.workers.run(store.kv_db.ingest, pairs)
        batch = store.kv_db.batch()
        batch.put(CF_RAFT, keys.region_state_key(region.id), region_state_bytes(region, serverpb.Normal))
        batch.put(CF_RAFT, keys.apply_state_key(region.id), ApplyState(index, index, term).to_bytes())
        store.kv_db.write(batch)
        await store.workers.sync(store.kv_db.sync_wal)
        raft_batch = store.raft_db.batch()
        raft_batch.delete(CF_DEFAULT, keys.pending_snapshot_key(region.id))
        raft_batch.delete_range(CF_DEFAULT, keys.snapshot_chunk_key(region.id, 0), keys.snapshot_chunks_end(region.id))
        store.raft_db.write(raft_batch)

    def _ranges_to_clear(self, region: metapb_pb2.Region, old: metapb_pb2.Region | None) -> list[tuple[bytes, bytes]]:
        """The new range, and what the old one had beyond it, unless another region of this store lives there now."""
        ranges = [keys.data_range(region.start_key, region.end_key)]
        if old is None or not old.peers:
            return ranges
        extra = []
        if old.start_key < region.start_key:
            extra.append(metapb_pb2.Region(start_key=old.start_key, end_key=region.start_key))
        if region.end_key and (not old.end_key or region.end_key < old.end_key):
            extra.append(metapb_pb2.Region(start_key=region.end_key, end_key=old.end_key))
        for part in extra:
            taken = any(
                peer.region.id != region.id and peer.storage.is_initialized and overlaps(peer.region, part)
                for peer in self._store.peers.values()
            )
            if not taken:
                ranges.append(keys.data_range(part.start_key, part.end_key))
        return ranges
