"""The store's side of snapshots: sending and receiving them, bringing in what came, repeating that after a crash.

Receiving: chunks are written into staged runs of the kv database as they arrive, and the runs are durable before the store loop
sees the snapshot's message. Bringing in: (1) in one synced raft batch the log is replaced by the snapshot's position, and a
marker that names the runs is set; (2) old data is deleted, the runs are ingested, the region state is written and synced;
(3) the marker is removed, that is synced, and the runs are dropped. A crash before (1) leaves the old state, after it the
marker makes start-up repeat (2), which can be repeated at will because ingesting leaves the runs in place. Runs that no
marker names are removed at start. The answer to the leader leaves only after (2).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from core_py.errors import invariant
from core_py.raft.messages import Snapshot as RaftSnapshot
from core_py.runtime.log import get_logger
from core_py.runtime.rate import ByteRate
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.engine.port import CF_DEFAULT, CF_RAFT, DATA_CFS, Engine, WriteBatch
from tikv_py.raftstore import births, deaths, keys, merge, merge_rules
from tikv_py.raftstore.config import SnapshotSettings
from tikv_py.raftstore.peer import Peer, SnapshotProgress
from tikv_py.raftstore.peer_storage import ApplyState, clear_raft_data, region_state_bytes
from tikv_py.raftstore.region import find_peer, is_older, overlaps
from tikv_py.raftstore.snapshot import PendingSnapshot
from tikv_py.raftstore.snapshot_receiver import SnapshotReceiver
from tikv_py.raftstore.snapshot_sender import SnapshotSender

if TYPE_CHECKING:
    from tikv_py.raftstore.store import Store


class SnapshotManager:
    """Snapshots of all regions of one store."""

    def __init__(self, store: Store, settings: SnapshotSettings) -> None:
        rate = ByteRate(store.clock, settings.max_bytes_per_s)
        self._store = store
        self._sender = SnapshotSender(store, rate)
        self._receiver = SnapshotReceiver(store, settings, rate)
        self._pending: dict[int, PendingSnapshot] = {}
        """Snapshots that are being brought in, by region."""
        self._accepted: list[metapb_pb2.Region] = []
        """Ranges promised to snapshots in this turn, before their peers have taken them over."""

    def make(self, peer: Peer, to: int) -> RaftSnapshot:
        """Freeze the applied state for a follower. Raises SnapshotTemporarilyUnavailable."""
        return self._sender.make(peer, to)

    def send(self, peer: Peer, target: metapb_pb2.Peer, message: serverpb.RaftMessage) -> None:
        """The core sent a snapshot message: stream the frozen data behind it."""
        self._sender.send(peer, target, message)

    def not_sent(self, region_id: int, to: int) -> None:
        """A snapshot message was dropped."""
        self._sender.not_sent(region_id, to)

    def forget(self, region_id: int) -> None:
        """The region's peer is gone: nothing it made will be sent."""
        self._sender.forget(region_id)

    async def receive(self, chunks: AsyncIterator[serverpb.SnapshotChunk]) -> serverpb.Done:
        """Stage an incoming snapshot and give its message to the store. Raises StatusError when it must not be taken."""
        return await self._receiver.receive(chunks)

    def take_stage(self, message: serverpb.RaftMessage) -> bool:
        """The store loop looks at a snapshot message: whether its data is staged. Another stream may come from now on."""
        return self._receiver.take(message)

    def end_turn(self) -> None:
        """Every accepted snapshot has begun, or the core had no use for it."""
        self._accepted.clear()
        self._receiver.end_turn()

    def may_accept(self, peer: Peer, message: serverpb.RaftMessage) -> bool:
        """Whether a snapshot's range is free on this store and nobody concerned is busy with another."""
        store = self._store
        data = serverpb.RaftSnapshotData.FromString(message.message.snapshot.data)
        region, ending = data.region, merge_rules.sources(data.merged_records)
        if store.fail.armed and store.fail.hit("snapshot_refuse") is not None:
            return False
        if peer.snapshot is not None or is_older(region.region_epoch, peer.region.region_epoch):
            return False
        if merge.is_outrun(store.merged.values(), region):
            return False
        busy = (store.peers[other] for other in ending if other in store.peers)
        if any(other.snapshot is not None for other in busy):
            return False
        holder = births.holder_of_range(store, region, besides=ending)
        if holder is None:
            holder = next((other.id for other in self._accepted if overlaps(other, region)), None)
        if holder is not None:
            get_logger().info("snapshot refused: range is taken", region=region.id, by=holder)
            return False
        self._accepted.append(region)
        return True

    def begin(self, peer: Peer, number: int, snapshot: RaftSnapshot, raft_batch: WriteBatch) -> None:
        """Step 1: the snapshot takes the log's place, with the marker, in the raft batch of this turn."""
        data = serverpb.RaftSnapshotData.FromString(snapshot.data)
        region, records, meta = data.region, tuple(data.merged_records), snapshot.meta
        storage, store = peer.storage, self._store
        if store.fail.armed:
            store.fail.hit("snapshot_begin")
        stage = self._receiver.claim(region.id)
        invariant(stage is not None, f"region {region.id}: a snapshot was accepted without its data")
        assert stage is not None
        pending = PendingSnapshot(region, meta.index, meta.term, stage.runs, records)
        self._pending[region.id] = pending
        peer.snapshot = SnapshotProgress(number, meta.index, old_region=peer.region)
        for source_id in sorted(merge_rules.sources(records)):
            source = store.peers.get(source_id)
            if source is not None:
                peer.snapshot.ended.append(deaths.end(store, source, source.region, region, holds_range=True))
        peer.fail_proposals()
        peer.applier.locks = None
        peer.read_progress.reset()
        storage.reset_to_snapshot(raft_batch, meta.index, meta.term)
        storage.region, storage.merge, storage.merged_records = region, None, records
        store.closed.discard(region.id)
        raft_batch.put(CF_DEFAULT, keys.pending_snapshot_key(region.id), pending.to_bytes())

    async def bring_in(self, peer: Peer) -> None:
        """Steps 2 and 3, then let the peer go on."""
        progress = peer.snapshot
        assert progress is not None
        store = self._store
        gone = [progress.old_region, *progress.ended]
        holders = [other.region for other in store.peers.values() if other is not peer and other.storage.is_initialized]
        await self._replace_data(self._pending.pop(peer.region.id), progress.ended, _ranges(peer.region, gone, holders))
        if store.fail.armed:
            await store.fail.reach("snapshot_before_answer")
        for ended in progress.ended:
            del store.unsettled[ended.id]
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
        """Repeat step 2 for every marker found at start, then remove what is staged: no marker needs it any more."""
        store = self._store
        found = store.raft_db.scan(CF_DEFAULT, keys.PENDING_SNAPSHOT_MIN, keys.PENDING_SNAPSHOT_MAX)
        for _, data in found:
            pending = PendingSnapshot.from_bytes(data)
            region = pending.region
            if self._is_buried(region):
                batch = store.raft_db.batch()
                clear_raft_data(batch, region.id)
                store.raft_db.write(batch)
                await store.workers.sync(store.raft_db.sync_wal)
                continue
            get_logger().info("repeating an interrupted snapshot", region=region.id, index=pending.index)
            states = self._states()
            ended = [
                states[source_id]
                for source_id in sorted(merge_rules.sources(pending.merged_records))
                if source_id in states
            ]
            gone = [*ended, states[region.id]] if region.id in states else ended
            holders = [one for one in states.values() if one not in gone]
            await self._replace_data(pending, ended, _ranges(region, gone, holders))
        await store.workers.run(_drop_staged, store.kv_db, store.kv_db.staged())

    def _states(self) -> dict[int, metapb_pb2.Region]:
        """The living regions on disk."""
        found = self._store.kv_db.scan(CF_RAFT, keys.REGION_META_MIN, keys.REGION_META_MAX)
        states = [serverpb.RegionLocalState.FromString(data) for _, data in found]
        return {state.region.id: state.region for state in states if state.state != serverpb.Tombstone}

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
        self, pending: PendingSnapshot, ended: list[metapb_pb2.Region], ranges: list[tuple[bytes, bytes]]
    ) -> None:
        """Put the staged data into the place of what `ranges` hold; regions that `ended` in this one get their tombstones."""
        store, region, fail = self._store, pending.region, self._store.fail
        if fail.armed:
            await fail.reach("snapshot_before_clear")
        batch = store.kv_db.batch()
        for start, end in ranges:
            for cf in DATA_CFS:
                batch.delete_range(cf, start, end)
        store.kv_db.write(batch)
        if fail.armed:
            await fail.reach("snapshot_before_ingest")
        await store.workers.run(store.kv_db.ingest_staged, pending.runs)
        if fail.armed:
            await fail.reach("snapshot_before_region_state")
        batch = store.kv_db.batch()
        local = region_state_bytes(region, serverpb.Normal, merged_records=pending.merged_records)
        batch.put(CF_RAFT, keys.region_state_key(region.id), local)
        state = ApplyState(pending.index, pending.index, pending.term)
        batch.put(CF_RAFT, keys.apply_state_key(region.id), state.to_bytes())
        for one in ended:
            batch.delete(CF_RAFT, keys.apply_state_key(one.id))
            deaths.put_tombstone(batch, one, region)
        store.kv_db.write(batch)
        await store.workers.sync(store.kv_db.sync_wal)
        if fail.armed:
            await fail.reach("snapshot_before_unmark")
        raft_batch = store.raft_db.batch()
        raft_batch.delete(CF_DEFAULT, keys.pending_snapshot_key(region.id))
        for one in ended:
            clear_raft_data(raft_batch, one.id)
        store.raft_db.write(raft_batch)
        # A marker that came back after a loss of power would miss its runs.
        await store.workers.sync(store.raft_db.sync_wal)
        if fail.armed:
            await fail.reach("snapshot_before_drop")
        await store.workers.run(_drop_staged, store.kv_db, [name for name, _ in pending.runs])


def _ranges(
    region: metapb_pb2.Region, gone: list[metapb_pb2.Region], holders: list[metapb_pb2.Region]
) -> list[tuple[bytes, bytes]]:
    """The region's range, and what regions that gave way had beyond it, unless one of `holders` lives there now."""
    ranges = [keys.data_range(region.start_key, region.end_key)]
    for old in gone:
        if not old.peers:
            continue
        extra = []
        if old.start_key < region.start_key:
            end = min(region.start_key, old.end_key) if old.end_key else region.start_key
            extra.append(metapb_pb2.Region(start_key=old.start_key, end_key=end))
        if region.end_key and (not old.end_key or region.end_key < old.end_key):
            extra.append(metapb_pb2.Region(start_key=max(region.end_key, old.start_key), end_key=old.end_key))
        free = [part for part in extra if not any(overlaps(holder, part) for holder in holders)]
        ranges += [keys.data_range(part.start_key, part.end_key) for part in free]
    return ranges


def _drop_staged(engine: Engine, names: list[str]) -> None:
    for name in names:
        engine.drop_staged(name)
