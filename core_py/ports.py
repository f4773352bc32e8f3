"""The outside world as interfaces: clock, randomness and network. Passed in by constructor, never looked up.

Two sets of adapters exist: the real ones in `core_py.runtime` and the simulated ones in `core_py.sim`. Code that takes
these ports runs unchanged as a server process, inside a test process, and under the seeded simulator. The storage
engine's port is in `tikv_py.engine.port`, because only stores have one.

The network port is shaped by gRPC without knowing it: a method has a path and message types taken from the protobuf
descriptors, a call is unary or a stream, a failure is an `RpcError` with a status name. Messages cross it by value.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from google.protobuf import message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from core_py.errors import DbError


class Clock(Protocol):
    """Time. `monotonic` never goes back; `wall_ms` may jump with the system clock."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...


class Random(Protocol):
    """The part of `random.Random` in use; always seeded from outside."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def randrange(self, start: int, stop: int, /) -> int:
        """An integer in [start, stop)."""
        ...

    def getrandbits(self, k: int, /) -> int:
        """An integer of k random bits."""
        ...


class Disk(Protocol):
    """Named files of one directory. What was appended survives a loss of power only after `sync`."""

    def read(self, name: str) -> bytes | None:
        """The whole content, or None when there is no such file."""
        ...

    def append(self, name: str, data: bytes) -> None:
        """Add to the end, creating the file."""
        ...

    def sync(self, name: str) -> None:
        """Make everything appended so far durable. Blocks; meant for a thread."""
        ...

    def replace(self, name: str, data: bytes) -> None:
        """Set the whole content, atomically and durably."""
        ...

    def close(self) -> None:
        """Close open files."""
        ...


class Workers(Protocol):
    """Where blocking calls and long computations go, off the event loop."""

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function in a worker thread (in simulation: at once) and return its result."""
        ...

    async def sync(self, function: Callable[[], None]) -> None:
        """Run a disk sync on the thread kept for it, so that nothing queues before it."""
        ...


class StatusError(DbError):
    """Raised by an RPC handler to end the call with a gRPC status other than OK."""

    code = "Core:Rpc:Status"

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC method: its wire path and the message classes on both sides."""

    path: str
    name: str
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool


def methods_of(service: ServiceDescriptor) -> dict[str, Method]:
    """The methods of a protobuf service by name."""
    return {
        method.name: Method(
            path=f"/{service.full_name}/{method.name}",
            name=method.name,
            request=message_factory.GetMessageClass(method.input_type),
            response=message_factory.GetMessageClass(method.output_type),
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
        )
        for method in service.methods
    }


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a handler may know about its caller."""

    peer: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


# A handler takes (request, context), or (async iterator of requests, context) for a client stream, and returns an awaitable
# of one response, or for a server stream an async generator of responses, which is closed at once when its caller goes away.
# The four shapes cannot be told apart by type here without repeating every method; `methods_of` says which one a name has.
Handler = Callable[[Any, CallContext], Awaitable[Any] | AsyncIterator[Any]]


@dataclass(frozen=True, slots=True)
class Service:
    """A served protobuf service: methods without a handler answer UNIMPLEMENTED."""

    descriptor: ServiceDescriptor
    handlers: Mapping[str, Handler]


class StreamCall(Protocol):
    """The client's end of a stream."""

    async def send(self, message: Message) -> None:
        """Send one message; waits while the other side takes no more. Raises RpcError when the stream has ended."""
        ...

    async def receive(self) -> Any:
        """The next message, or None when the other side ended the stream well. Raises RpcError otherwise."""
        ...

    async def done_sending(self) -> None:
        """Say that no more messages will be sent."""
        ...

    def cancel(self) -> None:
        """End the call now."""
        ...


class Channel(Protocol):
    """A client's connection to one address; connects lazily and again after failures."""

    async def unary(
        self, method: Method, request: Message, *, timeout_s: float, metadata: Sequence[tuple[str, str]] = ()
    ) -> Any:
        """One request, one response. Raises RpcError (DeadlineExceeded after `timeout_s`)."""
        ...

    def stream(self, method: Method, *, metadata: Sequence[tuple[str, str]] = ()) -> StreamCall:
        """Open a stream; failures show on its first send or receive."""
        ...

    async def close(self) -> None:
        """Close the connection; calls in flight fail."""
        ...


class Listener(Protocol):
    """A running RPC server."""

    address: str

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, give running ones `grace_s` seconds, then cancel them."""
        ...


class Transport(Protocol):
    """Where channels and listeners come from."""

    def connect(self, address: str) -> Channel:
        """A channel to host:port."""
        ...

    async def serve(self, address: str, services: Sequence[Service]) -> Listener:
        """Serve on host:port (port 0 picks one). Raises ConfigError when the address is in use."""
        ...
