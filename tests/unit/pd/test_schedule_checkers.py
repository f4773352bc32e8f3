"""Checkers on tables of stores and regions: what each makes of a region; nothing they do costs a region a healthy voter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pd_py.schedule.checkers import joint_state, learner, replica, rule, split
from pd_py.schedule.checkers.controller import CheckerController, CheckerNotFound
from pd_py.schedule.operator import (
    AddLearner,
    ChangePeerV2Leave,
    Operator,
    OpKind,
    PromoteLearner,
    RemovePeer,
    SplitRegion,
    TransferLeader,
)
from pd_py.schedule.options import MIB
from pd_py.schedule.placement.rule import LabelConstraint, LabelOp, Rule, RuleRole
from pd_py.schedule.view import FlowKind, HotPeer, KeyRange, PeerView, RegionView, Role, StoreState, StoreView
from tests.support.schedule_play import play_all
from tests.support.schedule_tables import Tables, key, region, store, tables

GIB = 1 << 30
UP, DOWN, OFFLINE = StoreState.UP, StoreState.DOWN, StoreState.OFFLINE
DISCONNECTED = StoreState.DISCONNECTED


def place(store_id: int, zone: str, state: StoreState = UP, **more: object) -> StoreView:
    return store(store_id, state, {"zone": zone}, **more)


def stores(count: int, **states: StoreState) -> list[StoreView]:
    """Stores 1 to `count`; the state of store 3 as `s3=`."""
    return [store(number, states.get(f"s{number}", UP)) for number in range(1, count + 1)]


def shape(operator: Operator | None) -> list[tuple[str, int]]:
    """The steps that add, remove or move leadership, with their store."""
    out = []
    for step in operator.steps if operator is not None else ():
        if isinstance(step, AddLearner | RemovePeer):
            out.append((type(step).__name__, step.store_id))
        elif isinstance(step, TransferLeader):
            out.append(("TransferLeader", step.to_store_id))
    return out


def name(operator: Operator | None) -> str:
    return "" if operator is None else operator.description


# without placement rules


def check_replica(table: Tables) -> Operator | None:
    return replica.check(table.context(), table.view.regions[0])


def test_missing_replicas_go_to_the_emptiest_store() -> None:
    table = tables([store(1), store(2, region_bytes=9 * GIB), store(3, region_bytes=5 * GIB)], [region(1, 1)])
    operator = check_replica(table)
    assert name(operator) == "make-up-replica"
    assert shape(operator) == [("AddLearner", 3)]


def test_location_comes_before_size() -> None:
    places = [place(1, "a"), place(2, "b"), place(3, "a"), place(4, "c", region_bytes=100 * GIB)]
    table = tables(places, [region(1, 1, 2)], location_labels=("zone",))
    assert shape(check_replica(table)) == [("AddLearner", 4)]


def test_a_busy_best_place_is_waited_for() -> None:
    places = [place(1, "a"), place(2, "b"), place(3, "a"), place(4, "c", busy=True)]
    table = tables(places, [region(1, 1, 2)], location_labels=("zone",))
    assert check_replica(table) is None
    without = tables([*places[:3], place(4, "c", DOWN)], [region(1, 1, 2)], location_labels=("zone",))
    assert shape(check_replica(without)) == [("AddLearner", 3)], "one that is gone is not"


def test_a_replica_on_a_dead_store_is_replaced_before_it_is_removed() -> None:
    one = region(1, 1, 2, 3, down=frozenset({103}))
    operator = check_replica(tables(stores(4, s3=DOWN), [one]))
    assert name(operator) == "replace-down-replica"
    assert shape(operator) == [("AddLearner", 4), ("RemovePeer", 3)]
    assert check_replica(tables(stores(3, s3=DOWN), [one])) is None, "without a fourth store there is nothing to do"
    off = tables(stores(4, s3=DOWN), [one], enable_remove_down_replica=False)
    assert check_replica(off) is None


def test_a_leader_on_a_leaving_store_hands_over_first() -> None:
    operator = check_replica(tables(stores(4, s1=OFFLINE), [region(1, 1, 2, 3)]))
    assert name(operator) == "replace-offline-replica"
    assert shape(operator)[0] == ("AddLearner", 4)
    assert shape(operator)[-1] == ("RemovePeer", 1)
    assert ("TransferLeader", 2) in shape(operator)


def test_surplus_replicas_go_the_worst_placed_first() -> None:
    places = [place(1, "a"), place(2, "b"), place(3, "c"), place(4, "c")]
    table = tables(places, [region(1, 1, 2, 3, 4)], location_labels=("zone",))
    operator = check_replica(table)
    assert name(operator) == "remove-extra-replica"
    assert shape(operator)[-1][1] in (3, 4)
    down = tables(stores(4, s2=OFFLINE), [region(1, 1, 2, 3, 4)])
    assert shape(check_replica(down)) == [("RemovePeer", 2)]


def test_a_replica_moves_to_a_better_place() -> None:
    places = [place(1, "a"), place(2, "a"), place(3, "b"), place(4, "c")]
    table = tables(places, [region(1, 1, 2, 3)], location_labels=("zone",))
    operator = check_replica(table)
    assert name(operator) == "move-to-better-location"
    assert shape(operator)[0] == ("AddLearner", 4)
    assert shape(operator)[-1][1] in (1, 2)
    done = tables(places, [region(1, 1, 3, 4)], location_labels=("zone",))
    assert check_replica(done) is None


def test_a_learner_left_behind_is_promoted() -> None:
    one = region(1, 1, 2, roles={2: Role.LEARNER})
    operator = learner.check(tables(stores(3), [one]).context(), one)
    assert operator is not None
    assert operator.steps == (PromoteLearner(2, 102),)
    lagging = replace(one, pending=frozenset({102}))
    assert learner.check(tables(stores(3), [lagging]).context(), lagging) is None


# with placement rules


def check_rule(table: Tables) -> Operator | None:
    return rule.check(table.context(), table.view.regions[0])


def with_rules(table: Tables, *rules: Rule) -> Tables:
    keep = table.rules
    keep.commit(keep.plan_batch([], []))
    wanted = {one.key: one for one in rules}
    patch = keep.plan_set(wanted.values(), [])
    keep.commit(patch)
    keep.commit(keep.plan_delete("pd", "default"))
    return table


def on_disk(kind: str) -> tuple[LabelConstraint, ...]:
    return (LabelConstraint("disk", LabelOp.IN, (kind,)),)


def test_rules_add_what_is_missing() -> None:
    table = tables(stores(4), [region(1, 1, 2)])
    operator = check_rule(table)
    assert name(operator) == "add-rule-peer"
    assert shape(operator) == [("AddLearner", 3)]


def test_rules_replace_what_is_down_or_leaving() -> None:
    down = tables(stores(4, s3=DOWN), [region(1, 1, 2, 3, down=frozenset({103}))])
    assert name(check_rule(down)) == "replace-rule-down-peer"
    assert shape(check_rule(down)) == [("AddLearner", 4), ("RemovePeer", 3)]
    leaving = tables(stores(4, s1=OFFLINE), [region(1, 1, 2, 3)])
    assert name(check_rule(leaving)) == "replace-rule-offline-leader-peer"
    silent = tables(stores(4, s3=DISCONNECTED), [region(1, 1, 2, 3, down=frozenset({103}))])
    assert check_rule(silent) is None, "it may come back"


def test_roles_are_put_right() -> None:
    pair = [store(1, labels={"disk": "ssd"}), store(2, labels={"disk": "hdd"}), store(3, labels={"disk": "hdd"})]
    leader = Rule("g", "1", RuleRole.LEADER, 1, label_constraints=on_disk("ssd"))
    others = Rule("g", "2", RuleRole.VOTER, 2, label_constraints=on_disk("hdd"))
    table = with_rules(tables(pair, [region(1, 1, 2, 3, leader=2)]), leader, others)
    assert name(check_rule(table)) == "fix-leader-role"
    assert shape(check_rule(table)) == [("TransferLeader", 1)]
    follower = replace(leader, role=RuleRole.FOLLOWER)
    table = with_rules(tables(pair, [region(1, 1, 2, 3)]), follower, others)
    assert name(check_rule(table)) == "fix-follower-role"
    learner_rule = Rule("g", "1", RuleRole.LEARNER, 1, label_constraints=on_disk("ssd"))
    table = with_rules(tables(pair, [region(1, 1, 2, 3, leader=2)]), learner_rule, others)
    assert name(check_rule(table)) == "fix-demote-voter"
    promote = tables(stores(3), [region(1, 1, 2, 3, roles={3: Role.LEARNER})])
    assert name(check_rule(promote)) == "fix-peer-role"


def test_a_replica_that_occupies_anothers_only_place_moves() -> None:
    disks = [store(1, labels={"disk": "ssd"}), *(store(number, labels={"disk": "hdd"}) for number in (2, 3, 4))]
    # the second rule can only be served by store 1, which serves the first
    first = Rule("g", "1", RuleRole.VOTER, 2)
    second = Rule("g", "2", RuleRole.LEARNER, 1, label_constraints=on_disk("ssd"))
    table = with_rules(tables(disks, [region(1, 1, 2, leader=2)]), first, second)
    operator = check_rule(table)
    assert name(operator) == "swap-fit"
    assert shape(operator)[0][0] == "AddLearner"
    assert shape(operator)[-1] == ("RemovePeer", 1)


def test_orphans_are_removed_when_the_rules_are_served() -> None:
    table = tables(stores(4), [region(1, 1, 2, 3, 4)])
    operator = check_rule(table)
    assert name(operator) == "remove-orphan-peer"
    assert shape(operator) == [("RemovePeer", 4)]


def test_an_orphan_is_kept_while_a_replica_is_sick() -> None:
    sick = region(1, 1, 2, 3, 4, pending=frozenset({102, 103, 104}))
    assert check_rule(tables(stores(4), [sick])) is None
    silent = region(1, 1, 2, 3, 4, roles={4: Role.LEARNER}, down=frozenset({103}))
    operator = check_rule(tables(stores(4, s3=DISCONNECTED), [silent]))
    assert name(operator) == "replace-down-peer-with-orphan-peer"
    assert ("RemovePeer", 3) in shape(operator)


def test_a_spare_voter_stays_until_those_that_serve_are_well() -> None:
    places = [place(1, "c"), place(2, "c"), place(3, "a"), place(4, "b"), place(5, "c")]
    lagging = region(1, 1, 2, 3, 4, 5, pending=frozenset({103, 104}))
    assert check_rule(tables(places, [lagging], location_labels=("zone",))) is None
    well = replace(lagging, pending=frozenset())
    assert name(check_rule(tables(places, [well], location_labels=("zone",)))) == "remove-orphan-peer"


def test_a_better_place_by_rule() -> None:
    places = [place(1, "a"), place(2, "a"), place(3, "b"), place(4, "c")]
    table = tables(places, [region(1, 1, 2, 3)], location_labels=("zone",))
    assert name(check_rule(table)) == "move-to-better-location"
    assert check_rule(tables(places, [region(1, 1, 3, 4)], location_labels=("zone",))) is None


def test_isolation_forbids_a_shared_place() -> None:
    places = [place(1, "a"), place(2, "b"), place(3, "a")]
    free = tables(places, [region(1, 1, 2)], location_labels=("zone",))
    assert name(check_rule(free)) == "add-rule-peer"
    strict = tables(places, [region(1, 1, 2)], location_labels=("zone",), isolation_level="zone")
    assert check_rule(strict) is None


def test_exclusive_stores_take_only_what_names_them() -> None:
    flash = store(3, labels={"engine": "tiflash"})
    assert check_rule(tables([store(1), store(2), flash], [region(1, 1, 2)])) is None


# the others


def test_a_region_is_led_out_of_its_joint_state() -> None:
    roles = {3: Role.DEMOTING_VOTER, 4: Role.INCOMING_VOTER}
    one = region(1, 1, 2, 3, 4, leader=3, roles=roles)
    table = tables(stores(4), [one])
    operator = joint_state.check(table.context(), one)
    assert name(operator) == "leave-joint-state"
    assert operator is not None
    assert isinstance(operator.steps[0], TransferLeader)
    assert isinstance(operator.steps[1], ChangePeerV2Leave)
    end = play_all(one, operator)[-1]
    assert {peer.store_id: peer.role for peer in end.peers} == {
        1: Role.VOTER,
        2: Role.VOTER,
        3: Role.LEARNER,
        4: Role.VOTER,
    }
    assert check_rule(table) is None, "nothing else is done before"


def test_regions_end_where_rules_begin() -> None:
    one = replace(region(1, 1, 2, 3), start_key=b"", end_key=b"")
    table = tables(stores(3), [one])
    assert split.check(table.context(), one) is None
    table.rules.commit(table.rules.plan_set([Rule("g", "1", RuleRole.LEARNER, 1, b"a", b"b")], []))
    operator = split.check(table.context(), one)
    assert name(operator) == "rule-split-region"
    assert operator is not None
    assert isinstance(operator.steps[0], SplitRegion)
    assert operator.steps[0].keys == (b"a", b"b")


def neighbours(*sizes_mib: int, **options: object) -> Tables:
    regions = [region(number, 1, 2, 3, size_bytes=size * MIB, keys=size) for number, size in enumerate(sizes_mib, 1)]
    return tables(stores(4), regions, split_merge_interval_s=60.0, **options)


def merge(table: Tables, checkers: CheckerController, region_id: int) -> list[int]:
    one = table.view.region(region_id)
    assert one is not None
    return [operator.region_id for operator in checkers.merge.check(table.context(), one)]


def old_enough(table: Tables) -> CheckerController:
    checkers = CheckerController()
    checkers.merge.check(table.context(), table.view.regions[0])
    table.now += 61
    return checkers


def test_a_small_region_is_merged_into_the_smaller_neighbour() -> None:
    table = neighbours(90, 5, 50)
    assert merge(table, CheckerController(), 2) == [], "not right after a start"
    checkers = old_enough(table)
    assert merge(table, checkers, 2) == [2, 3]
    assert merge(table, checkers, 1) == [], "it is large"
    assert merge(neighbours(5, 90, enable_one_way_merge=True), checkers, 2) == []


def test_what_must_not_be_merged() -> None:
    table = neighbours(90, 5, 50)
    checkers = old_enough(table)
    checkers.merge.note_split([3], table.now)
    assert merge(table, checkers, 2) == [2, 1], "what was just split is left alone"
    table.view.hot = {FlowKind.READ: {1: [HotPeer(1, 1, True, 1e6, 1e3, degree=9)]}}
    assert merge(table, checkers, 2) == [], "what is hot too"
    table = neighbours(160, 5, 160)
    assert merge(table, old_enough(table), 2) == [], "what would be split again too"
    table = neighbours(90, 5, 50)
    checkers = old_enough(table)
    table.rules.commit(table.rules.plan_set([Rule("g", "1", RuleRole.LEARNER, 1, key(2), key(3))], []))
    assert merge(table, checkers, 2) == [], "rules end between them"


def test_a_denied_label_stops_merging() -> None:
    table = neighbours(90, 5, 50)
    checkers = old_enough(table)
    rule_json = {
        "id": "a",
        "labels": [{"key": "merge_option", "value": "deny"}],
        "rule_type": "key-range",
        "data": [{"start_key": "", "end_key": ""}],
    }
    table.labels.commit(table.labels.plan([table.labels.parse(rule_json)], []))
    assert merge(table, checkers, 2) == []


def test_the_order_of_checks_and_their_pauses() -> None:
    table = tables(stores(4), [region(1, 1, 2)])
    checkers = CheckerController()
    one = table.view.regions[0]
    assert [name(operator) for operator in checkers.check(table.context(), one)] == ["add-rule-peer"]
    assert len(checkers.priority) == 1
    checkers.pause("rule", table.now + 10)
    assert checkers.check(table.context(), one) == ()
    assert checkers.is_paused("rule", table.now)
    table.now += 11
    assert checkers.check(table.context(), one) != ()
    with pytest.raises(CheckerNotFound):
        checkers.pause("nothing", 0.0)
    table.view.busy_regions.add(1)
    assert checkers.check(table.context(), one) == ()


def test_repairs_beyond_their_limit_wait() -> None:
    regions = [region(number, 1, 2, size_bytes=0) for number in range(1, 5)]
    table = tables(stores(4), regions, replica_schedule_limit=2)
    checkers = CheckerController()
    for one in regions:
        operators = checkers.check(table.context(), one)
        if operators:
            assert table.controller.add(operators, table.now)
    assert len(table.controller) == 2
    assert table.controller.count(OpKind.REPLICA) == 2
    assert checkers.take_suspects(table.context(), 10) == [3, 4]


def test_suspect_ranges_are_looked_at_in_parts() -> None:
    regions = [region(number, 1, 2, 3) for number in range(1, 8)]
    table = tables(stores(4), regions)
    checkers = CheckerController()
    checkers.suspect_range(KeyRange(key(2), key(7)))
    checkers.suspect([7])
    seen = []
    for _ in range(4):
        seen += checkers.take_suspects(table.context(), 2)
    assert seen == [7, 2, 3, 4, 5, 6]


def test_regions_that_lack_most_come_first() -> None:
    regions = [region(1, 1, 2), region(2, 1), region(3, 1, 2, 3)]
    table = tables(stores(4), regions)
    checkers = CheckerController()
    for one in regions:
        checkers.priority.inspect(table.context(), one, 3)
    assert checkers.priority.due(table.now) == []
    assert checkers.priority.due(table.now + 10) == [2, 1]
    checkers.priority.inspect(table.context(), region(2, 1, 2, 3), 3)
    assert checkers.priority.due(table.now + 10) == [1]


# whatever the state, no repair costs a healthy voter

states = st.sampled_from([UP, UP, UP, UP, DISCONNECTED, DOWN, OFFLINE])


@st.composite
def broken_clusters(draw: st.DrawFn) -> Tables:
    count = draw(st.integers(3, 7))
    zones = st.sampled_from("abc")
    view = [place(number, draw(zones), draw(states)) for number in range(1, count + 1)]
    held = draw(st.lists(st.sampled_from(range(1, count + 1)), min_size=1, max_size=5, unique=True))
    roles = {number: draw(st.sampled_from([Role.VOTER, Role.VOTER, Role.LEARNER])) for number in held}
    alive = [number for number in held if view[number - 1].state in (UP, OFFLINE)]
    if not alive:
        alive = [held[0]]
        view[held[0] - 1] = replace(view[held[0] - 1], state=UP)
    roles[alive[0]] = Role.VOTER
    down = frozenset(100 + number for number in held if view[number - 1].state in (DOWN, DISCONNECTED))
    lagging = frozenset(100 + number for number in held[1:] if number != alive[0] and draw(st.integers(0, 4)) == 0)
    one = region(1, *held, leader=alive[0], roles=roles, down=down, pending=lagging - down)
    labels = draw(st.sampled_from([(), ("zone",)]))
    return tables(
        view,
        [one],
        location_labels=labels,
        enable_placement_rules=draw(st.booleans()),
        enable_joint_consensus=draw(st.booleans()),
    )


def healthy_voters(table: Tables, one: RegionView) -> int:
    def alive(peer: PeerView) -> bool:
        found = table.view.store(peer.store_id)
        sick = one.down | one.pending
        return found is not None and found.state in (UP, OFFLINE) and peer.peer_id not in sick

    return sum(alive(peer) and peer.role in (Role.VOTER, Role.INCOMING_VOTER) for peer in one.peers)


@settings(max_examples=400, deadline=None)
@given(broken_clusters())
def test_no_repair_costs_a_region_a_healthy_voter(table: Tables) -> None:
    checkers = CheckerController()
    current = table.view.regions[0]
    for _ in range(12):
        operators = checkers.check(table.context(), current)
        if not operators:
            break
        before = current
        wanted = min(healthy_voters(table, before), 3)
        for after in play_all(current, operators[0]):
            assert len({peer.store_id for peer in after.peers}) == len(after.peers)
            assert healthy_voters(table, after) >= wanted
            current = after
        current = replace(current, conf_ver=1)
        table.view.put(current)
        table.now += 60
    else:
        raise AssertionError(f"repair does not come to an end: {current}, {operators[0]}")
