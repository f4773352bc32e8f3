"""Sending raft messages to other stores: one BatchRaft stream per store, batched, bounded, never waiting.

Raft tolerates loss, so a full queue or a broken stream drops messages and tells the store loop, which makes the core probe the
follower instead of pipelining to it. Addresses come from PD and are looked up again after each failure, because a store may
come back elsewhere. Snapshots have their own stream each, at most `max_snapshots` at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from core_py.errors import DbError, RpcError
from core_py.failpoints import UNARMED, FailPoints
from core_py.ports import Channel, Method, StreamCall, Transport, methods_of
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.grpc_health import health_pb2
from protos.kvproto import raft_serverpb_pb2 as serverpb
from protos.kvproto import tikvpb_pb2

QUEUE_MAX = 8192  # messages waiting for one store; more are dropped
BATCH_MAX = 256
RECONNECT_DELAY_S = 0.2

METHODS = methods_of(tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"])
HEALTH = methods_of(health_pb2.DESCRIPTOR.services_by_name["Health"])

AddressResolver = Callable[[int], Awaitable[str]]


class _StoreLink:
    """The queue and stream to one store."""

    def __init__(self, router: RaftRouter, store_id: int) -> None:
        self._router = router
        self._store_id = store_id
        self.queue: deque[serverpb.RaftMessage] = deque()
        self._sending: list[serverpb.RaftMessage] = []
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Connect, send, and after a failure drop what waits and begin again."""
        while True:
            await self.wake.wait()
            channel: Channel | None = None
            try:
                address = await self._router.resolve(self._store_id)
                channel = self._router.transport.connect(address)
                await self._send_all(channel.stream(METHODS["BatchRaft"], metadata=self._router.metadata))
            except DbError as error:
                get_logger().warn("raft link broken", store=self._store_id, error=str(error))
                dropped = sorted({message.region_id for message in [*self._sending, *self.queue]})
                self._sending = []
                self.queue.clear()
                self.wake.clear()
                self._router.on_unreachable(self._store_id, dropped)
                await asyncio.sleep(RECONNECT_DELAY_S)
            finally:
                if channel is not None:
                    await channel.close()

    async def _send_all(self, stream: StreamCall) -> None:
        while True:
            if not self.queue:
                self.wake.clear()
                await self.wake.wait()
            batch = tikvpb_pb2.BatchRaftMessage()
            count = min(len(self.queue), BATCH_MAX)
            self._sending = [self.queue.popleft() for _ in range(count)]
            batch.msgs.extend(self._sending)
            fail = self._router.fail
            if fail.armed and (reason := await fail.reach("raft_stream_send")) is not None:
                raise RpcError(f"failpoint raft_stream_send: {reason}")
            await stream.send(batch)
            self._sending = []


class StoreCalls:
    """Calls to other stores, over connections that are kept. One call per store at a time."""

    def __init__(self, transport: Transport, resolve: AddressResolver) -> None:
        self._transport = transport
        self._resolve = resolve
        self._channels: dict[int, Channel] = {}

    async def call(self, store_id: int, method: Method, request: Any, timeout_s: float) -> Any:
        """The answer. Raises DbError; the next call then asks for the store's address again."""
        try:
            channel = self._channels.get(store_id)
            if channel is None:
                channel = self._channels[store_id] = self._transport.connect(await self._resolve(store_id))
            return await channel.unary(method, request, timeout_s=timeout_s)
        except DbError:
            broken = self._channels.pop(store_id, None)
            if broken is not None:
                await broken.close()
            raise

    async def close(self) -> None:
        """End the connections."""
        while self._channels:
            await self._channels.popitem()[1].close()


class RaftRouter:
    """Sends to every other store. `resolve` gives a store's address; `on_unreachable` hears of losses."""

    def __init__(
        self,
        transport: Transport,
        store_id: int,
        resolve: AddressResolver,
        on_unreachable: Callable[[int, list[int]], None],
        on_failure: Callable[[BaseException], None] | None = None,
        *,
        max_snapshots: int = 4,
        fail: FailPoints = UNARMED,
        on_full: Callable[[], None] = lambda: None,
    ) -> None:
        self.transport = transport
        self.fail = fail
        self.metadata = (("source_store_id", str(store_id)),)
        self.resolve = resolve
        self.on_unreachable = on_unreachable
        self._on_full = on_full
        self._links: dict[int, _StoreLink] = {}
        self._probes = StoreCalls(transport, resolve)
        self.checks = StoreCalls(transport, resolve)
        """For asking stores whom they follow."""
        self._scope = TaskScope("raft router", on_failure=on_failure)
        self._snapshots = asyncio.Semaphore(max_snapshots)

    def send(self, store_id: int, message: serverpb.RaftMessage) -> None:
        """Queue a message; drops it when the queue is full."""
        fail = self.fail
        if fail.armed and fail.hit("raft_message_send") is not None:
            return
        link = self._links.get(store_id)
        if link is None:
            link = self._links[store_id] = _StoreLink(self, store_id)
            self._scope.spawn(link.run(), name=f"raft link to store {store_id}")
        if len(link.queue) >= QUEUE_MAX or (fail.armed and fail.hit("raft_queue_full") is not None):
            self._on_full()
            self.on_unreachable(store_id, [message.region_id])
            return
        link.queue.append(message)
        link.wake.set()

    async def is_alive(self, store_id: int, timeout_s: float) -> bool:
        """Whether a store answers the public health check. One question per store at a time."""
        try:
            answer = await self._probes.call(store_id, HEALTH["Check"], health_pb2.HealthCheckRequest(), timeout_s)
        except DbError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def send_snapshot(
        self, store_id: int, message: serverpb.RaftMessage, chunks: AsyncIterator[bytes], done: Callable[[bool], None]
    ) -> None:
        """Stream a snapshot in the background; `done` gets whether it arrived."""
        self._scope.spawn(self._stream_snapshot(store_id, message, chunks, done), name=f"snapshot to store {store_id}")

    async def _stream_snapshot(
        self, store_id: int, message: serverpb.RaftMessage, chunks: AsyncIterator[bytes], done: Callable[[bool], None]
    ) -> None:
        arrived = False
        channel: Channel | None = None
        try:
            async with self._snapshots:
                channel = self.transport.connect(await self.resolve(store_id))
                stream = channel.stream(METHODS["Snapshot"])
                if self.fail.armed and (reason := await self.fail.reach("snapshot_send")) is not None:
                    raise RpcError(f"failpoint snapshot_send: {reason}")
                await stream.send(serverpb.SnapshotChunk(message=message))
                async for chunk in chunks:
                    if self.fail.armed and (reason := await self.fail.reach("snapshot_send_chunk")) is not None:
                        raise RpcError(f"failpoint snapshot_send_chunk: {reason}")
                    await stream.send(serverpb.SnapshotChunk(data=chunk))
                await stream.done_sending()
                arrived = await stream.receive() is not None
        except DbError as error:
            get_logger().warn("snapshot not delivered", store=store_id, region=message.region_id, error=str(error))
        finally:
            if channel is not None:
                await channel.close()
            done(arrived)

    async def close(self) -> None:
        """Stop sending."""
        await self._scope.close()
        await self._probes.close()
        await self.checks.close()
