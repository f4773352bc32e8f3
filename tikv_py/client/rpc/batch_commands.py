"""One BatchCommands stream: callers append requests, a sender task drains all of them into one message.

Why: a unary call costs about ten times what a place in a batch costs. Requests that become ready in one turn of the event loop
share a message without any waiting; a lone request goes out at once. Only when the store reports a load above a threshold, and a
wait is configured, a message is held back for a few more requests. Urgent requests go out first.

Invariants: a response finds its future by id, in any order; when the stream breaks, every request on it fails with RpcError (it
is unknown whether the store acted, unless it was not sent) and the next request opens a new stream. A request whose caller was
cancelled or whose deadline passed is not sent any more; a late answer is dropped. The number of requests without an answer is
bounded.
Deadlines are kept by one timer per stream, because a timer per request costs as much as the rest of the call.
Does not retry: that is the sender's business.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from core_py.errors import DeadlineExceeded, RpcError
from core_py.ports import StreamCall
from core_py.runtime.tasks import TaskScope
from protos.kvproto import kvrpcpb_pb2, tikvpb_pb2
from tikv_py.client.concurrency import first_leaf, received
from tikv_py.client.rpc.stats import RpcStats

SWEEP_S = 0.01  # deadlines are looked at no more often
FIRST_RECONNECT_S, MAX_RECONNECT_S = 0.05, 0.5

HealthHook = Callable[[kvrpcpb_pb2.HealthFeedback], None]


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How requests to one store are put together. The defaults are client-go's, but for `connections`."""

    connections: int = 1
    """Connections per store, a stream on each. More than one pays only when one connection's bandwidth is the limit."""
    max_batch: int = 128
    """Requests in one message; more go into the next one."""
    max_pending: int = 8192
    """Requests of one stream without an answer; further callers wait."""
    overload_threshold: int = 200
    """Hundredths of a core that the store's transport may use before messages are held back."""
    wait_size: int = 8
    """A message that is held back goes out with so many requests."""
    max_wait_s: float = 0.0
    """A message is held back for at most so long; 0 = never."""
    idle_s: float = 180.0
    """A connection that nobody used for so long is closed."""


class BatchStream:
    """See the module's text. `submit` gives the future of the answer; `full` and `room` come before it."""

    def __init__(
        self,
        open_stream: Callable[[], StreamCall],
        scope: TaskScope,
        name: str,
        options: BatchOptions,
        stats: RpcStats,
        *,
        on_health: HealthHook | None = None,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        self._open_stream, self._scope, self._name = open_stream, scope, name
        self._options, self._stats = options, stats
        self._on_health, self._on_idle = on_health, on_idle
        self._calls: dict[int, tuple[asyncio.Future[Any], str, Message, float]] = {}
        self._pending: list[int] = []
        self._urgent: list[int] = []
        self._next_id = 1
        self._sleeper: asyncio.Future[None] | None = None  # the sender task, while it has nothing to send
        self._waiters: deque[asyncio.Future[None]] = deque()  # callers that wait for room
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._quiet_since_id = 0
        self._failures = 0
        self._retry_at = 0.0
        self._last_failure = ""
        self.load = 0
        """The load of the store's transport as last reported, in hundredths of a core."""
        self.is_writing = False
        """Whether a message is being handed to the transport: it is the connection's bandwidth that is short."""

    # ---- callers ----

    @property
    def full(self) -> bool:
        """Whether callers have to await `room` first."""
        return len(self._calls) >= self._options.max_pending

    @property
    def is_quiet(self) -> bool:
        """Whether there is no stream and nobody waits for one."""
        return self._task is None and not self._calls

    async def room(self, timeout_s: float) -> None:
        """Wait until fewer requests are without an answer. Raises DeadlineExceeded."""
        self._stats.full += 1
        try:
            async with asyncio.timeout(timeout_s):
                while self.full:
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiters.append(waiter)
                    await waiter
        except TimeoutError:
            error = DeadlineExceeded(f"{self._name}: no room among {self._options.max_pending} requests")
            error.sent = False
            raise error from None

    def submit(self, field: str, request: Message, timeout_s: float, *, urgent: bool = False) -> asyncio.Future[Any]:
        """Queue a request; the future gets its answer, RpcError or DeadlineExceeded. Cancel it to give the request up."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._task is None and now < self._retry_at:
            raise RpcError(f"{self._name}: not connected; last: {self._last_failure}", sent=False)
        call_id = self._next_id
        self._next_id = call_id + 1
        future: asyncio.Future[Any] = loop.create_future()
        deadline = now + timeout_s
        self._calls[call_id] = (future, field, request, deadline)
        (self._urgent if urgent else self._pending).append(call_id)
        if deadline < self._timer_at:
            self._watch(deadline)
        if self._sleeper is not None:
            self._wake()
        elif self._task is None:
            self._task = self._scope.spawn(self._run(), name=self._name)
        return future

    def _wake(self) -> None:
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)

    def _give_room(self) -> None:
        room = self._options.max_pending - len(self._calls)
        while self._waiters and room > 0:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                room -= 1

    # ---- deadlines and idleness ----

    def _watch(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_at(at, self._sweep)

    def _sweep(self) -> None:
        """Fail what is late; end a stream that nobody used since the last look."""
        now = asyncio.get_running_loop().time()
        self._timer, self._timer_at = None, math.inf
        earliest = math.inf
        for call_id, (future, field, _, deadline) in list(self._calls.items()):
            if future.done():
                del self._calls[call_id]
            elif deadline <= now + SWEEP_S / 10:
                del self._calls[call_id]
                self._stats.deadlines_missed += 1
                future.set_exception(DeadlineExceeded(f"{self._name}: {field} was not answered within its deadline"))
            elif deadline < earliest:
                earliest = deadline
        if self._waiters:
            self._give_room()
        if self._calls:
            self._watch(max(earliest, now + SWEEP_S))
        elif self._task is not None:
            if self._quiet_since_id == self._next_id:
                self._stats.streams_idle += 1
                self.end()
                if self._on_idle is not None:
                    self._on_idle()
            else:
                self._quiet_since_id = self._next_id
                self._watch(now + self._options.idle_s)

    def end(self) -> None:
        """End the stream; requests on it fail. The next request opens another."""
        task, self._task, self._sleeper = self._task, None, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, math.inf
        if task is not None:
            task.cancel()
        self._fail_all(RpcError(f"{self._name}: the connection was closed"))

    # ---- the stream ----

    async def _run(self) -> None:
        """Serve one stream until it breaks; the next request starts another."""
        failure: BaseException = RpcError(f"{self._name}: the connection was closed", sent=True)
        try:
            self._stats.streams_opened += 1
            stream = self._open_stream()
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
            if self._task is asyncio.current_task():
                self._broken(failure)

    def _broken(self, failure: BaseException) -> None:
        """The stream is gone: fail its requests, and after failed attempts wait a little before the next one."""
        self._task = self._sleeper = None
        self._stats.streams_broken += 1
        self._last_failure = str(failure)
        if self._failures:
            pause = min(FIRST_RECONNECT_S * 2 ** (self._failures - 1), MAX_RECONNECT_S)
            self._retry_at = asyncio.get_running_loop().time() + pause
        self._failures = min(self._failures + 1, 10)
        self._fail_all(failure)

    def _fail_all(self, failure: BaseException) -> None:
        calls = dict(self._calls)
        self._calls.clear()
        unsent = {*self._pending, *self._urgent}
        self._pending.clear()
        self._urgent.clear()
        status = failure.status if isinstance(failure, RpcError) else "UNAVAILABLE"
        for call_id, call in calls.items():
            if not call[0].done():
                sent = call_id not in unsent and getattr(failure, "sent", True)
                call[0].set_exception(RpcError(f"{self._name}: {failure}", status=status, sent=sent))
        self._give_room()

    async def _sleep(self) -> None:
        self._sleeper = asyncio.get_running_loop().create_future()
        await self._sleeper

    async def _send(self, stream: StreamCall) -> None:
        options, stats = self._options, self._stats
        while True:
            if not self._pending and not self._urgent:
                await self._sleep()
                continue
            if options.max_wait_s and self.load > options.overload_threshold:
                await self._hold_back()
            batch = self._next_batch()
            if batch is not None:
                stats.batches += 1
                stats.batched += len(batch.request_ids)
                self.is_writing = True
                try:
                    await stream.send(batch)
                finally:
                    self.is_writing = False

    async def _hold_back(self) -> None:
        """The store is loaded: fewer, larger messages help it. Urgent requests do not wait."""
        size, loop = self._options.wait_size, asyncio.get_running_loop()
        if self._urgent or len(self._pending) >= size:
            return
        self._stats.waits += 1
        until = loop.time() + self._options.max_wait_s
        timer = loop.call_at(until, self._wake)
        try:
            while not self._urgent and len(self._pending) < size and loop.time() < until:
                await self._sleep()
        finally:
            timer.cancel()

    def _next_batch(self) -> tikvpb_pb2.BatchCommandsRequest | None:
        """The next message, urgent requests first; None when all who asked have gone away."""
        limit = self._options.max_batch
        if self._urgent:
            ids = self._urgent[:limit]
            del self._urgent[:limit]
            rest = limit - len(ids)
            ids += self._pending[:rest]
            del self._pending[:rest]
        else:
            ids = self._pending[:limit]
            del self._pending[:limit]
        batch = tikvpb_pb2.BatchCommandsRequest()
        kept, add, calls = batch.request_ids, batch.requests.add, self._calls
        for call_id in ids:
            call = calls.get(call_id)
            if call is None:
                continue
            if call[0].done():
                del calls[call_id]
                continue
            getattr(add(), call[1]).CopyFrom(call[2])
            kept.append(call_id)
        return batch if kept else None

    async def _receive(self, stream: StreamCall) -> None:
        calls = self._calls
        while True:
            batch = await received(stream)
            if batch is None:
                raise RpcError(f"{self._name}: the store ended the stream")
            self._failures = 0
            for call_id, response in zip(batch.request_ids, batch.responses, strict=False):
                call = calls.pop(call_id, None)
                if call is None or call[0].done():
                    continue
                field = response.WhichOneof("cmd")
                if field == call[1]:
                    call[0].set_result(getattr(response, field))
                else:
                    call[0].set_exception(
                        RpcError(f"{self._name}: {call[1]} was answered by {field}", status="INTERNAL")
                    )
            if self._waiters:
                self._give_room()
            self.load = batch.transport_layer_load
            if self._on_health is not None and batch.HasField("health_feedback"):
                self._on_health(batch.health_feedback)
