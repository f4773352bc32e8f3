"""`/members`, `/leader`, `/health`: the members of PD."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from core_py.errors import PdError
from pd_py.api import errors, go_text
from pd_py.api.errors import ApiError
from pd_py.api.middleware import BACKEND
from pd_py.api.requests import answer, body_object, number, path_uint64

MAX_PRIORITY = 1 << 31


def _id_of(request: web.Request) -> int:
    name = request.match_info["name"]
    for member in request.app[BACKEND].members.describe().members:
        if member.name == name:
            return member.member_id
    raise ApiError(404, f"not found, pd: {name}")


async def everything(request: web.Request) -> web.StreamResponse:
    """GET /members."""
    backend = request.app[BACKEND]
    out: dict[str, Any] = {"header": {"cluster_id": backend.cluster_id()}}
    described = go_text.of_message(backend.members.describe())
    described.pop("header", None)
    return answer(out | described)


async def _remove(request: web.Request, member_id: int, shown: object) -> web.StreamResponse:
    try:
        await request.app[BACKEND].members.remove(member_id)
    except PdError as error:
        raise ApiError(500, errors.text_of_error(error)) from error
    return answer(f"removed, pd: {shown}")


async def delete_by_name(request: web.Request) -> web.StreamResponse:
    """DELETE /members/name/{name}."""
    return await _remove(request, _id_of(request), request.match_info["name"])


async def delete_by_id(request: web.Request) -> web.StreamResponse:
    """DELETE /members/id/{id}."""
    member_id = path_uint64(request, "id")
    return await _remove(request, member_id, member_id)


async def set_property(request: web.Request) -> web.StreamResponse:
    """POST /members/name/{name}: {"leader-priority": 5}; what else is named is passed over, as in the public server."""
    member_id = _id_of(request)
    values = await body_object(request)
    if "leader-priority" in values:
        priority = number(values, "leader-priority")
        if priority is None or not -MAX_PRIORITY <= priority < MAX_PRIORITY:
            raise ApiError(400, "bad format leader priority")
        await request.app[BACKEND].members.set_priority(member_id, int(priority))
    return answer("success")


async def leader(request: web.Request) -> web.StreamResponse:
    """GET /leader."""
    known = request.app[BACKEND].members.describe()
    return answer(go_text.of_message(known.leader) if known.HasField("leader") else None)


async def resign(request: web.Request) -> web.StreamResponse:
    """POST /leader/resign."""
    await request.app[BACKEND].members.resign("")
    return answer("The resign command is submitted.")


async def transfer(request: web.Request) -> web.StreamResponse:
    """POST /leader/transfer/{next_leader}."""
    await request.app[BACKEND].members.resign(request.match_info["next_leader"])
    return answer("The transfer command is submitted.")


async def health(request: web.Request) -> web.StreamResponse:
    """GET /health: each member with whether it answers this one."""
    members = request.app[BACKEND].members
    described = members.describe().members
    healthy = set(await members.healthy())
    return answer(
        [
            {
                "name": member.name,
                "member_id": member.member_id,
                "client_urls": list(member.client_urls),
                "health": member.member_id in healthy,
            }
            for member in described
        ]
    )


def routes() -> list[web.RouteDef]:
    """All of this group."""
    return [
        web.get("/members", everything),
        web.delete("/members/name/{name}", delete_by_name),
        web.post("/members/name/{name}", set_property),
        web.delete("/members/id/{id}", delete_by_id),
        web.get("/leader", leader),
        web.post("/leader/resign", resign),
        web.post("/leader/transfer/{next_leader}", transfer),
        web.get("/health", health),
    ]
