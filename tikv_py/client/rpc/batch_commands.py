"""One store's connection: callers append requests, a sender task drains all of them into one message on a stream.

Why: a unary call costs about ten times what a place in a batch costs. Requests that become ready in one turn of the event loop
share a message without any waiting; a lone request goes out at once.

Invariants: a response finds its future by id, in any order; when a stream breaks, every request on it fails with RpcError (whether
the store acted is unknown) and the next request opens a new stream. A cancelled or timed-out caller's id is forgotten; a late
answer for it is dropped. Commands without a batch form, and stores without BatchCommands, are served by unary calls.
Does not retry: that is the sender's business.
"""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.message import Message

from core_py.errors import DeadlineExceeded, RpcError
from core_py.ports import Channel, StreamCall
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.kvproto import tikvpb_pb2
from tikv_py.client.concurrency import first_leaf, received
from tikv_py.client.rpc.methods import BATCH_FIELDS, METHODS

MAX_BATCH = 128  # requests in one message, as client-go; more go into the next message
MAX_IN_FLIGHT = 8192  # requests of one stream without an answer; further callers wait

log = get_logger()


class _Call:
    """A request on its way."""

    __slots__ = ("field", "future", "request")

    def __init__(self, field: str, request: Message, future: asyncio.Future[Any]) -> None:
        self.field, self.request, self.future = field, request, future


class BatchStream:
    """One BatchCommands stream, opened by the first call and again after failures."""

    def __init__(self, channel: Channel, scope: TaskScope, name: str) -> None:
        self._channel, self._scope, self._name = channel, scope, name
        self._calls: dict[int, _Call] = {}
        self._pending: list[int] = []
        self._next_id = 1
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.batches_sent = 0

    async def call(self, field: str, request: Message, timeout_s: float) -> Any:
        """Send and wait. Raises RpcError, DeadlineExceeded."""
        while len(self._calls) >= MAX_IN_FLIGHT:
            self._room.clear()
            await self._room.wait()
        call_id = self._next_id
        self._next_id = call_id + 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[call_id] = _Call(field, request, future)
        self._pending.append(call_id)
        self._work.set()
        if self._task is None or self._task.done():
            self._task = self._scope.spawn(self._run(), name=self._name)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise DeadlineExceeded(f"{self._name}: {field} was not answered within {timeout_s} s") from None
        finally:
            self._calls.pop(call_id, None)
            self._room.set()

    async def _run(self) -> None:
        """Serve one stream until it breaks; the next call starts another."""
        failure: BaseException = RpcError(f"{self._name}: the connection was closed", sent=True)
        try:
            stream = self._channel.stream(METHODS["BatchCommands"])
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._receive(stream))
                    group.create_task(self._send(stream))
            finally:
                stream.cancel()
        except RpcError as error:
            failure = error
        except BaseExceptionGroup as errors:
            failure = first_leaf(errors)
            if not isinstance(failure, RpcError):
                raise
        finally:
            self._task = None
            self._fail_all(failure)

    def _fail_all(self, failure: BaseException) -> None:
        calls, self._calls = self._calls, {}
        unsent = set(self._pending)
        self._pending.clear()
        status = failure.status if isinstance(failure, RpcError) else "UNAVAILABLE"
        for call_id, call in calls.items():
            if not call.future.done():
                sent = call_id not in unsent and getattr(failure, "sent", True)
                call.future.set_exception(RpcError(f"{self._name}: {failure}", status=status, sent=sent))
        self._room.set()

    async def _send(self, stream: StreamCall) -> None:
        while True:
            if not self._pending:
                self._work.clear()
                await self._work.wait()
                continue
            ids = self._pending[:MAX_BATCH]
            batch = tikvpb_pb2.BatchCommandsRequest()
            kept = batch.request_ids
            add, calls = batch.requests.add, self._calls
            for call_id in ids:
                call = calls.get(call_id)
                if call is not None:
                    getattr(add(), call.field).CopyFrom(call.request)
                    kept.append(call_id)
            del self._pending[:MAX_BATCH]
            if kept:
                self.batches_sent += 1
                await stream.send(batch)

    async def _receive(self, stream: StreamCall) -> None:
        calls = self._calls
        while True:
            batch = await received(stream)
            if batch is None:
                raise RpcError(f"{self._name}: the store ended the stream")
            for call_id, response in zip(batch.request_ids, batch.responses, strict=False):
                call = calls.get(call_id)
                if call is None or call.future.done():
                    continue
                field = response.WhichOneof("cmd")
                if field == call.field:
                    call.future.set_result(getattr(response, field))
                else:
                    call.future.set_exception(
                        RpcError(f"{self._name}: {call.field} was answered by {field}", status="INTERNAL")
                    )


class StoreConnection:
    """All traffic to one address."""

    def __init__(self, channel: Channel, scope: TaskScope, address: str, *, streams: int = 1) -> None:
        self.address = address
        self._channel = channel
        self._streams = [BatchStream(channel, scope, f"store {address}") for _ in range(streams)]
        self._turn = 0
        self._unary_only = False

    @property
    def batches_sent(self) -> int:
        """Messages sent on all streams."""
        return sum(stream.batches_sent for stream in self._streams)

    async def call(self, name: str, request: Message, timeout_s: float) -> Any:
        """Run a store method (its name in the service, "KvGet") and return its response. Raises RpcError."""
        field = BATCH_FIELDS.get(name)
        if field is not None and not self._unary_only:
            self._turn = turn = (self._turn + 1) % len(self._streams)
            try:
                return await self._streams[turn].call(field, request, timeout_s)
            except RpcError as error:
                if error.status != "UNIMPLEMENTED":
                    raise
                log.info("store has no BatchCommands, using single calls", store=self.address)
                self._unary_only = True
        return await self._channel.unary(METHODS[name], request, timeout_s=timeout_s)

    async def close(self) -> None:
        """Close; calls in flight fail."""
        await self._channel.close()
