"""A network in memory: the transport port without sockets, with faults on demand.

Every message is serialised and parsed on its way, so that no two processes share an object. A `Fault` decides for each
message between two named endpoints whether it is lost, how long it takes, and whether the link is cut; it draws from the run's
seeded generator only. Without a fault, messages arrive in order and at once: that is the transport of embedded clusters.

Semantics kept from the real one: a cut link fails calls in flight with UNAVAILABLE; a stream that loses a message is broken
(TCP does not skip bytes) and fails on both ends; a unary call that loses its request or answer times out; a stopped
listener refuses calls. Order within one stream is kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol, cast

from google.protobuf.message import Message

from core_py.errors import CANNOT_LISTEN, ConfigError, DbError, DeadlineExceeded, InvariantViolation, RpcError
from core_py.ports import CallContext, Handler, Method, Service, StatusError, methods_of
from core_py.runtime.tasks import TaskScope

STREAM_WINDOW = 1024  # messages a stream may hold; a sender waits beyond that


class Fault(Protocol):
    """Decides the fate of messages. Pure apart from its seeded generator."""

    def connected(self, source: str, target: str) -> bool:
        """Whether messages pass from source to target at all (may be one-way)."""
        ...

    def delay_s(self, source: str, target: str) -> float | None:
        """Seconds this message takes, or None when it is lost."""
        ...


class NoFault:
    """A perfect network."""

    def connected(self, source: str, target: str) -> bool:
        """Always."""
        return True

    def delay_s(self, source: str, target: str) -> float | None:
        """At once."""
        return 0.0


class MemoryNetwork:
    """All listeners of one simulated world. `transport(name)` gives one endpoint's view of it."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault: Fault = fault or NoFault()
        self._listeners: dict[str, _Listener] = {}
        self._next_port = 1

    def transport(self, name: str) -> MemoryTransport:
        """The transport of the process called `name`."""
        return MemoryTransport(self, name)

    def listen(self, address: str, listener: _Listener) -> str:
        """Register a listener; port 0 picks one."""
        host, _, port = address.rpartition(":")
        if port == "0":
            address = f"{host}:{self._next_port}"
            self._next_port += 1
        if address in self._listeners:
            raise ConfigError(f"{CANNOT_LISTEN} {address}: the port is in use")
        self._listeners[address] = listener
        return address

    def remove(self, address: str) -> None:
        """Forget a listener."""
        self._listeners.pop(address, None)

    def find(self, address: str) -> _Listener | None:
        """The listener at an address."""
        return self._listeners.get(address)

    async def carry(self, source: str, target: str) -> bool:
        """Let one message travel; False when it is lost or the link is cut."""
        if not self.fault.connected(source, target):
            return False
        delay = self.fault.delay_s(source, target)
        if delay is None:
            return False
        if delay > 0:
            await asyncio.sleep(delay)
        return self.fault.connected(source, target)


class _Listener:
    def __init__(self, network: MemoryNetwork, name: str, services: Sequence[Service]) -> None:
        self._network = network
        self.name = name
        self.address = ""
        self.handlers: dict[str, tuple[Method, Handler]] = {}
        self.scope = TaskScope(f"listener {name}")
        self.open = True
        for service in services:
            for method_name, method in methods_of(service.descriptor).items():
                if method_name in service.handlers:
                    self.handlers[method.path] = (method, service.handlers[method_name])

    async def stop(self, grace_s: float) -> None:
        """Stop serving; running calls end."""
        self.open = False
        self._network.remove(self.address)
        await self.scope.close()


class MemoryTransport:
    """`core_py.ports.Transport` of one endpoint in a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, name: str) -> None:
        self._network = network
        self._name = name

    def connect(self, address: str) -> MemoryChannel:
        """A channel to host:port; a scheme is stripped."""
        return MemoryChannel(self._network, self._name, address.split("://", 1)[-1])

    async def serve(self, address: str, services: Sequence[Service]) -> _Listener:
        """Serve on host:port."""
        listener = _Listener(self._network, self._name, services)
        listener.address = self._network.listen(address, listener)
        return listener


def _to_rpc_error(error: BaseException, path: str) -> RpcError:
    if isinstance(error, InvariantViolation):
        raise error
    if isinstance(error, StatusError | RpcError):
        return RpcError(f"{path}: {error.status}: {error}", status=error.status)
    if isinstance(error, DbError):
        return RpcError(f"{path}: UNKNOWN: {error.code}: {error}", status="UNKNOWN")
    return RpcError(f"{path}: UNKNOWN: {type(error).__name__}: {error}", status="UNKNOWN")


class MemoryChannel:
    """`core_py.ports.Channel` in memory."""

    def __init__(self, network: MemoryNetwork, name: str, address: str) -> None:
        self._network, self._name, self._address = network, name, address
        self._streams: set[MemoryStream] = set()
        self._closed = False

    def _target(self, path: str) -> _Listener:
        listener = self._network.find(self._address)
        if self._closed or listener is None or not listener.open:
            raise RpcError(f"{path}: UNAVAILABLE: nothing listens on {self._address}", sent=False)
        if not self._network.fault.connected(self._name, listener.name):
            raise RpcError(f"{path}: UNAVAILABLE: no route to {self._address}", sent=False)
        return listener

    async def unary(
        self, method: Method, request: Message, *, timeout_s: float, metadata: Sequence[tuple[str, str]] = ()
    ) -> Any:
        """One request, one response."""
        listener = self._target(method.path)
        data = request.SerializeToString()

        async def exchange() -> Any:
            if not await self._network.carry(self._name, listener.name):
                await asyncio.get_running_loop().create_future()  # lost: only the deadline ends the wait
            if not listener.open:
                raise RpcError(f"{method.path}: UNAVAILABLE: {self._address} stopped", sent=True)
            entry = listener.handlers.get(method.path)
            if entry is None:
                raise RpcError(f"{method.path}: UNIMPLEMENTED", status="UNIMPLEMENTED")
            context = CallContext(peer=self._name, metadata=dict(metadata))
            task = listener.scope.spawn(
                _call_handler(entry[1], method.request.FromString(data), context), name=method.path
            )
            await asyncio.wait([task])
            if task.cancelled():
                raise RpcError(f"{method.path}: UNAVAILABLE: {self._address} stopped")
            outcome = task.result()
            if not await self._network.carry(listener.name, self._name):
                await asyncio.get_running_loop().create_future()
            if isinstance(outcome, BaseException):
                raise _to_rpc_error(outcome, method.path)
            return method.response.FromString(outcome.SerializeToString())

        try:
            async with asyncio.timeout(timeout_s):
                return await exchange()
        except TimeoutError:
            raise DeadlineExceeded(f"{method.path}: no answer within {timeout_s} s") from None

    def stream(self, method: Method, *, metadata: Sequence[tuple[str, str]] = ()) -> MemoryStream:
        """Open a stream."""
        listener = self._target(method.path)
        stream = MemoryStream(self._network, self._name, listener, method, dict(metadata))
        self._streams.add(stream)
        stream.on_end = lambda: self._streams.discard(stream)
        return stream

    async def close(self) -> None:
        """Close the connection; streams break."""
        self._closed = True
        for stream in list(self._streams):
            stream.cancel()


async def _call_handler(handler: Handler, request: Message, context: CallContext) -> Any:
    """Run a unary handler; expected failures are returned, so that the listener's scope does not see them as bugs."""
    try:
        return await cast("Awaitable[Any]", handler(request, context))
    except Exception as error:  # noqa: BLE001 the RPC boundary: the caller gets it as a status
        return error


class _Pipe:
    """One direction of a stream: bounded, ordered, closable with or without an error."""

    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._space = asyncio.Event()
        self._space.set()
        self._ended = False
        self._error: RpcError | None = None

    async def put(self, item: bytes) -> None:
        while len(self._items) >= STREAM_WINDOW and not self._ended:
            self._space.clear()
            await self._space.wait()
        if self._ended:
            raise self._error or RpcError("UNAVAILABLE: the stream has ended")
        self._items.append(item)
        self._wake.set()

    async def get(self) -> bytes | None:
        while not self._items:
            if self._ended:
                if self._error is not None:
                    raise self._error
                return None
            self._wake.clear()
            await self._wake.wait()
        item = self._items.popleft()
        self._space.set()
        return item

    def end(self, error: RpcError | None = None) -> None:
        if not self._ended:
            self._ended, self._error = True, error
            if error is not None:
                self._items.clear()
        self._wake.set()
        self._space.set()


class MemoryStream:
    """`core_py.ports.StreamCall` in memory, with its server side."""

    def __init__(
        self, network: MemoryNetwork, source: str, listener: _Listener, method: Method, metadata: dict[str, str]
    ) -> None:
        self._network, self._source, self._listener, self._method = network, source, listener, method
        self._up, self._down = _Pipe(), _Pipe()
        self.on_end: Callable[[], object] = lambda: None
        entry = listener.handlers.get(method.path)
        if entry is None:
            self._break(RpcError(f"{method.path}: UNIMPLEMENTED", status="UNIMPLEMENTED"))
            self._task = None
            return
        context = CallContext(peer=source, metadata=metadata)
        self._task = listener.scope.spawn(self._serve(entry[1], context), name=method.path)
        self._task.add_done_callback(self._server_done)

    def _server_done(self, task: asyncio.Task[Any]) -> None:
        if (
            task.cancelled() or task.exception() is not None
        ):  # a process that ends, in whatever way, ends its connections
            self._break(RpcError(f"{self._method.path}: UNAVAILABLE: {self._listener.address} stopped"))
        self.on_end()

    def _break(self, error: RpcError) -> None:
        self._up.end(error)
        self._down.end(error)
        self.on_end()

    async def _serve(self, handler: Handler, context: CallContext) -> None:
        async def requests() -> AsyncIterator[Any]:
            while (data := await self._up.get()) is not None:
                yield self._method.request.FromString(data)

        argument: Any = requests()
        try:
            if not self._method.client_streaming:
                argument = self._method.request.FromString(await self._up.get() or b"")
            answer = handler(argument, context)
            if self._method.server_streaming:
                async with aclosing(cast("AsyncGenerator[Message, None]", answer)) as responses:
                    async for response in responses:
                        await self._send_down(response)
            else:
                await self._send_down(await cast("Awaitable[Message]", answer))
        except Exception as error:  # noqa: BLE001 the RPC boundary: the caller gets it as a status
            self._break(_to_rpc_error(error, self._method.path))
            return
        self._down.end()

    async def _send_down(self, response: Message) -> None:
        if not await self._network.carry(self._listener.name, self._source):
            error = RpcError(f"{self._method.path}: UNAVAILABLE: connection to {self._listener.address} lost")
            self._break(error)
            raise error
        await self._down.put(response.SerializeToString())

    async def send(self, message: Message) -> None:
        """Send one message."""
        data = message.SerializeToString()
        if not await self._network.carry(self._source, self._listener.name):
            error = RpcError(f"{self._method.path}: UNAVAILABLE: connection to {self._listener.address} lost")
            self.cancel(error)
            raise error
        await self._up.put(data)

    async def receive(self) -> Any:
        """The next message, or None at the end."""
        data = await self._down.get()
        return None if data is None else self._method.response.FromString(data)

    async def done_sending(self) -> None:
        """Half-close."""
        self._up.end()

    def cancel(self, error: RpcError | None = None) -> None:
        """End the call now, on both sides."""
        self._break(error or RpcError(f"{self._method.path}: CANCELLED", status="CANCELLED"))
        if self._task is not None:
            self._task.cancel()
