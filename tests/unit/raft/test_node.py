"""`RawNode` at its edges; its ordinary life is told by the scripts of tests/golden/raft."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from core_py.errors import ConfigError, InvariantViolation
from core_py.raft.config import RaftConfig
from core_py.raft.errors import (
    ConfChangePending,
    ConfChangeRefused,
    EntryTooLarge,
    NotLeaderError,
    TooManyReads,
    TooMuchUncommitted,
    TransferInProgress,
)
from core_py.raft.messages import (
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MsgType,
    Snapshot,
    SnapshotMeta,
    StateRole,
)
from core_py.raft.node import RawNode
from core_py.raft.ready import Ready
from core_py.raft.storage import MemoryStorage
from tests.golden.raft_runner import parse_change


class Driver:
    """A node with its disk, which does what a Ready says at once."""

    def __init__(self, voters: tuple[int, ...] = (1,), config: RaftConfig | None = None) -> None:
        self.storage = MemoryStorage(ConfState(voters=voters))
        self.node = RawNode(config or RaftConfig(id=1), self.storage, random.Random(1))

    def run(self) -> list[Ready]:
        done: list[Ready] = []
        while self.node.has_ready():
            ready = self.node.ready()
            if ready.snapshot is not None:
                self.storage.apply_snapshot(ready.snapshot)
            self.storage.append(ready.entries)
            if ready.hard_state is not None:
                self.storage.set_hard_state(ready.hard_state)
            self.node.on_persist(ready.number)
            if ready.committed_entries:
                self.node.advance_apply_to(ready.committed_entries[-1].index)
            done.append(ready)
            self.node.check_invariants()
        return done

    def lead(self) -> RawNode:
        self.node.campaign()
        self.run()
        for message_type in (MsgType.REQUEST_PRE_VOTE_RESPONSE, MsgType.REQUEST_VOTE_RESPONSE):
            if self.node.role is not StateRole.LEADER:
                self.node.step(Message(message_type, 1, 2, 1))
                self.run()
        assert self.node.role is StateRole.LEADER
        return self.node


@pytest.mark.parametrize(
    "wrong",
    [
        RaftConfig(id=0),
        RaftConfig(id=1, heartbeat_ticks=0),
        RaftConfig(id=1, election_ticks=2),
        RaftConfig(id=1, min_election_ticks=5),
        RaftConfig(id=1, max_election_ticks=10),
        RaftConfig(id=1, max_inflight_msgs=0),
        RaftConfig(id=1, max_entry_bytes=0),
        RaftConfig(id=1, check_quorum=False),
    ],
)
def test_config_is_checked(wrong: RaftConfig) -> None:
    with pytest.raises(ConfigError):
        wrong.validate()


def test_a_node_alone_leads_after_its_vote_is_durable() -> None:
    driver = Driver()
    driver.node.campaign()
    ready = driver.node.ready()
    assert ready.hard_state == HardState(1, 1, 0)
    assert ready.must_sync
    assert driver.node.leader_id == 0
    driver.node.on_persist(ready.number)
    assert driver.node.leader_id == 1
    assert not driver.node.commit_to_current_term()
    driver.run()
    assert driver.node.commit_to_current_term()
    assert driver.node.in_lease()
    driver.node.read_index(b"r")
    assert [read.context for ready in driver.run() for read in ready.read_states] == [b"r"]


def test_nothing_to_do_costs_nothing() -> None:
    driver = Driver()
    driver.lead()
    assert not driver.node.has_ready()
    assert driver.node.ready() == Ready(driver.node.ready().number - 1)


def test_followers_refuse_proposals_and_reads_without_leader() -> None:
    node = Driver((1, 2, 3)).node
    with pytest.raises(NotLeaderError) as caught:
        node.propose(b"x")
    assert caught.value.leader_id == 0
    with pytest.raises(NotLeaderError):
        node.read_index(b"x")
    with pytest.raises(NotLeaderError):
        node.transfer_leader(2)
    node.step(Message(MsgType.HEARTBEAT, 1, 2, 1))
    node.read_index(b"x")
    assert [message.msg_type for message in node.ready().messages] == [MsgType.HEARTBEAT_RESPONSE, MsgType.READ_INDEX]


def test_commit_alone_needs_no_sync() -> None:
    driver = Driver()
    driver.lead().propose(b"x")
    assert [ready.must_sync for ready in driver.run()] == [True, False]


def test_proposals_of_one_turn_share_a_message() -> None:
    driver = Driver((1, 2, 3))
    node = driver.lead()
    node.step(Message(MsgType.APPEND_RESPONSE, 1, 2, 1, index=1))
    driver.run()
    for _ in range(5):
        node.propose(b"x")
    appends = [message for ready in driver.run() for message in ready.messages if message.msg_type is MsgType.APPEND]
    assert [(message.to, len(message.entries)) for message in appends] == [(2, 5)]


def test_uncommitted_bytes_are_limited() -> None:
    driver = Driver((1, 2, 3), RaftConfig(id=1, max_uncommitted_bytes=10))
    node = driver.lead()
    node.propose(b"x" * 20)  # the first one is always let through
    with pytest.raises(TooMuchUncommitted):
        node.propose(b"y")
    driver.run()
    node.step(Message(MsgType.APPEND_RESPONSE, 1, 2, 1, index=2))
    driver.run()
    node.propose(b"y")


def test_an_entry_too_large_is_refused_whole() -> None:
    driver = Driver((1,), RaftConfig(id=1, max_entry_bytes=10))
    node = driver.lead()
    last = node.last_index
    with pytest.raises(EntryTooLarge) as caught:
        node.propose(b"x" * 11)
    assert caught.value.size_bytes == 11
    with pytest.raises(EntryTooLarge):
        node.propose_conf_change(parse_change("learner=2"), b"x" * 11)
    assert (node.last_index, node.has_pending_conf) == (last, False)
    assert node.propose(b"x" * 10) == last + 1


def test_who_hands_over_says_so_and_to_whom() -> None:
    node = Driver((1, 2, 3)).lead()
    node.transfer_leader(2)
    with pytest.raises(TransferInProgress) as caught:
        node.propose(b"x")
    assert (caught.value.transferee, node.lead_transferee) == (2, 2)


def test_pending_reads_are_limited() -> None:
    node = Driver((1, 2, 3), RaftConfig(id=1, max_pending_reads=2))
    leader = node.lead()
    leader.read_index(b"1")
    leader.read_index(b"2")
    with pytest.raises(TooManyReads):
        leader.read_index(b"3")


def test_one_conf_change_at_a_time() -> None:
    driver = Driver()
    node = driver.lead()
    node.propose_conf_change(parse_change("learner=2"), b"learner=2")
    with pytest.raises(ConfChangePending):
        node.propose_conf_change(parse_change("learner=3"), b"learner=3")
    driver.run()
    node.propose_conf_change(parse_change("learner=3"), b"learner=3")
    driver.run()
    with pytest.raises(ConfChangeRefused):
        node.propose_conf_change(parse_change("remove=1"), b"remove=1")


def test_implicit_joint_is_left_by_the_core() -> None:
    driver = Driver()
    node = driver.lead()
    change = parse_change("learner=2 learner=3")
    index = node.propose_conf_change(change, b"x")
    ready = node.ready()
    driver.storage.append(ready.entries)
    node.on_persist(ready.number)
    committed = node.ready().committed_entries
    assert [(entry.index, entry.entry_type) for entry in committed] == [(index, EntryType.CONF_CHANGE_V2)]
    assert node.apply_conf_change(change).is_joint
    node.advance_apply_to(index)
    left = node.ready().entries
    assert [(entry.data, entry.entry_type) for entry in left] == [(b"", EntryType.CONF_CHANGE_V2)]


def test_votes_are_given_once_and_only_to_good_logs() -> None:
    driver = Driver((1, 2, 3))
    node = driver.node
    node.step(Message(MsgType.REQUEST_VOTE, 1, 2, 3))
    node.step(Message(MsgType.REQUEST_VOTE, 1, 3, 3))
    ready = node.ready()
    assert [message.reject for message in ready.persisted_messages] == [False, True]
    assert ready.messages == ()
    assert ready.hard_state == HardState(3, 2, 0)


def test_higher_priority_refuses_equal_logs_of_lower_priority() -> None:
    node = Driver((1, 2, 3), RaftConfig(id=1, priority=5)).node
    node.step(Message(MsgType.REQUEST_VOTE, 1, 2, 3, priority=4))
    node.step(Message(MsgType.REQUEST_VOTE, 1, 3, 3, priority=5))
    assert [message.reject for message in node.ready().persisted_messages] == [True, False]


def test_priority_never_refuses_a_better_log() -> None:
    """A short log of a later term beats a long one of an earlier term; refused, nobody could ever lead."""
    driver = Driver((1, 2, 3), RaftConfig(id=1, priority=5))
    driver.storage.append([Entry(1, 1), Entry(1, 2), Entry(1, 3)])
    node = RawNode(RaftConfig(id=1, priority=5), driver.storage, random.Random(1))
    node.step(Message(MsgType.REQUEST_VOTE, 1, 2, 3, index=2, log_term=2, priority=4))
    assert [message.reject for message in node.ready().persisted_messages] == [False]


def test_a_late_pre_vote_of_an_earlier_election_does_not_count() -> None:
    driver = Driver((1, 2, 3))
    node = driver.node
    node.campaign()
    node.step(Message(MsgType.REQUEST_PRE_VOTE_RESPONSE, 1, 2, 1))
    driver.run()
    node.step(Message(MsgType.REQUEST_VOTE_RESPONSE, 1, 2, 1, reject=True))
    node.step(Message(MsgType.REQUEST_VOTE_RESPONSE, 1, 3, 1, reject=True))
    node.campaign()
    roles: list[StateRole] = []
    for term in (1, 2):
        node.step(Message(MsgType.REQUEST_PRE_VOTE_RESPONSE, 1, 3, term))
        roles.append(node.role)
    assert roles == [StateRole.PRE_CANDIDATE, StateRole.CANDIDATE]


def test_restarted_node_refuses_votes_for_an_election_timeout() -> None:
    node = Driver((1, 2, 3), RaftConfig(id=1, restarted=True)).node
    request = Message(MsgType.REQUEST_VOTE, 1, 2, 3)
    node.step(request)
    assert not node.has_ready()
    node.step(replace(request, context=b"CampaignTransfer"))
    assert [message.reject for message in node.ready().persisted_messages] == [False]


@pytest.mark.parametrize("calm", [True, False])
def test_a_stale_leader_is_told_by_who_will_never_campaign(calm: bool) -> None:
    """A learner whose term a removed node has raised: without an answer its leader would send to it for ever."""
    storage = MemoryStorage(ConfState(voters=(2,), learners=(1,)))
    config = RaftConfig(id=1, pre_vote=calm, check_quorum=calm, read_only_lease=calm)
    node = RawNode(config, storage, random.Random(1))
    node.step(Message(MsgType.REQUEST_VOTE, 1, 3, 5))
    node.ready()
    for kind in (MsgType.HEARTBEAT, MsgType.APPEND):
        node.step(Message(kind, 1, 2, 4))
        answers = node.ready().persisted_messages
        assert [(message.msg_type, message.term) for message in answers] == [(MsgType.APPEND_RESPONSE, 5)]


def test_a_promise_to_a_leader_outlives_a_higher_term() -> None:
    """The leader of term 1 counts on this node's silence, whatever it hears of later terms meanwhile."""
    node = Driver((1, 2, 3)).node
    node.step(Message(MsgType.HEARTBEAT, 1, 2, 1))
    node.ready()
    node.step(Message(MsgType.APPEND_RESPONSE, 1, 3, 4))
    assert (node.term, node.leader_id) == (4, 0)
    for term in (4, 5):
        node.step(Message(MsgType.REQUEST_VOTE, 1, 3, term))
        assert node.term == 4
        assert [message.reject for message in node.ready().persisted_messages] == [True] * (term == 4)
    for _ in range(10):
        node.tick()
    node.step(Message(MsgType.REQUEST_VOTE, 1, 3, 6))
    assert [message.reject for message in node.ready().persisted_messages] == [False]


def test_who_promised_silence_to_a_leader_does_not_campaign() -> None:
    node = Driver((1, 2, 3)).node
    node.step(Message(MsgType.HEARTBEAT, 1, 2, 1))
    node.campaign()
    assert (node.role, node.leader_id) == (StateRole.FOLLOWER, 2)
    for _ in range(10):
        node.tick()
    node.campaign()
    assert node.role is StateRole.PRE_CANDIDATE


def test_a_node_alone_campaigns_at_once_after_a_restart() -> None:
    node = Driver((1,), RaftConfig(id=1, restarted=True)).node
    node.campaign()
    assert node.role is StateRole.CANDIDATE


def test_two_leaders_of_a_term_stop_the_process() -> None:
    node = Driver((1, 2, 3)).lead()
    with pytest.raises(InvariantViolation):
        node.step(Message(MsgType.HEARTBEAT, 1, 2, 1))


def test_snapshot_without_this_node_is_refused() -> None:
    node = Driver((1, 2, 3)).node
    snapshot = Snapshot(SnapshotMeta(9, 1, ConfState(voters=(2, 3))))
    node.step(Message(MsgType.SNAPSHOT, 1, 2, 1, snapshot=snapshot))
    ready = node.ready()
    assert ready.snapshot is None
    assert [message.index for message in ready.persisted_messages] == [0]


def test_a_requested_snapshot_is_sent() -> None:
    driver = Driver((1, 2, 3))
    node = driver.lead()
    node.step(Message(MsgType.APPEND_RESPONSE, 1, 2, 1, index=1))
    driver.run()
    driver.storage.create_snapshot(1, node.conf_state)
    node.step(Message(MsgType.APPEND_RESPONSE, 1, 2, 1, index=1, reject=True, request_snapshot=1))
    assert [message.msg_type for ready in driver.run() for message in ready.messages] == [MsgType.SNAPSHOT]


def test_a_requested_snapshot_is_sent_once_and_not_to_who_has_gone_on() -> None:
    driver = Driver((1, 2, 3))
    node = driver.lead()
    node.propose(b"x")
    driver.run()
    node.step(Message(MsgType.APPEND_RESPONSE, 1, 2, 1, index=2))
    driver.run()
    driver.storage.create_snapshot(2, node.conf_state)
    request = Message(MsgType.APPEND_RESPONSE, 1, 2, 1, index=2, reject=True, request_snapshot=1)
    sent: list[list[MsgType]] = []
    for late in (replace(request, index=1), request, request):
        node.step(late)
        sent.append([message.msg_type for ready in driver.run() for message in ready.messages if message.to == 2])
    assert sent == [[], [MsgType.SNAPSHOT], []]
    node.report_snapshot(2, ok=True)
    node.step(Message(MsgType.APPEND_RESPONSE, 1, 2, 1, index=2))
    node.step(Message(MsgType.HEARTBEAT_RESPONSE, 1, 2, 1))
    assert MsgType.SNAPSHOT not in [message.msg_type for ready in driver.run() for message in ready.messages]


def test_late_answers_prove_only_their_own_round() -> None:
    driver = Driver((1, 2, 3), RaftConfig(id=1, read_only_lease=False))
    node = driver.lead()
    node.step(Message(MsgType.APPEND_RESPONSE, 1, 2, 1, index=1))
    for _ in range(2):
        node.tick()
    driver.run()
    node.read_index(b"r")
    driver.run()
    node.step(Message(MsgType.HEARTBEAT_RESPONSE, 1, 2, 1, context=(1).to_bytes(8, "big")))
    assert not [ready for ready in driver.run() if ready.read_states]
    node.step(Message(MsgType.HEARTBEAT_RESPONSE, 1, 2, 1, context=(2).to_bytes(8, "big")))
    assert [read.context for ready in driver.run() for read in ready.read_states] == [b"r"]


def test_status_tells_progress_only_at_the_leader() -> None:
    driver = Driver((1, 2))
    assert driver.node.status().progress == ()
    assert [peer for peer, _ in driver.lead().status().progress] == [1, 2]
    assert driver.node.progress(9) is None
