"""The builder: whatever is wished for, its steps lead there, and keep the rules of safety on the way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pd_py.schedule.builder import CannotBuild, Wish, build
from pd_py.schedule.controller import OperatorController
from pd_py.schedule.operator import (
    AddLearner,
    ChangePeerV2Enter,
    ChangePeerV2Leave,
    DemoteVoter,
    OpKind,
    PromoteLearner,
    RemovePeer,
    TransferLeader,
)
from pd_py.schedule.view import RegionView, Role
from tests.support.schedule_play import play
from tests.support.schedule_tables import region, store, tables

STORES = range(1, 8)


def voters(one: RegionView) -> int:
    return sum(peer.role in (Role.VOTER, Role.INCOMING_VOTER) for peer in one.peers)


@st.composite
def wishes(draw: st.DrawFn) -> tuple[RegionView, Wish, bool]:
    before = draw(
        st.dictionaries(st.sampled_from(STORES), st.sampled_from([Role.VOTER, Role.LEARNER]), min_size=1, max_size=5)
    )
    after = draw(
        st.dictionaries(st.sampled_from(STORES), st.sampled_from([Role.VOTER, Role.LEARNER]), min_size=1, max_size=5)
    )
    leading = [one for one, role in before.items() if role is Role.VOTER]
    if not leading:
        first = min(before)
        before[first] = Role.VOTER
        leading = [first]
    one = region(1, *sorted(before), leader=draw(st.sampled_from(sorted(leading))), roles=before)
    may_lead = [0, *sorted(one for one, role in after.items() if role is Role.VOTER)]
    return one, Wish(after, draw(st.sampled_from(may_lead))), draw(st.booleans())


@settings(max_examples=600, deadline=None)
@given(wishes())
def test_the_steps_end_in_the_wish(case: tuple[RegionView, Wish, bool]) -> None:
    one, wish, joint = case
    table = tables([store(s) for s in STORES], [one], enable_joint_consensus=joint)
    same = {peer.store_id: peer.role for peer in one.peers} == dict(wish.peers)
    if Role.VOTER not in wish.peers.values() or (same and wish.leader in (0, one.leader_store_id)):
        with pytest.raises(CannotBuild):
            build(table.context(), "test", one, wish)
        return
    operator = build(table.context(), "test", one, wish)
    controller = OperatorController(table.view, table.limits, table.rng)
    assert controller.add((operator,), 0.0)
    current, least = one, min(voters(one), list(wish.peers.values()).count(Role.VOTER))
    for step in operator.steps:
        table.view.put(current)
        assert controller.on_heartbeat(current, 1.0) == step
        current = play(current, step)
        # a voter becomes a learner by leaving and coming back when there is no joint state, which needs no replacement
        assert voters(current) >= min(least, voters(one))
        leader = current.on_store(current.leader_store_id)
        assert leader is not None
        assert leader.role is not Role.LEARNER
    assert {peer.store_id: peer.role for peer in current.peers} == dict(wish.peers)
    assert not wish.leader or current.leader_store_id == wish.leader
    assert controller.on_heartbeat(current, 2.0) is None
    last = controller.last_of(1)
    assert last is not None
    assert last.status.value == "SUCCESS"


def test_a_replica_moves_with_joint_consensus() -> None:
    one = region(1, 1, 2, 3)
    table = tables([store(s) for s in STORES], [one])
    operator = build(table.context(), "move", one, Wish({1: Role.VOTER, 2: Role.VOTER, 4: Role.VOTER}))
    new = 9_000_000
    change = ((PromoteLearner(4, new),), (DemoteVoter(3, 103),))
    assert operator.steps == (
        AddLearner(4, new),
        ChangePeerV2Enter(*change),
        ChangePeerV2Leave(*change),
        RemovePeer(3, 103),
    )
    assert operator.kind == OpKind.REGION
    assert operator.brief == "mv peer: store [3] to [4]"


def test_a_replica_moves_one_step_after_another() -> None:
    one = region(1, 1, 2, 3, leader=3)
    table = tables([store(s) for s in STORES], [one], enable_joint_consensus=False)
    operator = build(table.context(), "move", one, Wish({1: Role.VOTER, 2: Role.VOTER, 4: Role.VOTER}))
    new = 9_000_000
    assert operator.steps == (
        AddLearner(4, new),
        PromoteLearner(4, new),
        TransferLeader(3, 1),
        RemovePeer(3, 103),
    )
    assert operator.kind == OpKind.REGION | OpKind.LEADER


def test_a_single_change_needs_no_joint_state() -> None:
    one = region(1, 1, 2)
    table = tables([store(s) for s in STORES], [one])
    operator = build(table.context(), "add", one, Wish({1: Role.VOTER, 2: Role.VOTER, 3: Role.VOTER}))
    assert [type(step) for step in operator.steps] == [AddLearner, PromoteLearner]


def test_two_voters_become_one_in_a_joint_state() -> None:
    one = region(1, 1, 2)
    table = tables([store(s) for s in STORES], [one])
    operator = build(table.context(), "remove", one, Wish({1: Role.VOTER}))
    assert [type(step) for step in operator.steps] == [ChangePeerV2Enter, RemovePeer]


def test_no_leader_on_a_store_that_takes_none() -> None:
    one = region(1, 1, 2, 3, leader=3)
    stores = [store(1, allows_leader_in=False), store(2), store(3), store(4)]
    table = tables(stores, [one], enable_joint_consensus=False)
    operator = build(table.context(), "move", one, Wish({1: Role.VOTER, 2: Role.VOTER, 4: Role.VOTER}))
    assert TransferLeader(3, 2) in operator.steps
    with pytest.raises(CannotBuild, match="target leader is not allowed"):
        build(table.context(), "lead", one, Wish({1: Role.VOTER, 2: Role.VOTER, 3: Role.VOTER}, leader=1))
