"""Classic bugs of replicated stores, each behind a context manager that breaks production code in one place.

They prove that the simulator finds what it is there to find: `test_planted.py` hunts each of them. Production code knows nothing
of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from core_py.raft import confchange, election, membership, reads, replication
from core_py.raft.log import RaftLog
from core_py.raft.messages import ConfChange, ConfChangeSingle, ConfState, Entry, HardState, Message, MsgType, StateRole
from core_py.raft.node import RawNode
from core_py.raft.ready import Ready
from core_py.raft.state import Raft
from core_py.region_errors import RegionError
from protos.kvproto import kvrpcpb_pb2, metapb_pb2
from tikv_py.engine.port import CF_DEFAULT
from tikv_py.raftstore import keys, peer_storage, region
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.snapshots import SnapshotManager
from tikv_py.raftstore.store import Store
from tikv_py.txn.context import RegionAccess

BUGS: dict[str, Callable[[], Any]] = {}


def bug(make: Callable[[], Iterator[None]]) -> Callable[[], Any]:
    """Register a bug under its function's name."""
    manager = contextmanager(make)
    BUGS[make.__name__] = manager
    return manager


@bug
def vote_is_not_persisted() -> Iterator[None]:
    """The term is written, the vote is not: after a crash the peer votes again."""
    original = peer_storage.raft_state_bytes

    def without_vote(hard_state: HardState, last_index: int) -> bytes:
        return original(replace(hard_state, vote=0), last_index)

    with patch.object(peer_storage, "raft_state_bytes", without_vote):
        yield


@bug
def votes_twice_in_a_term() -> Iterator[None]:
    """A vote is given to whoever asks."""
    original = election.handle_vote_request

    def forgetful(raft: Raft, msg: Message) -> None:
        if raft.role is StateRole.FOLLOWER and msg.msg_type is MsgType.REQUEST_VOTE:
            raft.vote = 0
        original(raft, msg)

    with patch.object(election, "handle_vote_request", forgetful):
        yield


@bug
def commits_older_terms_by_counting() -> Iterator[None]:
    """A majority holds it, so it is committed, whatever its term: figure 8 of the paper."""

    def maybe_commit(raft: Raft) -> bool:
        index = raft.tracker.committed_index()
        if index <= raft.log.committed:
            return False
        raft.log.commit_to(index)
        raft.commit_due = True
        reads.release_postponed(raft)
        return True

    with patch.object(replication, "maybe_commit", maybe_commit):
        yield


@bug
def lease_outlives_transfer() -> Iterator[None]:
    """The lease is kept while leadership is handed over, although the transferee need not wait for it to end."""

    def in_lease(raft: Raft) -> bool:
        sent = raft.read_only.lease_tick
        if raft.role is not StateRole.LEADER or sent is None:
            return False
        return raft.tick_count - sent < raft.config.election_ticks - 1

    with patch.object(reads, "in_lease", in_lease):
        yield


@bug
def reads_without_asking_a_quorum() -> Iterator[None]:
    """Whoever believes to lead answers a read at once: a deposed leader does not know what the others have committed."""

    def request(raft: Raft, context: bytes, from_: int) -> None:
        if raft.commit_to_current_term():
            reads._answer(raft, raft.log.committed, context, from_)
        else:
            raft.read_only.postponed.append((context, from_))

    with patch.object(reads, "request", request):
        yield


@bug
def lease_ignores_a_pause() -> Iterator[None]:
    """A process that stood still believes in its lease before it has counted the ticks that it missed."""
    lease_peer, catch_up = RegionAccess.lease_peer, Store.catch_up
    reading = False

    def read(checks: RegionAccess, context: kvrpcpb_pb2.Context, read_ts: int | None = None) -> Peer | None:
        nonlocal reading
        reading = True
        try:
            return lease_peer(checks, context, read_ts)
        finally:
            reading = False

    def unless_reading(store: Store) -> None:
        if not reading:
            catch_up(store)

    with patch.object(RegionAccess, "lease_peer", read), patch.object(Store, "catch_up", unless_reading):
        yield


@bug
def acknowledges_before_sync() -> Iterator[None]:
    """Entries and votes are promised when they are written, not when they are durable."""
    original = RawNode.ready

    def ready(node: RawNode) -> Ready:
        return replace(original(node), must_sync=False)

    with patch.object(RawNode, "ready", ready):
        yield


@bug
def applies_before_persisting() -> Iterator[None]:
    """What others have committed is applied while the own copy of the log may still be lost."""

    def has_committed(log: RaftLog) -> bool:
        return not log.has_pending_snapshot and log.committed > log.handed

    def take_committed(log: RaftLog, max_bytes: int) -> tuple[Entry, ...]:
        if not has_committed(log):
            return ()
        entries = tuple(log.entries(log.handed + 1, log.committed + 1, max_bytes))
        log.handed = entries[-1].index
        return entries

    with patch.object(RaftLog, "has_committed", has_committed), patch.object(RaftLog, "take_committed", take_committed):
        yield


@bug
def applies_writes_of_an_older_epoch() -> Iterator[None]:
    """A write proposed before a split is applied after it, to keys that the region has given away."""

    def check_epoch(
        _region: metapb_pb2.Region, _epoch: metapb_pb2.RegionEpoch, *, conf_ver: bool
    ) -> RegionError | None:
        return None

    with patch.object(region, "check_epoch", check_epoch):
        yield


@bug
def snapshot_is_not_synced() -> Iterator[None]:
    """A snapshot's marker goes although the region's new state and place in the log are not durable."""
    original = SnapshotManager._replace_data

    async def replace_data(manager: SnapshotManager, *args: Any) -> None:
        engine = manager._store.kv_db
        with patch.object(engine, "sync_wal", lambda: None):
            await original(manager, *args)

    with patch.object(SnapshotManager, "_replace_data", replace_data):
        yield


@bug
def log_is_truncated_before_data_is_durable() -> Iterator[None]:
    """Log entries go although what they did to the data is not synced yet."""

    async def truncate(store: Store, peer: Peer, index: int) -> None:
        batch = store.raft_db.batch()
        region_id = peer.region.id
        batch.delete_range(CF_DEFAULT, keys.log_key(region_id, 0), keys.log_key(region_id, index + 1))
        store.raft_db.write(batch)
        peer.storage.cache.trim(index)

    with patch.object(Store, "_truncate_log", truncate):
        yield


@bug
def several_voters_change_at_once() -> Iterator[None]:
    """A change of several voters takes force directly: majorities before and after need not overlap."""

    def without_joint(conf: ConfState, changes: tuple[ConfChangeSingle, ...], *, auto_leave: bool) -> ConfState:
        return confchange._with_changes(conf, changes)

    with patch.object(confchange, "enter_joint", without_joint):
        yield


@bug
def new_members_count_late() -> Iterator[None]:
    """The new configuration takes force at the leader only when it is re-elected."""
    original = membership.apply

    def late(raft: Raft, change: Any) -> ConfState:
        if raft.role is StateRole.LEADER and not change.leaves_joint:
            return raft.tracker.conf
        return original(raft, change)

    with patch.object(membership, "apply", late):
        yield


@bug
def changes_members_before_the_last_change_is_applied() -> Iterator[None]:
    """A leader proposes a change of the members while another is under way: both may be decided by the old majority."""
    original = membership.propose

    def propose(raft: Raft, change: ConfChange, data: bytes, context: bytes) -> int:
        raft.pending_conf_index = 0
        return original(raft, change, data, context)

    with patch.object(membership, "propose", propose):
        yield
