"""How peers come and go: loaded at start, created by a message or a split, destroyed when their region drops them.

A peer is known by region id on a store. After it is destroyed a tombstone keeps its last epoch: a message of an older
epoch cannot bring it back, and a message from a removed peer is answered with its death. Region ranges of initialized
peers never overlap on a store.

Births by split and deaths take effect in two steps, because two databases cannot be written at once: first the kv database
says so durably, then the raft database follows and the region's id and range are free for others (`Store.unsettled` holds
them until then). Otherwise a loss of power could bring back a region whose range another one has taken meanwhile, or whose
log is gone already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_py.errors import DataCorruption
from core_py.region_errors import RegionNotFound
from core_py.runtime.log import get_logger
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.engine.port import CF_RAFT, WriteBatch
from tikv_py.raft.errors import RaftError
from tikv_py.raft.messages import Message, MsgType
from tikv_py.raftstore import codec, commands, damage, keys, log_gc, merge
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.peer_storage import (
    PeerStorage,
    clear_raft_data,
    initial_apply_state,
    load_raft_state,
    region_state_bytes,
)
from tikv_py.raftstore.region import find_peer, is_older, overlaps

if TYPE_CHECKING:
    from tikv_py.raftstore.store import Store

_VOTE_REQUESTS = (MsgType.REQUEST_VOTE, MsgType.REQUEST_PRE_VOTE)


def is_initial(message: Message) -> bool:
    """Whether the message may reach a store that does not have the peer yet and may create it there."""
    return message.msg_type in _VOTE_REQUESTS or (message.msg_type is MsgType.HEARTBEAT and message.commit == 0)


def target_peer(peer: Peer, peer_id: int) -> metapb_pb2.Peer | None:
    """Where a message goes: a member of the region, or whoever just wrote to us."""
    return find_peer(peer.region, peer_id=peer_id) or peer.peer_cache.get(peer_id)


async def load_peers(store: Store) -> None:
    """Finish snapshots that a crash interrupted, then load every peer and tombstone. Called once, before the loop runs.

    Raises DataCorruption for a region whose records contradict each other or those of another.
    """
    await store.snapshots.recover()
    for key, data in store.kv_db.scan(CF_RAFT, keys.REGION_META_MIN, keys.REGION_META_MAX):
        region_id = keys.decode_region_state_key(key)
        state = damage.parsed(serverpb.RegionLocalState, data, region_id, "region state")
        region = state.region
        if region.id != region_id:
            raise damage.damaged(region_id, f"its region state is that of region {region.id}")
        store.may_have_promised = True
        if state.state == serverpb.Tombstone:
            store.tombstones[region.id] = region
            if state.HasField("merge_state"):
                store.merged[region.id] = state.merge_state.target
            _finish_burial(store, region.id)
            continue
        meta = find_peer(region, store_id=store.store_id)
        if meta is None:
            raise DataCorruption(
                f"region {region.id} on disk has no peer on store {store.store_id}: the data directory is another store's"
            )
        peer = add_peer(store, region, meta, restarted=True)
        peer.storage.merged_records = tuple(state.merged_records)
        if state.state == serverpb.Merging:
            peer.storage.merge = state.merge_state
            store.closed.add(region.id)
        if len(region.peers) == 1:
            peer.node.campaign()  # nobody else can lead, so there is nothing to wait for
    damage.check_overlap([peer.region for peer in store.peers.values() if peer.storage.is_initialized])


def _finish_burial(store: Store, region_id: int) -> None:
    """Remove the log that a crash left behind a tombstone. A state without a log is the vote of a peer that came later."""
    left = load_raft_state(store.raft_db, region_id)
    if left is not None and left[1] > 0:
        batch = store.raft_db.batch()
        clear_raft_data(batch, region_id)
        store.raft_db.write(batch)


def add_peer(store: Store, region: metapb_pb2.Region, meta: metapb_pb2.Peer, *, restarted: bool) -> Peer:
    """Make a peer from what is on disk and register it.

    A peer that was here before, if only as one created by a message, may have promised a leader its lease: it counts as
    restarted too, and so does any peer that comes up soon after its store.
    """
    restarted = restarted or store.is_recently_restarted() or load_raft_state(store.raft_db, region.id) is not None
    storage = PeerStorage.load(store.raft_db, store.kv_db, region, store.entry_cache)
    peer = Peer(storage, meta, store.config, store.rng, restarted=restarted, fail=store.fail, budget=store.write_budget)
    storage.make_snapshot = lambda to: store.snapshots.make(peer, to)
    store.peers[region.id] = peer
    store.hibernation.add(region.id)
    store.activate(region.id)
    return peer


def handle_message(store: Store, message: serverpb.RaftMessage) -> None:
    """Give a raft message to its peer, creating or destroying one where the protocol says so."""
    raft_message = codec.message_from_pb(message.message)
    is_snapshot = raft_message is not None and raft_message.msg_type is MsgType.SNAPSHOT
    if is_snapshot and not store.snapshots.take_stage(message):
        return  # without the data that it describes
    if message.to_peer.store_id != store.store_id:
        return
    if message.region_id in store.unsettled:
        _keep_vote_request(store, message, raft_message)
        return
    peer = store.peers.get(message.region_id)
    if message.HasField("extra_msg"):
        _handle_extra(store, peer, message)
        return
    if message.is_tombstone:
        if peer is not None and message.HasField("merge_target"):
            merge.told_of_merge(store, peer, message.merge_target)
        elif peer is not None and peer.peer_id == message.to_peer.id and _is_removed_by(peer, message):
            destroy_now(store, peer, message.region_epoch)
        return
    if raft_message is None:
        return
    if peer is not None and peer.peer_id < message.to_peer.id and is_initial(raft_message):
        # The store was removed from the region and added again under a new peer id; a later message will create it.
        destroy_now(store, peer, peer.region.region_epoch)
        return
    if peer is None and message.region_id in store.merged:
        _tell_merged(store, message)
        return
    if peer is None:
        peer = _create_by_message(store, message, raft_message)
        if peer is None:
            return
    if message.to_peer.id != peer.peer_id:
        return
    if _is_from_removed(peer, message, raft_message):
        _tell_tombstone(store, peer, message)
        return
    if is_snapshot and not store.snapshots.may_accept(peer, message):
        return
    peer.peer_cache[message.from_peer.id] = message.from_peer
    peer.heard[message.from_peer.id] = store.clock.monotonic()
    store.hibernation.wake(peer, by=message.from_peer.id)
    peer.node.step(raft_message)
    if message.from_peer.id in peer.pending and peer.has_caught_up(message.from_peer.id):
        peer.pending.discard(message.from_peer.id)
        store.listener.on_region_change(peer)
    store.activate(message.region_id)


def _handle_extra(store: Store, peer: Peer | None, message: serverpb.RaftMessage) -> None:
    """A message between stores that is not the Raft node's."""
    extra = message.extra_msg
    if peer is None and message.region_id in store.merged:
        _tell_merged(store, message)
    if peer is None or message.to_peer.id != peer.peer_id:
        return
    if extra.type == serverpb.MsgWantRollbackMerge:
        merge.on_want_rollback(store, peer, extra.index)
    elif extra.type == serverpb.MsgHibernateRequest:
        store.hibernation.on_request(peer, message)
    elif extra.type == serverpb.MsgHibernateResponse:
        store.hibernation.on_response(peer, message)
    elif extra.type == serverpb.MsgRegionWakeUp:
        store.hibernation.wake(peer, by=message.from_peer.id)


def _is_removed_by(peer: Peer, message: serverpb.RaftMessage) -> bool:
    return message.region_epoch.conf_ver > peer.region.region_epoch.conf_ver


def _is_from_removed(peer: Peer, message: serverpb.RaftMessage, raft_message: Message) -> bool:
    """A vote request of a peer that the region dropped."""
    if raft_message.msg_type not in _VOTE_REQUESTS or not peer.storage.is_initialized:
        return False
    unknown = find_peer(peer.region, peer_id=message.from_peer.id) is None
    return unknown and message.region_epoch.conf_ver < peer.region.region_epoch.conf_ver


def _tell_tombstone(store: Store, peer: Peer, message: serverpb.RaftMessage) -> None:
    if store.fail.armed and store.fail.hit("peer_tell_removed") is not None:
        return
    answer = serverpb.RaftMessage(region_id=message.region_id, is_tombstone=True)
    answer.from_peer.CopyFrom(peer.meta())
    answer.to_peer.CopyFrom(message.from_peer)
    answer.region_epoch.CopyFrom(peer.region.region_epoch)
    store.router.send(message.from_peer.store_id, answer)


def _tell_merged(store: Store, message: serverpb.RaftMessage) -> None:
    """A peer of a region that has become a part of another speaks; it has missed that."""
    answer = serverpb.RaftMessage(region_id=message.region_id, is_tombstone=True)
    answer.from_peer.CopyFrom(message.to_peer)
    answer.to_peer.CopyFrom(message.from_peer)
    answer.region_epoch.CopyFrom(store.tombstones[message.region_id].region_epoch)
    answer.merge_target.CopyFrom(store.merged[message.region_id])
    store.router.send(message.from_peer.store_id, answer)


def _create_by_message(store: Store, message: serverpb.RaftMessage, raft_message: Message) -> Peer | None:
    """An uninitialized peer for a region this store should hold; None when the message must not create one."""
    if not is_initial(raft_message):
        return None
    tombstone = store.tombstones.get(message.region_id)
    if tombstone is not None:
        old = find_peer(tombstone, store_id=store.store_id)
        if message.region_epoch.conf_ver < tombstone.region_epoch.conf_ver or (
            old is not None and old.id >= message.to_peer.id
        ):
            return None
    bounds = metapb_pb2.Region(id=message.region_id, start_key=message.start_key, end_key=message.end_key)
    if holder_of_range(store, bounds) is not None:
        _keep_vote_request(store, message, raft_message)
        return None  # that region will split or go
    if store.fail.armed and store.fail.hit("peer_create") is not None:
        return None
    store.tombstones.pop(message.region_id, None)
    get_logger().info("peer created by message", region=message.region_id, peer=message.to_peer.id)
    return add_peer(store, metapb_pb2.Region(id=message.region_id), message.to_peer, restarted=False)


def _keep_vote_request(store: Store, message: serverpb.RaftMessage, raft_message: Message | None) -> None:
    """A split that is done elsewhere may be about to be done here."""
    if raft_message is not None and raft_message.msg_type in _VOTE_REQUESTS:
        if store.fail.armed and store.fail.hit("vote_request_keep") is not None:
            return
        store.early_votes.keep(message, store.clock.monotonic())


def holder_of_range(store: Store, region: metapb_pb2.Region, *, besides: frozenset[int] = frozenset()) -> int | None:
    """The id of another region that holds a part of this one's range on this store, or will until its end is durable.

    Peers of the regions `besides` do not count: they end with what takes their range.
    """
    for other in store.peers.values():
        known = other.region.id == region.id or other.region.id in besides
        if not known and other.storage.is_initialized and overlaps(other.region, region):
            return other.region.id
    for region_id, unsettled in store.unsettled.items():
        if region_id != region.id and unsettled is not None and overlaps(unsettled, region):
            return region_id
    return None


def create_split_peers(store: Store, parent: Peer, regions: list[metapb_pb2.Region], kv_batch: WriteBatch) -> None:
    """The new regions of a split: written in the batch that applies it, started when that batch is durable."""
    share = len(regions)
    parent.approximate_size //= share
    parent.approximate_keys //= share
    parent.size_known = False
    for region in regions[:-1]:
        existing = store.peers.get(region.id)
        meta = find_peer(region, store_id=store.store_id)
        if meta is None or (existing is not None and existing.storage.is_initialized):
            continue
        if existing is not None:  # created by a message of a faster replica; the split tells it what it is
            existing.destroyed = True
            existing.fail_all(RegionNotFound(region.id))
            store.hibernation.remove(region.id)
            del store.peers[region.id]
        records = parent.storage.merged_records
        state = region_state_bytes(region, serverpb.Normal, merged_records=records)
        kv_batch.put(CF_RAFT, keys.region_state_key(region.id), state)
        kv_batch.put(CF_RAFT, keys.apply_state_key(region.id), initial_apply_state().to_bytes())
        store.unsettled[region.id] = region
        child = Child(region, meta, records, parent.approximate_size, parent.approximate_keys)
        store.scope.spawn(_start_split_peer(store, child, lead=parent.is_leader), name=f"region {region.id}")
    get_logger().info("region split", region=parent.region.id, into=",".join(str(region.id) for region in regions))
    store.listener.on_split(regions, is_leader=parent.is_leader)


@dataclass(frozen=True, slots=True)
class Child:
    """A region that a split has made, before its peer on this store runs."""

    region: metapb_pb2.Region
    meta: metapb_pb2.Peer
    merged_records: tuple[serverpb.MergedRecord, ...]
    approximate_size: int
    approximate_keys: int


async def _start_split_peer(store: Store, child: Child, *, lead: bool) -> None:
    region = child.region
    if store.fail.armed:
        await store.fail.reach("split_peer_before_sync")
    await store.workers.sync(store.kv_db.sync_wal)
    if store.fail.armed:
        await store.fail.reach("split_peer_before_start")
    del store.unsettled[region.id]
    peer = add_peer(store, region, child.meta, restarted=False)
    peer.storage.merged_records = child.merged_records
    peer.approximate_size, peer.approximate_keys = child.approximate_size, child.approximate_keys
    if lead:
        peer.node.campaign()
    for message in store.early_votes.take(region.id, store.clock.monotonic()):
        store.deliver(message)
    store.activate(region.id)


def region_changed(store: Store, peer: Peer, kv_batch: WriteBatch) -> None:
    """After a membership change or split of this peer: destroy it when it is no longer a member, tell the listeners."""
    meta = find_peer(peer.region, peer_id=peer.peer_id)
    if meta is None:
        _destroy(store, peer, peer.region, kv_batch)
        return
    if peer.storage.merge is not None:
        store.closed.add(peer.region.id)
    else:
        store.closed.discard(peer.region.id)
    members = {member.id for member in peer.region.peers}
    peer.peer_cache = {meta.id: meta}
    peer.heard = {peer_id: at for peer_id, at in peer.heard.items() if peer_id in members}
    store.listener.on_region_change(peer)


def destroy_now(store: Store, peer: Peer, epoch: metapb_pb2.RegionEpoch) -> None:
    """Destroy a peer outside of apply (a message said so); not while a snapshot is brought in, the sender will say it again."""
    if peer.snapshot is not None:
        return
    region = metapb_pb2.Region()
    region.CopyFrom(peer.region)
    if is_older(region.region_epoch, epoch):
        region.region_epoch.conf_ver = max(epoch.conf_ver, region.region_epoch.conf_ver)
    kv_batch = store.kv_db.batch()
    _destroy(store, peer, region, kv_batch)
    store.kv_db.write(kv_batch)


def destroy_merged(store: Store, peer: Peer, target: metapb_pb2.Region) -> None:
    """Destroy a peer, with its data, whose region became a part of `target` without it."""
    kv_batch = store.kv_db.batch()
    _destroy(store, peer, peer.region, kv_batch, merged_into=target)
    store.kv_db.write(kv_batch)


def absorb(store: Store, peer: Peer, target: metapb_pb2.Region, kv_batch: WriteBatch) -> None:
    """End a peer whose range and data `target` takes over in the same batch."""
    if store.fail.armed:
        store.fail.hit("merge_absorb")
    _destroy(store, peer, peer.region, kv_batch, merged_into=target, keep_data=True)


def _destroy(
    store: Store,
    peer: Peer,
    region: metapb_pb2.Region,
    kv_batch: WriteBatch,
    *,
    merged_into: metapb_pb2.Region | None = None,
    keep_data: bool = False,
) -> None:
    if store.fail.armed:
        store.fail.hit("destroy_before_tombstone")
    peer.storage.clear_kv(kv_batch, keep_data=keep_data)
    region = end(store, peer, region, merged_into, holds_range=not keep_data)
    put_tombstone(kv_batch, region, merged_into)
    store.scope.spawn(_bury(store, region.id), name=f"burial of region {region.id}")


def end(
    store: Store,
    peer: Peer,
    region: metapb_pb2.Region,
    merged_into: metapb_pb2.Region | None = None,
    *,
    holds_range: bool,
) -> metapb_pb2.Region:
    """End a peer in memory; the region for its tombstone.

    Until that is durable the region's id is not free, and neither is its range when it `holds_range`.
    """
    peer.destroyed = True
    store.hibernation.remove(region.id)
    store.closed.discard(region.id)
    store.unsettled[region.id] = peer.region if holds_range and peer.storage.is_initialized else None
    store.snapshots.forget(region.id)
    store.consistency.forget(region.id)
    if find_peer(region, store_id=store.store_id) is None:
        tombstone = metapb_pb2.Region()
        tombstone.CopyFrom(region)
        tombstone.peers.append(peer.peer_cache[peer.peer_id])
        region = tombstone
    store.tombstones[region.id] = region
    if merged_into is not None:
        store.merged[region.id] = merged_into
    store.peers.pop(region.id, None)
    peer.fail_all(RegionNotFound(region.id))
    get_logger().info("peer destroyed", region=region.id, peer=peer.peer_id)
    store.listener.on_destroy(region.id)
    return region


def put_tombstone(kv_batch: WriteBatch, region: metapb_pb2.Region, merged_into: metapb_pb2.Region | None) -> None:
    """Add a region's end to a kv database batch."""
    merge_state = None if merged_into is None else serverpb.MergeState(target=merged_into)
    state = region_state_bytes(region, serverpb.Tombstone, merge=merge_state)
    kv_batch.put(CF_RAFT, keys.region_state_key(region.id), state)


async def _bury(store: Store, region_id: int) -> None:
    """The log goes when the tombstone is durable: without it the log would be needed to start the peer again."""
    if store.fail.armed:
        await store.fail.reach("burial_before_sync")
    await store.workers.sync(store.kv_db.sync_wal)
    if store.fail.armed:
        await store.fail.reach("burial_before_clear")
    batch = store.raft_db.batch()
    clear_raft_data(batch, region_id)
    store.raft_db.write(batch)
    if store.fail.armed:
        await store.fail.reach("burial_before_release")
    del store.unsettled[region_id]


def tend(store: Store) -> None:
    """What is done for every awake peer now and then."""
    store.hibernation.wake_long_sleepers()
    for region_id in list(store.hibernation.awake):
        peer = store.peers[region_id]
        propose_log_gc(store, peer)
        ask_whether_removed(store, peer)


def ask_whether_removed(store: Store, peer: Peer) -> None:
    """A learner that hears no leader asks the members: it holds no elections, so nobody would tell it that it was removed.

    The question is a pre-vote request of no term, which a member refuses and which a peer that has dropped the asker
    answers with a tombstone.
    """
    silent = peer.node.election_elapsed >= 2 * store.config.raft_election_timeout_ticks
    if not silent or peer.snapshot is not None or peer.meta().role != metapb_pb2.Learner:
        return
    members = [meta.id for meta in peer.region.peers if meta.id != peer.peer_id]
    store.send(peer, [Message(MsgType.REQUEST_PRE_VOTE, member, peer.peer_id) for member in members])


def propose_log_gc(store: Store, peer: Peer) -> None:
    """Cut the log as far as `log_gc` says."""
    if not peer.is_leader or peer.snapshot is not None or peer.storage.merge is not None:
        return
    storage, config = peer.storage, store.config
    timeout_s = float(config.raft_base_tick_interval) * config.raft_election_timeout_ticks
    silent_since = store.clock.monotonic() - timeout_s
    followers = []
    for meta in peer.region.peers:
        progress = peer.node.progress(meta.id)
        if progress is not None and meta.id != peer.peer_id:
            active = peer.heard.get(meta.id, silent_since) > silent_since
            followers.append(log_gc.Follower(progress.match, progress.pending_snapshot, active))
    index = log_gc.compact_index(
        first=storage.first_index(),
        applied=storage.apply_state.applied_index,
        log_bytes=storage.log_bytes,
        followers=followers,
        limits=log_gc.LogLimits(
            config.raft_log_gc_threshold, config.raft_log_gc_count_limit, config.raft_log_gc_size_limit
        ),
    )
    if index is None or (store.fail.armed and store.fail.hit("log_gc_propose") is not None):
        return
    command = commands.admin_command(peer.region, commands.compact_log(index, storage.term(index)))
    try:
        peer.node.propose(command.SerializeToString())
    except RaftError:  # leadership moves; the next leader cuts
        return
    store.activate(peer.region.id)
