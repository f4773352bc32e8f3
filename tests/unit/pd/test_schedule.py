"""Checkers, schedulers and the operator controller on tables of stores and regions."""

from __future__ import annotations

from itertools import count

from pd_py.schedule.checkers import replica
from pd_py.schedule.controller import OPERATOR_TIMEOUT_S, OperatorController
from pd_py.schedule.operator import AddLearner, Operator, OperatorStatus, PromoteLearner, RemovePeer, TransferLeader
from pd_py.schedule.schedulers import balance_leader
from pd_py.schedule.view import PeerView, RegionView, Role, ScheduleOptions, StoreState, StoreView, TableView


def store(
    store_id: int, leaders: int = 0, size: int = 0, state: StoreState = StoreState.UP, zone: str = ""
) -> StoreView:
    labels = (("zone", zone),) if zone else ()
    return StoreView(store_id, state, labels, leader_count=leaders, region_bytes=size)


def region(region_id: int, *stores: int, leader: int = 0, roles: dict[int, Role] | None = None) -> RegionView:
    peers = tuple(PeerView(region_id * 100 + s, s, (roles or {}).get(s, Role.VOTER)) for s in stores)
    return RegionView(region_id, b"", b"", 1, 1, peers, leader or stores[0])


def view(stores: list[StoreView], regions: list[RegionView], **options: object) -> TableView:
    return TableView({s.store_id: s for s in stores}, regions, ScheduleOptions(**options))  # type: ignore[arg-type]


def check(table: TableView, one: RegionView) -> Operator | None:
    ids = count(1000)
    return replica.check(table, one, lambda: next(ids))


def test_missing_replicas_go_to_the_emptiest_store() -> None:
    one = region(1, 1)
    operator = check(view([store(1), store(2, size=9), store(3, size=5)], [one]), one)
    assert operator is not None
    assert operator.steps == (AddLearner(3, 1000), PromoteLearner(3, 1000))


def test_location_labels_come_before_size() -> None:
    one = region(1, 1, 2)
    stores = [store(1, zone="a"), store(2, zone="b"), store(3, zone="a"), store(4, size=100, zone="c")]
    operator = check(view(stores, [one], location_labels=("zone",)), one)
    assert operator is not None
    assert operator.steps[0] == AddLearner(4, 1000)


def test_a_learner_left_behind_is_promoted() -> None:
    one = region(1, 1, 2, roles={2: Role.LEARNER})
    operator = check(view([store(1), store(2), store(3)], [one]), one)
    assert operator is not None
    assert operator.steps == (PromoteLearner(2, 102),)


def test_dead_store_is_replaced_before_it_is_removed() -> None:
    one = region(1, 1, 2, 3)
    stores = [store(1), store(2), store(3, state=StoreState.DOWN), store(4)]
    operator = check(view(stores, [one]), one)
    assert operator is not None
    assert operator.steps == (AddLearner(4, 1000), PromoteLearner(4, 1000), RemovePeer(3, 103))
    assert check(view(stores[:3], [one]), one) is None, "without a fourth store there is nothing to do"


def test_surplus_replica_goes_and_the_leader_hands_over_first() -> None:
    one = region(1, 1, 2, 3, 4, leader=4)
    stores = [store(1), store(2), store(3), store(4, state=StoreState.OFFLINE)]
    operator = check(view(stores, [one]), one)
    assert operator is not None
    assert operator.steps == (TransferLeader(4, 1), RemovePeer(4, 104))


def test_complete_region_needs_nothing() -> None:
    one = region(1, 1, 2, 3)
    assert check(view([store(1), store(2), store(3)], [one]), one) is None


def test_balance_leader_converges_without_ping_pong() -> None:
    leaders = dict.fromkeys(range(1, 10), 1)
    moves = 0
    for _ in range(20):
        regions = [region(region_id, 1, 2, 3, leader=leader) for region_id, leader in leaders.items()]
        counts = {s: sum(leader == s for leader in leaders.values()) for s in (1, 2, 3)}
        table = view([store(s, leaders=counts[s]) for s in counts], regions)
        operators = balance_leader.schedule(table, {})
        for operator in operators:
            step = operator.steps[0]
            assert isinstance(step, TransferLeader)
            leaders[operator.region_id] = step.to_store_id
            moves += 1
    assert sorted(sum(leader == s for leader in leaders.values()) for s in (1, 2, 3)) == [3, 3, 3]
    assert moves == 6


def test_balance_leader_leaves_lagging_followers_alone() -> None:
    one = RegionView(1, b"", b"", 1, 1, (PeerView(11, 1), PeerView(12, 2)), 1, pending=frozenset({12}))
    two = region(2, 1, 3)
    table = view([store(1, leaders=2), store(2), store(3)], [one, two])
    operators = balance_leader.schedule(table, {})
    assert [operator.region_id for operator in operators] == [2]


def test_controller_follows_steps_and_ends_operators() -> None:
    controller = OperatorController()
    one = region(1, 1, 2)
    operator = Operator("test", 1, 1, 1, (AddLearner(3, 103), PromoteLearner(3, 103)))
    assert controller.add(operator, 0.0)
    assert not controller.add(operator, 0.0), "one operator per region"
    assert controller.on_heartbeat(one, 1.0) == AddLearner(3, 103)
    added = RegionView(1, b"", b"", 2, 1, (*one.peers, PeerView(103, 3, Role.LEARNER)), 1)
    assert controller.on_heartbeat(added, 2.0) == PromoteLearner(3, 103)
    promoted = RegionView(1, b"", b"", 3, 1, (*one.peers, PeerView(103, 3)), 1)
    assert controller.on_heartbeat(promoted, 3.0) is None
    last = controller.last_of(1)
    assert last is not None
    assert last.status is OperatorStatus.SUCCESS


def test_an_operator_ends_when_leadership_has_moved_to_its_victim() -> None:
    controller = OperatorController()
    operator = Operator("test", 1, 1, 1, (RemovePeer(4, 104),))
    controller.add(operator, 0.0)
    assert controller.on_heartbeat(region(1, 1, 2, 3, 4, leader=1), 1.0) == RemovePeer(4, 104)
    moved = region(1, 1, 2, 3, 4, leader=4)
    assert controller.on_heartbeat(moved, 2.0) is None
    assert 1 not in controller
    again = check(view([store(1), store(2), store(3), store(4)], [moved]), moved)
    assert again is not None
    assert RemovePeer(4, 104) not in again.steps[:1]


def test_controller_cancels_on_foreign_changes_and_times_out() -> None:
    controller = OperatorController()
    one = region(1, 1, 2)
    operator = Operator("test", 1, 1, 1, (AddLearner(3, 103),))
    controller.add(operator, 0.0)
    foreign = RegionView(1, b"", b"", 5, 1, one.peers, 1)
    assert controller.on_heartbeat(foreign, 1.0) is None
    controller.add(operator, 0.0)
    assert controller.on_heartbeat(one, OPERATOR_TIMEOUT_S + 1) is None
    assert [done.status for done in controller.history] == [OperatorStatus.CANCEL, OperatorStatus.TIMEOUT]
