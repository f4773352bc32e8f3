"""`/schedulers`, `/scheduler-config`, `/checker`: what schedules by itself, and how to stop it."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web

from core_py.errors import PdError
from pd_py.api import errors, go_text
from pd_py.api.errors import ApiError, InvalidInput
from pd_py.api.middleware import cluster, services
from pd_py.api.requests import answer, body_object, identity, number, path_uint64, query, query_text
from pd_py.schedule.schedulers.registry import TYPES

OF_STORES = ("evict-leader-scheduler", "grant-leader-scheduler")
STORES = "store-ids"
MAX_PAUSE_S = 365 * 24 * 3600
CREATED = "The scheduler is created."


async def everything(request: web.Request) -> web.StreamResponse:
    """GET /schedulers?status=paused|disabled&timestamp."""
    cluster(request)
    status = query_text(request, "status")
    found = services(request).scheduling.schedulers()
    if status == "disabled":
        return answer([one.name for one in found if one.disabled])
    if status != "paused":
        return answer([one.name for one in found if not one.disabled])
    paused = [one for one in found if one.resume_at_ms]
    if "timestamp" not in query(request):
        return answer([one.name for one in paused])
    return answer(
        [
            {
                "name": one.name,
                "paused_at": go_text.timestamp(one.paused_at_ms),
                "resume_at": go_text.timestamp(one.resume_at_ms),
            }
            for one in paused
        ]
    )


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str):
        raise ApiError(500, errors.text_of("PD:apiutil:ErrOptionNotExist", f"the option {name} does not exist"))
    return value


def _key(values: dict[str, Any], name: str) -> str:
    """A key in hex; it comes escaped as a query parameter is."""
    return unquote_to_bytes(_text(values, name).replace("+", " ")).hex()


def _arguments(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """What a scheduler of this type is made with."""
    if name in OF_STORES:
        if "store_id" not in values:
            raise ApiError(400, "missing store id")
        store_id = identity(values, "store_id")
        if store_id is None:
            raise ApiError(400, "please input a right store id")
        return {"store_id": store_id}
    if name == "scatter-range-scheduler":
        return {
            "start-key": _key(values, "start_key"),
            "end-key": _key(values, "end_key"),
            "range-name": _text(values, "range_name"),
        }
    return {}


async def create(request: web.Request) -> web.StreamResponse:
    """POST /schedulers: {"name": type, ...}. A store for a scheduler of stores that is there already is added to it."""
    cluster(request)
    values = await body_object(request)
    name = values.get("name")
    if not isinstance(name, str):
        raise ApiError(400, "missing scheduler name")
    if name not in TYPES:
        raise ApiError(400, "unknown scheduler")
    arguments = _arguments(name, values)
    scheduling = services(request).scheduling
    if name in OF_STORES and any(one.name == name for one in scheduling.schedulers()):
        await scheduling.change_scheduler(name, arguments)
        return answer("The scheduler has been applied to the store.")
    try:
        await scheduling.add_scheduler(name, arguments)
    except PdError as error:
        raise ApiError(400, errors.text_of_error(error)) from error
    return answer(CREATED)


def _of_store(name: str) -> tuple[str, int] | None:
    """("evict-leader-scheduler", 1) of "evict-leader-scheduler-1"."""
    for kind in OF_STORES:
        tail = name.removeprefix(f"{kind}-")
        if tail != name and tail.isascii() and tail.isdigit() and len(tail) < 20:
            return kind, int(tail)
    return None


async def delete(request: web.Request) -> web.StreamResponse:
    """DELETE /schedulers/{name}; with a store's id behind the name only that store's part."""
    cluster(request)
    name = request.match_info["name"]
    part = _of_store(name)
    scheduling = services(request).scheduling
    if part is not None:
        return await _delete_store(request, *part)
    if not await scheduling.remove_scheduler(name):
        raise ApiError(404, errors.SCHEDULER_NOT_FOUND)
    return answer("The scheduler is removed.")


async def _delete_store(request: web.Request, name: str, store_id: int) -> web.StreamResponse:
    """Take a store from a scheduler of stores; the last one ends it."""
    scheduling = services(request).scheduling
    known = scheduling.scheduler_config(name)
    if known is None:
        raise ApiError(404, errors.SCHEDULER_NOT_FOUND)
    if store_id not in known.get(STORES, ()):
        message = "the config does not exist"
        raise ApiError(404, errors.text_of("PD:scheduler:ErrScheduleConfigNotExist", message))
    if len(known[STORES]) == 1:
        await scheduling.remove_scheduler(name)
        return answer("The last store has been deleted")
    await scheduling.change_scheduler(name, {"delete_store_id": store_id})
    return answer(None)


def _delay(values: dict[str, Any]) -> float:
    delay = number(values, "delay")
    if "delay" not in values or delay is None:
        raise ApiError(400, "missing pause time")
    if delay < 0:
        raise ApiError(400, "delay cannot be negative")
    return float(min(delay, MAX_PAUSE_S))


async def pause(request: web.Request) -> web.StreamResponse:
    """POST /schedulers/{name}: {"delay": seconds}, 0 to go on; the name "all" is all of them."""
    cluster(request)
    delay = _delay(await body_object(request))
    if not await services(request).scheduling.pause_scheduler(request.match_info["name"], delay):
        raise ApiError(500, errors.SCHEDULER_NOT_FOUND)
    return answer("Pause or resume the scheduler successfully.")


async def config(request: web.Request) -> web.StreamResponse:
    """GET /scheduler-config/{name}[/list]."""
    cluster(request)
    found = services(request).scheduling.scheduler_config(request.match_info["name"])
    if found is None:
        raise ApiError(404, errors.SCHEDULER_NOT_FOUND)
    return answer(dict(found))


async def configs(request: web.Request) -> web.StreamResponse:
    """GET /scheduler-config: of all schedulers, by name."""
    cluster(request)
    scheduling = services(request).scheduling
    return answer({one.name: dict(scheduling.scheduler_config(one.name) or {}) for one in scheduling.schedulers()})


async def change_config(request: web.Request) -> web.StreamResponse:
    """POST /scheduler-config/{name}/config."""
    cluster(request)
    values = await body_object(request)
    name = request.match_info["name"]
    if name in OF_STORES:
        if "store_id" in values:
            values = values | _arguments(name, values)
        values = {key: value for key, value in values.items() if key != "name"}
    try:
        if not await services(request).scheduling.change_scheduler(name, values):
            raise ApiError(404, errors.SCHEDULER_NOT_FOUND)
    except PdError as error:
        raise ApiError(400, errors.text_of_error(error)) from error
    return answer("Config is updated.")


async def delete_store(request: web.Request) -> web.StreamResponse:
    """DELETE /scheduler-config/{name}/delete/{store_id}."""
    cluster(request)
    name = request.match_info["name"]
    if name not in OF_STORES:
        raise InvalidInput(f"{name} has no stores")
    return await _delete_store(request, name, path_uint64(request, "store_id"))


async def checker(request: web.Request) -> web.StreamResponse:
    """GET /checker/{name}."""
    cluster(request)
    paused = services(request).scheduling.checker_paused(request.match_info["name"])
    if paused is None:
        raise ApiError(500, errors.text_of("PD:checker:ErrCheckerNotFound", "checker not found"))
    return answer({"paused": paused})


async def pause_checker(request: web.Request) -> web.StreamResponse:
    """POST /checker/{name}: {"delay": seconds}, 0 to go on."""
    cluster(request)
    delay = _delay(await body_object(request))
    if not services(request).scheduling.pause_checker(request.match_info["name"], delay):
        raise ApiError(500, errors.text_of("PD:checker:ErrCheckerNotFound", "checker not found"))
    return answer(f"{'Pause' if delay else 'Resume'} the checker successfully.")


def routes() -> list[web.RouteDef]:
    """All of this group."""
    return [
        web.get("/schedulers", everything),
        web.post("/schedulers", create),
        web.delete("/schedulers/{name}", delete),
        web.post("/schedulers/{name}", pause),
        web.get("/scheduler-config", configs),
        web.get("/scheduler-config/{name}", config),
        web.get("/scheduler-config/{name}/list", config),
        web.post("/scheduler-config/{name}/config", change_config),
        web.delete("/scheduler-config/{name}/delete/{store_id}", delete_store),
        web.get("/checker/{name}", checker),
        web.post("/checker/{name}", pause_checker),
    ]
