"""What a store does with a raft message: give it to its peer, or create, end or answer for one where the protocol says so.

A peer is known by region id on a store. After it is destroyed a tombstone keeps its last epoch: a message of an older
epoch cannot bring it back, and a message from a removed peer is answered with its death, one of a region that has become a part of
another with what it became. A vote request for a region that a split is about to bring here is kept for it.

What it does not do: decide anything about elections or logs; that is the Raft node's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from core_py.codec import eraft
from core_py.raft.messages import Message, MsgType
from core_py.runtime.log import get_logger
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tikv_py.raftstore import births, deaths, merge
from tikv_py.raftstore.disk_space import DiskUsage
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.read_context import locked_answer, question_of
from tikv_py.raftstore.region import find_peer

if TYPE_CHECKING:
    from tikv_py.raftstore.store import Store

_VOTE_REQUESTS = (MsgType.REQUEST_VOTE, MsgType.REQUEST_PRE_VOTE)


def is_initial(message: Message) -> bool:
    """Whether the message may reach a store that does not have the peer yet and may create it there."""
    return message.msg_type in _VOTE_REQUESTS or (message.msg_type is MsgType.HEARTBEAT and message.commit == 0)


def target_peer(peer: Peer, peer_id: int) -> metapb_pb2.Peer | None:
    """Where a message goes: a member of the region, or whoever just wrote to us."""
    return find_peer(peer.region, peer_id=peer_id) or peer.peer_cache.get(peer_id)


def handle_message(store: Store, message: serverpb.RaftMessage) -> None:
    """Give a raft message to its peer, creating or destroying one where the protocol says so."""
    raft_message = eraft.message_from_pb(message.message)
    is_snapshot = raft_message is not None and raft_message.msg_type is MsgType.SNAPSHOT
    if is_snapshot and not store.snapshots.take_stage(message):
        return  # without the data that it describes
    if message.to_peer.store_id != store.store_id:
        return
    if message.disk_usage or store.disk.is_tight:
        store.disk.heard(message.from_peer.store_id, message.disk_usage)
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
            deaths.destroy_now(store, peer, message.region_epoch)
        return
    if raft_message is None:
        return
    if raft_message.msg_type is MsgType.TIMEOUT_NOW and store.disk.own is DiskUsage.ALREADY_FULL:
        return  # a leader here could take no writes
    if peer is not None and peer.peer_id < message.to_peer.id and is_initial(raft_message):
        # The store was removed from the region and added again under a new peer id; a later message will create it.
        deaths.destroy_now(store, peer, peer.region.region_epoch)
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
    if raft_message.msg_type is MsgType.READ_INDEX and peer.is_leader:
        raft_message = _with_readers_question_answered(store, raft_message)
    peer.node.step(raft_message)
    if message.from_peer.id in peer.pending and peer.has_caught_up(message.from_peer.id):
        peer.pending.discard(message.from_peer.id)
        store.listener.on_region_change(peer)
    store.activate(message.region_id)


def _with_readers_question_answered(store: Store, raft_message: Message) -> Message:
    """A replica's read becomes known here before its index is taken; what stands in its way goes back with the answer."""
    entries = []
    for entry in raft_message.entries:
        question = question_of(entry.data)
        found = None if question is None else store.before_replica_read(question)
        data = entry.data if found is None else locked_answer(entry.data, *found)
        entries.append(replace(entry, data=data))
    return replace(raft_message, entries=tuple(entries))


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
    if births.holder_of_range(store, bounds) is not None:
        _keep_vote_request(store, message, raft_message)
        return None  # that region will split or go
    if store.fail.armed and store.fail.hit("peer_create") is not None:
        return None
    store.tombstones.pop(message.region_id, None)
    get_logger().info("peer created by message", region=message.region_id, peer=message.to_peer.id)
    return births.add_peer(store, metapb_pb2.Region(id=message.region_id), message.to_peer, restarted=False)


def _keep_vote_request(store: Store, message: serverpb.RaftMessage, raft_message: Message | None) -> None:
    """A split that is done elsewhere may be about to be done here."""
    if raft_message is not None and raft_message.msg_type in _VOTE_REQUESTS:
        if store.fail.armed and store.fail.hit("vote_request_keep") is not None:
            return
        store.early_votes.keep(message, store.clock.monotonic())
