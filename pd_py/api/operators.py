"""`/operators`: what is being done to regions, and doing something to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from core_py.errors import PdError
from pd_py.api import errors, go_text
from pd_py.api.backend import OperatorInfo
from pd_py.api.errors import ApiError
from pd_py.api.middleware import cluster, services
from pd_py.api.region_actions import MAX_SCATTER, retries
from pd_py.api.requests import answer, body_object, from_hex, identities, identity, path_uint64, query, query_text
from pd_py.api.requests import integer as parse_integer

MAX_KEYS = 1024
ROLES = ("leader", "voter", "follower", "learner")
POLICIES = ("scan", "approximate", "usekey")


def _object(operator: OperatorInfo) -> dict[str, Any]:
    return {
        "desc": operator.description,
        "brief": operator.brief,
        "region_id": operator.region_id,
        "region_epoch": {"conf_ver": operator.conf_ver, "version": operator.version},
        "kind": operator.kind,
        "timeout": go_text.duration(operator.timeout_s),
        "status": operator.status,
    }


async def everything(request: web.Request) -> web.StreamResponse:
    """GET /operators?kind=&object."""
    cluster(request)
    parameters = query(request)
    kinds = [raw.decode("latin-1") for raw in parameters["kind"]] if "kind" in parameters else None
    found = services(request).scheduling.operators(kinds)
    return answer([_object(one) if "object" in parameters else one.text for one in found])


async def of_region(request: web.Request) -> web.StreamResponse:
    """GET /operators/{region_id}: the one that runs, or the last one."""
    region_id = path_uint64(request, "region_id")
    cluster(request)
    found = services(request).scheduling.operator(region_id)
    if found is None:
        raise ApiError(500, errors.OPERATOR_NOT_FOUND)
    return answer(f"status: {found.status}, operator: {found.text}")


async def records(request: web.Request) -> web.StreamResponse:
    """GET /operators/records?from=: what ended since Unix seconds."""
    cluster(request)
    text = query_text(request, "from")
    try:
        since_ms = parse_integer(text) * 1000 if text else 0
    except ValueError as error:
        raise ApiError(400, str(error).replace("Atoi", "ParseInt")) from error
    found = services(request).scheduling.operator_records(since_ms)
    if not found:
        raise ApiError(500, errors.OPERATOR_NOT_FOUND)
    return answer([one.text for one in found])


async def cancel(request: web.Request) -> web.StreamResponse:
    """DELETE /operators/{region_id}."""
    region_id = path_uint64(request, "region_id")
    cluster(request)
    if not services(request).scheduling.cancel_operator(region_id):
        raise ApiError(500, errors.OPERATOR_NOT_FOUND)
    return answer("The pending operator is canceled.")


async def cancel_all(request: web.Request) -> web.StreamResponse:
    """DELETE /operators."""
    cluster(request)
    services(request).scheduling.cancel_operators()
    return answer("All pending operators are canceled.")


def _id(values: dict[str, Any], name: str, refusal: str) -> int:
    value = identity(values, name)
    if value is None:
        raise ApiError(400, refusal)
    return value


def _region_of(values: dict[str, Any], name: str = "region_id") -> int:
    return _id(values, name, "missing region id")


def _transfer_leader(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "region_id": _region_of(values),
        "to_store_id": _id(values, "to_store_id", "missing store id to transfer leader to"),
    }


def _transfer_region(values: dict[str, Any]) -> dict[str, Any]:
    region_id = _region_of(values)
    stores = identities(values.get("to_store_ids"))
    if stores is None:
        raise ApiError(400, "invalid store ids to transfer region to")
    if not stores:
        raise ApiError(400, "missing store ids to transfer region to")
    roles = values.get("peer_roles")
    named = [""] * len(stores)
    if isinstance(roles, list) and len(roles) == len(stores):
        named = [role if isinstance(role, str) else "" for role in roles]
    if any(role and role not in ROLES for role in named):
        raise ApiError(400, "invalid store ids to transfer region to")
    return {"region_id": region_id, "to_store_ids": stores, "peer_roles": named}


def _transfer_peer(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "region_id": _region_of(values),
        "from_store_id": _id(values, "from_store_id", "invalid store id to transfer peer from"),
        "to_store_id": _id(values, "to_store_id", "invalid store id to transfer peer to"),
    }


def _of_peer(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "region_id": _region_of(values),
        "store_id": _id(values, "store_id", "invalid store id to transfer peer to"),
    }


def _merge(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "source_region_id": _region_of(values, "source_region_id"),
        "target_region_id": _id(values, "target_region_id", "invalid target region id to merge to"),
    }


def _split(values: dict[str, Any]) -> dict[str, Any]:
    region_id, policy = _region_of(values), values.get("policy")
    if not isinstance(policy, str):
        raise ApiError(400, "missing split policy")
    if policy.lower() not in POLICIES:
        raise ApiError(500, f"check policy {policy} is not supported")
    texts = values.get("keys", [])
    if not isinstance(texts, list) or len(texts) > MAX_KEYS or not all(isinstance(text, str) for text in texts):
        raise ApiError(400, "bad format keys")
    keys = []
    for text in texts if policy.lower() == "usekey" else []:
        try:
            keys.append(from_hex(text))
        except ValueError as error:
            raise ApiError(500, f"split key {text} is not in hex format") from error
    return {"region_id": region_id, "policy": policy.lower(), "keys": keys}


def _group(values: dict[str, Any]) -> str:
    group = values.get("group")
    return group if isinstance(group, str) else ""


def _scatter(values: dict[str, Any]) -> dict[str, Any]:
    return {"region_id": _region_of(values), "group": _group(values)}


ARGUMENTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "transfer-leader": _transfer_leader,
    "transfer-region": _transfer_region,
    "transfer-peer": _transfer_peer,
    "add-peer": _of_peer,
    "add-learner": _of_peer,
    "remove-peer": _of_peer,
    "merge-region": _merge,
    "split-region": _split,
    "scatter-region": _scatter,
}
"""What the arguments of an operator are, by its public name."""


async def create(request: web.Request) -> web.StreamResponse:
    """POST /operators: {"name": ..., ...}."""
    cluster(request)
    values = await body_object(request)
    name = values.get("name")
    if not isinstance(name, str):
        raise ApiError(400, "missing operator name")
    if name == "scatter-regions":
        return await _scatter_regions(request, values)
    if name not in ARGUMENTS:
        raise ApiError(400, "unknown operator")
    arguments = ARGUMENTS[name](values)
    try:
        await services(request).scheduling.add_operator(name, arguments)
    except PdError as error:
        raise ApiError(500, errors.text_of_error(error)) from error
    return answer("The operator is created.")


async def _scatter_regions(request: web.Request, values: dict[str, Any]) -> web.StreamResponse:
    """Several regions at once, by ids or by key range; answers with what was done, also when it failed."""
    ids = identities(values.get("region_ids", []) or [])
    if ids is None or len(ids) > MAX_SCATTER:
        raise ApiError(400, "region_ids is invalid")
    start, end = values.get("start_key"), values.get("end_key")
    percentage, refusal = 0, ""
    try:
        if isinstance(start, str) and isinstance(end, str) and start and end:
            regions = cluster(request).scan(from_hex(start), from_hex(end), MAX_SCATTER)
            ids = [region.region_id for region in regions]
        if not ids:
            raise ValueError("empty region")
        percentage, _failed = await services(request).scheduling.scatter(
            ids, _group(values), retries(values), skip_store_limit=False
        )
    except ValueError as error:
        refusal = str(error)
    except PdError as error:
        refusal = errors.text_of_error(error)
    return answer({"processed-percentage": percentage, "error": refusal})


def routes() -> list[web.RouteDef]:
    """All of this group."""
    return [
        web.get("/operators", everything),
        web.post("/operators", create),
        web.delete("/operators", cancel_all),
        web.get("/operators/records", records),
        web.get("/operators/{region_id}", of_region),
        web.delete("/operators/{region_id}", cancel),
    ]
