"""The HTTP application of a PD member: all groups of pages under `/pd/api/v1`."""

from __future__ import annotations

import ssl

from aiohttp import web

from pd_py.api import (
    config,
    gc,
    hot,
    labels,
    members,
    operators,
    region_actions,
    region_labels,
    regions,
    rules,
    schedulers,
    status,
    stores,
)
from pd_py.api.backend import ApiBackend
from pd_py.api.forward import HttpForwarder
from pd_py.api.middleware import BACKEND, FORWARDER, errors_as_answers, to_the_leader

PREFIX = "/pd/api/v1"
MAX_BODY_BYTES = 4 << 20
GROUPS = (
    members,
    status,
    stores,
    labels,
    regions,
    region_actions,
    region_labels,
    schedulers,
    operators,
    config,
    rules,
    hot,
    gc,
)


def application(backend: ApiBackend, *, client_tls: ssl.SSLContext | None = None) -> web.Application:
    """The application; `client_tls` is for requests that are sent on to the leader."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[to_the_leader, errors_as_answers])
    forwarder = HttpForwarder(client_tls)
    app[BACKEND] = backend
    app[FORWARDER] = forwarder
    for group in GROUPS:
        app.router.add_routes([_under_prefix(route) for route in group.routes()])
    app.router.add_get("/pd/health", members.health)
    app.router.add_get("/pd/ping", status.ping)

    async def close(_app: web.Application) -> None:
        await forwarder.close()

    app.on_cleanup.append(close)
    return app


def _under_prefix(route: web.RouteDef) -> web.RouteDef:
    return web.RouteDef(route.method, PREFIX + route.path, route.handler, route.kwargs)
