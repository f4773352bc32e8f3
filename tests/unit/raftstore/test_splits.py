"""A split as one store sees it: votes that come too early, what children begin with, and what clients are told meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from core_py.errors import ConfigError
from core_py.raft.messages import Message, MsgType
from core_py.region_errors import EpochNotMatch, NotLeader, RegionNotInitialized
from core_py.runtime.config import from_table
from core_py.runtime.workers import InlineWorkers
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2, metapb_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from tests.unit.raftstore.support import REGION, Bench, bench
from tikv_py.mvcc.txn import Modify
from tikv_py.raftstore import commands, early_votes
from tikv_py.raftstore.early_votes import EarlyVotes
from tikv_py.server.config import TikvConfig
from tikv_py.txn.context import RegionAccess

CHILD, CHILD_PEER, CHILD_LEADER = 7, 71, 72
ELECTION_TIMEOUT_S = 10.0


def split_entry(region: metapb_pb2.Region, *keys: bytes) -> bytes:
    splits = [(key, CHILD + at, [CHILD_PEER + 10 * at + n for n in range(3)]) for at, key in enumerate(keys)]
    return commands.admin_command(region, commands.batch_split(splits)).SerializeToString()


def pre_vote(one: Bench) -> serverpb.RaftMessage:
    """The child's replica on store 2 has split already and asks this store's replica."""
    ask = one.message(Message(MsgType.REQUEST_PRE_VOTE, CHILD_PEER, CHILD_LEADER, 6, log_term=5, index=5))
    ask.region_id, ask.to_peer.id, ask.from_peer.id = CHILD, CHILD_PEER, CHILD_LEADER
    ask.region_epoch.version = 2
    ask.end_key = b"m"
    return ask


def answers(one: Bench) -> list[bool]:
    """The child's answers to pre-votes: whether granted."""
    kind = int(MsgType.REQUEST_PRE_VOTE_RESPONSE)
    return [not sent.message.reject for sent in one.router.sent if sent.message.msg_type == kind]


def run(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        async with bench() as one:
            one.clock.jumped_s += 2 * ELECTION_TIMEOUT_S  # past the time in which old promises may bind
            await one.append([b""], 6)
            await test(one)

    run_virtual(main())


class HeldDisk:
    """The kv database's syncs wait until `release`."""

    def __init__(self, one: Bench) -> None:
        self._one = one
        self._open = asyncio.Event()
        one.store.workers.sync = self.sync  # type: ignore[method-assign]

    async def sync(self, function: Callable[[], None]) -> None:
        if function == self._one.kv_db.sync_wal:
            await self._open.wait()
        await InlineWorkers().sync(function)

    def release(self) -> None:
        self._open.set()


def test_a_vote_request_for_a_region_not_split_off_yet_is_answered_after_the_split() -> None:
    async def body(one: Bench) -> None:
        one.store.deliver(pre_vote(one))
        await one.settle()
        assert answers(one) == []
        assert CHILD not in one.store.peers
        await one.append([split_entry(one.peer.region, b"m")], 7)
        assert answers(one) == [True]

    run(body)


def test_a_vote_request_for_a_region_being_born_is_answered_when_its_birth_is_durable() -> None:
    async def body(one: Bench) -> None:
        disk = HeldDisk(one)
        await one.append([split_entry(one.peer.region, b"m")], 7)
        one.store.deliver(pre_vote(one))
        await one.settle()
        assert answers(one) == []
        disk.release()
        await one.settle()
        assert answers(one) == [True]

    run(body)


def test_a_vote_request_whose_sender_has_given_up_is_not_answered() -> None:
    async def body(one: Bench) -> None:
        one.store.deliver(pre_vote(one))
        await one.settle()
        one.clock.jumped_s += ELECTION_TIMEOUT_S
        await one.append([split_entry(one.peer.region, b"m")], 7)
        assert CHILD in one.store.peers
        assert answers(one) == []

    run(body)


def test_early_votes_are_bounded_and_the_newest_of_each_sender_counts() -> None:
    votes = EarlyVotes(keep_s=10.0)
    for term in (6, 7):
        message = serverpb.RaftMessage(region_id=CHILD)
        message.from_peer.id, message.message.term = CHILD_LEADER, term
        votes.keep(message, 0.0)
    assert [one.message.term for one in votes.take(CHILD, 1.0)] == [7]
    assert votes.take(CHILD, 1.0) == []
    for sender in range(2 * early_votes.LIMIT):
        message = serverpb.RaftMessage(region_id=CHILD)
        message.from_peer.id = sender
        votes.keep(message, 2.0)
    assert len(votes) == early_votes.LIMIT
    assert votes.take(CHILD, 2.0)[-1].from_peer.id == 2 * early_votes.LIMIT - 1


def test_children_share_what_the_region_held_and_are_measured() -> None:
    async def body(one: Bench) -> None:
        one.peer.approximate_size, one.peer.approximate_keys, one.peer.size_known = 3_000, 300, True
        await one.append([split_entry(one.peer.region, b"g", b"m")], 7)
        parts = [one.store.peers[region_id] for region_id in (CHILD, CHILD + 1, REGION)]
        assert [(part.approximate_size, part.approximate_keys) for part in parts] == [(1_000, 100)] * 3
        assert not any(part.size_known for part in parts)

    run(body)


def test_a_client_of_the_old_region_learns_all_parts_while_they_are_born() -> None:
    async def body(one: Bench) -> None:
        disk = HeldDisk(one)
        await one.append([split_entry(one.peer.region, b"c", b"g", b"m", b"t")], 7)
        access = RegionAccess(one.store)
        context = kvrpcpb_pb2.Context(region_id=REGION)
        context.region_epoch.conf_ver = context.region_epoch.version = 1
        with pytest.raises(EpochNotMatch) as raised:
            access.check(context)
        parts = list(raised.value.to_pb().epoch_not_match.current_regions)
        assert [part.start_key for part in parts] == [b"", b"c", b"g", b"m", b"t"]
        context.region_id = CHILD
        with pytest.raises(RegionNotInitialized):
            access.check(context)
        disk.release()
        await one.settle()
        context.region_epoch.version = 5
        assert access.check(context).region.id == CHILD

    run(body)


def test_a_leader_that_hands_over_sends_clients_to_look_for_the_next_one() -> None:
    """Not ServerIsBusy: clients wait seconds for that, and the handing over takes milliseconds."""

    async def body(one: Bench) -> None:
        one.time_out()
        for kind, term in ((MsgType.REQUEST_PRE_VOTE_RESPONSE, 7), (MsgType.REQUEST_VOTE_RESPONSE, 7)):
            one.store.activate(REGION)
            await one.settle()
            one.store.deliver(one.message(Message(kind, 11, 12, term)))
            await one.settle()
        assert one.peer.is_leader
        one.peer.node.transfer_leader(12)
        written = one.peer.write([Modify("default", b"zk", b"v")], [])
        one.store.activate(REGION)
        await one.settle()
        with pytest.raises(NotLeader):
            await written

    run(body)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"coprocessor": {"region-split-size": "200MB"}}, "region-split-size"),
        ({"coprocessor": {"region-split-keys": 2_000_000}}, "region-split-keys"),
        ({"coprocessor": {"batch-split-limit": 0}}, "batch-split-limit"),
        ({"raftstore": {"split-region-check-tick-interval": "0s"}}, "split-region-check-tick-interval"),
        ({"split": {"sample-num": 0}}, "sample-num"),
        ({"split": {"detect-times": 2}}, "sample-threshold"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(table: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        from_table(TikvConfig, table)
    assert from_table(TikvConfig, {"split": {"qps-threshold": 10}}).split.qps_threshold == 10
