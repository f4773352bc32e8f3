"""Operators, schedulers, checkers over the real coordinator."""

from __future__ import annotations

from typing import Any

import pytest

from pd_py.schedule.operator import TransferLeader
from tests.unit.pd_api.member import API, Client, Member
from tests.unit.pd_api.test_regions import get, post

CREATED = "The operator is created."


async def add(http: Client, status: int = 200, **fields: Any) -> Any:
    return await post(http, "/operators", fields, status)


async def test_an_operator_from_begin_to_end(member: Member, http: Client) -> None:
    assert await get(http, "/operators") == []
    assert await get(http, "/operators/1", 500) == "[PD:operator:ErrOperatorNotFound]operator not found"
    assert await add(http, name="transfer-leader", region_id=1, to_store_id=2) == CREATED
    assert [(one, type(step)) for one, step in member.told] == [(1, TransferLeader)]
    (text,) = await get(http, "/operators")
    assert text.startswith("admin-transfer-leader {")
    assert "region:1(2, 5)" in text
    assert "steps:[0:{transfer leader from store 1 to store 2}]" in text
    assert await get(http, "/operators/1") == f"status: RUNNING, operator: {text}"
    assert await get(http, "/operators?kind=leader") == [text]
    assert await get(http, "/operators?kind=admin") == [text]
    assert await get(http, "/operators?kind=region&kind=waiting&kind=odd") == []
    (shown,) = await get(http, "/operators?object")
    assert {name: shown[name] for name in ("desc", "region_id", "status", "region_epoch")} == {
        "desc": "admin-transfer-leader",
        "region_id": 1,
        "status": 1,
        "region_epoch": {"conf_ver": 5, "version": 2},
    }
    refusal = "[PD:operator:ErrAddOperator]failed to add operator, maybe already have one"
    assert await add(http, 500, name="transfer-leader", region_id=1, to_store_id=3) == refusal
    response = await http.delete(API + "/operators/1")
    assert await response.json() == "The pending operator is canceled."
    response = await http.delete(API + "/operators/1")
    assert (response.status, await response.json()) == (500, "[PD:operator:ErrOperatorNotFound]operator not found")
    assert (await get(http, "/operators/1")).startswith("status: CANCEL, operator: admin-transfer-leader {")
    (record,) = await get(http, "/operators/records")
    assert "(finishAt:20" in record
    assert "duration:" in record
    assert await get(http, "/operators/records?from=9999999999", 500) == (
        "[PD:operator:ErrOperatorNotFound]operator not found"
    )
    assert "invalid syntax" in await get(http, "/operators/records?from=x", 400)


@pytest.mark.parametrize(
    ("status", "fields", "text"),
    [
        (400, {}, "missing operator name"),
        (400, {"name": 1}, "missing operator name"),
        (400, {"name": "odd"}, "unknown operator"),
        (400, {"name": "transfer-leader"}, "missing region id"),
        (400, {"name": "transfer-leader", "region_id": 1}, "missing store id to transfer leader to"),
        (400, {"name": "transfer-leader", "region_id": "1"}, "missing region id"),
        (
            500,
            {"name": "transfer-leader", "region_id": 9, "to_store_id": 1},
            "[PD:region:ErrRegionNotFound]region 9 not found",
        ),
        (500, {"name": "transfer-leader", "region_id": 1, "to_store_id": 4}, "region has no voter in store 4"),
        (
            400,
            {"name": "transfer-region", "region_id": 1, "to_store_ids": "x"},
            "invalid store ids to transfer region to",
        ),
        (
            400,
            {"name": "transfer-region", "region_id": 1, "to_store_ids": []},
            "missing store ids to transfer region to",
        ),
        (400, {"name": "transfer-peer", "region_id": 1}, "invalid store id to transfer peer from"),
        (500, {"name": "add-peer", "region_id": 1, "store_id": 2}, "region already has peer in store 2"),
        (500, {"name": "remove-peer", "region_id": 1, "store_id": 4}, "region has no peer in store 4"),
        (400, {"name": "merge-region", "source_region_id": 1}, "invalid target region id to merge to"),
        (500, {"name": "merge-region", "source_region_id": 1, "target_region_id": 3}, "two regions are not adjacent"),
        (400, {"name": "split-region", "region_id": 1}, "missing split policy"),
        (500, {"name": "split-region", "region_id": 1, "policy": "odd"}, "check policy odd is not supported"),
        (400, {"name": "scatter-regions", "region_ids": "x"}, "region_ids is invalid"),
    ],
)
async def test_what_is_refused_does_nothing(
    member: Member, http: Client, status: int, fields: dict[str, Any], text: str
) -> None:
    assert await post(http, "/operators", fields, status) == text
    assert member.told == []
    assert await get(http, "/operators") == []


async def test_all_kinds_of_operators(member: Member, http: Client) -> None:
    await post(http, "/stores/limit", {"rate": 100_000})  # or the second operator on store 4 has to wait
    assert await add(http, name="transfer-peer", region_id=1, from_store_id=3, to_store_id=4) == CREATED
    assert await add(http, name="merge-region", source_region_id=3, target_region_id=2) == CREATED
    texts = await get(http, "/operators")
    assert len(texts) == 3
    response = await http.delete(API + "/operators")
    assert await response.json() == "All pending operators are canceled."
    assert await get(http, "/operators") == []
    assert await add(http, name="split-region", region_id=2, policy="usekey", keys=["63"]) == CREATED
    assert await add(http, name="add-learner", region_id=1, store_id=4) == CREATED
    answer = await add(http, name="scatter-regions", region_ids=[3], retry_limit=0)
    assert answer == {"processed-percentage": 100, "error": ""}
    answer = await add(http, name="scatter-regions", start_key="zz", end_key="00")
    assert answer == {"processed-percentage": 0, "error": "encoding/hex: invalid byte: U+007A 'z'"}
    assert await add(http, name="scatter-regions") == {"processed-percentage": 0, "error": "empty region"}


async def test_schedulers(member: Member, http: Client) -> None:
    name = "balance-leader-scheduler"
    assert name in await get(http, "/schedulers")
    assert await post(http, "/schedulers", {"name": name}, 400) == "[PD:scheduler:ErrSchedulerExisted]scheduler existed"
    assert await post(http, "/schedulers", {}, 400) == "missing scheduler name"
    assert await post(http, "/schedulers", {"name": "odd"}, 400) == "unknown scheduler"
    assert await post(http, "/schedulers", {"name": "evict-leader-scheduler"}, 400) == "missing store id"
    bad = {"name": "evict-leader-scheduler", "store_id": "1"}
    assert await post(http, "/schedulers", bad, 400) == "please input a right store id"
    path = f"/schedulers/{name}"
    assert await post(http, path, {}, 400) == "missing pause time"
    assert await post(http, path, {"delay": -1}, 400) == "delay cannot be negative"
    assert await post(http, "/schedulers/odd", {"delay": 5}, 500) == (
        "[PD:scheduler:ErrSchedulerNotFound]scheduler not found"
    )
    assert await get(http, "/schedulers?status=paused") == []
    assert await post(http, path, {"delay": 60}) == "Pause or resume the scheduler successfully."
    assert await get(http, "/schedulers?status=paused") == [name]
    (paused,) = await get(http, "/schedulers?status=paused&timestamp=true")
    assert paused["name"] == name
    assert paused["paused_at"] < paused["resume_at"]
    assert await post(http, path, {"delay": 0}) == "Pause or resume the scheduler successfully."
    assert await get(http, "/schedulers?status=paused") == []
    response = await http.delete(API + path)
    assert await response.json() == "The scheduler is removed."
    assert name not in await get(http, "/schedulers")
    assert await get(http, "/schedulers?status=disabled") == [name]
    response = await http.delete(API + path)
    assert (response.status, await response.json()) == (404, "[PD:scheduler:ErrSchedulerNotFound]scheduler not found")
    assert await post(http, "/schedulers", {"name": name}) == "The scheduler is created."


async def test_settings_of_a_scheduler(member: Member, http: Client) -> None:
    path = "/scheduler-config/balance-leader-scheduler"
    shown = await get(http, path)
    assert shown["batch"] >= 1
    assert await get(http, f"{path}/list") == shown
    assert (await get(http, "/scheduler-config"))["balance-leader-scheduler"] == shown
    assert await post(http, f"{path}/config", {"batch": 2}) == "Config is updated."
    assert (await get(http, path))["batch"] == 2
    assert "wrong scheduler config" in await post(http, f"{path}/config", {"batch": 0}, 400)
    assert (await get(http, path))["batch"] == 2
    missing = "[PD:scheduler:ErrSchedulerNotFound]scheduler not found"
    assert await get(http, "/scheduler-config/odd/list", 404) == missing
    assert await post(http, "/scheduler-config/odd/config", {"a": 1}, 404) == missing


async def test_checkers(http: Client) -> None:
    assert await get(http, "/checker/merge") == {"paused": False}
    assert await post(http, "/checker/merge", {"delay": 30}) == "Pause the checker successfully."
    assert await get(http, "/checker/merge") == {"paused": True}
    assert await post(http, "/checker/merge", {"delay": 0}) == "Resume the checker successfully."
    assert await get(http, "/checker/merge") == {"paused": False}
    assert await get(http, "/checker/odd", 500) == "[PD:checker:ErrCheckerNotFound]checker not found"
    assert await post(http, "/checker/merge", {"delay": -1}, 400) == "delay cannot be negative"
