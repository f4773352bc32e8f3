"""The status port: metrics, status, readiness, pages of a server."""

from __future__ import annotations

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from core_py.errors import ConfigError
from core_py.runtime.status_server import StatusServer


async def get(server: StatusServer, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{server.address}{path}") as response:
        return response.status, await response.text()


async def test_pages() -> None:
    registry = CollectorRegistry()
    Counter("calls_total", "Calls.", registry=registry).inc(3)
    ready = False
    server = StatusServer(registry, status=lambda: {"version": "1"}, ready=lambda: ready)

    async def page() -> object:
        raise LookupError("no such region")

    server.add_json("/region", page)
    await server.start("127.0.0.1:0")
    try:
        assert "calls_total 3.0" in (await get(server, "/metrics"))[1]
        assert await get(server, "/status") == (200, '{"version": "1"}')
        assert (await get(server, "/ready"))[0] == 503
        ready = True
        assert (await get(server, "/ready"))[0] == 200
        assert await get(server, "/region") == (404, '{"error": "no such region"}')
        assert (await get(server, "/other"))[0] == 404
        second = StatusServer(CollectorRegistry(), status=dict, ready=lambda: True)
        with pytest.raises(ConfigError, match="cannot listen on status address"):
            await second.start(server.address)
    finally:
        await server.stop()
