"""The dynamic configuration, placement rules and region labels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.pd_api.member import API, Client, Member
from tests.unit.pd_api.test_regions import get, post

RULE = {"group_id": "pd", "id": "r1", "role": "follower", "count": 1, "start_key": "62", "end_key": "6d"}


async def test_reading(http: Client) -> None:
    whole = await get(http, "/config")
    assert (whole["name"], whole["data-dir"]) == ("pd1", "/data")
    assert whole["schedule"]["leader-schedule-limit"] == 4
    assert await get(http, "/config/schedule") == whole["schedule"]
    assert await get(http, "/config/replicate") == whole["replication"]
    assert await get(http, "/config/cluster-version") == whole["cluster-version"]
    assert (await get(http, "/config/default"))["schedule"]["max-store-down-time"] == "30m0s"


async def test_changing(member: Member, http: Client) -> None:
    body = {"schedule.leader-schedule-limit": 8, "max-replicas": 2, "log.level": "debug"}
    assert await post(http, "/config", body) == "The config is updated."
    assert (member.cluster.options.leader_schedule_limit, member.cluster.options.max_replicas) == (8, 2)
    assert member.levels == ["debug"]
    rule = member.coordinator.rules.rule("pd", "default")
    assert rule is not None
    assert rule.count == 2, "the default rule follows"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"leader-schedule-limit": 9, "odd": 1}, "config item odd not found"),
        ({"odd.leader": 1}, "config prefix odd not found"),
        ({"low-space-ratio": 3}, "low-space-ratio should between 0 and 1"),
        ({"log.level": "loud"}, "unknown level loud"),
    ],
)
async def test_bad_changes_change_nothing(member: Member, http: Client, body: dict[str, Any], text: str) -> None:
    before = await get(http, "/config")
    assert await post(http, "/config", body, 400) == text
    assert await get(http, "/config") == before
    assert member.levels == []


async def test_parts(member: Member, http: Client) -> None:
    assert await post(http, "/config/schedule", {"region-schedule-limit": 5, "unknown": 1}) == "The config is updated."
    assert member.cluster.options.region_schedule_limit == 5
    assert await post(http, "/config/replicate", {"location-labels": "zone,host"}) == "The config is updated."
    assert member.cluster.options.location_labels == ("zone", "host")
    assert (await get(http, "/config/replicate"))["location-labels"] == "zone,host"
    text = await post(http, "/config/schedule", {"low-space-ratio": -1}, 500)
    assert text == "low-space-ratio should between 0 and 1"
    refusal = await post(http, "/config/cluster-version", {}, 400)
    assert refusal["msg"] == "not set cluster-version"
    assert (
        await post(http, "/config/cluster-version", {"cluster-version": "8.1.0"}) == "The cluster version is updated."
    )
    assert await get(http, "/config/cluster-version") == "8.1.0"


async def test_settings_for_a_time(member: Member, http: Client) -> None:
    assert await post(http, "/config?ttlSecond=600", {"leader-schedule-limit": 1}) == "The ttl config is updated."
    assert member.cluster.options.leader_schedule_limit == 1
    text = await post(http, "/config", {"leader-schedule-limit": 2}, 400)
    assert text == "need to clean up TTL first for schedule.leader-schedule-limit"
    assert await post(http, "/config?ttlSecond=0", {"leader-schedule-limit": 1}) == "The ttl config is deleted."
    assert member.cluster.options.leader_schedule_limit == 4
    assert await post(http, "/config?ttlSecond=x", {}, 400) == 'strconv.Atoi: parsing "x": invalid syntax'


async def test_rules(member: Member, http: Client) -> None:
    (default,) = await get(http, "/config/rules")
    assert (default["group_id"], default["id"], default["role"], default["count"]) == ("pd", "default", "voter", 3)
    assert await post(http, "/config/rule", RULE) == "Update rule successfully."
    shown = await get(http, "/config/rule/pd/r1")
    assert RULE.items() <= shown.items()
    assert len(await get(http, "/config/rules/group/pd")) == 2
    assert await get(http, "/config/rules/group/odd") == []
    assert [one["id"] for one in await get(http, "/config/rules/key/63")] == ["default", "r1"]
    assert [one["id"] for one in await get(http, "/config/rules/key/7a")] == ["default"]
    assert await get(http, "/config/rules/key/z", 400) == (
        "[PD:placement:ErrKeyFormat]key should be in hex format, encoding/hex: invalid byte: U+007A 'z'"
    )
    assert [one["id"] for one in await get(http, "/config/rules/region/1")] == ["default"]
    fit = await get(http, "/config/rules/region/1/detail")
    assert [one["rule"]["id"] for one in fit["rule-fits"]] == ["default"]
    assert fit["rule-fits"][0]["peers"] == [{"id": 10 + store, "store_id": store} for store in (1, 2, 3)]
    assert fit["orphan-peers"] is None
    assert await get(http, "/config/rules/region/x", 400) == "[PD:region:ErrRegionInvalidID]invalid region id"
    assert await get(http, "/config/rules/region/9", 404) == "[PD:region:ErrRegionNotFound]region 9 not found"
    response = await http.delete(API + "/config/rule/pd/r1")
    assert await response.json() == "Delete rule successfully."
    assert await get(http, "/config/rule/pd/r1", 404) == "[PD:placement:ErrRuleNotFound]rule not found"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"count": 0}, "[PD:placement:ErrRuleContent]invalid rule content, invalid count 0"),
        ({"role": "odd"}, "[PD:placement:ErrRuleContent]invalid rule content, invalid role odd"),
        ({"start_key": "z"}, "[PD:hex:ErrHexDecodingString]decode string z error"),
        (
            {"end_key": "61"},
            "[PD:placement:ErrRuleContent]invalid rule content, endKey should be greater than startKey",
        ),
    ],
)
async def test_bad_rules_change_nothing(member: Member, http: Client, change: dict[str, Any], text: str) -> None:
    before = dict(member.metastore.values)
    assert await post(http, "/config/rule", RULE | change, 400) == text
    assert await post(http, "/config/rules", [RULE, RULE | change], 400) == text
    assert member.metastore.values == before
    assert len(await get(http, "/config/rules")) == 1


async def test_the_default_rule_sets_the_number_of_replicas(member: Member, http: Client) -> None:
    rule = {"group_id": "pd", "id": "default", "role": "voter", "count": 5}
    assert await post(http, "/config/rules", [rule]) == "Update rules successfully."
    assert member.cluster.options.max_replicas == 5


async def test_batches_groups_and_bundles(http: Client) -> None:
    actions = [RULE | {"action": "add"}, RULE | {"action": "add", "id": "r2"}]
    assert await post(http, "/config/rules/batch", actions) == "Batch operations successfully."
    actions = [{"action": "del", "group_id": "pd", "id": "r", "delete_by_id_prefix": True}]
    assert await post(http, "/config/rules/batch", actions) == "Batch operations successfully."
    assert [one["id"] for one in await get(http, "/config/rules")] == ["default"]
    assert await post(http, "/config/rule_group", {"id": "g", "index": 7}) == "Update rule group successfully."
    assert await get(http, "/config/rule_group/g") == {"id": "g", "index": 7}
    assert [one["id"] for one in await get(http, "/config/rule_groups")] == ["pd", "g"]
    response = await http.delete(API + "/config/rule_group/g")
    assert await response.json() == "Delete rule group successfully."
    assert await get(http, "/config/rule_group/g", 404) is None
    bundle = {"group_id": "g2", "group_index": 3, "rules": [RULE | {"group_id": "g2"}]}
    text = await post(http, "/config/placement-rule/odd", bundle, 400)
    assert text == "group id g2 does not match request URI odd"
    assert await post(http, "/config/placement-rule/g2", bundle) == "Update group and rules successfully."
    shown = await get(http, "/config/placement-rule/g2")
    assert (shown["group_id"], shown["group_index"], len(shown["rules"])) == ("g2", 3, 1)
    whole = await get(http, "/config/placement-rule")
    assert [one["group_id"] for one in whole] == ["pd", "g2"]
    assert await post(http, "/config/placement-rule?partial=true", whole[1:]) == "Update rules and groups successfully."
    assert len(await get(http, "/config/placement-rule")) == 2
    assert await post(http, "/config/placement-rule", whole[:1]) == "Update rules and groups successfully."
    assert [one["group_id"] for one in await get(http, "/config/placement-rule")] == ["pd"]
    await post(http, "/config/placement-rule/g2", bundle)
    response = await http.delete(API + "/config/placement-rule/g%5B0-9%5D?regexp")
    assert await response.json() == "Delete group and rules successfully."
    assert len(await get(http, "/config/placement-rule")) == 1


async def test_rules_can_be_off(http: Client) -> None:
    assert await post(http, "/config", {"enable-placement-rules": "false"}) == "The config is updated."
    text = "[PD:placement:ErrPlacementDisabled]placement rules feature is disabled"
    assert await get(http, "/config/rules", 412) == text
    assert await post(http, "/config/rule", RULE, 412) == text


LABEL = {
    "id": "schema/t/1",
    "labels": [{"key": "schedule", "value": "deny"}],
    "rule_type": "key-range",
    "data": [{"start_key": "62", "end_key": "6dff"}],
}


async def test_region_labels(member: Member, http: Client) -> None:
    path = "/config/region-label/rule"
    assert await post(http, path, LABEL) == "Update region label rule successfully."
    (shown,) = await get(http, "/config/region-label/rules")
    assert shown["id"] == "schema/t/1"
    response = await http.get(API + "/config/region-label/rules/ids", data=json.dumps(["schema/t/1", "odd"]))
    assert [one["id"] for one in await response.json()] == ["schema/t/1"]
    assert (await get(http, f"{path}/schema%2Ft%2F1"))["labels"] == [{"key": "schedule", "value": "deny"}]
    assert await get(http, "/region/id/2/label/schedule") == "deny"
    assert await get(http, "/region/id/2/labels") == [{"key": "schedule", "value": "deny"}]
    assert await get(http, "/region/id/1/label/schedule") == ""
    assert await get(http, "/region/id/9/labels", 404) is None
    assert "invalid region rule content" in await post(http, path, LABEL | {"labels": []}, 400)
    response = await http.patch(
        API + "/config/region-label/rules", json={"sets": [LABEL | {"id": "b"}], "deletes": ["schema/t/1"]}
    )
    assert await response.json() == "Update region label rules successfully."
    assert [one["id"] for one in await get(http, "/config/region-label/rules")] == ["b"]
    assert await get(http, f"{path}/schema%2Ft%2F1", 404) is None
    response = await http.delete(API + f"{path}/b")
    assert (response.status, await response.text()) == (200, "Delete rule successfully.")
    response = await http.delete(API + f"{path}/b")
    assert response.status == 404
    assert "not found for id b" in await response.json()
