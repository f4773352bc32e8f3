"""All traffic to one store: its connections, and which of them a request takes.

Requests fill one stream's next message before another stream is used, because a message costs far more than a place in it; the next
stream's turn comes when a message is full or stuck in the transport. Commands without a batch form, and stores without
BatchCommands, are served by unary calls. Connections are opened by the first request and closed again after minutes without one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from core_py.errors import RpcError
from core_py.ports import Channel, Method, StreamCall, methods_of
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.grpc_health import health_pb2
from tikv_py.client.rpc.batch_commands import BatchOptions, BatchStream, HealthHook
from tikv_py.client.rpc.methods import BATCH_FIELDS, METHODS
from tikv_py.client.rpc.stats import RpcStats

HEALTH_CHECK: Method = methods_of(health_pb2.DESCRIPTOR.services_by_name["Health"])["Check"]

log = get_logger()


class StoreConnection:
    """See the module's text."""

    def __init__(
        self,
        connect: Callable[[], Channel],
        scope: TaskScope,
        address: str,
        *,
        options: BatchOptions | None = None,
        stats: RpcStats | None = None,
        on_health: HealthHook | None = None,
    ) -> None:
        self.address = address
        self.stats = stats or RpcStats()
        self._options = options or BatchOptions()
        self._connect, self._scope = connect, scope
        self._channels: list[Channel | None] = [None] * self._options.connections
        self._streams = [self._stream(number, on_health) for number in range(self._options.connections)]
        self._stream_in_turn = self._streams[0]
        self._single = len(self._streams) == 1
        self._turn = 0
        self._unary_only = False
        self._unary_running = 0

    def _stream(self, number: int, on_health: HealthHook | None) -> BatchStream:
        def open_stream() -> StreamCall:
            return self._channel(number).stream(METHODS["BatchCommands"])

        return BatchStream(
            open_stream,
            self._scope,
            f"store {self.address}",
            self._options,
            self.stats,
            on_health=on_health,
            on_idle=self._close_if_quiet,
        )

    def _channel(self, number: int) -> Channel:
        channel = self._channels[number]
        if channel is None:
            channel = self._channels[number] = self._connect()
        return channel

    async def call(self, name: str, request: Message, timeout_s: float, *, urgent: bool = False) -> Any:
        """Run a store method (its name in the service, "KvGet") and return its response. Raises RpcError, DeadlineExceeded."""
        self.stats.requests[name] += 1
        field = BATCH_FIELDS.get(name)
        if field is None or self._unary_only:
            return await self._unary(METHODS[name], request, timeout_s)
        stream = self._streams[0] if self._single else self._next_stream()
        if stream.full:
            await stream.room(timeout_s)
        try:
            return await stream.submit(field, request, timeout_s, urgent=urgent)
        except RpcError as error:
            if error.status != "UNIMPLEMENTED":
                raise
            log.info("store has no BatchCommands, using single calls", store=self.address)
            self._unary_only = True
            return await self._unary(METHODS[name], request, timeout_s)

    def _next_stream(self) -> BatchStream:
        streams, now = self._streams, self._stream_in_turn
        if now.is_writing or now.full:
            for _ in streams:
                self._turn = (self._turn + 1) % len(streams)
                if not streams[self._turn].is_writing and not streams[self._turn].full:
                    break
            now = self._stream_in_turn = streams[self._turn]
        return now

    async def _unary(self, method: Method, request: Message, timeout_s: float) -> Any:
        self._unary_running += 1
        try:
            return await self._channel(0).unary(method, request, timeout_s=timeout_s)
        finally:
            self._unary_running -= 1

    async def check_health(self, timeout_s: float) -> int:
        """What the store says of itself, a `HealthCheckResponse.ServingStatus`. Raises RpcError."""
        self.stats.health_checks += 1
        response = await self._unary(HEALTH_CHECK, health_pb2.HealthCheckRequest(), timeout_s)
        return int(response.status)

    def _close_if_quiet(self) -> None:
        """A stream ended for want of requests: without any other traffic the connections go, too."""
        if not self._unary_running and all(stream.is_quiet for stream in self._streams):
            self._scope.spawn(self._close_channels(), name=f"close idle connection to {self.address}")

    async def _close_channels(self) -> None:
        channels = [channel for channel in self._channels if channel is not None]
        self._channels = [None] * len(self._channels)
        for channel in channels:
            await channel.close()

    async def close(self) -> None:
        """Close; calls in flight fail."""
        for stream in self._streams:
            stream.end()
        await self._close_channels()
