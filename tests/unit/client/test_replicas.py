"""Which replica serves: modes, labels, slow and dead stores; and what is known of a store's speed."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.kvproto import metapb_pb2
from tikv_py.client.region.health import FEEDBACK_AGE_S, Liveness, StoreHealth
from tikv_py.client.region.replicas import Replica, ReplicaMode, ReplicaRead, choose_replica, next_probe

MODES = (
    ReplicaRead.LEADER,
    ReplicaRead.FOLLOWER,
    ReplicaRead.MIXED,
    ReplicaRead.PREFER_LEADER,
    ReplicaRead.LEARNER,
    ReplicaRead.closest({"zone": "z2"}),
)


def replica(
    number: int, *, leader: bool = False, learner: bool = False, witness: bool = False, **known: object
) -> Replica:
    role = metapb_pb2.Learner if learner else metapb_pb2.Voter
    peer = metapb_pb2.Peer(id=100 + number, store_id=number, role=role, is_witness=witness)
    return Replica(peer, leader, labels={"zone": f"z{number}"}, **known)  # type: ignore[arg-type]


def chosen(replicas: Sequence[Replica], wanted: ReplicaRead) -> set[int]:
    """All stores that may be taken."""
    found = (choose_replica(replicas, wanted, random.Random(seed)) for seed in range(40))
    return {peer.store_id for peer in found if peer is not None}


def test_every_mode_takes_what_it_names() -> None:
    three = [replica(1, leader=True), replica(2), replica(3), replica(4, learner=True), replica(5, witness=True)]
    assert chosen(three, ReplicaRead.MIXED) == {1, 2, 3, 4}
    assert chosen(three, ReplicaRead.FOLLOWER) == {2, 3, 4}
    assert chosen(three, ReplicaRead.PREFER_LEADER) == {1}
    assert chosen(three, ReplicaRead.LEARNER) == {4}
    assert chosen(three, ReplicaRead.closest({"zone": "z2"})) == {2}
    assert chosen(three, ReplicaRead.closest({"zone": "z9"})) == {1}
    assert chosen(three, ReplicaRead.closest({})) == {1}


def test_without_what_it_names_a_mode_takes_another() -> None:
    alone = [replica(1, leader=True), replica(2, liveness=Liveness.UNREACHABLE)]
    for wanted in MODES:
        assert chosen(alone, wanted) == {1}
    dead = [replica(1, leader=True, liveness=Liveness.UNREACHABLE), replica(2), replica(3, is_slow=True)]
    assert chosen(dead, ReplicaRead.PREFER_LEADER) == {2}
    assert chosen(dead, ReplicaRead.MIXED) == {2}


def test_slow_stores_come_last() -> None:
    slow = [replica(1, leader=True, is_slow=True), replica(2), replica(3, is_slow=True)]
    for wanted in MODES:
        assert chosen(slow, wanted) == {2}
    all_slow = [replica(1, leader=True, is_slow=True), replica(2, is_slow=True)]
    assert chosen(all_slow, ReplicaRead.MIXED) == {1, 2}
    assert chosen(all_slow, ReplicaRead.PREFER_LEADER) == {1}


def test_what_was_tried_comes_after_the_others() -> None:
    tried = [replica(1, leader=True), replica(2, was_tried=True), replica(3)]
    assert chosen(tried, ReplicaRead.MIXED) == {1, 3}
    assert chosen([replica(2, was_tried=True)], ReplicaRead.MIXED) == {2}
    assert chosen([replica(2, is_used_up=True)], ReplicaRead.MIXED) == set()


@given(
    st.lists(
        st.builds(
            replica,
            st.integers(1, 9),
            leader=st.booleans(),
            learner=st.booleans(),
            witness=st.booleans(),
            liveness=st.sampled_from(Liveness),
            is_slow=st.booleans(),
            is_used_up=st.booleans(),
            was_tried=st.booleans(),
        ),
        max_size=5,
    ),
    st.sampled_from(MODES),
)
def test_the_choice_is_never_a_dead_or_empty_replica(replicas: list[Replica], wanted: ReplicaRead) -> None:
    usable = [
        one
        for one in replicas
        if not one.peer.is_witness
        and not one.is_used_up
        and one.liveness is not Liveness.UNREACHABLE
        and not (wanted.mode is ReplicaMode.PREFER_LEADER and one.is_slow and not one.is_leader)
    ]
    peer = choose_replica(replicas, wanted, random.Random(1))
    assert (peer is None) == (not usable)
    if peer is not None:
        assert any(one.peer is peer for one in usable)
        taken = next(one for one in usable if one.peer is peer)
        assert not taken.is_slow or all(one.is_slow for one in usable)


def test_probes_go_round_from_the_leader() -> None:
    peers = [replica(1), replica(2, leader=True), replica(3, learner=True), replica(4), replica(5, witness=True)]
    leader = peers[1].peer
    first = next_probe(peers, leader)
    assert first is not None
    assert first.store_id == 4
    used = [replica(1), replica(2, leader=True, is_used_up=True), replica(4, is_used_up=True)]
    second = next_probe(used, leader)
    assert second is not None
    assert second.store_id == 1
    assert next_probe([replica(2, leader=True, is_used_up=True)], leader) is None
    elsewhere = next_probe([replica(1), replica(4)], metapb_pb2.Peer(id=77))
    assert elsewhere is not None
    assert elsewhere.store_id == 1


def test_bools_are_modes() -> None:
    assert ReplicaRead.of(True) is ReplicaRead.MIXED
    assert ReplicaRead.of(False) is ReplicaRead.LEADER
    assert ReplicaRead.of(ReplicaRead.LEARNER) is ReplicaRead.LEARNER
    assert ReplicaRead.closest({"b": "2", "a": "1"}).labels == (("a", "1"), ("b", "2"))


def test_a_slow_score_counts_until_it_fades() -> None:
    health = StoreHealth()
    assert not health.is_slow(0)
    assert not health.wants_feedback(1000)
    health.told(100, 10)
    assert health.is_slow(10)
    assert not health.wants_feedback(10 + FEEDBACK_AGE_S - 1)
    assert health.wants_feedback(10 + FEEDBACK_AGE_S)
    assert health.is_slow(10 + FEEDBACK_AGE_S + 59)
    assert not health.is_slow(10 + FEEDBACK_AGE_S + 61)
    assert health.score(10_000) == 1
    health.told(79, 20_000)
    assert not health.is_slow(20_000)
    health.told(-5, 20_001)
    assert health.score(20_001) == 1


def test_slow_answers_count_until_they_are_forgotten() -> None:
    health = StoreHealth()
    for number in range(10):
        health.answered(0.001, number)
    health.answered(0.5, 10)
    assert not health.is_slow(10), "one late answer is no slow store"
    for number in range(11, 21):
        health.answered(0.5, number)
    assert health.is_slow(20)
    assert not health.is_slow(26)
    health.timed_out(30)
    assert health.is_slow(30)
    assert health.is_slow(39)
    assert not health.is_slow(41)
    assert health.latency_s(10_000) == pytest.approx(0)
