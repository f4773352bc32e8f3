"""The SQL server as a process: PD and stores behind, MySQL clients in front, status pages beside.

Order of start: connect to PD, take the status port, bring the SQL server up (which needs the stores); `/ready`
answers 200 only when clients can connect. A store that is not there yet is waited for by the client library's own
budgets, again and again.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from prometheus_client import CollectorRegistry

from core_py.errors import CANNOT_LISTEN, ConfigError, DbError
from core_py.runtime import cli
from core_py.runtime.clock import SystemClock
from core_py.runtime.grpc_transport import GrpcTransport
from core_py.runtime.log import get_logger
from core_py.runtime.status_server import StatusServer
from tidb_py.server.app import SqlServer
from tidb_py.server.config import TidbConfig
from tidb_py.session.tikv_storage import TikvStorage
from tikv_py.client.txn.client import TxnClient

START_ATTEMPTS = 10
START_PAUSE_S = 1.0


class SqlProcess:
    """A SQL server over a cluster, with its status port."""

    def __init__(self, settings: TidbConfig) -> None:
        self._settings = settings
        self._registry = CollectorRegistry()
        self._client: TxnClient | None = None
        self._server: SqlServer | None = None
        self._status: StatusServer | None = None
        self._ready = False

    async def start(self) -> None:
        """Serve. Raises DbError when PD or the stores cannot be reached, or a port is taken."""
        settings = self._settings
        if settings.status.report_status:
            self._status = StatusServer(self._registry, status=self._page, ready=lambda: self._ready)
            await self._status.start(f"{settings.status.status_host}:{settings.status.status_port}")
        endpoints = [part.strip() for part in settings.path.split(",") if part.strip()]
        self._client = await TxnClient.connect(endpoints, transport=GrpcTransport(), clock=SystemClock())
        server = self._server = SqlServer(
            settings, TikvStorage(self._client), registry=self._registry, clock=SystemClock()
        )
        try:
            await self._start_server(server)
        except OSError as error:
            raise ConfigError(
                f"{CANNOT_LISTEN} {settings.host}:{settings.port}: {error.strerror}; free the port or choose another"
            ) from error
        self._ready = True

    async def _start_server(self, server: SqlServer) -> None:
        """Bring it up; stores of a cluster that is just starting may need a moment."""
        for attempt in range(START_ATTEMPTS):
            try:
                await server.start()
                return
            except DbError as error:
                if attempt == START_ATTEMPTS - 1:
                    raise
                get_logger().warn("the cluster does not answer yet, trying again", error=str(error))
                await asyncio.sleep(START_PAUSE_S)

    def _page(self) -> dict[str, Any]:
        context = self._server.context if self._server is not None else None
        return {
            "connections": 0 if context is None else len(context.connections),
            "version": cli.RELEASE,
            "git_hash": "",
            "ready": self._ready,
        }

    async def stop(self) -> None:
        """Let clients finish for a moment, then go."""
        self._ready = False
        if self._server is not None:
            await self._server.stop()
        if self._client is not None:
            await self._client.close()
        if self._status is not None:
            await self._status.stop()


def run(config_file: str | None, overrides: dict[str, Any], *, check_only: bool) -> NoReturn:
    """Load the configuration and serve; ends the process."""
    cli.run_server(
        TidbConfig, config_file, overrides, lambda settings, _stopper: SqlProcess(settings), check_only=check_only
    )
