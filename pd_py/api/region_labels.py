"""`/config/region-label/...` and `/region/id/{id}/label...`: labels of key ranges."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from aiohttp import web

from core_py.errors import PdError
from pd_py.api import errors
from pd_py.api.errors import ApiError, InvalidInput
from pd_py.api.middleware import cluster, services
from pd_py.api.requests import answer, body, body_list, body_object, path_uint64, plain
from pd_py.schedule.view import RegionView

BAD_CONTENT = frozenset({"PD:region:ErrRegionRuleContent", "PD:hex:ErrHexDecodingString"})
NOT_FOUND = "PD:region:ErrRegionRuleNotFound"
MAX_RULES = 10_000


async def _taken(change: Awaitable[None]) -> None:
    try:
        await change
    except PdError as error:
        status = 400 if error.code in BAD_CONTENT else 404 if error.code == NOT_FOUND else 500
        raise ApiError(status, errors.text_of_error(error)) from error


async def everything(request: web.Request) -> web.StreamResponse:
    """GET /config/region-label/rules."""
    cluster(request)
    return answer(services(request).rules.label_rules())


async def by_ids(request: web.Request) -> web.StreamResponse:
    """GET /config/region-label/rules/ids: a list of ids as the body."""
    cluster(request)
    ids = await body_list(request)
    if not all(isinstance(one, str) for one in ids):
        raise InvalidInput("json: cannot unmarshal into Go value of type string")
    found = [services(request).rules.label_rule(one) for one in ids[:MAX_RULES]]
    return answer([rule for rule in found if rule is not None])


async def one(request: web.Request) -> web.StreamResponse:
    """GET /config/region-label/rule/{id}."""
    cluster(request)
    found = services(request).rules.label_rule(request.match_info["id"])
    return answer(found, 404 if found is None else 200)


async def set_one(request: web.Request) -> web.StreamResponse:
    """POST /config/region-label/rule."""
    cluster(request)
    await _taken(services(request).rules.patch_label_rules([await body(request)], []))
    return answer("Update region label rule successfully.")


async def patch(request: web.Request) -> web.StreamResponse:
    """PATCH /config/region-label/rules: {"sets": [...], "deletes": [...]}."""
    cluster(request)
    values = await body_object(request)
    sets, deletes = _list(values, "sets"), _list(values, "deletes")
    if not all(isinstance(one, str) for one in deletes):
        raise InvalidInput("json: cannot unmarshal into Go struct field LabelRulePatch.deletes of type string")
    await _taken(services(request).rules.patch_label_rules(sets, deletes))
    return answer("Update region label rules successfully.")


def _list(values: dict[str, Any], name: str) -> list[Any]:
    value = values.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_RULES:
        raise InvalidInput(f"json: {name} should be a list of at most {MAX_RULES}")
    return value


async def delete(request: web.Request) -> web.StreamResponse:
    """DELETE /config/region-label/rule/{id}."""
    cluster(request)
    rule_id = request.match_info["id"]
    if services(request).rules.label_rule(rule_id) is None:
        raise ApiError(404, errors.text_of(NOT_FOUND, f"region label rule not found for id {rule_id}"))
    await _taken(services(request).rules.patch_label_rules([], [rule_id]))
    return plain("Delete rule successfully.")


def _region(request: web.Request) -> RegionView:
    region = cluster(request).region(path_uint64(request, "id"))
    if region is None:
        raise ApiError(404, None)
    return region


async def label_of_region(request: web.Request) -> web.StreamResponse:
    """GET /region/id/{id}/label/{key}."""
    return answer(services(request).rules.region_labels(_region(request)).get(request.match_info["key"], ""))


async def labels_of_region(request: web.Request) -> web.StreamResponse:
    """GET /region/id/{id}/labels."""
    labels = services(request).rules.region_labels(_region(request))
    return answer([{"key": key, "value": value} for key, value in sorted(labels.items())])


def routes() -> list[web.RouteDef]:
    """All of this group."""
    return [
        web.get("/config/region-label/rules", everything),
        web.patch("/config/region-label/rules", patch),
        web.get("/config/region-label/rules/ids", by_ids),
        web.get("/config/region-label/rule/{id}", one),
        web.post("/config/region-label/rule", set_one),
        web.delete("/config/region-label/rule/{id}", delete),
        web.get("/region/id/{id}/label/{key}", label_of_region),
        web.get("/region/id/{id}/labels", labels_of_region),
    ]
