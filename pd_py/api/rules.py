"""`/config/rule...` and `/config/placement-rule...`: placement rules, their groups and bundles."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from core_py.errors import PdError
from pd_py.api import errors
from pd_py.api.backend import RulesPort
from pd_py.api.errors import ApiError
from pd_py.api.middleware import cluster, services
from pd_py.api.requests import answer, body, body_list, from_hex, query, uint64
from pd_py.schedule.view import RegionView

DEFAULT_RULE = ("pd", "default")
BAD_CONTENT = frozenset({"PD:placement:ErrRuleContent", "PD:hex:ErrHexDecodingString"})
MAX_RULES = 10_000


def _rules(request: web.Request) -> RulesPort:
    if not cluster(request).options.enable_placement_rules:
        raise ApiError(412, errors.PLACEMENT_DISABLED)
    return services(request).rules


async def _taken(change: Awaitable[None]) -> None:
    """Wait for a change; what is wrong with the rules themselves is the caller's fault."""
    try:
        await change
    except PdError as error:
        raise ApiError(400 if error.code in BAD_CONTENT else 500, errors.text_of_error(error)) from error


async def _list(request: web.Request) -> list[Any]:
    values = await body_list(request)
    if len(values) > MAX_RULES:
        raise ApiError(400, f"more than {MAX_RULES} rules at once")
    return values


async def everything(request: web.Request) -> web.StreamResponse:
    """GET /config/rules."""
    return answer(_rules(request).rules(None))


async def _set(request: web.Request, rules: list[Any]) -> None:
    """Set rules; the default rule's count is the number of replicas."""
    found = _rules(request)
    await _taken(found.set_rules(rules))
    for rule in rules:
        if isinstance(rule, dict) and (rule.get("group_id"), rule.get("id")) == DEFAULT_RULE:
            await _taken(services(request).settings.change({"replication.max-replicas": rule.get("count")}))


async def set_all(request: web.Request) -> web.StreamResponse:
    """POST /config/rules: a list."""
    _rules(request)
    await _set(request, await _list(request))
    return answer("Update rules successfully.")


async def batch(request: web.Request) -> web.StreamResponse:
    """POST /config/rules/batch: rules with "action" add or del."""
    await _taken(_rules(request).batch(await _list(request)))
    return answer("Batch operations successfully.")


async def of_group(request: web.Request) -> web.StreamResponse:
    """GET /config/rules/group/{group}."""
    return answer(_rules(request).rules(request.match_info["group"]))


def _region(request: web.Request) -> RegionView:
    found = cluster(request)
    try:
        region_id = uint64(request.match_info["region"])
    except ValueError as error:
        raise ApiError(400, errors.INVALID_REGION_ID) from error
    region = found.region(region_id)
    if region is None:
        raise ApiError(404, errors.region_not_found(region_id))
    return region


async def of_region(request: web.Request) -> web.StreamResponse:
    """GET /config/rules/region/{region}."""
    return answer(_rules(request).rules_for(_region(request)))


async def fit_of_region(request: web.Request) -> web.StreamResponse:
    """GET /config/rules/region/{region}/detail."""
    return answer(_rules(request).fit(_region(request)))


async def at_key(request: web.Request) -> web.StreamResponse:
    """GET /config/rules/key/{key}, in hex."""
    try:
        key = from_hex(request.match_info["key"])
    except ValueError as error:
        message = f"key should be in hex format, {error}"
        raise ApiError(400, errors.text_of("PD:placement:ErrKeyFormat", message)) from error
    return answer(_rules(request).rules_at(key))


async def one(request: web.Request) -> web.StreamResponse:
    """GET /config/rule/{group}/{id}."""
    rule = _rules(request).rule(request.match_info["group"], request.match_info["id"])
    if rule is None:
        raise ApiError(404, errors.RULE_NOT_FOUND)
    return answer(rule)


async def set_one(request: web.Request) -> web.StreamResponse:
    """POST /config/rule."""
    _rules(request)
    await _set(request, [await body(request)])
    return answer("Update rule successfully.")


async def delete_one(request: web.Request) -> web.StreamResponse:
    """DELETE /config/rule/{group}/{id}."""
    await _taken(_rules(request).delete_rule(request.match_info["group"], request.match_info["id"]))
    return answer("Delete rule successfully.")


async def groups(request: web.Request) -> web.StreamResponse:
    """GET /config/rule_groups."""
    return answer(_rules(request).groups())


async def group(request: web.Request) -> web.StreamResponse:
    """GET /config/rule_group/{id}."""
    found = _rules(request).group(request.match_info["id"])
    return answer(found, 404 if found is None else 200)


async def set_group(request: web.Request) -> web.StreamResponse:
    """POST /config/rule_group."""
    await _taken(_rules(request).set_group(await body(request)))
    return answer("Update rule group successfully.")


async def delete_group(request: web.Request) -> web.StreamResponse:
    """DELETE /config/rule_group/{id}."""
    await _taken(_rules(request).delete_group(request.match_info["id"]))
    return answer("Delete rule group successfully.")


async def bundles(request: web.Request) -> web.StreamResponse:
    """GET /config/placement-rule."""
    return answer(_rules(request).bundles())


async def set_bundles(request: web.Request) -> web.StreamResponse:
    """POST /config/placement-rule?partial: without `partial` groups that are not named go away."""
    partial = "partial" in query(request)
    await _taken(_rules(request).set_bundles(await _list(request), replace_all=not partial))
    return answer("Update rules and groups successfully.")


async def bundle(request: web.Request) -> web.StreamResponse:
    """GET /config/placement-rule/{group}."""
    return answer(_rules(request).bundle(request.match_info["group"]))


async def set_bundle(request: web.Request) -> web.StreamResponse:
    """POST /config/placement-rule/{group}."""
    wanted = request.match_info["group"]
    value = await body(request)
    if isinstance(value, dict):
        named = value.get("group_id") or wanted
        if named != wanted:
            raise ApiError(400, f"group id {named} does not match request URI {wanted}")
        value = value | {"group_id": wanted}
    await _taken(_rules(request).set_bundles([value], replace_all=False))
    return answer("Update group and rules successfully.")


async def delete_bundle(request: web.Request) -> web.StreamResponse:
    """DELETE /config/placement-rule/{group}?regexp."""
    name = unquote(request.match_info["group"])
    await _taken(_rules(request).delete_bundle(name, regex="regexp" in query(request)))
    return answer("Delete group and rules successfully.")


def routes() -> list[web.RouteDef]:
    """All of this group."""
    return [
        web.get("/config/rules", everything),
        web.post("/config/rules", set_all),
        web.post("/config/rules/batch", batch),
        web.get("/config/rules/group/{group}", of_group),
        web.get("/config/rules/region/{region}", of_region),
        web.get("/config/rules/region/{region}/detail", fit_of_region),
        web.get("/config/rules/key/{key}", at_key),
        web.get("/config/rule/{group}/{id}", one),
        web.post("/config/rule", set_one),
        web.delete("/config/rule/{group}/{id}", delete_one),
        web.get("/config/rule_groups", groups),
        web.get("/config/rule_group/{id}", group),
        web.post("/config/rule_group", set_group),
        web.delete("/config/rule_group/{id}", delete_group),
        web.get("/config/placement-rule", bundles),
        web.post("/config/placement-rule", set_bundles),
        web.get("/config/placement-rule/{group}", bundle),
        web.post("/config/placement-rule/{group}", set_bundle),
        web.delete("/config/placement-rule/{group}", delete_bundle),
    ]
