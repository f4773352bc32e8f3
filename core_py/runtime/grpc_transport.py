"""The network port over grpc.aio. The only module that imports grpc.

Settings that matter (field notes 1): no message size limit on the transport, because each request type has its own; no
SO_REUSEPORT, or two servers would share a port without an error; Go clients ping every 10 s, also without a call, so the
server must allow that. One event loop per process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, NoReturn, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from core_py.errors import (
    CANNOT_LISTEN,
    ConfigError,
    DbError,
    DeadlineExceeded,
    InvariantViolation,
    RpcError,
    invariant,
)
from core_py.ports import CallContext, Handler, Listener, Method, Service, StatusError, StreamCall, methods_of
from core_py.runtime import tasks

SERVER_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.write_buffer_size", 1 << 20),
)
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
)
_STATUS = {code.name: code for code in grpc.StatusCode}


def _rpc_error(error: grpc.aio.AioRpcError, path: str) -> RpcError:
    status = error.code().name
    if status == "DEADLINE_EXCEEDED":
        return DeadlineExceeded(f"{path}: no answer within the deadline")
    return RpcError(f"{path}: {status}: {error.details()}", status=status)


def _raise_unless_ended(path: str, error: asyncio.CancelledError) -> NoReturn:
    """grpc.aio cancels whoever waits on a call that was ended locally; only a cancellation of the caller itself is one."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise error
    raise RpcError(f"{path}: CANCELLED: the stream was ended on this side", status="CANCELLED") from error


class GrpcStream:
    """`core_py.ports.StreamCall` over a grpc.aio call."""

    def __init__(self, call: Any, path: str) -> None:
        self._call = call
        self._path = path

    async def send(self, message: Message) -> None:
        """Send one message."""
        try:
            await self._call.write(message)
        except asyncio.CancelledError as error:
            _raise_unless_ended(self._path, error)
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error, self._path) from error
        except asyncio.InvalidStateError as error:
            raise RpcError(f"{self._path}: the stream has ended", sent=False) from error

    async def receive(self) -> Any:
        """The next message, or None at the end."""
        try:
            message = await self._call.read()
        except asyncio.CancelledError as error:
            _raise_unless_ended(self._path, error)
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error, self._path) from error
        return None if message is grpc.aio.EOF else message

    async def done_sending(self) -> None:
        """Half-close."""
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):  # it has ended already
            await self._call.done_writing()

    def cancel(self) -> None:
        """End the call now."""
        self._call.cancel()


class _StreamUnary(GrpcStream):
    """A client stream answered once: `receive` gives the answer, then None."""

    _answered = False

    async def receive(self) -> Any:
        """The single answer, then None."""
        if self._answered:
            return None
        try:
            message = await self._call
        except asyncio.CancelledError as error:
            _raise_unless_ended(self._path, error)
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error, self._path) from error
        self._answered = True
        return message


class _UnaryStream(GrpcStream):
    """One request answered by a stream: grpc.aio wants the request when the call begins, so it begins with `send`."""

    def __init__(self, begin: Callable[[Message], Any], path: str) -> None:
        super().__init__(None, path)
        self._begin = begin

    async def send(self, message: Message) -> None:
        """Send the request."""
        if self._call is not None:
            raise RpcError(f"{self._path}: the call takes one request", sent=False)
        try:
            self._call = self._begin(message)
        except grpc.aio.UsageError as error:
            raise RpcError(f"{self._path}: the channel is closed", sent=False) from error

    async def receive(self) -> Any:
        """The next message, or None at the end."""
        invariant(self._call is not None, f"{self._path}: nothing was asked yet")
        return await super().receive()

    async def done_sending(self) -> None:
        """Nothing more was going to be sent."""

    def cancel(self) -> None:
        """End the call, if it has begun."""
        if self._call is not None:
            self._call.cancel()


class GrpcChannel:
    """`core_py.ports.Channel` to one address. Multicallables are kept per method: making one costs more than a call's encoding."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None) -> None:
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
        self._calls: dict[str, Any] = {}

    def _callable(self, method: Method) -> Any:
        call = self._calls.get(method.path)
        if call is None:
            shape = (
                ("stream" if method.client_streaming else "unary")
                + "_"
                + ("stream" if method.server_streaming else "unary")
            )
            call = getattr(self._channel, shape)(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            self._calls[method.path] = call
        return call

    async def unary(
        self, method: Method, request: Message, *, timeout_s: float, metadata: Sequence[tuple[str, str]] = ()
    ) -> Any:
        """One request, one response."""
        try:
            return await self._callable(method)(request, timeout=timeout_s, metadata=metadata or None)
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error, method.path) from error
        except grpc.aio.UsageError as error:
            raise RpcError(f"{method.path}: the channel is closed", sent=False) from error

    def stream(self, method: Method, *, metadata: Sequence[tuple[str, str]] = ()) -> StreamCall:
        """Open a stream."""
        if not method.client_streaming:
            begin = self._callable(method)
            return _UnaryStream(lambda request: begin(request, metadata=metadata or None), method.path)
        try:
            call = self._callable(method)(metadata=metadata or None)
        except grpc.aio.UsageError as error:
            raise RpcError(f"{method.path}: the channel is closed", sent=False) from error
        return GrpcStream(call, method.path) if method.server_streaming else _StreamUnary(call, method.path)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()


class _GrpcListener:
    def __init__(self, server: Any, address: str) -> None:
        self._server = server
        self.address = address

    async def stop(self, grace_s: float) -> None:
        """Stop serving."""
        await self._server.stop(grace_s)


class GrpcTransport:
    """`core_py.ports.Transport` over grpc.aio. `tls` is (root certificates, private key, certificate chain) in PEM.

    A request of more than `max_request_bytes` is refused before it is read (-1: none is).
    """

    def __init__(self, tls: tuple[bytes, bytes, bytes] | None = None, *, max_request_bytes: int = -1) -> None:
        self._tls = tls
        self._options = (*SERVER_OPTIONS, ("grpc.max_receive_message_length", max_request_bytes))

    def connect(self, address: str) -> GrpcChannel:
        """A channel to host:port; a scheme is stripped."""
        credentials = None
        if self._tls is not None:
            root, key, chain = self._tls
            credentials = grpc.ssl_channel_credentials(root, key, chain)
        return GrpcChannel(address.split("://", 1)[-1], credentials)

    async def serve(self, address: str, services: Sequence[Service]) -> Listener:
        """Serve on host:port."""
        server = grpc.aio.server(options=self._options)
        for service in services:
            server.add_generic_rpc_handlers((_generic_handler(service),))
        try:
            if self._tls is None:
                port = server.add_insecure_port(address)
            else:
                root, key, chain = self._tls
                credentials = grpc.ssl_server_credentials(
                    [(key, chain)], root_certificates=root, require_client_auth=True
                )
                port = server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise ConfigError(
                f"{CANNOT_LISTEN} {address}: the port is in use or not ours; free it or choose another"
            ) from error
        await server.start()
        return _GrpcListener(server, f"{address.rsplit(':', 1)[0]}:{port}")


def _generic_handler(service: Service) -> grpc.GenericRpcHandler:
    table = {}
    for name, method in methods_of(service.descriptor).items():
        handler = service.handlers.get(name)
        if handler is None:
            continue
        shape = (
            ("stream" if method.client_streaming else "unary")
            + "_"
            + ("stream" if method.server_streaming else "unary")
        )
        adapt = _adapt_stream if method.server_streaming else _adapt_unary
        table[name] = getattr(grpc, f"{shape}_rpc_method_handler")(
            adapt(handler),
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service.descriptor.full_name, table)


def _context(context: Any) -> CallContext:
    metadata = context.invocation_metadata() or ()
    return CallContext(peer=context.peer(), metadata={k: v for k, v in metadata if isinstance(v, str)})


async def _abort(context: Any, error: BaseException) -> None:
    if isinstance(error, InvariantViolation):
        tasks.stop_process(error)
    if isinstance(error, StatusError | RpcError):
        await context.abort(_STATUS.get(error.status, grpc.StatusCode.UNKNOWN), str(error))
    if isinstance(error, DbError):
        await context.abort(grpc.StatusCode.UNKNOWN, f"{error.code}: {error}")
    raise error


def _adapt_unary(handler: Handler) -> Callable[[Any, Any], Any]:
    async def call(request: Any, context: Any) -> Any:
        try:
            return await cast("Any", handler(request, _context(context)))
        except (DbError, InvariantViolation) as error:
            await _abort(context, error)

    return call


def _adapt_stream(handler: Handler) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            # Closed here and now when the caller goes away: what a handler holds must not wait for the garbage collector.
            async with contextlib.aclosing(
                cast("AsyncGenerator[Any, None]", handler(request, _context(context)))
            ) as out:
                async for response in out:
                    yield response
        except (DbError, InvariantViolation) as error:
            await _abort(context, error)

    return call
