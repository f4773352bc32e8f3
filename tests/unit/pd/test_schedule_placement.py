"""Placement rules, fits, labels of stores and of regions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pd_py.schedule.placement.fit import fit_region
from pd_py.schedule.placement.labels import distinct_score, is_isolated, isolation_score
from pd_py.schedule.placement.manager import RuleListError, RuleManager, action_from_json, bundle_from_json
from pd_py.schedule.placement.ranges import RangeList
from pd_py.schedule.placement.region_label import RegionLabeler, RegionRuleError, RegionRuleNotFound, duration_s
from pd_py.schedule.placement.rule import (
    HexError,
    LabelConstraint,
    LabelOp,
    Rule,
    RuleError,
    RuleGroup,
    RuleRole,
    rule_from_json,
)
from pd_py.schedule.view import KeyRange, Role, StoreView
from tests.support.schedule_tables import region, store


def manager() -> RuleManager:
    rules = RuleManager()
    rules.commit(rules.plan_default(3, ("zone", "host"), ""))
    return rules


def place(store_id: int, zone: str, host: str = "") -> StoreView:
    return store(store_id, labels={"zone": zone, "host": host or f"h{store_id}"})


def in_zone(*zones: str) -> tuple[LabelConstraint, ...]:
    return (LabelConstraint("zone", LabelOp.IN, zones),)


# labels of stores


def test_a_wider_level_outweighs_all_narrower_ones() -> None:
    levels = ("zone", "host")
    same_zone = [place(1, "a", "x"), place(2, "a", "y"), place(3, "a", "z")]
    two_zones = [place(1, "a", "x"), place(2, "a", "x"), place(3, "b", "x")]
    assert isolation_score(levels, two_zones) > isolation_score(levels, same_zone)
    assert distinct_score(levels, two_zones[:2], two_zones[2]) == 200
    assert distinct_score(levels, same_zone[:2], same_zone[2]) == 2
    assert not is_isolated(levels, "zone", two_zones[:1], two_zones[1])
    assert is_isolated(levels, "zone", two_zones[:1], two_zones[2])
    assert is_isolated(levels, "host", same_zone[:1], same_zone[1])


def test_constraints_look_at_labels() -> None:
    disk = store(1, labels={"disk": "ssd", "zone": "a"})
    bare = store(2)
    for op, values, for_disk, for_bare in [
        (LabelOp.IN, ("ssd",), True, False),
        (LabelOp.NOT_IN, ("ssd",), False, True),
        (LabelOp.EXISTS, (), True, False),
        (LabelOp.NOT_EXISTS, (), False, True),
    ]:
        constraint = LabelConstraint("disk", op, values)
        assert (constraint.matches(disk), constraint.matches(bare)) == (for_disk, for_bare)


# rules


RULE = {"group_id": "g", "id": "r", "role": "voter", "count": 3, "start_key": "", "end_key": ""}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"group_id": ""}, "invalid rule content, group ID should not be empty"),
        ({"id": ""}, "invalid rule content, ID should not be empty"),
        ({"role": "master"}, "invalid rule content, invalid role master"),
        ({"count": 0}, "invalid rule content, invalid count 0"),
        ({"role": "leader", "count": 2}, "invalid rule content, define multiple leaders by count 2"),
        ({"start_key": "02", "end_key": "01"}, "invalid rule content, endKey should be greater than startKey"),
        ({"label_constraints": [{"key": "a", "op": "foo"}]}, "invalid rule content, invalid op foo"),
        ({"start_key": "xy"}, "decode string xy error"),
        ({"count": "3"}, "invalid rule content, field count should be of type int"),
        ({"count": True}, "invalid rule content, field count should be of type int"),
        ({"location_labels": [1]}, "invalid rule content, field location_labels"),
    ],
)
def test_bad_rules_are_refused_with_the_public_text(change: dict[str, object], text: str) -> None:
    with pytest.raises((RuleError, HexError)) as caught:
        rule_from_json(RULE | change)
    assert caught.value.message.startswith(text)


def test_a_rule_survives_its_json() -> None:
    data = RULE | {
        "index": 4,
        "override": True,
        "start_key": "aa",
        "end_key": "bb",
        "label_constraints": [{"key": "disk", "op": "in", "values": ["ssd"]}],
        "location_labels": ["zone"],
        "isolation_level": "zone",
    }
    assert rule_from_json(data).to_json() == data | {"is_witness": False}


def test_rules_that_no_region_could_live_by_are_refused() -> None:
    rules = manager()
    with pytest.raises(RuleListError, match=r"build rule list failed, no rule left"):
        rules.plan_delete("pd", "default")
    with pytest.raises(RuleListError, match=r"multiple leader replicas for range \{, \}"):
        rules.plan_set([Rule("a", "1", RuleRole.LEADER, 1), Rule("a", "2", RuleRole.LEADER, 1)], [])
    rules.commit(rules.plan_set([Rule("a", "1", RuleRole.VOTER, 1, b"\x01", b"\x02")], []))
    with pytest.raises(RuleListError, match=r"no rule for range \{, 01\}"):
        rules.plan_delete("pd", "default")
    with pytest.raises(RuleListError, match="needs at least one leader or voter"):
        rules.plan_set([replace(rules.all()[1], role=RuleRole.LEARNER)], [])
    with pytest.raises(RuleError, match="rule 'x' from rule group 'a' can not match any store"):
        rules.plan_set([Rule("a", "x", RuleRole.VOTER, 1, label_constraints=in_zone("q"))], [place(1, "a")])
    assert len(rules) == 2, "what was refused changed nothing"


def test_groups_and_rules_override_what_comes_before() -> None:
    rules = manager()
    rules.commit(
        rules.plan_set(
            [
                Rule("x", "1", RuleRole.VOTER, 1),
                Rule("x", "2", RuleRole.VOTER, 2, index=1, override=True),
                Rule("x", "3", RuleRole.FOLLOWER, 3, index=2),
            ],
            [],
        )
    )
    assert [one.id for one in rules.for_range(b"", b"")] == ["default", "2", "3"]
    rules.commit(rules.plan_group(RuleGroup("x", 1, override=True)))
    assert [one.id for one in rules.for_range(b"", b"")] == ["2", "3"]
    assert rules.wanted(b"", b"") == 5
    assert [one.id for one in rules.by_key(b"k")] == ["default", "1", "2", "3"]
    rules.commit(rules.plan_delete_group("x"))
    assert len(rules.for_range(b"", b"")) == 3


def test_rules_are_stored_and_loaded() -> None:
    rules = manager()
    stored: dict[str, str] = {}

    def keep(patch: object) -> None:
        for key, text in patch.changes.items():  # type: ignore[attr-defined]
            if text is None:
                del stored[key]
            else:
                stored[key] = text
        rules.commit(patch)  # type: ignore[arg-type]

    keep(rules.plan_default(5, ("zone",), ""))
    keep(rules.plan_set([Rule("a", "1", RuleRole.VOTER, 1, b"a", b"b"), Rule("a", "2", RuleRole.LEARNER, 1)], []))
    keep(rules.plan_group(RuleGroup("a", 7, override=False)))
    assert "rules/6 1-31".replace(" ", "") in stored
    assert "rule_group/a" in stored
    keep(
        rules.plan_batch(
            [action_from_json({"action": "del", "group_id": "a", "id": "", "delete_by_id_prefix": True})], []
        )
    )
    assert [one.key for one in rules.all()] == [("pd", "default")]
    keep(
        rules.plan_bundles(
            [bundle_from_json({"group_id": "b", "group_index": 3, "rules": [RULE | {"group_id": ""}]})],
            [],
            replace_all=False,
        )
    )
    again = RuleManager()
    again.load(stored | {"rules/junk": "{"})
    assert again.all() == rules.all()
    assert again.groups() == rules.groups()
    assert len(again.refused) == 1
    keep(rules.plan_delete_bundle("^b", regex=True))
    assert rules.bundle("b").rules == ()


def test_a_rule_set_again_unchanged_is_not_stored_again() -> None:
    rules = manager()
    patch = rules.plan_set([Rule("a", "1", RuleRole.VOTER, 1)], [])
    assert len(patch.changes) == 1
    rules.commit(patch)
    assert rules.plan_set([Rule("a", "1", RuleRole.VOTER, 1)], []).changes == {}
    rules.commit(rules.plan_set([Rule("a", "1", RuleRole.VOTER, 2)], []))
    changed = rules.rule("a", "1")
    assert changed is not None
    assert changed.version == 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.binary(max_size=2), st.binary(max_size=2)).filter(lambda one: not one[1] or one[0] < one[1]),
        max_size=6,
    ),
    st.binary(max_size=3),
    st.binary(max_size=3),
)
def test_ranges_agree_with_a_look_at_every_item(items: list[tuple[bytes, bytes]], start: bytes, end: bytes) -> None:
    found = RangeList((one[0], one[1], at) for at, one in enumerate(items))
    expected = [at for at, (low, high) in enumerate(items) if low <= start and (not high or start < high)]
    assert sorted(found.pieces[found.at(start)]) == expected
    if not end or start < end:
        borders = {key for one in items for key in one if key} | {one[0] for one in items}
        cuts = sorted(key for key in borders if key > start and (not end or key < end))
        assert found.cuts(start, end) == cuts
        assert (found.over(start, end) == -1) == bool(cuts)


# fits


def test_a_region_fits_the_default_rule() -> None:
    stores = {one.store_id: one for one in (place(1, "a"), place(2, "b"), place(3, "c"), place(4, "a"))}
    rules = manager().for_range(b"", b"")
    fit = fit_region(region(1, 1, 2, 3), rules, stores)
    assert fit.is_satisfied
    assert not fit_region(region(1, 1, 2), rules, stores).is_satisfied
    four = fit_region(region(1, 1, 2, 3, 4, leader=4), rules, stores)
    assert len(four.orphans) == 1
    assert four.rules[0].isolation == 3 * 100, "the three that are kept stand in three zones"
    assert fit.can_replace(1, stores[4])
    assert not fit.can_replace(2, stores[4])


def test_rules_are_served_in_their_order() -> None:
    stores = {one.store_id: one for one in (place(1, "a"), place(2, "b"), place(3, "c"))}
    rules = [
        Rule("g", "1", RuleRole.LEADER, 1, label_constraints=in_zone("a")),
        Rule("g", "2", RuleRole.VOTER, 1, label_constraints=in_zone("b", "a")),
        Rule("g", "3", RuleRole.LEARNER, 1, label_constraints=in_zone("c")),
    ]
    fit = fit_region(region(1, 1, 2, 3, roles={3: Role.LEARNER}), rules, stores)
    assert fit.is_satisfied
    led_from_b = fit_region(region(1, 1, 2, 3, leader=2, roles={3: Role.LEARNER}), rules, stores)
    assert [len(one.wrong_role) for one in led_from_b.rules] == [1, 0, 0]
    voter = fit_region(region(1, 1, 2, 3), rules, stores)
    assert [peer.store_id for peer in voter.rules[2].wrong_role] == [3]


def test_a_later_rule_decides_between_equals() -> None:
    stores = {one.store_id: one for one in (place(1, "a"), place(2, "b"))}
    rules = [Rule("g", "1", RuleRole.VOTER, 1), Rule("g", "2", RuleRole.VOTER, 1, label_constraints=in_zone("a"))]
    fit = fit_region(region(1, 1, 2), rules, stores)
    assert fit.is_satisfied
    assert [one.peers[0].store_id for one in fit.rules] == [2, 1]


def test_of_two_equal_replicas_the_broken_one_is_left_over() -> None:
    stores = {number: store(number) for number in range(1, 5)}
    rules = [Rule("g", "1", RuleRole.VOTER, 3)]
    fit = fit_region(region(1, 1, 2, 3, 4, down=frozenset({102})), rules, stores)
    assert [peer.store_id for peer in fit.orphans] == [2]


# labels of regions


def label_rule(
    rule_id: str, start: str, end: str, key: str = "schedule", value: str = "deny", **more: object
) -> dict[str, object]:
    labels = [{"key": key, "value": value} | more]
    return {"id": rule_id, "labels": labels, "rule_type": "key-range", "data": [{"start_key": start, "end_key": end}]}


def test_region_labels_hold_within_their_range_and_time() -> None:
    now = [100.0]
    labels = RegionLabeler(wall_s=lambda: now[0])
    first = labels.parse(label_rule("a", b"000001".hex(), b"000003".hex(), ttl="1m30s"))
    labels.commit(labels.plan([first], []))
    assert labels.denies_schedule(region(1, 1))
    assert labels.denies_schedule(region(2, 1))
    assert not labels.denies_schedule(region(3, 1))
    assert labels.split_keys(b"", b"") == [b"000001", b"000003"]
    now[0] += 91
    assert not labels.denies_schedule(region(1, 1))
    assert labels.expired() == ["a"]
    labels.commit(labels.plan([], ["a"]))
    assert labels.rules() == []
    with pytest.raises(RegionRuleNotFound, match="region label rule not found for id a"):
        labels.plan([], ["a"])


def test_label_rules_are_stored_with_the_end_of_their_time() -> None:
    now = [100.0]
    labels = RegionLabeler(wall_s=lambda: now[0])
    patch = labels.plan([labels.parse(label_rule("a", "", "", ttl="10s") | {"index": 2})], [])
    again = RegionLabeler(wall_s=lambda: 105.0)
    again.load({key: text for key, text in patch.changes.items() if text is not None})
    assert again.rule("a").labels[0].expires_at == 110.0
    assert again.rule("a").ranges == (KeyRange(),)
    late = RegionLabeler(wall_s=lambda: 111.0)
    late.load({key: text for key, text in patch.changes.items() if text is not None})
    assert late.rules() == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"id": ""}, "empty rule id"),
        ({"labels": []}, "no region labels"),
        ({"labels": [{"key": "", "value": "x"}]}, "empty region label key"),
        ({"labels": [{"key": "k", "value": ""}]}, "empty region label value"),
        ({"labels": [{"key": "k", "value": "v", "ttl": "soon"}]}, "region label with invalid ttl"),
        ({"rule_type": "other"}, "invalid rule type: other"),
        ({"data": []}, "no key ranges"),
        ({"data": [{"start_key": "02", "end_key": "01"}]}, "endKey should be greater than startKey"),
        ({"data": {}}, "field data"),
    ],
)
def test_bad_label_rules_are_refused(change: dict[str, object], text: str) -> None:
    with pytest.raises(RegionRuleError) as caught:
        RegionLabeler().parse(label_rule("a", "", "") | change)
    assert caught.value.message.startswith(f"invalid region rule content, {text}")


def test_durations() -> None:
    assert duration_s("1h2m3.5s") == 3723.5
    assert duration_s("10ms") == 0.01
    for text in ("", "5", "s", "1 h", "-1s", "1h!"):
        with pytest.raises(RegionRuleError):
            duration_s(text)
