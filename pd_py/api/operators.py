"""`/operators`: what is being done to regions, and doing something to one."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from core_py.errors import PdError
from pd_py.api import errors, go_text
from pd_py.api.backend import OperatorInfo
from pd_py.api.errors import ApiError
from pd_py.api.middleware import cluster, services
from pd_py.api.region_actions import MAX_SCATTER, retries
from pd_py.api.requests import answer, body_object, from_hex, identities, path_uint64, query, query_text
from pd_py.api.requests import integer as parse_integer

STATUS_NUMBERS = {"RUNNING": 1, "SUCCESS": 2, "CANCEL": 3, "REPLACE": 4, "TIMEOUT": 6}
BAD_REQUEST = "PD:operator:BadRequest"


def _object(operator: OperatorInfo) -> dict[str, Any]:
    return {
        "desc": operator.description,
        "brief": operator.brief,
        "region_id": operator.region_id,
        "region_epoch": {"conf_ver": operator.conf_ver, "version": operator.version},
        "kind": operator.kind,
        "timeout": go_text.duration(operator.timeout_s),
        "status": STATUS_NUMBERS.get(operator.status, 0),
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


def _group(values: dict[str, Any]) -> str:
    group = values.get("group")
    return group if isinstance(group, str) else ""


async def create(request: web.Request) -> web.StreamResponse:
    """POST /operators: {"name": ..., ...}."""
    cluster(request)
    values = await body_object(request)
    name = values.get("name")
    if not isinstance(name, str):
        raise ApiError(400, "missing operator name")
    if name == "scatter-regions":
        return await _scatter_regions(request, values)
    try:
        await services(request).scheduling.add_operator(name, values)
    except PdError as error:
        raise ApiError(400 if error.code == BAD_REQUEST else 500, errors.text_of_error(error)) from error
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
