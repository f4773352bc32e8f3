"""The status port of a process: /metrics, /status, /ready and what a server adds.

One metrics registry per process (a shared one needs files of dead processes; field notes 1). Rendering a large registry takes
tens of milliseconds, so it happens in a thread, off the loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from core_py.errors import CANNOT_LISTEN, ConfigError

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that nobody reads

JsonSource = Callable[[], Awaitable[object]]


class StatusPages:
    """The pages of one process, for any number of applications."""

    def __init__(
        self, registry: CollectorRegistry, *, status: Callable[[], dict[str, Any]], ready: Callable[[], bool]
    ) -> None:
        self._registry = registry
        ProcessCollector(registry=registry)
        self._status = status
        self._ready = ready

    def add_to(self, app: web.Application) -> web.Application:
        """Serve them from an application, too."""
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/status", self._status_page)
        app.router.add_get("/ready", self._ready_page)
        return app

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = await asyncio.to_thread(generate_latest, self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _status_page(self, _request: web.Request) -> web.Response:
        return web.json_response(self._status())

    async def _ready_page(self, _request: web.Request) -> web.Response:
        ready = self._ready()
        return web.json_response({"ready": ready, "pid": os.getpid()}, status=200 if ready else 503)


class StatusServer:
    """Serves the status pages of one process."""

    def __init__(
        self, registry: CollectorRegistry, *, status: Callable[[], dict[str, Any]], ready: Callable[[], bool]
    ) -> None:
        self._app = StatusPages(registry, status=status, ready=ready).add_to(web.Application(client_max_size=1 << 20))
        self._runner: web.AppRunner | None = None
        self.address = ""

    def add_json(self, path: str, source: JsonSource) -> None:
        """Serve what `source` returns as JSON; LookupError gives 404."""

        async def page(_request: web.Request) -> web.Response:
            try:
                return web.json_response(await source())
            except LookupError as error:
                return web.json_response({"error": str(error)}, status=404)

        self._app.router.add_get(path, page)

    def add_route(
        self, method: str, path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> None:
        """Serve any aiohttp handler."""
        self._app.router.add_route(method, path, handler)

    async def start(self, address: str) -> None:
        """Listen on host:port. Raises ConfigError when it is taken."""
        host, _, port = address.rpartition(":")
        self._runner = web.AppRunner(self._app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host or "127.0.0.1", int(port)).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"{CANNOT_LISTEN} status address {address}: {error.strerror}; free it or choose another"
            ) from error
        bound = self._runner.addresses[0]
        self.address = f"{bound[0]}:{bound[1]}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
