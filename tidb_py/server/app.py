"""The SQL server: listens, authenticates, gives every client a session over one storage.

    server = SqlServer(TidbConfig(port=0), storage, registry=CollectorRegistry(), clock=SystemClock())
    await server.start(); ...; await server.stop()

`start` bootstraps an empty cluster (databases mysql and test, account root without password), loads the schema and keeps it
fresh. `stop` refuses new clients, lets running statements finish for a grace time, then closes. It does not make the storage.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from core_py.errors import DbError
from core_py.ports import Clock
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from tidb_py.catalog.infoschema import Catalog, InfoSchema
from tidb_py.mysql.auth import Account, RsaKey
from tidb_py.server.config import TidbConfig, load_ssl
from tidb_py.server.context import ServerContext
from tidb_py.server.handler import ResultSet
from tidb_py.server.metrics import ServerMetrics
from tidb_py.server.protocol import ClientConnection
from tidb_py.server.tls import self_signed
from tidb_py.server.transport import WireProtocol
from tidb_py.session import users
from tidb_py.session.query import collect
from tidb_py.session.session import Session
from tidb_py.session.state import ServerState
from tidb_py.session.storage import Storage

RELOAD_INTERVAL_S = 1.0  # how often the schema version is looked at
STOP_GRACE_S = 5.0
BOOTSTRAP_ATTEMPTS = 20


class SqlServer:
    """One SQL server process's worth of state."""

    def __init__(
        self, config: TidbConfig, storage: Storage, *, registry: CollectorRegistry, clock: Clock,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:  # fmt: skip
        self._config, self._clock, self._random_bytes = config, clock, random_bytes
        self._log = get_logger(component="server")
        self._scope = TaskScope("sql server")
        self._clients = TaskScope("sql clients", on_failure=self._client_failed)
        self._listener: asyncio.Server | None = None
        self._idle = asyncio.Event()  # no client is connected
        self.metrics = ServerMetrics(registry, self._report)
        self.state = ServerState(
            storage=storage, catalog=Catalog(storage), now=self._now, sleep=asyncio.sleep,
            processes=self._processes, kill=self._kill, monotonic=clock.monotonic,
            on_transaction=self.metrics.transaction,
        )  # fmt: skip
        self._sessions: dict[int, Session] = {}
        self.context: ServerContext | None = None
        self.port = config.port

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock.wall_ms() / 1000, dt.UTC)

    def _report(self, where: str, error: Exception) -> None:
        self._log.error("unexpected error", where=where, error=repr(error), exc_info=error)

    def _client_failed(self, error: BaseException) -> None:
        """A defect outside any statement; that client's connection is closed, the others go on."""
        self._log.error("client task failed", error=repr(error), exc_info=error)

    def _processes(self) -> list[tuple[int, str, str, str]]:
        return [(i, s.state.user, s.state.host, s.state.database) for i, s in sorted(self._sessions.items())]

    def _kill(self, connection_id: int) -> bool:
        victim = self.context.connections.get(connection_id) if self.context is not None else None
        if victim is not None:
            victim.kill()
        return victim is not None

    async def start(self) -> None:
        """Bootstrap, load the schema, listen."""
        await self._bootstrap()
        security = self._config.security
        tls = None
        if security.ssl_cert:
            tls = load_ssl(security.ssl_cert, security.ssl_key)
        elif security.auto_tls:
            tls = self_signed(self._now())
        self.context = ServerContext(
            find_account=self._find_account, open_session=self._open_session, observer=self.metrics,
            random_bytes=self._random_bytes, monotonic=self._clock.monotonic, ssl_context=tls, rsa_key=RsaKey(),
            max_allowed_packet=self._config.max_allowed_packet, max_connections=self._config.max_server_connections,
            tokens=asyncio.Semaphore(self._config.token_limit),
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: WireProtocol(self), self._config.host, self._config.port, backlog=1024
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        self._scope.spawn(self._reload_loop(), name="schema reload")
        self._log.info("server is running MySQL protocol", host=self._config.host, port=self.port)

    def client_connected(self, wire: WireProtocol) -> None:
        """A client came."""
        assert self.context is not None
        self._idle.clear()
        self._clients.spawn(self._serve(ClientConnection(self.context, wire)), name="client")

    async def _serve(self, client: ClientConnection) -> None:
        assert self.context is not None
        try:
            await client.run()
        finally:
            if not self.context.connections:
                self._idle.set()

    async def stop(self) -> None:
        """Stop listening and close all clients."""
        if self._listener is not None:
            self._listener.close()
        if self.context is not None:
            for connection in list(self.context.connections.values()):
                connection.kill()
            try:
                async with asyncio.timeout(STOP_GRACE_S):
                    if len(self._clients):
                        await self._idle.wait()
            except TimeoutError:
                self._log.warning("clients did not leave in time", clients=len(self._clients))
        await self._clients.close()
        await self._scope.close()
        if self._listener is not None:
            await self._listener.wait_closed()

    # -- sessions ---------------------------------------------------------------------------------------------

    def new_session(self, connection_id: int = 0, user: str = "root", host: str = "localhost") -> Session:
        """A session without a network connection (for tests and for the server itself)."""
        return Session(self.state, connection_id, user, host, random_bytes=self._random_bytes)

    async def _open_session(self, connection_id: int, account: Account, host: str, database: str) -> Session:
        session = _ServedSession(self, connection_id, account.user, host)
        if database:
            await session.init_db(database)
        self._sessions[connection_id] = session
        return session

    def forget(self, connection_id: int) -> None:
        """A session is over."""
        self._sessions.pop(connection_id, None)

    async def _run(self, sql: str) -> list[tuple[object, ...]]:
        result = await self.new_session().execute(sql)
        return await collect(result) if isinstance(result, ResultSet) else []

    async def _find_account(self, user: str, host: str) -> Account | None:
        return await users.find_account(self._run, user, host)

    # -- schema -----------------------------------------------------------------------------------------------

    async def _bootstrap(self) -> None:
        """What an empty cluster starts with; several servers may do it at once."""
        for attempt in range(BOOTSTRAP_ATTEMPTS):
            try:
                schema = await self._reload()
                if schema.find("mysql", "user") is not None:
                    return
                for statement in users.BOOTSTRAP:
                    await self._run(statement)
                return
            except DbError as error:
                if attempt == BOOTSTRAP_ATTEMPTS - 1:
                    raise
                self._log.warning("bootstrap failed, trying again", error=str(error))
                await asyncio.sleep(min(2.0, 0.1 * 2**attempt))

    async def _reload(self) -> InfoSchema:
        before, began = self.state.catalog.schema.version, self._clock.monotonic()
        schema = await self.state.catalog.reload()
        if schema.version != before:
            self.metrics.schema_loaded(self._clock.monotonic() - began)
        return schema

    async def _reload_loop(self) -> None:
        """Follow other servers' DDL."""
        while True:
            await asyncio.sleep(RELOAD_INTERVAL_S)
            try:
                await self._reload()
            except DbError as error:
                self._log.warning("schema reload failed", error=str(error))


class _ServedSession(Session):
    """A session of a network client; the server forgets it when it closes."""

    def __init__(self, server: SqlServer, connection_id: int, user: str, host: str) -> None:
        super().__init__(server.state, connection_id, user, host, random_bytes=server._random_bytes)
        self._server = server

    async def close(self) -> None:
        """The client is gone."""
        self._server.forget(self.state.connection_id)
        await super().close()
