"""Making snapshots for followers and streaming them out.

The core asks for a snapshot; the kv database is frozen in the same turn, so the data is exactly that of the applied index.
Chunks are cut from the frozen view in a worker thread, one at a time, at the pace that the rate limit and the receiver allow.

Back-off: the core asks again whenever a follower that needs a snapshot is heard. After a snapshot that did not arrive it is told
that none can be had, for a time that doubles with every failure in a row, from a heartbeat interval to an election timeout;
otherwise a receiver that refuses would have a region frozen for it at every heartbeat.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from core_py.codec import eraft
from core_py.ports import Clock
from core_py.raft.errors import SnapshotTemporarilyUnavailable
from core_py.raft.messages import Snapshot as RaftSnapshot
from core_py.raft.messages import SnapshotMeta
from core_py.runtime.log import get_logger
from core_py.runtime.rate import ByteRate
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.engine.port import DATA_CFS, Range, Snapshot
from tikv_py.raftstore import keys
from tikv_py.raftstore import snapshot as layout
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.region import find_peer

if TYPE_CHECKING:
    from tikv_py.raftstore.store import Store


class SendBackoff:
    """How long each follower that failed to take a snapshot is left alone. Keys are (region, peer)."""

    def __init__(self, clock: Clock, first_s: float, longest_s: float) -> None:
        self._clock = clock
        self._first_s = first_s
        self._longest_s = longest_s
        self._failed: dict[tuple[int, int], tuple[float, float]] = {}
        """(when the next attempt may be, seconds that the wait took)."""

    def wait_s(self, key: tuple[int, int]) -> float:
        """Seconds until the next attempt may be made; 0 when it may be now."""
        until, _ = self._failed.get(key, (0.0, 0.0))
        return max(until - self._clock.monotonic(), 0.0)

    def failed(self, key: tuple[int, int]) -> None:
        """An attempt failed: wait twice as long as after the one before."""
        _, waited_s = self._failed.get(key, (0.0, self._first_s / 2))
        wait_s = min(waited_s * 2, self._longest_s)
        self._failed[key] = self._clock.monotonic() + wait_s, wait_s

    def succeeded(self, key: tuple[int, int]) -> None:
        """An attempt succeeded."""
        self._failed.pop(key, None)

    def forget(self, region_id: int) -> None:
        """The region's peer is gone."""
        for key in [key for key in self._failed if key[0] == region_id]:
            del self._failed[key]


class SnapshotSender:
    """The snapshots that one store makes for others."""

    def __init__(self, store: Store, rate: ByteRate) -> None:
        config = store.config
        tick_s = float(config.raft_base_tick_interval)
        self._store = store
        self._rate = rate
        self._made: dict[tuple[int, int], Snapshot] = {}
        self._sending = 0
        self._backoff = SendBackoff(
            store.clock,
            tick_s * config.raft_heartbeat_ticks,
            tick_s * config.raft_election_timeout_ticks,
        )

    def make(self, peer: Peer, to: int) -> RaftSnapshot:
        """Freeze the applied state for a follower. Raises SnapshotTemporarilyUnavailable."""
        store, region = self._store, peer.region
        self.not_sent(region.id, to)
        wait_s = self._backoff.wait_s((region.id, to))
        if wait_s > 0:
            raise SnapshotTemporarilyUnavailable(
                f"the last snapshot for peer {to} failed; the next is in {wait_s:.1f} s"
            )
        fail = store.fail
        if fail.armed and (reason := fail.hit("snapshot_make")) is not None:
            raise SnapshotTemporarilyUnavailable(f"failpoint: {reason}")
        if peer.storage.merge is not None:  # no replica needs one: each has the log up to the merge
            raise SnapshotTemporarilyUnavailable(f"region {region.id} is being merged")
        if len(self._made) + self._sending >= store.config.snap_max_pending:
            raise SnapshotTemporarilyUnavailable(f"{len(self._made) + self._sending} snapshots are being sent")
        if find_peer(region, peer_id=to) is None:
            raise SnapshotTemporarilyUnavailable(f"peer {to} is not a member of region {region.id} yet")
        # Entries of this turn may be counted as applied although their batch is not written yet: the view would miss them.
        if peer.unwritten:
            raise SnapshotTemporarilyUnavailable("entries of this turn are not written yet")
        start, end = keys.data_range(region.start_key, region.end_key)
        self._made[region.id, to] = store.kv_db.snapshot([Range(cf, start, end) for cf in DATA_CFS])
        storage = peer.storage
        # The size is what is known of it now: an estimate, by which the receiver judges whether it has room.
        data = serverpb.RaftSnapshotData(
            region=region,
            version=2,
            file_size=max(peer.approximate_size, 0),
            merged_records=storage.merged_records,
        )
        meta = SnapshotMeta(
            storage.apply_state.applied_index, storage.applied_term, eraft.conf_state_of_peers(region.peers)
        )
        return RaftSnapshot(meta, data.SerializeToString())

    def send(self, peer: Peer, target: metapb_pb2.Peer, message: serverpb.RaftMessage) -> None:
        """The core sent a snapshot message: stream the frozen data behind it."""
        key = peer.region.id, target.id
        view = self._made.pop(key, None)
        if view is None:
            peer.node.report_snapshot(target.id, ok=False)
            return
        self._sending += 1

        def done(arrived: bool) -> None:
            self._sending -= 1
            view.release()
            if peer.destroyed:
                return
            if arrived:
                self._backoff.succeeded(key)
            else:
                self._backoff.failed(key)
            peer.node.report_snapshot(target.id, ok=arrived)
            self._store.activate(peer.region.id)

        get_logger().info("sending snapshot", region=peer.region.id, to=target.store_id)
        self._store.router.send_snapshot(target.store_id, message, self._chunks(view), done)

    async def _chunks(self, view: Snapshot) -> AsyncIterator[bytes]:
        chunks = layout.chunks_of(view)
        while (chunk := await self._store.workers.run(next, chunks, None)) is not None:
            await self._rate.take(len(chunk))
            yield chunk

    def not_sent(self, region_id: int, to: int) -> None:
        """A snapshot message was dropped."""
        view = self._made.pop((region_id, to), None)
        if view is not None:
            view.release()

    def forget(self, region_id: int) -> None:
        """The region's peer is gone: nothing it made will be sent."""
        self._backoff.forget(region_id)
        for made in [made for made in self._made if made[0] == region_id]:
            self._made.pop(made).release()
