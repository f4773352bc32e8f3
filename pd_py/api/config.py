"""`/config/...`: the dynamic configuration, as a whole and by part."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from core_py.errors import DbError
from pd_py.api import errors
from pd_py.api.errors import ApiError, InvalidInput
from pd_py.api.middleware import BACKEND, Handler, services
from pd_py.api.requests import answer, body_object, integer, parse, query_text

LOG_LEVEL = ("log.level", "level")
UPDATED = "The config is updated."


async def whole(request: web.Request) -> web.StreamResponse:
    """GET /config: this member's own settings, with what the cluster has agreed on in their place."""
    backend = request.app[BACKEND]
    leader = backend.leader()
    return answer(backend.local_config() | ({} if leader is None else leader.settings.to_json()))


async def defaults(request: web.Request) -> web.StreamResponse:
    """GET /config/default."""
    return answer(services(request).settings.defaults())


def part(name: str) -> Handler:
    """GET /config/{part}."""

    async def page(request: web.Request) -> web.StreamResponse:
        return answer(services(request).settings.to_json().get(name, {}))

    return page


async def change_whole(request: web.Request) -> web.StreamResponse:
    """POST /config?ttlSecond=: items by dotted or bare name; with an unknown one nothing is changed."""
    try:
        values = parse(await request.read())
    except ValueError as error:
        raise ApiError(400, str(error)) from error
    if not isinstance(values, dict):
        raise ApiError(400, "json: cannot unmarshal into Go value of type map[string]interface {}")
    ttl = query_text(request, "ttlSecond")
    if ttl:
        return await _change_for(request, values, ttl)
    level = next((values.pop(name) for name in LOG_LEVEL if name in values), None)
    await _change(request, values, 400)
    if level is not None:
        try:
            request.app[BACKEND].set_log_level(level if isinstance(level, str) else str(level))
        except ValueError as error:
            raise ApiError(400, str(error)) from error
    return answer(UPDATED)


async def _change_for(request: web.Request, values: dict[str, Any], ttl: str) -> web.StreamResponse:
    """Set items for a number of seconds: tools that stop scheduling for a while cannot leave it so for ever."""
    try:
        seconds = integer(ttl)
        await services(request).settings.change_for(values, seconds)
    except ValueError as error:
        raise ApiError(400, str(error)) from error
    except DbError as error:
        raise ApiError(400, errors.text_of_error(error)) from error
    return answer("The ttl config is updated." if seconds else "The ttl config is deleted.")


async def _change(request: web.Request, values: dict[str, Any], status: int) -> None:
    if not values:
        return
    try:
        await services(request).settings.change(values)
    except DbError as error:
        raise ApiError(status, errors.text_of_error(error)) from error


def change_part(name: str) -> Handler:
    """POST /config/{part}: items by bare name; as in the public server, unknown ones are passed over."""

    async def page(request: web.Request) -> web.StreamResponse:
        values = await body_object(request)
        known = services(request).settings.to_json().get(name, {})
        await _change(request, {f"{name}.{key}": value for key, value in values.items() if key in known}, 500)
        return answer(UPDATED)

    return page


async def cluster_version(request: web.Request) -> web.StreamResponse:
    """GET /config/cluster-version."""
    return answer(services(request).settings.to_json().get("cluster-version", ""))


async def set_cluster_version(request: web.Request) -> web.StreamResponse:
    """POST /config/cluster-version: {"cluster-version": "8.5.0"}."""
    values = await body_object(request)
    if not isinstance(values.get("cluster-version"), str):
        raise InvalidInput("not set cluster-version")
    await _change(request, {"cluster-version": values["cluster-version"]}, 500)
    return answer("The cluster version is updated.")


def routes() -> list[web.RouteDef]:
    """All of this group."""
    return [
        web.get("/config", whole),
        web.post("/config", change_whole),
        web.get("/config/default", defaults),
        web.get("/config/schedule", part("schedule")),
        web.post("/config/schedule", change_part("schedule")),
        web.get("/config/replicate", part("replication")),
        web.post("/config/replicate", change_part("replication")),
        web.get("/config/pd-server", part("pd-server")),
        web.get("/config/cluster-version", cluster_version),
        web.post("/config/cluster-version", set_cluster_version),
    ]
