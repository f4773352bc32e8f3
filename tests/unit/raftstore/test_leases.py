"""What a store believes after its process stood still, and what it tells writers whose entries left its log."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from core_py.raft.messages import Message, MsgType, StateRole
from core_py.region_errors import StaleCommand, UndeterminedResult
from core_py.runtime.workers import InlineWorkers
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from tests.unit.raftstore.support import LEADER_TERM, REGION, Bench, bench, engines_with, first_region
from tikv_py.mvcc.txn import Modify
from tikv_py.raftstore.apply import Applied
from tikv_py.raftstore.config import RaftstoreConfig
from tikv_py.raftstore.disk_space import DiskSpace
from tikv_py.raftstore.peer import Peer, Proposal
from tikv_py.raftstore.peer_storage import PeerStorage
from tikv_py.raftstore.write_budget import WriteBudget


def a_peer() -> Peer:
    raft_db, kv_db = engines_with(first_region())
    storage = PeerStorage.load(raft_db, kv_db, first_region())
    return Peer(
        storage,
        first_region().peers[0],
        RaftstoreConfig(),
        random.Random(1),
        restarted=False,
        disk=DiskSpace(1, LoopClock()),
        budget=WriteBudget(1 << 20),
    )


def waiter() -> asyncio.Future[Applied]:
    return asyncio.get_running_loop().create_future()


def test_a_proposal_is_matched_although_older_ones_stood_behind_it() -> None:
    """Led in term 2, lost entries 11 and 12, leads again in term 5 and proposes at 11: that one must get its answer."""

    async def main() -> None:
        peer = a_peer()
        old, lost, new = waiter(), waiter(), waiter()
        for proposal in (Proposal(11, 2, [old], None), Proposal(12, 2, [lost], None), Proposal(11, 5, [new], None)):
            peer._add_proposal(proposal)
        taken = peer.take_proposal(11, 5)
        assert taken is not None
        assert taken.futures == [new]
        for future in (old, lost):
            with pytest.raises(UndeterminedResult):
                await future

    run_virtual(main())


def test_a_proposal_overtaken_by_a_committed_entry_is_stale_for_certain() -> None:
    async def main() -> None:
        peer = a_peer()
        future = waiter()
        peer._add_proposal(Proposal(11, 2, [future], None))
        assert peer.take_proposal(11, 3) is None
        with pytest.raises(StaleCommand):
            await future

    run_virtual(main())


def test_what_was_appended_is_undetermined_when_the_peer_goes() -> None:
    async def main() -> None:
        peer = a_peer()
        future = waiter()
        peer._add_proposal(Proposal(11, 2, [future], None))
        peer.fail_all(StaleCommand(REGION))
        with pytest.raises(UndeterminedResult):
            await future

    run_virtual(main())


def test_time_before_a_heartbeat_is_not_silence_after_it() -> None:
    """A follower that stood still answers the heartbeat that waited for it, and keeps what the answer promises."""

    async def main() -> None:
        async with bench() as one:
            one.clock.jumped_s += 60
            await one.heartbeat()
            one.clock.jumped_s += 25.4
            await one.heartbeat()
            await asyncio.sleep(1.1)
            assert one.peer.node.role is StateRole.FOLLOWER
            assert one.peer.node.leader_id == 12
            assert one.peer.node.election_elapsed <= 2

    run_virtual(main())


def test_no_fraction_of_a_tick_is_lost() -> None:
    async def main() -> None:
        async with bench() as one:
            ticks = 0

            def count() -> None:
                nonlocal ticks
                ticks += 1

            class Ticked:
                tick = staticmethod(count)
                role = StateRole.FOLLOWER

            stand_in = type("StandIn", (), {"node": Ticked()})()
            one.store.peers = {REGION: stand_in}
            for _ in range(20):
                one.clock.jumped_s += 0.7
                one.store.catch_up()
            one.store.peers = {}
            assert ticks == 14

    run_virtual(main())


async def make_leader(one: Bench) -> None:
    one.clock.jumped_s += 30
    one.time_out()
    one.store.activate(REGION)
    for kind in (MsgType.REQUEST_PRE_VOTE_RESPONSE, MsgType.REQUEST_VOTE_RESPONSE):
        await one.settle()
        term = one.peer.node.term + (kind is MsgType.REQUEST_PRE_VOTE_RESPONSE)
        one.store.deliver(one.message(Message(kind, 11, 12, term)))
    await one.settle()
    assert one.peer.is_leader
    await acknowledge(one)


async def acknowledge(one: Bench) -> None:
    """Peer 12 has all entries and answers the newest heartbeat."""
    node = one.peer.node
    one.store.deliver(one.message(Message(MsgType.APPEND_RESPONSE, 11, 12, node.term, index=node.last_index)))
    for _ in range(3):
        await asyncio.sleep(1)
    beats = [sent.message for sent in one.router.sent if sent.message.msg_type == int(MsgType.HEARTBEAT)]
    answer = Message(MsgType.HEARTBEAT_RESPONSE, 11, 12, node.term, context=beats[-1].context)
    one.store.deliver(one.message(answer))
    await one.settle()


def test_a_leader_that_stood_still_does_not_believe_in_its_lease() -> None:
    async def main() -> None:
        async with bench() as one:
            await make_leader(one)
            one.store.catch_up()
            assert one.peer.can_read_locally()
            one.clock.jumped_s += 9.5
            read = one.peer.read_index()
            one.store.catch_up()
            assert not one.peer.can_read_locally()
            one.store.activate(REGION)
            await one.settle()
            assert not read.done() or read.exception() is not None, "only a quorum can confirm it now"

    run_virtual(main())


def test_a_leader_reads_nothing_locally_past_a_split_it_proposed() -> None:
    async def main() -> None:
        async with bench() as one:
            await make_leader(one)
            assert one.peer.can_read_locally()
            future = one.peer.propose_admin(b"")
            assert not one.peer.can_read_locally(), "other replicas may split first and write to the parts"
            one.store.activate(REGION)
            await one.settle()
            await acknowledge(one)
            assert future.done()
            assert one.peer.can_read_locally()

    run_virtual(main())


def test_a_leader_whose_disk_is_slower_than_its_followers_waits_before_it_reads() -> None:
    """A follower may have applied, and shown, what the leader's own log does not hold durably yet."""

    async def main() -> None:
        async with bench() as one:
            await make_leader(one)
            assert one.peer.can_read_locally()
            disk_is_free = asyncio.Event()
            sync = one.store.workers.sync

            async def slow(function: Callable[[], None]) -> None:
                await disk_is_free.wait()
                await sync(function)

            one.store.workers.sync = slow  # type: ignore[method-assign]
            written = one.peer.write([Modify("default", b"zk", b"v")], [])
            one.store.activate(REGION)
            await one.settle()
            node = one.peer.node
            for follower in (12, 13):
                answer = one.message(Message(MsgType.APPEND_RESPONSE, 11, follower, node.term, index=node.last_index))
                answer.from_peer.id, answer.from_peer.store_id = follower, follower - 10
                one.store.deliver(answer)
            await one.settle()
            assert node.committed == node.last_index, "the followers are a quorum"
            assert not written.done()
            assert not one.peer.can_read_locally()
            one.router.sent.clear()
            barrier = one.peer.read_barrier()
            one.store.activate(REGION)
            await one.settle()
            assert not barrier.done()
            beats = [sent for sent in one.router.sent if sent.message.msg_type == int(MsgType.HEARTBEAT)]
            assert beats == [], "the lease is good: nobody need be asked"
            disk_is_free.set()
            await one.settle()
            assert barrier.done()
            assert one.peer.can_read_locally()

    run_virtual(main())


def test_reads_that_timed_out_are_forgotten() -> None:
    async def main() -> None:
        peer = a_peer()
        peer.node.step(Message(MsgType.HEARTBEAT, 11, 12, LEADER_TERM))
        future = peer.read_index()
        future.cancel()
        await asyncio.sleep(0)
        assert peer.reads == {}

    run_virtual(main())


class SlowDisk(InlineWorkers):
    """Syncs end when they may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = asyncio.Event()

    async def sync(self, function: Callable[[], None]) -> None:
        await self.may_end.wait()
        function()
