"""Snapshots on their way in, while other things happen to the same peer, the same stage or the same range."""

from __future__ import annotations

import asyncio

import pytest

from core_py.ports import StatusError
from core_py.raft.messages import Message, MsgType
from core_py.region_errors import ReadIndexNotReady, UndeterminedResult
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2, metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tests.unit.raftstore.snapshot_support import bring, chunks, snapshot_message, stream
from tests.unit.raftstore.support import LEADER_TERM, OTHER, REGION, STORE, Bench, bench, first_region
from tikv_py.raftstore.peer import Proposal
from tikv_py.txn.context import RegionAccess


def held_back(one: Bench) -> asyncio.Event:
    """Bringing in waits for the returned event."""
    gate = asyncio.Event()
    manager = one.store.snapshots
    replace_data = manager._replace_data

    async def waits(*arguments: object) -> None:
        await gate.wait()
        await replace_data(*arguments)  # type: ignore[arg-type]

    manager._replace_data = waits  # type: ignore[method-assign, assignment]
    return gate


def test_a_snapshot_replaces_data_and_log() -> None:
    async def main() -> None:
        async with bench() as one:
            await bring(one, 20, [(b"zk", b"new")])
            assert one.kv_db.get("default", b"zk") == b"new"
            assert (one.peer.storage.first_index(), one.peer.storage.last_index()) == (21, 20)
            assert [sent.message.index for sent in one.router.sent if sent.message.index == 20]

    run_virtual(main())


def test_a_second_stream_cannot_take_the_stage_before_the_first_was_looked_at() -> None:
    async def main() -> None:
        async with bench() as one:
            manager = one.store.snapshots
            await manager.receive(
                stream(snapshot_message(one, first_region(), 20), chunks({"default": [(b"zk", b"first")]}))
            )
            second = stream(snapshot_message(one, first_region(), 30), chunks({"default": [(b"zk", b"second")]}))
            with pytest.raises(StatusError, match="on its way already"):
                await manager.receive(second)
            await one.settle()
            assert one.kv_db.get("default", b"zk") == b"first"
            await bring(one, 30, [(b"zk", b"third")])
            assert one.kv_db.get("default", b"zk") == b"third", "the stage is free again"

    run_virtual(main())


def test_a_snapshot_message_without_its_data_is_dropped() -> None:
    async def main() -> None:
        async with bench() as one:
            one.store.deliver(snapshot_message(one, first_region(), 20))
            await one.settle()
            assert one.peer.snapshot is None
            assert one.peer.storage.last_index() == 5

    run_virtual(main())


def test_no_snapshot_is_taken_before_the_store_has_started() -> None:
    """A stage of an earlier life may still wait to be brought in."""

    async def main() -> None:
        async with bench() as one:
            one.store.started = False
            with pytest.raises(StatusError, match="starting"):
                await one.store.snapshots.receive(stream(snapshot_message(one, first_region(), 20), []))
            one.store.started = True

    run_virtual(main())


def test_two_snapshots_of_one_turn_do_not_share_a_range() -> None:
    async def main() -> None:
        async with bench() as one:
            one.store.peers.clear()
            regions = []
            for number in (3, 4):
                region = metapb_pb2.Region(id=number, start_key=b"a", end_key=b"x%d" % number)
                region.region_epoch.conf_ver = region.region_epoch.version = 1
                for store_id in (STORE, OTHER):
                    region.peers.add(id=number * 10 + store_id, store_id=store_id)
                regions.append(region)
                hello = one.message(Message(MsgType.HEARTBEAT, number * 10 + 1, number * 10 + 2, LEADER_TERM))
                hello.region_id, hello.to_peer.id, hello.from_peer.id = number, number * 10 + 1, number * 10 + 2
                one.store.deliver(hello)
            await one.settle()
            for region in regions:
                wire = snapshot_message(one, region, 20, region.id * 10 + 1)
                await one.store.snapshots.receive(stream(wire, chunks({})))
            await one.settle()
            assert [peer.storage.is_initialized for peer in one.store.peers.values()] == [True, False]

    run_virtual(main())


def test_a_peer_is_not_read_destroyed_or_asked_while_a_snapshot_is_brought_in() -> None:
    async def main() -> None:
        async with bench() as one:
            await one.heartbeat()
            read = one.peer.read_index()
            one.store.activate(REGION)
            gate = held_back(one)
            await bring(one, 20, [(b"zk", b"new")])
            assert one.peer.snapshot is not None
            context = kvrpcpb_pb2.Context(region_id=REGION, replica_read=True)
            context.region_epoch.conf_ver = context.region_epoch.version = 1
            with pytest.raises(ReadIndexNotReady):
                RegionAccess(one.store).check(context)
            one.peer.on_read_state(7, next(iter(one.peer.reads)))
            one.peer.on_applied()
            assert not read.done(), "the data of index 20 is not there yet"
            death = serverpb.RaftMessage(region_id=REGION, is_tombstone=True)
            death.CopyFrom(one.message(Message(MsgType.HEARTBEAT, 11, 12, LEADER_TERM), is_tombstone=True))
            death.region_epoch.conf_ver = 9
            one.store.deliver(death)
            await one.settle()
            assert REGION in one.store.peers
            gate.set()
            await one.settle()
            assert read.done()
            assert one.kv_db.get("default", b"zk") == b"new"
            one.store.deliver(death)
            await one.settle()
            assert REGION not in one.store.peers
            assert one.kv_db.get("default", b"zk") is None

    run_virtual(main())


def test_proposals_whose_fate_a_snapshot_hides_are_undetermined() -> None:
    async def main() -> None:
        async with bench() as one:
            await one.heartbeat()
            future = asyncio.get_running_loop().create_future()
            one.peer.proposals.append(Proposal(8, LEADER_TERM - 1, [future], None))
            await bring(one, 20, [])
            with pytest.raises(UndeterminedResult):
                await future

    run_virtual(main())


def test_frozen_views_are_given_back_when_nothing_is_sent() -> None:
    async def main() -> None:
        async with bench() as one:
            manager = one.store.snapshots._sender
            one.peer.unwritten = False
            for _ in range(20):
                manager.make(one.peer, 12)
                manager.not_sent(REGION, 12)
            manager.make(one.peer, 12)
            manager.forget(REGION)
            assert manager._made == {}

    run_virtual(main())
