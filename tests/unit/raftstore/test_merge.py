"""The rules of merging, and what a store does about peers that slept through a merge."""

from __future__ import annotations

import asyncio

import pytest

from core_py.raft.messages import Message, MsgType
from core_py.sim.loop import run_virtual
from protos.kvproto import metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tests.unit.raftstore.support import REGION, Bench, bench, engines_with, first_region
from tikv_py.engine.port import CF_RAFT
from tikv_py.raftstore import admin, commands, keys, merge, merge_rules
from tikv_py.raftstore.region import AdminRefused

TARGET = 2


def region(region_id: int, start: bytes, end: bytes, version: int = 1) -> metapb_pb2.Region:
    made = first_region()
    made.id, made.start_key, made.end_key = region_id, start, end
    made.region_epoch.version = version
    for peer in made.peers:
        peer.id += 100 * (region_id - 1)
    return made


def test_a_target_grows_to_the_left_or_to_the_right() -> None:
    left, right = region(1, b"a", b"m", 7), region(2, b"m", b"", 3)
    for source, target in ((left, right), (right, left)):
        made = merge_rules.merged(source, target)
        assert (made.id, made.start_key, made.end_key) == (target.id, b"a", b"")
        assert made.region_epoch.version == 8, "behind both, for each key"
        assert made.region_epoch.conf_ver == target.region_epoch.conf_ver


def test_closing_and_opening_move_the_epoch_each_time() -> None:
    one = region(1, b"", b"m", 4)
    closed = merge_rules.closed(one)
    assert (closed.region_epoch.conf_ver, closed.region_epoch.version) == (2, 5)
    assert merge_rules.reopened(closed).region_epoch.version == 6


def test_only_neighbours_on_the_same_stores_with_voters_alone_can_merge() -> None:
    left, right = region(1, b"", b"m"), region(2, b"m", b"")
    merge_rules.check_neighbours(left, right)
    merge_rules.check_neighbours(right, left)
    with pytest.raises(AdminRefused, match="do not touch"):
        merge_rules.check_neighbours(left, region(2, b"n", b""))
    with pytest.raises(AdminRefused, match="do not touch"):
        merge_rules.check_neighbours(region(1, b"", b""), region(2, b"", b""))
    with pytest.raises(AdminRefused, match="itself"):
        merge_rules.check_neighbours(left, left)
    learner = region(2, b"m", b"")
    learner.peers[1].role = metapb_pb2.Learner
    with pytest.raises(AdminRefused, match="not voters"):
        merge_rules.check_neighbours(left, learner)
    elsewhere = region(2, b"m", b"")
    elsewhere.peers[1].store_id = 9
    with pytest.raises(AdminRefused, match="same stores"):
        merge_rules.check_neighbours(left, elsewhere)


def test_a_region_remembers_what_its_parts_remembered_but_not_without_end() -> None:
    records: tuple[serverpb.MergedRecord, ...] = ()
    for number in range(2, 400):
        theirs = (serverpb.MergedRecord(source_region_id=1000 + number),)
        records = merge_rules.with_records(records, theirs, region(number, b"a", b"b"), region(1, b"b", b""))
    assert len(records) == merge_rules.MERGED_RECORDS_MAX
    assert {398, 399, 1399} <= merge_rules.sources(records)


def test_a_snapshot_from_before_a_merge_that_was_buried_here_is_outrun() -> None:
    merged = [region(TARGET, b"a", b"z", 9)]
    assert merge.is_outrun(merged, region(TARGET, b"m", b"z", 8))
    assert merge.is_outrun(merged, region(5, b"", b"b", 8)), "whoever held the range then"
    assert not merge.is_outrun(merged, region(TARGET, b"a", b"z", 9))
    assert not merge.is_outrun(merged, region(5, b"z", b"", 1)), "elsewhere"


def told(one: Bench, target: metapb_pb2.Region) -> serverpb.RaftMessage:
    message = serverpb.RaftMessage(region_id=REGION, is_tombstone=True, merge_target=target)
    message.from_peer.id, message.from_peer.store_id = 12, 2
    message.to_peer.id, message.to_peer.store_id = 11, 1
    return message


@pytest.mark.parametrize(
    ("other", "buried"),
    [
        (None, True),
        (region(TARGET, b"m", b"", 4), False),  # the target, behind: CommitMerge in its log needs this peer's data
        (region(TARGET, b"m", b"", 9), True),  # the target, past it
        (region(7, b"m", b"", 2), False),  # may yet split the target off
        (region(7, b"x", b"", 2), True),  # has nothing to do with it
    ],
)
def test_a_peer_that_slept_through_its_merge_goes_when_nobody_needs_it_here(
    other: metapb_pb2.Region | None, buried: bool
) -> None:
    async def main() -> None:
        own = region(REGION, b"", b"m", 3)
        async with bench(*engines_with(own, *([other] if other is not None else []))) as one:
            one.store.deliver(told(one, region(TARGET, b"", b"x", 9)))
            await one.settle()
            assert (REGION not in one.store.peers) == buried
            state = one.kv_db.get(CF_RAFT, keys.region_state_key(REGION))
            assert state is not None
            kept = serverpb.RegionLocalState.FromString(state)
            assert (kept.state == serverpb.Tombstone) == buried
            assert kept.merge_state.target.id == (TARGET if buried else 0)

    run_virtual(main())


def test_a_peer_that_slept_through_its_merge_stays_while_its_target_is_being_born_here() -> None:
    async def main() -> None:
        async with bench(*engines_with(region(REGION, b"", b"m", 3))) as one:
            one.store.unsettled[TARGET] = region(TARGET, b"m", b"", 4)
            one.store.deliver(told(one, region(TARGET, b"", b"x", 9)))
            await one.settle()
            assert REGION in one.store.peers, "CommitMerge in the log of the newborn needs its data"
            del one.store.unsettled[TARGET]
            one.store.unsettled[7] = region(7, b"p", b"", 4)
            one.store.deliver(told(one, region(TARGET, b"", b"x", 9)))
            await one.settle()
            assert REGION in one.store.peers, "the newborn may yet split the target off"
            one.store.unsettled.clear()
            one.store.deliver(told(one, region(TARGET, b"", b"x", 9)))
            await one.settle()
            assert REGION not in one.store.peers

    run_virtual(main())


def alone(region_id: int, start: bytes, end: bytes) -> metapb_pb2.Region:
    made = region(region_id, start, end)
    del made.peers[1:]
    return made


def test_a_merge_whose_commit_was_refused_far_behind_in_the_targets_log_is_undone() -> None:
    """The regions' logs have nothing in common: the index in one says nothing about what the other has proposed."""

    async def main() -> None:
        async with bench(*engines_with(alone(REGION, b"", b"m"), alone(TARGET, b"m", b""))) as one:
            source, target = one.peer, one.store.peers[TARGET]
            await asyncio.sleep(1)
            assert source.node.term == target.node.term
            for _ in range(100):
                target.node.propose(b"")
            one.store.activate(TARGET)
            await one.settle()
            target.propose_admin(
                commands.admin_command(target.region, commands.batch_split([(b"x", 3, [301])])).SerializeToString()
            )
            await admin.merge_region(one.store, source, target.region)
            closed = source.region.region_epoch.version
            await asyncio.sleep(5)
            assert source.storage.merge is None
            assert REGION not in one.store.closed
            assert source.region.region_epoch.version == closed + 1

    run_virtual(main())


def test_whoever_speaks_for_a_merged_region_is_told_what_became_of_it() -> None:
    async def main() -> None:
        async with bench(*engines_with(region(REGION, b"", b"m", 3))) as one:
            one.store.deliver(told(one, region(TARGET, b"", b"x", 9)))
            await one.settle()
            one.router.sent.clear()
            one.store.deliver(one.message(Message(MsgType.REQUEST_PRE_VOTE, 11, 12, 9, log_term=6, index=9)))
            await one.settle()
            [answer] = one.router.sent
            assert answer.is_tombstone
            assert answer.merge_target.id == TARGET
            assert REGION not in one.store.peers
            left = one.raft_db.crash(), one.kv_db.crash(100)
        async with bench(*left) as again:
            again.store.deliver(again.message(Message(MsgType.HEARTBEAT, 11, 12, 9)))
            await asyncio.sleep(0)
            await again.settle()
            assert [sent.merge_target.id for sent in again.router.sent] == [TARGET], "also after a restart"

    run_virtual(main())
