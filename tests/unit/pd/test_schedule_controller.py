"""The operator controller: one operator per region, its way through the steps, limits, the waiting queue, merges."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pd_py.schedule.controller import EXPIRE_S, REMIND_S
from pd_py.schedule.create import merge_regions, split_region
from pd_py.schedule.limits import InvalidStoreLimit, LimitType, StoreLimits
from pd_py.schedule.operator import (
    AddLearner,
    Operator,
    OperatorStatus,
    OpKind,
    Priority,
    PromoteLearner,
    RemovePeer,
    SplitPolicy,
    TransferLeader,
)
from pd_py.schedule.options import MIB
from pd_py.schedule.steps import FAST_STEP_S, SLOW_STEP_S
from pd_py.schedule.view import PeerView, RegionView, Role, StoreState
from tests.support.schedule_tables import Tables, region, store, tables


def cluster(*regions: RegionView, stores: int = 5, **options: object) -> Tables:
    return tables([store(s) for s in range(1, stores + 1)], regions or [region(1, 1, 2)], **options)


def operator(*steps: object, region_id: int = 1, **more: object) -> Operator:
    one = Operator("test", region_id, 1, 1, steps)  # type: ignore[arg-type]
    return replace(one, **more)  # type: ignore[arg-type]


ADD = (AddLearner(3, 103), PromoteLearner(3, 103))


def test_it_follows_steps_to_the_end() -> None:
    table = cluster()
    controller, one = table.controller, table.view.regions[0]
    assert controller.add((operator(*ADD),), 0.0)
    assert not controller.add((operator(*ADD),), 0.0), "one operator per region"
    assert controller.refusals["test", "already exist"] == 1
    assert controller.on_heartbeat(one, 1.0) == ADD[0]
    added = replace(one, peers=(*one.peers, PeerView(103, 3, Role.LEARNER)), conf_ver=2, pending=frozenset({103}))
    assert controller.on_heartbeat(added, 2.0) == ADD[0], "it has not caught up"
    assert controller.on_heartbeat(replace(added, pending=frozenset()), 3.0) == ADD[1]
    promoted = replace(one, peers=(*one.peers, PeerView(103, 3)), conf_ver=3)
    assert controller.on_heartbeat(promoted, 5.0) is None
    last = controller.last_of(1)
    assert last is not None
    assert (last.status, last.duration_s) == (OperatorStatus.SUCCESS, 5.0)
    assert len(controller) == 0
    assert controller.count(OpKind.NONE) == 0


def test_a_foreign_change_cancels() -> None:
    table = cluster()
    controller, one = table.controller, table.view.regions[0]
    for at, foreign in ((0.0, replace(one, conf_ver=3)), (60.0, replace(one, version=2))):
        assert controller.add((operator(*ADD),), at)
        assert controller.on_heartbeat(foreign, at + 1) is None
        last = controller.last_of(1)
        assert last is not None
        assert (last.status, last.reason) == (OperatorStatus.CANCEL, "epoch not match")


def test_a_leader_does_not_remove_itself() -> None:
    one = region(1, 1, 2, 3, 4)
    table = cluster(one)
    assert table.controller.add((operator(RemovePeer(4, 104)),), 0.0)
    assert table.controller.on_heartbeat(one, 1.0) == RemovePeer(4, 104)
    assert table.controller.on_heartbeat(replace(one, leader_store_id=4), 2.0) is None
    last = table.controller.last_of(1)
    assert last is not None
    assert last.reason == "cannot remove leader peer"


def test_each_step_has_its_time() -> None:
    table = cluster()
    controller, one = table.controller, table.view.regions[0]
    controller.add((operator(*ADD),), 0.0)
    assert controller.on_heartbeat(one, SLOW_STEP_S - 1) == ADD[0]
    added = replace(one, peers=(*one.peers, PeerView(103, 3, Role.LEARNER)), conf_ver=2)
    assert controller.on_heartbeat(added, SLOW_STEP_S - 1) == ADD[1]
    assert controller.on_heartbeat(added, SLOW_STEP_S - 2 + FAST_STEP_S) == ADD[1]
    assert controller.on_heartbeat(added, SLOW_STEP_S - 1 + FAST_STEP_S) is None
    last = controller.last_of(1)
    assert last is not None
    assert last.status is OperatorStatus.TIMEOUT


def test_what_was_told_is_told_again() -> None:
    table = cluster()
    controller, one = table.controller, table.view.regions[0]
    controller.add((operator(*ADD),), 0.0)
    assert controller.due(0.0) == [(one, ADD[0])], "a new operator is told at once"
    assert controller.due(REMIND_S - 0.1) == []
    assert controller.due(REMIND_S) == [(one, ADD[0])]
    assert controller.due(SLOW_STEP_S + 1) == []
    assert len(controller) == 0, "it ends though its region is silent"


def test_a_more_urgent_operator_takes_the_place() -> None:
    table = cluster()
    assert table.controller.add((operator(*ADD),), 0.0)
    urgent = operator(TransferLeader(1, 2), priority=Priority.URGENT, kind=OpKind.ADMIN)
    assert table.controller.add((urgent,), 1.0)
    assert table.controller.get(1) is urgent
    assert [one.status for one in table.controller.records.history] == [OperatorStatus.REPLACE]
    assert not table.controller.add((operator(*ADD),), 2.0)


def test_an_operator_of_another_epoch_is_refused() -> None:
    table = cluster()
    assert not table.controller.add((operator(*ADD, conf_ver=0),), 0.0)
    assert not table.controller.add((operator(*ADD, region_id=9),), 0.0)
    assert dict(table.controller.refusals) == {("test", "epoch not match"): 1, ("test", "region not found"): 1}


def test_stores_gain_replicas_only_so_fast() -> None:
    regions = [region(number, 1, 2) for number in range(1, 9)]
    table = cluster(*regions)
    adds = [operator(AddLearner(3, number), region_id=number) for number in range(1, 9)]
    taken = [table.controller.add((one,), 0.0) for one in adds]
    assert taken == [True] + [False] * 7, "15 a minute begin with one"
    assert table.controller.add((adds[1],), 4.0), "and one more after four seconds"
    assert not table.controller.add((adds[2],), 4.0)
    table.limits.set(3, LimitType.ADD_PEER, 600.0)
    assert [table.controller.add((one,), 10.0) for one in adds[2:]] == [True] * 6


def test_small_regions_cost_less_and_empty_ones_nothing() -> None:
    small = [region(number, 1, 2, size_bytes=10 * MIB) for number in range(1, 10)]
    table = cluster(*small)
    adds = [operator(AddLearner(3, number), region_id=number) for number in range(1, 10)]
    assert sum(table.controller.add((one,), 0.0) for one in adds) == 5
    empty = [region(number, 1, 2, size_bytes=MIB) for number in range(1, 10)]
    table = cluster(*empty)
    assert sum(table.controller.add((one,), 0.0) for one in adds) == 9


def test_a_leaving_store_gives_as_fast_as_it_can() -> None:
    regions = [region(number, 1, 2, 3, 4) for number in range(1, 9)]
    table = cluster(*regions)
    removals = [operator(RemovePeer(4, number * 100 + 4), region_id=number) for number in range(1, 9)]
    assert sum(table.controller.add((one,), 0.0) for one in removals) == 1
    table.view.table[4] = store(4, StoreState.OFFLINE)
    assert sum(table.controller.add((one,), 0.0) for one in removals[1:]) == 7


def test_limits_refuse_nonsense() -> None:
    limits = StoreLimits()
    for rate in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InvalidStoreLimit):
            limits.set_all(None, rate)
    limits.set(1, LimitType.ADD_PEER, 5.0)
    limits.set_all(LimitType.REMOVE_PEER, 7.0)
    assert (limits.of(1).add_peer, limits.of(1).remove_peer, limits.of(2).add_peer) == (5.0, 7.0, 15.0)


def test_schedulers_wait_in_a_bounded_queue() -> None:
    regions = [region(number, 1, 2) for number in range(1, 20)]
    table = cluster(*regions, scheduler_max_waiting_operator=5)
    adds = [operator(AddLearner(3, number), region_id=number) for number in range(1, 20)]
    taken = table.controller.add_waiting(adds, 0.0)
    assert taken == 5
    assert table.controller.refusals["test", "exceed wait limit"] == 14
    assert len(table.controller) == 1, "the store takes one now"
    assert table.controller.waiting.all() == [], "the others were refused by its limit"


def test_what_waits_too_long_expires() -> None:
    table = cluster()
    table.controller.waiting.put((operator(*ADD),), 0.0)
    assert not table.controller.promote_waiting(EXPIRE_S + 1)
    assert table.controller.refusals["test", "expired"] == 1
    assert OperatorStatus.EXPIRED.pdpb_name == "TIMEOUT"


def test_the_two_operators_of_a_merge_live_and_die_together() -> None:
    left, right = region(1, 1, 2, 3), region(2, 2, 3, 4)
    table = cluster(left, right)
    pair = merge_regions(table.context(), "merge-region", left, right, OpKind.MERGE)
    assert table.controller.add(pair, 0.0)
    assert table.controller.count(OpKind.MERGE) == 2
    assert table.controller.cancel(1, 1.0)
    assert len(table.controller) == 0
    assert [one.status for one in table.controller.records.history] == [OperatorStatus.CANCEL] * 2
    matched = region(1, 2, 3, 4)
    table.view.put(matched)
    table.limits.set_all(None, 6000.0)
    pair = merge_regions(table.context(), "merge-region", matched, right, OpKind.MERGE)
    assert table.controller.add(pair, 2.0)
    grown = replace(right, start_key=left.start_key, version=3)
    assert table.controller.on_heartbeat(grown, 3.0) is None
    assert [one.status for one in table.controller.records.history][2:] == [OperatorStatus.SUCCESS] * 2


def test_neither_of_a_merge_starts_without_the_other() -> None:
    left, right = region(1, 1, 2, 3), region(2, 1, 2, 3)
    table = cluster(left, right)
    assert table.controller.add((operator(TransferLeader(1, 2), region_id=2, priority=Priority.URGENT),), 0.0)
    pair = merge_regions(table.context(), "merge-region", left, right, OpKind.MERGE)
    assert not table.controller.add(pair, 0.0)
    assert 1 not in table.controller


def test_a_split_ends_when_the_range_has_changed() -> None:
    one = region(1, 1, 2, 3)
    table = cluster(one)
    middle = one.start_key + b"m"
    split = split_region("admin-split-region", one, OpKind.ADMIN, SplitPolicy.USEKEY, (middle,))
    assert table.controller.add((split,), 0.0)
    assert table.controller.on_heartbeat(one, 1.0) is not None
    assert table.controller.on_heartbeat(replace(one, end_key=middle, version=2), 2.0) is None
    last = table.controller.last_of(1)
    assert last is not None
    assert last.status is OperatorStatus.SUCCESS


def test_influence_counts_what_is_still_to_be_done() -> None:
    one = region(1, 1, 2, 3)
    table = cluster(one)
    steps = (AddLearner(4, 104), PromoteLearner(4, 104), TransferLeader(1, 2), RemovePeer(1, 101))
    assert table.controller.add((operator(*steps),), 0.0)
    influence = table.controller.influence()
    assert influence.of(4).region_count == 1
    assert influence.of(1).region_bytes == -one.size_bytes
    assert (influence.of(1).leader_count, influence.of(2).leader_count) == (-1, 1)
    added = replace(one, peers=(*one.peers, PeerView(104, 4)), conf_ver=3)
    table.view.put(added)
    table.controller.on_heartbeat(added, 1.0)
    assert table.controller.influence().of(4).region_count == 0
