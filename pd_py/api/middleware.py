"""What every request goes through: who may answer it, and how errors become answers.

A member that does not lead sends requests on to the leader, once: a request that was sent on already and meets a member that
does not lead either is refused, or two members that take each other for the leader would play ball with it. Some pages are each
member's own. Region pages may be asked of followers with the header `PD-Allow-follower-handle`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from core_py.errors import DbError
from core_py.runtime.log import get_logger
from pd_py.api import errors
from pd_py.api.backend import ApiBackend, ClusterPort, LeaderServices, RegionSource
from pd_py.api.errors import ApiError
from pd_py.api.requests import answer, plain

BACKEND: web.AppKey[ApiBackend] = web.AppKey("backend", ApiBackend)
REDIRECTOR = "PD-Redirector"
FOLLOWER_HANDLE = "PD-Allow-follower-handle"
WAIT_FOR_LEADER_S = 3.0
FIRST_WAIT_S = 0.1
LOCAL_PATHS = (
    "/pd/api/v1/admin/log",
    "/pd/api/v1/status",
    "/pd/api/v1/health",
    "/pd/api/v1/ping",
    "/pd/api/v1/version",
    "/pd/health",
    "/pd/ping",
)
CONFIG_PATH = "/pd/api/v1/config"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Unreachable(DbError):
    """The other member could not be connected to: nothing was sent."""

    code = "PD:apiutil:Unreachable"


class Forwarder(Protocol):
    """Sends a request to another member."""

    async def __call__(self, request: web.Request, urls: tuple[str, ...], name: str) -> web.StreamResponse:
        """Try the member's URLs in turn; `name` is this member's, which the other one is told. Raises Unreachable."""
        ...


FORWARDER: web.AppKey[Forwarder] = web.AppKey("forwarder", Forwarder)


@web.middleware
async def errors_as_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refusals become their answers; aiohttp makes a 500 and a line in the log of what was not foreseen."""
    try:
        return await handler(request)
    except ApiError as error:
        return answer(error.body, error.status)
    except DbError as error:
        return answer(errors.text_of_error(error), 500)


@web.middleware
async def to_the_leader(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer here if this member may, else send the request to the leader."""
    backend = request.app[BACKEND]
    if not request.path.startswith("/pd/"):
        return await handler(request)  # the process's own pages
    if request.path == CONFIG_PATH and request.method == "GET":
        return await handler(request)
    if request.path.startswith(LOCAL_PATHS):
        return await handler(request)
    if backend.leader() is not None or FOLLOWER_HANDLE in request.headers:
        return await handler(request)
    return await _at_the_leader(request, handler, backend)


async def _at_the_leader(request: web.Request, handler: Handler, backend: ApiBackend) -> web.StreamResponse:
    """Wait until there is a leader that takes it: one that has just gone is still named for a moment, and one that was just
    elected needs a moment to begin. What was sent here by another member is not sent on.
    """
    sent_by = request.headers.get(REDIRECTOR, "")
    wait_s, waited_s = FIRST_WAIT_S, 0.0
    while True:
        if backend.leader() is not None:
            return await handler(request)
        urls = tuple(backend.leader_urls())
        is_over = waited_s >= WAIT_FOR_LEADER_S
        if sent_by and (urls or is_over):
            get_logger().warning("a request was sent here as to the leader", by=sent_by)
            return plain(errors.NOT_LEADER, 500)
        if urls:
            try:
                return await request.app[FORWARDER](request, urls, backend.name)
            except Unreachable as error:
                get_logger().warning("the leader could not be sent an HTTP request", error=str(error))
        if is_over:
            return plain(errors.REDIRECT_FAILED, 500) if urls else plain(errors.NO_LEADER, 503)
        wait_s = min(wait_s, WAIT_FOR_LEADER_S - waited_s)
        await asyncio.sleep(wait_s)
        waited_s += wait_s
        wait_s *= 2


def services(request: web.Request) -> LeaderServices:
    """What the leader has. Raises ApiError when this member leads no more."""
    found = request.app[BACKEND].leader()
    if found is None:
        raise ApiError(500, errors.NOT_BOOTSTRAPPED)
    return found


def cluster(request: web.Request) -> ClusterPort:
    """The cluster. Raises ApiError when it is not bootstrapped."""
    found = services(request).cluster
    if not found.bootstrapped:
        raise ApiError(500, errors.NOT_BOOTSTRAPPED)
    return found


def regions(request: web.Request) -> RegionSource:
    """The regions to read from, a follower's too if the caller allows it. Raises ApiError as `cluster`."""
    backend = request.app[BACKEND]
    if backend.leader() is None and FOLLOWER_HANDLE in request.headers:
        synced = backend.synced_regions()
        if synced is not None:
            return synced
    return cluster(request)
