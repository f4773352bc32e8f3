"""What all connections of a server share: accounts, keys, limits, the table of live connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from tidb_py.mysql.auth import Account, AuthCache, RsaKey
from tidb_py.server.handler import Session
from tidb_py.session.times import StatementTimes


class LiveConnection(Protocol):
    """A connection as others see it."""

    connection_id: int

    def kill(self) -> None:
        """Close it and roll back."""


class ServerObserver(Protocol):
    """Where the protocol loop reports; metrics implement it."""

    def connected(self, open_connections: int) -> None:
        """The number of connections changed."""

    def query(self, kind: str, result: str, seconds: float, sql_type: str) -> None:
        """A command was answered; `sql_type` is that of its last statement, or the command's own name."""

    def statement(self, times: StatementTimes, seconds: float) -> None:
        """A statement was answered, its rows included."""

    def handshake_timeout(self, connection_id: int, host: str) -> None:
        """A client (or the look-up of its account) took too long to log in; the connection was closed."""

    def unexpected(self, connection_id: int, error: Exception) -> None:
        """A defect: an error nobody expected; the client was told 1105."""


@dataclass(slots=True)
class ServerContext:
    """Shared by every connection; the app wires it."""

    find_account: Callable[[str, str], Awaitable[Account | None]]  # by user and client host
    open_session: Callable[[int, Account, str, str], Awaitable[Session]]  # id, account, host, database
    observer: ServerObserver
    random_bytes: Callable[[int], bytes]
    monotonic: Callable[[], float]
    ssl_context: ssl.SSLContext | None = None
    rsa_key: RsaKey | None = None
    max_allowed_packet: int = 64 << 20
    max_connections: int = 0  # 0: no limit
    handshake_timeout_s: float = 10.0
    tokens: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1000))  # token-limit
    auth_cache: AuthCache = field(default_factory=AuthCache)
    connections: dict[int, LiveConnection] = field(default_factory=dict)
    next_connection_id: int = 1
    started: float = field(init=False)

    def __post_init__(self) -> None:
        """The uptime counts from here."""
        self.started = self.monotonic()

    def statistics(self) -> str:
        """The line COM_STATISTICS answers with."""
        return f"Uptime: {int(self.monotonic() - self.started)}  Threads: {len(self.connections)}"
