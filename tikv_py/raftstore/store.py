"""The store loop: all peers of a store in turns of drain, step, collect, persist, send, apply, answer.

One turn handles everything that has arrived: ticks, raft messages, proposals. Then the Readys of all peers with work are
collected, their log entries go into one raft batch (one sync for all regions: group commit) and their committed entries into one
kv batch. Messages that promise durability leave when the sync is done; the loop does not wait for it, the next turn's writes
collect meanwhile. A peer without work costs nothing in a turn.

The order persist -> send -> apply -> answer is written here and nowhere else (`core_py.raft.ready` says why).

Time: ticks are counted from the clock, and no fraction is lost. A stalled process catches up on missed ticks before it takes in a
message or believes in its lease: a follower must not count the time before a heartbeat as silence after it, and a leader
must not count a lease in ticks that did not happen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from google.protobuf.message import DecodeError

from core_py.codec import eraft
from core_py.errors import InvariantViolation, StorageError
from core_py.failpoints import FailPoints
from core_py.ports import Clock, Random, Workers
from core_py.raft.messages import Entry, Message, MsgType, StateRole
from core_py.raft.ready import Ready
from core_py.region_errors import RegionNotFound, RegionNotInitialized, ServerIsBusy
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.engine.port import CF_DEFAULT, Engine
from tikv_py.failpoints import POINTS
from tikv_py.mvcc.lock import Lock
from tikv_py.raftstore import arrivals, births, damage, deaths, keys, merge, upkeep
from tikv_py.raftstore.apply import Applied
from tikv_py.raftstore.config import RaftstoreConfig, SnapshotSettings
from tikv_py.raftstore.consistency import ConsistencyChecks
from tikv_py.raftstore.disk_space import DiskSpace
from tikv_py.raftstore.early_votes import EarlyVotes
from tikv_py.raftstore.entry_cache import CacheBudget
from tikv_py.raftstore.hibernation import Hibernation
from tikv_py.raftstore.inbox import Inbox
from tikv_py.raftstore.listener import StoreListener
from tikv_py.raftstore.log_sync import LogSync
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.read_context import ReadQuestion
from tikv_py.raftstore.router import RaftRouter
from tikv_py.raftstore.snapshots import SnapshotManager
from tikv_py.raftstore.turn import Answers, Turn, Unsynced
from tikv_py.raftstore.write_budget import WriteBudget


class Store:
    """All peers of one store. `router` is set before `start`."""

    router: RaftRouter

    def __init__(
        self,
        store_id: int,
        raft_db: Engine,
        kv_db: Engine,
        config: RaftstoreConfig,
        *,
        clock: Clock,
        rng: Random,
        workers: Workers,
        on_failure: Callable[[BaseException], None] | None = None,
        fail: FailPoints | None = None,
        snapshots: SnapshotSettings | None = None,
    ) -> None:
        self.store_id = store_id
        self.raft_db = raft_db
        self.kv_db = kv_db
        self.config = config
        self.clock = clock
        self.rng = rng
        self.workers = workers
        self.fail = fail or FailPoints(POINTS, rng=rng)
        self.listener = StoreListener()
        self.before_replica_read: Callable[[ReadQuestion], tuple[bytes, Lock] | None] = lambda _question: None
        """Makes a replica's read known where this store leads; gives the (user key, lock) in memory that it has to wait for."""
        self.peers: dict[int, Peer] = {}
        self.tombstones: dict[int, metapb_pb2.Region] = {}
        self.merged: dict[int, metapb_pb2.Region] = {}
        """Of tombstones: the region that theirs became a part of, as it was right after that."""
        self.closed: set[int] = set()
        """Regions whose merge is under way."""
        self.unsettled: dict[int, metapb_pb2.Region | None] = {}
        """Regions whose birth or death is not durable yet, with the range they hold (see `births` and `deaths`)."""
        self.started = False
        self.broken: StorageError | None = None
        """A database failed: memory is ahead of the disk, so nothing may be answered any more. The process is to end."""
        self.gc_safe_point = 0
        """Versions that readers below this timestamp need may be gone from the regions of this store (see `tikv_py.gc`)."""
        self.may_have_promised = False
        """Peers of this store may have told leaders before its start that they would not vote for others."""
        election_timeout_s = float(config.raft_base_tick_interval) * config.raft_election_timeout_ticks
        self.early_votes = EarlyVotes(election_timeout_s)
        self.hibernation = Hibernation(self)
        self.entry_cache = CacheBudget(config.raft_entry_cache_size)
        self.disk = DiskSpace(store_id, clock)
        self.write_budget = WriteBudget(config.max_pending_write_bytes)
        self.snapshots = SnapshotManager(self, snapshots or SnapshotSettings())
        self.consistency = ConsistencyChecks(self)
        self.scope = TaskScope("store", on_failure=on_failure)
        self._inbox = Inbox(config.notify_capacity, config.max_inbox_bytes)
        self._dirty: set[int] = set()
        self._wake = asyncio.Event()
        self.log_sync = LogSync(self)
        self._ticked_until = self._started_at = clock.monotonic()
        self.turns = 0

    async def start(self) -> None:
        """Load the peers of this store and begin."""
        self._ticked_until = self._started_at = self.clock.monotonic()
        await births.load_peers(self)
        self.started = True
        self.scope.spawn(self._run(), name="store loop")
        self.scope.spawn(self.log_sync.run(), name="store sync")
        self.scope.spawn(self._run_ticks(), name="store ticks")
        self.scope.spawn(upkeep.tend_peers(self), name="store log gc")
        self.scope.spawn(self.log_sync.inspect(), name="store inspection")
        self.scope.spawn(self.hibernation.watch_stores(self.router.is_alive), name="store watch")

    async def stop(self) -> None:
        """Stop the loop; what was not answered fails."""
        self.started = False
        await self.scope.close()
        await self.router.close()
        for peer in self.peers.values():
            peer.fail_all(RegionNotFound(peer.region.id))

    def deliver(self, message: serverpb.RaftMessage) -> None:
        """A raft message arrived."""
        if self._inbox.add(message):
            self._wake.set()
        else:
            self.listener.on_channel_full("store")

    def activate(self, region_id: int) -> None:
        """The peer has work (a proposal, a read, an answer)."""
        if self.hibernation.is_asleep(region_id):
            self.hibernation.wake(self.peers[region_id])
        self._dirty.add(region_id)
        self._wake.set()

    def on_unreachable(self, store_id: int, region_ids: list[int]) -> None:
        """Messages to a store were lost."""
        for region_id in region_ids:
            peer = self.peers.get(region_id)
            if peer is None:
                continue
            for other in peer.region.peers:
                if other.store_id == store_id:
                    peer.node.report_unreachable(other.id)
            self.activate(region_id)

    def is_recently_restarted(self) -> bool:
        """Whether promises given before the start may still bind: for one election timeout."""
        timeout_s = float(self.config.raft_base_tick_interval) * self.config.raft_election_timeout_ticks
        return self.may_have_promised and self.clock.monotonic() - self._started_at < timeout_s

    def catch_up(self) -> None:
        """Give awake peers every tick that is due by the clock; an election timeout's worth is as good as any more."""
        interval = float(self.config.raft_base_tick_interval)
        due = int((self.clock.monotonic() - self._ticked_until) / interval + 1e-6)
        if due <= 0:
            return
        self._ticked_until += due * interval
        for region_id in list(self.hibernation.awake):
            peer = self.peers[region_id]
            for _ in range(min(due, self.config.raft_election_timeout_ticks)):
                peer.node.tick()
            self.hibernation.after_tick(peer)
            self._dirty.add(region_id)
        for region_id in sorted(self.closed):
            merge.pursue(self, self.peers[region_id])
        if self.hibernation.awake:
            self._wake.set()

    async def _run(self) -> None:
        with self.breaking():
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self.fail.armed:
                    await self.fail.reach("raft_before_turn")
                self._turn()
                await asyncio.sleep(0)  # let arrivals of this moment share the next turn

    @contextmanager
    def breaking(self) -> Iterator[None]:
        """What a failing database does to the store."""
        try:
            yield
        except StorageError as error:
            self.broken = error
            raise

    async def _run_ticks(self) -> None:
        interval = float(self.config.raft_base_tick_interval)
        while True:
            early = self._ticked_until + interval - self.clock.monotonic()
            await asyncio.sleep(min(max(early, interval / 100), interval))
            self.catch_up()

    def persisted(self, written: list[Unsynced]) -> None:
        """What these Readys wrote is durable."""
        for one in written:
            self._persisted(one)
        if written:
            self._wake.set()

    def _persisted(self, one: Unsynced) -> None:
        peer = one.peer
        peer.unsynced -= 1
        if peer.destroyed:
            return
        if peer.snapshot is not None and peer.snapshot.number == one.number:
            peer.snapshot.messages = list(one.messages)
            self.scope.spawn(self.snapshots.bring_in(peer), name=f"snapshot of region {peer.region.id}")
            return
        peer.node.on_persist(one.number)
        self.send(peer, one.messages)
        self._dirty.add(peer.region.id)

    def _turn(self) -> None:
        self.turns += 1
        self.catch_up()
        for message in self._inbox.take():
            arrivals.handle_message(self, message)
        if self.fail.armed:
            self.fail.hit("raft_before_collect")
        turn = Turn(self.raft_db.batch(), self.kv_db.batch())
        dirty, self._dirty = sorted(self._dirty), set()
        for region_id in dirty:
            peer = self.peers.get(region_id)
            if peer is None or peer.snapshot is not None:
                continue
            try:
                self._work(peer, turn)
            except InvariantViolation as error:
                raise damage.broken_peer(peer, error) from error
        self.snapshots.end_turn()
        self._write(turn)

    def _work(self, peer: Peer, turn: Turn) -> None:
        if peer.pending_writes:
            peer.propose_pending()
        rounds = 0
        while peer.node.has_ready() and peer.snapshot is None and not peer.destroyed:
            self._collect(peer, peer.node.ready(), turn)
            rounds += 1
            if rounds >= 16:  # the rest takes another turn, so that one region does not starve the others
                self._dirty.add(peer.region.id)
                self._wake.set()
                break

    def _write(self, turn: Turn) -> None:
        if self.fail.armed:
            self.fail.hit("raft_before_write")
        self.raft_db.write(turn.raft_batch)
        if turn.unsynced:
            self.log_sync.add(turn.unsynced, must_sync=turn.must_sync)
        if self.fail.armed:
            self.fail.hit("apply_before_write")
        self.kv_db.write(turn.kv_batch)
        if self.fail.armed:
            self.fail.hit("apply_before_answer")
        for peer, done in turn.answers:
            peer.on_written(done)
        for peer in turn.closed:
            merge.pursue(self, peer)

    def _collect(self, peer: Peer, ready: Ready, turn: Turn) -> None:
        self.send(peer, ready.messages)
        if ready.soft_state is not None:
            self._role_changed(peer)
        storage = peer.storage
        if ready.hard_state is not None:
            storage.hard_state = ready.hard_state
        if ready.snapshot is not None:
            self.snapshots.begin(peer, ready.number, ready.snapshot, turn.raft_batch)
        if ready.entries:
            storage.append(turn.raft_batch, ready.entries)
        if ready.entries or ready.hard_state is not None:
            storage.put_raft_state(turn.raft_batch)
        peer.unsynced += 1
        turn.unsynced.append(Unsynced(peer, ready.number, ready.persisted_messages))
        turn.must_sync |= ready.must_sync
        if ready.committed_entries:
            self.apply_entries(peer, ready.committed_entries, turn)
        for read in ready.read_states:
            peer.on_read_state(read.index, read.context)

    def apply_entries(
        self, peer: Peer, entries: tuple[Entry, ...] | list[Entry], turn: Turn, *, by_core: bool = True
    ) -> None:
        """Apply committed entries; who waits for them is answered once the batch is written.

        `by_core`: the peer's Raft node handed them out. It did not when a merge finishes the log of a peer that is about to end.
        """
        storage = peer.storage
        done: Answers = []
        turn.answers.append((peer, done))
        peer.unwritten = True
        for entry in entries:
            proposal = peer.take_proposal(entry.index, entry.term)
            try:
                outcome = peer.applier.apply(turn.kv_batch, entry, None if proposal is None else proposal.local)
            except DecodeError as error:
                raise damage.unreadable_entry(peer, entry, error) from error
            storage.apply_state.applied_index = entry.index
            storage.applied_term = entry.term
            peer.count_written(outcome)
            if proposal is not None:
                done += [(future, outcome) for future in proposal.futures]
            self._take_outcome(peer, outcome, turn)
            if by_core and not peer.destroyed:
                peer.node.advance_apply_to(entry.index)
            if peer.destroyed:
                return
            if outcome.compute_hash and by_core:
                self._begin_check(peer, turn)
        storage.put_apply_state(turn.kv_batch)
        self.listener.on_apply(peer, len(entries))

    def _begin_check(self, peer: Peer, turn: Turn) -> None:
        """Write what the turn has up to this entry, so that a view shows the region's data as of it and nothing behind it."""
        peer.storage.put_apply_state(turn.kv_batch)
        self.raft_db.write(turn.raft_batch)
        self.kv_db.write(turn.kv_batch)
        self.consistency.on_compute_hash(peer, peer.storage.apply_state.applied_index)

    def _take_outcome(self, peer: Peer, outcome: Applied, turn: Turn) -> None:
        """What an entry changed beyond its own region's data."""
        if outcome.gc_safe_point > self.gc_safe_point:
            self.gc_safe_point = outcome.gc_safe_point
        if outcome.new_regions:
            births.create_split_peers(self, peer, outcome.new_regions, turn.kv_batch)
        if outcome.commit_merge is not None:
            merge.commit(self, peer, outcome.commit_merge, turn)
        if outcome.region_changed:
            deaths.region_changed(self, peer, turn.kv_batch)
            if peer.storage.merge is not None:
                turn.closed.append(peer)
        if outcome.verify_hash is not None:
            self.consistency.on_verify_hash(peer, outcome.verify_hash.index, outcome.verify_hash.hash)
        if outcome.compact_to is not None:
            self.scope.spawn(self._truncate_log(peer, outcome.compact_to[0]), name="log truncation")

    async def _truncate_log(self, peer: Peer, index: int) -> None:
        """Delete log entries, after what they did is durable in the kv database."""
        if self.fail.armed:
            await self.fail.reach("log_cut_before_sync")
        await self.workers.sync(self.kv_db.sync_wal)
        if self.fail.armed:
            await self.fail.reach("log_cut_before_delete")
        if peer.destroyed:
            return
        region_id = peer.region.id
        batch = self.raft_db.batch()
        batch.delete_range(CF_DEFAULT, keys.log_key(region_id, 0), keys.log_key(region_id, index + 1))
        self.raft_db.write(batch)
        peer.storage.cache.trim(index)

    def _role_changed(self, peer: Peer) -> None:
        if self.fail.armed:
            self.fail.hit("role_change")
        peer.on_role_change()
        if peer.node.role in (StateRole.LEADER, StateRole.FOLLOWER):
            get_logger().info(
                "role",
                region=peer.region.id,
                role=peer.node.role.value,
                term=peer.node.term,
                leader=peer.node.leader_id,
            )
        self.listener.on_role_change(peer)

    def send(self, peer: Peer, messages: tuple[Message, ...] | list[Message]) -> None:
        """Hand raft messages to the router."""
        for message in messages:
            target = arrivals.target_peer(peer, message.to)
            if target is None:
                self.snapshots.not_sent(peer.region.id, message.to)
                continue
            wire = self._envelope(peer, target)
            if arrivals.is_initial(message):
                wire.start_key, wire.end_key = peer.region.start_key, peer.region.end_key
            wire.message.CopyFrom(eraft.message_to_pb(message))
            if message.msg_type is MsgType.SNAPSHOT:
                wire.extra_ctx = self.gc_safe_point.to_bytes(8, "big")
                self.snapshots.send(peer, target, wire)
            else:
                self.router.send(target.store_id, wire)

    def send_extra(self, peer: Peer, target: metapb_pb2.Peer, extra: serverpb.ExtraMessage) -> None:
        """Send a message that is not the Raft node's; it tells the peer's term."""
        wire = self._envelope(peer, target)
        wire.extra_msg.CopyFrom(extra)
        wire.message.term = peer.node.term
        self.router.send(target.store_id, wire)

    def _envelope(self, peer: Peer, target: metapb_pb2.Peer) -> serverpb.RaftMessage:
        wire = serverpb.RaftMessage(region_id=peer.region.id)
        wire.from_peer.CopyFrom(peer.meta())
        wire.to_peer.CopyFrom(target)
        wire.region_epoch.CopyFrom(peer.region.region_epoch)
        if self.disk.own:
            wire.disk_usage = self.disk.own.value  # type: ignore[assignment]
        return wire

    def find(self, region_id: int) -> Peer:
        """The peer of a region.

        Raises RegionNotFound, RegionNotInitialized while a split is bringing it up, ServerIsBusy on a broken store.
        """
        if self.broken is not None:
            raise ServerIsBusy(f"store {self.store_id} is stopping: {self.broken.message}")
        peer = self.peers.get(region_id)
        if peer is None:
            if region_id in self.unsettled and region_id not in self.tombstones:
                raise RegionNotInitialized(region_id)
            raise RegionNotFound(region_id)
        return peer

    def regions(self) -> list[metapb_pb2.Region]:
        """All regions that are, or in a moment will be, initialized here."""
        here = [peer.region for peer in self.peers.values() if peer.storage.is_initialized]
        return here + [
            region
            for region_id, region in self.unsettled.items()
            if region is not None and region_id not in self.tombstones
        ]

    async def admin(self, region_id: int, propose: Callable[[Peer], asyncio.Future[Applied]]) -> Applied:
        """Propose an admin command and wait until it is applied. Raises region errors, AdminRefused."""
        peer = self.find(region_id)
        if not peer.is_leader:
            raise peer.not_leader()
        future = propose(peer)
        self.activate(region_id)
        return await future
