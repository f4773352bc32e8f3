"""How full a disk is, and which writes a store takes for that."""

from __future__ import annotations

import asyncio

import pytest

from core_py.ports import StatusError
from core_py.raft.messages import Message, MsgType
from core_py.region_errors import DiskFull
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from protos.kvproto import metapb_pb2
from tests.unit.raftstore.snapshot_support import snapshot_message, stream
from tests.unit.raftstore.support import OTHER, STORE, THIRD, bench, first_region
from tikv_py.raftstore.disk_space import BELIEVED_S, FINISHES, FREES, DiskSpace, DiskUsage, usage_of

ORDINARY = 0


@pytest.mark.parametrize(
    ("free", "reserved", "usage"),
    [
        (100, 100, DiskUsage.NORMAL),
        (99, 100, DiskUsage.ALMOST_FULL),
        (50, 100, DiskUsage.ALMOST_FULL),
        (49, 100, DiskUsage.ALREADY_FULL),
        (0, 100, DiskUsage.ALREADY_FULL),
        (0, 0, DiskUsage.NORMAL),
    ],
)
def test_thresholds(free: int, reserved: int, usage: DiskUsage) -> None:
    assert usage_of(free, reserved) is usage


def taken(space: DiskSpace, region: metapb_pb2.Region) -> list[bool]:
    """Whether writes are taken that are ordinary, that finish something, that free space."""
    out = []
    for allowed in (ORDINARY, FINISHES, FREES):
        try:
            space.check_write(region, allowed)
            out.append(True)
        except DiskFull:
            out.append(False)
    return out


def test_the_own_disk_decides_by_what_a_write_is_allowed() -> None:
    async def scenario() -> None:
        space, region = DiskSpace(STORE, LoopClock()), first_region()
        assert not space.is_tight
        space.measured(90, 100)
        assert space.is_tight
        assert taken(space, region) == [False, True, True]
        space.measured(10, 100)
        assert taken(space, region) == [False, False, True]
        with pytest.raises(DiskFull, match="10 bytes are free, 100 are reserved") as caught:
            space.check_write(region, ORDINARY)
        assert caught.value.store_ids == (STORE,)
        space.measured(200, 100)
        assert taken(space, region) == [True, True, True]
        assert not space.is_tight

    run_virtual(scenario())


def test_a_majority_with_room_takes_a_write() -> None:
    async def scenario() -> None:
        space, region = DiskSpace(STORE, LoopClock()), first_region()
        space.heard(OTHER, DiskUsage.ALREADY_FULL)
        assert taken(space, region) == [True, True, True], "two of three have room"
        space.heard(THIRD, DiskUsage.ALMOST_FULL)
        assert taken(space, region) == [False, True, True]
        with pytest.raises(DiskFull, match="majority of the replicas of region 1") as caught:
            space.check_write(region, ORDINARY)
        assert caught.value.store_ids == (OTHER, THIRD)
        space.heard(THIRD, DiskUsage.NORMAL)
        assert taken(space, region) == [True, True, True]
        space.heard(THIRD, DiskUsage.ALREADY_FULL)
        assert taken(space, region) == [False, False, True]
        region.peers[2].role = metapb_pb2.Learner
        assert taken(space, region) == [False, False, True], "one of two voters is no majority"
        region.peers[1].role = metapb_pb2.Learner
        assert taken(space, region) == [True, True, True], "learners have no vote"

    run_virtual(scenario())


def test_both_sets_of_voters_of_a_joint_state_need_room() -> None:
    async def scenario() -> None:
        space, region = DiskSpace(STORE, LoopClock()), first_region()
        region.peers[1].role = metapb_pb2.DemotingVoter
        region.peers.add(id=15, store_id=5, role=metapb_pb2.IncomingVoter)
        space.heard(THIRD, DiskUsage.ALMOST_FULL)
        assert taken(space, region)[0]
        space.heard(5, DiskUsage.ALMOST_FULL)  # the new voters are 1, 3 and 5
        assert not taken(space, region)[0]

    run_virtual(scenario())


def test_what_another_store_told_is_forgotten() -> None:
    async def scenario() -> None:
        space, region = DiskSpace(STORE, LoopClock()), first_region()
        space.heard(OTHER, DiskUsage.ALREADY_FULL)
        space.heard(THIRD, DiskUsage.ALREADY_FULL)
        await asyncio.sleep(BELIEVED_S - 1)
        assert not taken(space, region)[0]
        await asyncio.sleep(2)
        assert taken(space, region)[0]
        assert not space.is_tight

    run_virtual(scenario())


def test_a_full_store_tells_others_takes_raft_messages_and_no_leadership() -> None:
    async def scenario() -> None:
        async with bench() as one:
            one.store.disk.measured(10, 100)
            await one.append([b""], commit=6)
            assert one.peer.storage.apply_state.applied_index == 6, "what a leader commits is applied"
            assert one.router.sent[-1].disk_usage == int(DiskUsage.ALREADY_FULL)
            one.store.deliver(one.message(Message(MsgType.TIMEOUT_NOW, 11, 12, 6)))
            await one.settle()
            assert one.peer.node.term == 6
            one.store.disk.measured(1000, 100)
            one.store.deliver(one.message(Message(MsgType.TIMEOUT_NOW, 11, 12, 6), disk_usage=2))
            await one.settle()
            assert one.peer.node.term == 7
            assert one.router.sent[-1].disk_usage == int(DiskUsage.NORMAL)
            one.store.disk.heard(THIRD, DiskUsage.ALREADY_FULL)
            with pytest.raises(DiskFull):  # the leader has told as well
                one.store.disk.check_write(one.peer.region, ORDINARY)

    run_virtual(scenario())


def test_a_store_that_is_almost_full_takes_no_snapshots() -> None:
    async def scenario() -> None:
        async with bench() as one:
            one.store.disk.measured(90, 100)
            with pytest.raises(StatusError, match="no room for snapshots") as refused:
                await one.store.snapshots.receive(stream(snapshot_message(one, first_region(), 20), []))
            assert refused.value.status == "RESOURCE_EXHAUSTED"

    run_virtual(scenario())
