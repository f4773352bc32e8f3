"""One public port for gRPC and HTTP/1.1: connections are told apart by their first bytes and handed on.

The first bytes are only peeked at, so they stay in the socket for whoever serves the connection. HTTP/1.1 goes to aiohttp with the
accepted socket itself, without a second hop. gRPC begins with HTTP/2's preface and is carried byte by byte to grpcio's own
listener on a private Unix socket, because grpcio takes no accepted sockets. With TLS a connection must begin with a ClientHello:
one that offers only `h2` is gRPC and is passed on still encrypted (grpcio ends the TLS); one that offers `http/1.1`, or
names no protocol, is HTTP and its TLS ends here.

What it costs: each gRPC message crosses this process's loop twice more. bench/RESULTS.md has the figures; `serve_http` serves the
pages on a port of their own where that is too much. A gRPC handler sees the Unix socket as its peer, not the client's address.

Bounds: what is peeked, how long a connection may say nothing, how many connections there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import shutil
import socket
import ssl
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from core_py.errors import CANNOT_LISTEN, ConfigError
from core_py.ports import Channel, Listener, Service, Transport
from core_py.runtime.byte_pump import BytePump
from core_py.runtime.client_hello import MAX_RECORD, RECORD_HEADER, MalformedHello, offered_protocols
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n"
PEEK_BYTES = RECORD_HEADER + MAX_RECORD
PEEK_AGAIN_S = 0.02  # peeked bytes stay readable, so waiting for more of them is a matter of time, not of events
ACCEPT_AGAIN_S = 0.5  # when the process has no file descriptor left
BACKLOG = 1024
ACCEPTS_PER_WAKEUP = 64
KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))


@dataclass(frozen=True, slots=True)
class FrontLimits:
    """What the front allows."""

    connections: int = 8192
    """Beyond it new connections are closed at once."""
    silence_s: float = 10.0
    """How long a new connection may take until it has said what it speaks."""


class Speaks(enum.Enum):
    """What a connection turned out to be."""

    GRPC = "gRPC"
    HTTP = "HTTP"
    MORE = "more bytes are needed"
    NOTHING_KNOWN = "nothing that is served here"


def classify(data: bytes, *, tls: bool) -> Speaks:
    """What begins with these bytes (at least one)."""
    if tls:
        try:
            offered = offered_protocols(data)
        except MalformedHello:
            return Speaks.NOTHING_KNOWN
        if offered is None:
            return Speaks.MORE
        return Speaks.GRPC if b"h2" in offered and b"http/1.1" not in offered else Speaks.HTTP
    if data.startswith(HTTP2_PREFACE):
        return Speaks.GRPC
    if HTTP2_PREFACE.startswith(data):
        return Speaks.MORE
    return Speaks.HTTP if data[:1].isalpha() and data[:1].isupper() else Speaks.NOTHING_KNOWN


class _Arrival:
    """A connection that has not said yet what it speaks."""

    def __init__(self, front: PortFront, accepted: socket.socket, silence_s: float) -> None:
        self._front = front
        self._socket = accepted
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self._deadline = self._loop.call_later(silence_s, self.drop)
        self._loop.add_reader(accepted, self._peek)

    def _peek(self) -> None:
        try:
            data = self._socket.recv(PEEK_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            self.drop()
            return
        speaks = classify(data, tls=self._front.tls is not None) if data else Speaks.NOTHING_KNOWN
        if speaks is Speaks.NOTHING_KNOWN:
            self.drop()
        elif speaks is Speaks.MORE:
            self._loop.remove_reader(self._socket)
            self._again = self._loop.call_later(PEEK_AGAIN_S, self._peek)
        else:
            self._leave()
            self._front.hand_on(self._socket, speaks)

    def _leave(self) -> None:
        self._deadline.cancel()
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._socket)
        self._front.arrivals.discard(self)

    def drop(self) -> None:
        """Close the connection."""
        self._leave()
        self._socket.close()


class PortFront:
    """Listens, tells connections apart, hands them on."""

    def __init__(
        self,
        listening: socket.socket,
        grpc_path: str,
        http: web.Server,
        tls: ssl.SSLContext | None,
        limits: FrontLimits,
    ) -> None:
        self.tls = tls
        self.arrivals: set[_Arrival] = set()
        self._listening = listening
        self._grpc_path = grpc_path
        self._http = http
        self._limits = limits
        self._pumps: set[BytePump] = set()
        self._scope = TaskScope("port front", on_failure=self._failed)
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Accept connections from now on."""
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_WAKEUP):
            try:
                accepted, _address = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                get_logger().error("cannot accept connections for a while", error=str(error))
                self._loop.remove_reader(self._listening)
                self._again = self._loop.call_later(ACCEPT_AGAIN_S, self.start)
                return
            if self.connections() >= self._limits.connections:
                accepted.close()
                continue
            accepted.settimeout(0.0)
            with contextlib.suppress(OSError):  # it may be gone already, which the first read tells
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in KEEPALIVE:
                    accepted.setsockopt(socket.IPPROTO_TCP, option, value)
            self.arrivals.add(_Arrival(self, accepted, self._limits.silence_s))

    def connections(self) -> int:
        """How many there are now."""
        return len(self.arrivals) + len(self._pumps) + len(self._http.connections)

    def hand_on(self, accepted: socket.socket, speaks: Speaks) -> None:
        """Give a connection to whoever serves it."""
        if speaks is Speaks.HTTP:
            self._scope.spawn(self._to_http(accepted))
            return
        pump = BytePump(self._pumps.discard)
        self._pumps.add(pump)
        self._scope.spawn(self._to_grpc(accepted, pump))

    async def _to_http(self, accepted: socket.socket) -> None:
        try:
            if self.tls is None:
                await self._loop.connect_accepted_socket(self._http, accepted)
            else:
                await self._loop.connect_accepted_socket(
                    self._http, accepted, ssl=self.tls, ssl_handshake_timeout=self._limits.silence_s
                )
        except OSError:  # it went away, or its handshake failed
            accepted.close()

    async def _to_grpc(self, accepted: socket.socket, pump: BytePump) -> None:
        try:
            await pump.start(accepted, self._grpc_path)
        except OSError as error:
            self._pumps.discard(pump)
            get_logger().warning("a gRPC connection could not be handed on", error=str(error))

    def _failed(self, error: BaseException) -> None:
        get_logger().error("a connection could not be handed on", error=repr(error), exc_info=error)

    def stop_accepting(self) -> None:
        """Close the port; connections stay."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()
        for arrival in list(self.arrivals):
            arrival.drop()

    async def close(self) -> None:
        """Drop what is left."""
        await self._scope.close()
        for pump in list(self._pumps):
            pump.abort()


class _SharedListener:
    """`core_py.ports.Listener` of a shared port."""

    def __init__(self, address: str, front: PortFront, grpc: Listener, runner: web.AppRunner, directory: Path) -> None:
        self.address = address
        self._front = front
        self._grpc = grpc
        self._runner = runner
        self._directory = directory

    async def stop(self, grace_s: float) -> None:
        """Refuse new connections, let running calls end, then drop them."""
        self._front.stop_accepting()
        await self._grpc.stop(grace_s)
        await self._runner.cleanup()
        await self._front.close()
        shutil.rmtree(self._directory, ignore_errors=True)


class _HttpListener:
    """`core_py.ports.Listener` of a port for HTTP alone."""

    def __init__(self, address: str, runner: web.AppRunner) -> None:
        self.address = address
        self._runner = runner

    async def stop(self, grace_s: float) -> None:
        """Refuse new connections, let running requests end. The time for them was given at the start."""
        await self._runner.cleanup()


async def bind(address: str) -> socket.socket:
    """A listening socket on host:port; of a name with several addresses the first. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _kind, _protocol, _name, where = found[0]
        listening = socket.create_server(where[:2], family=family, backlog=BACKLOG)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{CANNOT_LISTEN} {address}: {error}; free it or choose another") from error
    listening.settimeout(0.0)
    return listening


def _address(address: str, listening: socket.socket) -> str:
    return f"{address.rpartition(':')[0]}:{listening.getsockname()[1]}"


async def _runner_of(application: web.Application, grace_s: float) -> web.AppRunner:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=grace_s)
    await runner.setup()
    return runner


async def serve_shared(
    transport: Transport,
    address: str,
    services: Sequence[Service],
    application: web.Application,
    *,
    tls: ssl.SSLContext | None = None,
    limits: FrontLimits | None = None,
    grace_s: float = 0.5,
) -> Listener:
    """Serve gRPC and HTTP on one host:port (port 0 picks one).

    `transport` must serve Unix addresses (`unix:/path`, as gRPC's does) and must use TLS exactly when `tls` is given, which is for
    HTTP. Raises ConfigError when the address is taken.
    """
    listening = await bind(address)
    directory = Path(tempfile.mkdtemp(prefix="grpc-"))
    path = str(directory / "s")
    try:
        grpc = await transport.serve(f"unix:{path}", services)
    except BaseException:
        listening.close()
        shutil.rmtree(directory, ignore_errors=True)
        raise
    runner = await _runner_of(application, grace_s)
    assert runner.server is not None
    front = PortFront(listening, path, runner.server, tls, limits or FrontLimits())
    front.start()
    return _SharedListener(_address(address, listening), front, grpc, runner, directory)


async def serve_http(
    address: str, application: web.Application, *, tls: ssl.SSLContext | None = None, grace_s: float = 0.5
) -> Listener:
    """Serve HTTP alone on host:port (port 0 picks one). Raises ConfigError when the address is taken."""
    listening = await bind(address)
    runner = await _runner_of(application, grace_s)
    await web.SockSite(runner, listening, ssl_context=tls, backlog=BACKLOG).start()
    return _HttpListener(_address(address, listening), runner)


class SharedPortTransport:
    """`core_py.ports.Transport` that serves one of its addresses together with an HTTP application, all else as `inner` does.

    `make_application` is called when that address is served. `tls` as for `serve_shared`.
    """

    def __init__(
        self,
        inner: Transport,
        address: str,
        make_application: Callable[[], web.Application],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._inner = inner
        self._address = address
        self._make_application = make_application
        self._tls = tls

    def connect(self, address: str) -> Channel:
        """A channel to host:port."""
        return self._inner.connect(address)

    async def serve(self, address: str, services: Sequence[Service]) -> Listener:
        """Serve on host:port. Raises ConfigError when the address is in use."""
        if address != self._address:
            return await self._inner.serve(address, services)
        return await serve_shared(self._inner, address, services, self._make_application(), tls=self._tls)
