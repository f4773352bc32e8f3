"""What a store has taken in is bounded: raft messages, writes, reads, and the size of an entry."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from core_py.raft.messages import Message, MsgType
from core_py.region_errors import RaftEntryTooLarge, ServerIsBusy
from core_py.runtime.config import ByteSize
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tests.unit.raftstore.support import Bench, engines_with, first_region
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT
from tikv_py.mvcc.txn import Modify
from tikv_py.raftstore import admin
from tikv_py.raftstore.config import RaftstoreConfig
from tikv_py.raftstore.disk_space import DiskSpace
from tikv_py.raftstore.inbox import Inbox
from tikv_py.raftstore.listener import StoreListener
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.peer_storage import PeerStorage
from tikv_py.raftstore.write_budget import WriteBudget


def raft_message(data: bytes = b"") -> serverpb.RaftMessage:
    message = serverpb.RaftMessage(region_id=1)
    message.message.context = data
    return message


def test_the_newest_ordinary_messages_are_dropped_at_the_limit_of_their_number() -> None:
    inbox = Inbox(2, 1 << 20)
    assert [inbox.add(raft_message(b"%d" % number)) for number in range(4)] == [True, True, False, False]
    assert [message.message.context for message in inbox.take()] == [b"0", b"1"]
    assert len(inbox) == 0
    assert inbox.add(raft_message()), "room again"


def test_the_inbox_is_bounded_in_bytes_and_takes_one_big_message() -> None:
    inbox = Inbox(100, 1000)
    assert inbox.add(raft_message(bytes(5000))), "or it could never be delivered"
    assert not inbox.add(raft_message())
    inbox.take()
    assert inbox.add(raft_message(bytes(600)))
    assert not inbox.add(raft_message(bytes(600)))
    assert inbox.add(raft_message(bytes(300)))


def test_what_raft_does_not_send_again_is_never_dropped() -> None:
    inbox = Inbox(1, 1 << 20)
    assert inbox.add(raft_message())
    death = serverpb.RaftMessage(region_id=1, is_tombstone=True)
    wake = serverpb.RaftMessage(region_id=1, extra_msg=serverpb.ExtraMessage(type=serverpb.MsgRegionWakeUp))
    snapshot = serverpb.RaftMessage(region_id=1)
    snapshot.message.msg_type = 7  # type: ignore[assignment]
    assert all(inbox.add(message) for message in (death, wake, snapshot))
    assert not inbox.add(raft_message())
    assert len(inbox.take()) == 4


class Listener(StoreListener):
    def __init__(self) -> None:
        self.full: list[str] = []

    def on_channel_full(self, kind: str) -> None:
        self.full.append(kind)


def test_a_flooded_store_says_so_and_goes_on() -> None:
    async def scenario() -> None:
        one = Bench(*engines_with(first_region()), config=RaftstoreConfig(notify_capacity=10))
        listener = one.store.listener = Listener()
        await one.store.start()
        await one.settle()
        for _ in range(30):
            one.store.deliver(one.message(Message(MsgType.HEARTBEAT, 11, 12, 6, context=b"\0" * 8)))
        assert listener.full == ["store"] * 20
        await one.settle()
        assert one.peer.node.leader_id == 12
        await one.heartbeat()
        assert len(listener.full) == 20
        await one.store.stop()

    run_virtual(scenario())


def leader(config: RaftstoreConfig, budget: WriteBudget | None = None) -> Peer:
    region = first_region()
    del region.peers[1:]
    raft_db, kv_db = MemoryEngine((CF_DEFAULT,)), engines_with(region)[1]
    storage = PeerStorage.load(raft_db, kv_db, region)
    peer = Peer(
        storage,
        region.peers[0],
        config,
        random.Random(1),
        restarted=False,
        disk=DiskSpace(1, LoopClock()),
        budget=budget or WriteBudget(config.max_pending_write_bytes),
    )
    peer.node.campaign()
    while peer.node.has_ready():
        ready = peer.node.ready()
        if ready.hard_state is not None:
            storage.hard_state = ready.hard_state
        if ready.entries:
            storage.append(raft_db.batch(), ready.entries)
        peer.node.on_persist(ready.number)
        for entry in ready.committed_entries:
            storage.apply_state.applied_index, storage.applied_term = entry.index, entry.term
            peer.node.advance_apply_to(entry.index)
    assert peer.is_leader
    return peer


def put(key: bytes, size: int) -> list[Modify]:
    return [Modify("default", b"z" + key, bytes(size))]


def test_writes_of_all_regions_share_a_budget_until_they_are_answered() -> None:
    async def scenario() -> None:
        budget = WriteBudget(10_000)
        one, other = leader(RaftstoreConfig(), budget), leader(RaftstoreConfig(), budget)
        futures = [one.write(put(b"a", 4000), []), other.write(put(b"b", 4000), [])]
        with pytest.raises(ServerIsBusy, match=r"raftstore: 8\d\d\d bytes wait to be proposed"):
            one.write(put(b"c", 4000), [])
        futures.append(other.write(put(b"d", 100), []))
        for future in futures:
            future.cancel()
        await asyncio.sleep(0)
        assert budget.held_bytes == 0
        one.write(put(b"e", 50_000), []).cancel()  # alone it fits always, up to the size of an entry
        await asyncio.sleep(0)
        assert budget.held_bytes == 0

    run_virtual(scenario())


def test_the_budget_is_given_back_by_writes_that_are_applied_and_by_those_that_fail() -> None:
    async def scenario() -> None:
        region = first_region()
        del region.peers[1:]
        one = Bench(*engines_with(region))
        await one.store.start()
        await one.settle()
        assert one.peer.is_leader
        done = one.peer.write(put(b"a", 100), [])
        one.store.activate(1)
        assert one.store.write_budget.held_bytes > 100
        await done
        await one.settle()
        assert one.store.write_budget.held_bytes == 0
        failing = one.peer.write(put(b"b", 100), [])
        await one.store.stop()
        assert failing.exception() is not None
        await asyncio.sleep(0)
        assert one.store.write_budget.held_bytes == 0

    run_virtual(scenario())


def test_a_region_refuses_writes_and_reads_beyond_its_number() -> None:
    async def scenario() -> None:
        peer = leader(RaftstoreConfig(max_pending_writes=2, max_pending_reads=3))
        writes = [peer.write(put(b"a", 1), []) for _ in range(2)]
        with pytest.raises(ServerIsBusy, match="2 writes waiting"):
            peer.write(put(b"b", 1), [])
        reads = [peer.read_index() for _ in range(3)]
        with pytest.raises(ServerIsBusy, match="3 reads waiting"):
            peer.read_index()
        with pytest.raises(ServerIsBusy, match="3 reads waiting"):
            peer.read_barrier()
        for write in writes:
            write.cancel()
        for read in reads:
            read.cancel()

    run_virtual(scenario())


def test_no_command_is_proposed_that_exceeds_the_size_of_an_entry() -> None:
    async def scenario() -> None:
        peer = leader(RaftstoreConfig(raft_entry_max_size=ByteSize(64 << 10)))
        with pytest.raises(RaftEntryTooLarge) as caught:
            peer.write(put(b"a", 70_000), [])
        assert caught.value.region_id == 1
        assert caught.value.entry_size > 70_000
        with pytest.raises(RaftEntryTooLarge):  # many small changes
            peer.write([Modify("write", b"zk%d" % number, b"") for number in range(1000)], [])
        with pytest.raises(RaftEntryTooLarge):
            peer.write([], [("default", b"z" + bytes(40_000), b"{" + bytes(40_000))])
        with pytest.raises(RaftEntryTooLarge):
            peer.propose_admin(bytes(70_000))
        last = peer.node.last_index
        for number in range(8):  # many writes share entries, none of which exceeds the limit
            peer.write(put(b"%d" % number, 30_000), []).add_done_callback(lambda done: done.cancelled())
        peer.propose_pending()
        entries = peer.node.raft_log.entries(last + 1, peer.node.last_index + 1, None)
        assert len(entries) == 4
        assert all(len(entry.data) <= 64 << 10 for entry in entries)
        peer.fail_proposals()

    run_virtual(scenario())


def test_a_split_with_too_much_in_it_is_refused() -> None:
    async def scenario() -> None:
        region = first_region()
        del region.peers[1:]
        one = Bench(*engines_with(region), config=RaftstoreConfig(raft_entry_max_size=ByteSize(64 << 10)))
        await one.store.start()
        await one.settle()
        splits: list[Any] = [(b"%03d" % number + bytes(2000), 100 + number, [200 + number]) for number in range(50)]
        with pytest.raises(RaftEntryTooLarge):
            await admin.split(one.store, one.peer, splits)
        parts = await admin.split(one.store, one.peer, splits[:10])
        assert len(parts) == 11
        await one.store.stop()

    run_virtual(scenario())


def test_an_entry_size_that_no_split_fits_is_no_setting() -> None:
    with pytest.raises(ValueError, match="raft-entry-max-size"):
        RaftstoreConfig(raft_entry_max_size=ByteSize(1000)).validate()
