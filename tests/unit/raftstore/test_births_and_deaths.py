"""Peers that come and go while power fails: two databases, each may lose what was not synced, in any combination."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from core_py.codec import eraft
from core_py.raft.messages import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    Entry,
    EntryType,
    HardState,
    Message,
    MsgType,
)
from core_py.runtime.workers import InlineWorkers
from core_py.sim.loop import run_virtual
from protos.kvproto import eraftpb_pb2, metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tests.unit.raftstore.support import LEADER_TERM, REGION, Bench, bench, engines_with, first_region
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_RAFT
from tikv_py.raftstore import commands, keys
from tikv_py.raftstore.peer_storage import (
    PeerStorage,
    initial_apply_state,
    load_raft_state,
    raft_state_bytes,
    region_state_bytes,
)
from tikv_py.raftstore.snapshot import PendingSnapshot

CHILD = 7


def split_entry(region: metapb_pb2.Region) -> bytes:
    request = commands.batch_split([(b"m", CHILD, [71, 72, 73])])
    return commands.admin_command(region, request).SerializeToString()


def removal(region: metapb_pb2.Region, peer_id: int, store_id: int) -> bytes:
    peer = metapb_pb2.Peer(id=peer_id, store_id=store_id)
    request = commands.change_peers([(eraftpb_pb2.RemoveNode, peer)])
    change = ConfChange((ConfChangeSingle(ConfChangeType.REMOVE_NODE, peer_id),), b"", ConfChangeTransition.AUTO)
    return eraft.conf_change_to_bytes(change, commands.admin_command(region, request).SerializeToString())


async def remove_self(one: Bench) -> None:
    """The leader removes this store's peer; the entry is committed and applied here."""
    last = one.peer.storage.last_index()
    entry = Entry(LEADER_TERM, last + 1, removal(one.peer.region, 11, 1), EntryType.CONF_CHANGE_V2, b"")
    term = one.peer.storage.term(last)
    append = Message(MsgType.APPEND, 11, 12, LEADER_TERM, term, last, entries=(entry,), commit=last + 1)
    one.store.deliver(one.message(append))
    await one.settle()


def survivors(one: Bench, raft_synced: bool, kv_kept: int) -> tuple[MemoryEngine, MemoryEngine]:
    if raft_synced:
        one.raft_db.sync_wal()
    return one.raft_db.crash(), one.kv_db.crash(kv_kept)


@pytest.mark.parametrize("raft_synced", [True, False])
@pytest.mark.parametrize("kv_kept", [0, 1, 100])
def test_a_destroyed_peer_stays_dead_or_starts_again_whole(raft_synced: bool, kv_kept: int) -> None:
    async def main() -> None:
        async with bench() as one:
            await one.append([b"", b""], 7)
            one.kv_db.sync_wal()
            await remove_self(one)
            assert REGION not in one.store.peers
            left = survivors(one, raft_synced, kv_kept)
        async with bench(*left) as again:
            assert (REGION in again.store.peers) != (REGION in again.store.tombstones)
            if REGION in again.store.tombstones:
                assert load_raft_state(again.raft_db, REGION) is None, "no log is left behind a tombstone"

    run_virtual(main())


@pytest.mark.parametrize("raft_synced", [True, False])
@pytest.mark.parametrize("kv_kept", [0, 1, 100])
def test_a_split_is_there_or_is_applied_again(raft_synced: bool, kv_kept: int) -> None:
    async def main() -> None:
        async with bench() as one:
            await one.append([b"", split_entry(one.peer.region)], 7)
            assert CHILD in one.store.peers
            left = survivors(one, raft_synced, kv_kept)
        async with bench(*left) as again:
            await again.heartbeat(commit=7)
            assert CHILD in again.store.peers
            assert again.store.peers[CHILD].storage.last_index() == 5
            assert again.store.unsettled == {}

    run_virtual(main())


def test_a_split_leaves_nothing_in_the_raft_database_before_the_region_is_durable() -> None:
    """Else a region that is learned by message after the loss would find a log state without a log."""

    async def main() -> None:
        async with bench() as one:
            one.kv_db.sync_wal = lambda: None  # type: ignore[method-assign]
            await one.append([b"", split_entry(one.peer.region)], 7)
            one.store.peers.pop(CHILD, None)
            assert load_raft_state(one.raft_db, CHILD) is None

    run_virtual(main())


def test_a_vote_given_before_the_split_is_kept() -> None:
    raft_db, kv_db = engines_with(first_region())
    batch = raft_db.batch()
    batch.put(CF_DEFAULT, keys.raft_state_key(CHILD), raft_state_bytes(HardState(9, 72, 0), 0))
    raft_db.write(batch)
    batch = kv_db.batch()
    batch.put(CF_RAFT, keys.apply_state_key(CHILD), initial_apply_state().to_bytes())
    kv_db.write(batch)
    region = metapb_pb2.Region(id=CHILD)
    region.peers.add(id=71, store_id=1)
    storage = PeerStorage.load(raft_db, kv_db, region)
    assert storage.hard_state == HardState(9, 72, 5)
    assert storage.last_index() == 5


def test_a_store_that_was_removed_can_come_back_under_a_new_peer_id() -> None:
    async def main() -> None:
        async with bench() as one:
            hello = one.message(Message(MsgType.HEARTBEAT, 31, 12, LEADER_TERM, context=b"\0" * 8))
            hello.to_peer.id = 31
            hello.region_epoch.conf_ver = 3
            one.store.deliver(hello)
            await one.settle()
            one.store.deliver(hello)
            await one.settle()
            assert one.peer.peer_id == 31
            assert not one.peer.storage.is_initialized

    run_virtual(main())


def test_an_old_message_does_not_bring_a_dead_peer_back() -> None:
    async def main() -> None:
        async with bench() as one:
            await remove_self(one)
            await one.heartbeat()
            assert REGION not in one.store.peers

    run_virtual(main())


def test_a_range_is_not_free_before_its_peers_end_is_durable() -> None:
    async def main() -> None:
        async with bench() as one:

            async def never(_function: object) -> None:
                await asyncio.Event().wait()

            async def only_raft(function: Callable[[], None]) -> None:
                await (InlineWorkers().sync(function) if function == one.raft_db.sync_wal else never(function))

            one.store.workers.sync = only_raft  # type: ignore[method-assign]
            await remove_self(one)
            newcomer = one.message(Message(MsgType.HEARTBEAT, 91, 92, LEADER_TERM, context=b"\0" * 8))
            newcomer.region_id, newcomer.to_peer.id, newcomer.from_peer.id = 9, 91, 92
            one.store.deliver(newcomer)
            await one.settle()
            assert 9 not in one.store.peers
            assert REGION in one.store.unsettled

    run_virtual(main())


def test_a_peer_that_may_have_promised_a_lease_refuses_votes_at_first() -> None:
    """A split replaces a peer that was created by a message, and which has answered a leader's heartbeats."""

    async def main() -> None:
        async with bench() as one:
            batch = one.raft_db.batch()
            batch.put(CF_DEFAULT, keys.raft_state_key(CHILD), raft_state_bytes(HardState(8, 0, 0), 0))
            one.raft_db.write(batch)
            one.clock.jumped_s += 60
            await one.append([b"", split_entry(one.peer.region)], 7)
            one.router.sent.clear()
            ask = one.message(Message(MsgType.REQUEST_VOTE, 71, 73, 9, log_term=5, index=5))
            ask.region_id, ask.to_peer.id, ask.from_peer.id, ask.from_peer.store_id = CHILD, 71, 73, 3
            ask.region_epoch.version = 2
            one.store.deliver(ask)
            await one.settle()
            assert [sent for sent in one.router.sent if sent.region_id == CHILD] == []

    run_virtual(main())


def test_a_marker_of_a_snapshot_for_a_dead_peer_does_not_bring_it_back() -> None:
    async def main() -> None:
        raft_db, kv_db = engines_with()
        region = first_region()
        batch = kv_db.batch()
        batch.put(CF_RAFT, keys.region_state_key(REGION), region_state_bytes(region, serverpb.Tombstone))
        kv_db.write(batch)
        kv_db.sync_wal()
        batch = raft_db.batch()
        batch.put(CF_DEFAULT, keys.pending_snapshot_key(REGION), PendingSnapshot(region, 9, 6, ()).to_bytes())
        raft_db.write(batch)
        async with bench(raft_db, kv_db) as one:
            assert REGION in one.store.tombstones
            assert REGION not in one.store.peers

    run_virtual(main())


def test_a_silent_learner_asks_and_a_member_that_dropped_it_says_so() -> None:
    """A learner that missed its removal would hold its range for ever."""

    async def main() -> None:
        region = first_region()
        region.peers[0].role = metapb_pb2.Learner
        async with bench(*engines_with(region)) as one:
            await one.heartbeat()
            await asyncio.sleep(60)
            asked = [sent for sent in one.router.sent if sent.message.msg_type == int(MsgType.REQUEST_PRE_VOTE)]
            assert {sent.to_peer.id for sent in asked} == {12, 13}
        dropped = first_region()
        del dropped.peers[2]
        dropped.region_epoch.conf_ver = 2
        async with bench(*engines_with(dropped)) as member:
            question = member.message(Message(MsgType.REQUEST_PRE_VOTE, 11, 13))
            question.from_peer.id, question.from_peer.store_id = 13, 3
            member.store.deliver(question)
            await member.settle()
            assert [sent.is_tombstone for sent in member.router.sent if sent.to_peer.id == 13] == [True]

    run_virtual(main())
