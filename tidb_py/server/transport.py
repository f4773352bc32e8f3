"""The socket's side of a connection: an asyncio.Protocol with back-pressure both ways and TLS by `TlsLayer`.

It moves bytes between the transport and the sans-I/O `ServerConnection` and offers the session task two awaitables:
`event()` and `drain()`. Reading pauses while more than READ_LIMIT bytes wait for a busy session, writing waits while
the client does not read. Invariant: events are decoded only when asked for, so nothing is read in the wrong phase.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from tidb_py.mysql.connection import Event, ServerConnection
from tidb_py.mysql.errors import ProtocolError
from tidb_py.mysql.tls import TlsLayer

CLOSE_GRACE_S = 2.0  # for a client to read what was written before the close
READ_LIMIT = 1 << 20  # bytes received and not yet decoded, above which the socket is not read


class ConnectionLost(Exception):
    """The client is gone."""


class Owner(Protocol):
    """Who is told that a client came."""

    def client_connected(self, wire: WireProtocol) -> None:
        """Start serving this client."""


class WireProtocol(asyncio.Protocol):
    """One client's socket."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._tls: TlsLayer | None = None
        self._tls_error: ProtocolError | None = None
        self._unread = 0
        self._paused = False
        self._abort: asyncio.TimerHandle | None = None
        self.lost = False
        self.peer_host = ""
        self.connection: ServerConnection | None = None
        self.on_lost: Callable[[], None] | None = None  # told when the socket is closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the socket is open."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.peer_host = str(peer[0]) if isinstance(peer, tuple) else "localhost"
        self._owner.client_connected(self)

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes came."""
        if self._tls is not None:
            try:
                data = self._tls.feed(data)
            except ProtocolError as error:
                self._tls_error = error
                data = b""
            self._flush_tls()
        if data and self.connection is not None:
            self.connection.receive(data)
            self._unread += len(data)
            if self._unread > READ_LIMIT and not self._paused and self._transport is not None:
                self._transport.pause_reading()
                self._paused = True
        self._wake()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Asyncio: the socket is closed."""
        self.lost = True
        self._writable.set()
        self._wake()
        if self._abort is not None:
            self._abort.cancel()
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        """Asyncio: the client reads slowly."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Asyncio: the client caught up."""
        self._writable.set()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _flush_tls(self) -> None:
        if self._tls is not None and self._transport is not None and (data := self._tls.pending()):
            self._transport.write(data)

    async def event(self) -> Event:
        """The next event of the client; raises `ConnectionLost` or `ProtocolError`."""
        connection = self.connection
        assert connection is not None
        while True:
            event = connection.next_event()
            if event is not None:
                return event
            if self._tls_error is not None:
                raise self._tls_error
            self._unread = 0
            if self._paused and self._transport is not None and not self.lost:
                self._paused = False
                self._transport.resume_reading()
            if self.lost:
                raise ConnectionLost
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Everything from here on is TLS."""
        assert self.connection is not None
        early = self.connection.start_tls()
        self._tls = TlsLayer(context)
        if early:
            self.data_received(early)

    def write(self, data: bytes) -> None:
        """Send bytes; follow with `drain()` when there may be many."""
        if self.lost or self._transport is None:
            return
        self._transport.write(data if self._tls is None else self._tls.wrap(data))

    async def drain(self) -> None:
        """Wait until the client has read most of what was sent."""
        if not self._writable.is_set():
            await self._writable.wait()
        if self.lost:
            raise ConnectionLost

    def close(self) -> None:
        """Close after what was written is sent; a client that does not read it is cut off after CLOSE_GRACE_S."""
        if self._transport is None or self.lost:
            return
        self._transport.close()
        if self._abort is None:
            self._abort = self._loop.call_later(CLOSE_GRACE_S, self._transport.abort)
