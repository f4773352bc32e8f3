"""What awake peers need now and then: a shorter log, and for a learner that hears nobody, to ask whether it was removed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from core_py.raft.errors import RaftError
from core_py.raft.messages import Message, MsgType
from protos.kvproto import metapb_pb2
from tikv_py.raftstore import commands, log_gc
from tikv_py.raftstore.peer import Peer

if TYPE_CHECKING:
    from tikv_py.raftstore.store import Store


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


async def tend_peers(store: Store) -> None:
    """What awake peers need now and then: a shorter log, and for a learner that hears nobody, to ask whether it was removed."""
    while True:
        await asyncio.sleep(float(store.config.raft_log_gc_tick_interval))
        store.hibernation.wake_long_sleepers()
        for region_id in list(store.hibernation.awake):
            peer = store.peers[region_id]
            propose_log_gc(store, peer)
            ask_whether_removed(store, peer)


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
