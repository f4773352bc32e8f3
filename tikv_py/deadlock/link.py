"""From a store to the detector's leader on another store: one stream, over which waits are reported and deadlocks come back.

It is opened when somebody waits here and the leader is elsewhere. A new stream begins with all waits of this store, so what was
said over an earlier one, to whomever, need not be known. While requests wait, the store looks every second whether the leader
is still the same, because a stream to a leader that was cut off may stay silent for long.

Invariant: reports leave in the order in which they were made. What is not delivered is lost: the waits it was about are
reported again on the next stream, or end by their time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from core_py.errors import DbError, RpcError
from core_py.failpoints import FailPoints
from core_py.ports import Clock, StreamCall, Transport, methods_of
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.kvproto import deadlock_pb2
from tikv_py.deadlock.leader import DetectorLeader
from tikv_py.deadlock.wait_for_graph import Cycle, Wait
from tikv_py.deadlock.wire import cycle_of, entry_of
from tikv_py.server.metrics import LockWaitMetrics

DETECT = methods_of(deadlock_pb2.DESCRIPTOR.services_by_name["Deadlock"])["Detect"]
OUTBOX_MAX = 40_000  # reports that wait to be sent; with more the stream is given up, and all waits are reported again
RETRY_S = 0.1
CHECK_S = 1.0


class Waits(Protocol):
    """The waits of this store."""

    @property
    def reported(self) -> int:
        """How many there are for the detector to know."""
        ...

    def reported_waits(self) -> list[Wait]:
        """Those."""
        ...

    def deadlock(self, cycle: Cycle) -> bool:
        """Refuse one; False when it is over."""
        ...


class LeaderLink:
    """See the module's text. `resolve` gives a store's address."""

    def __init__(
        self,
        store_id: int,
        leader: DetectorLeader,
        waits: Waits,
        transport: Transport,
        resolve: Callable[[int], Awaitable[str]],
        clock: Clock,
        metrics: LockWaitMetrics,
        fail: FailPoints,
        scope: TaskScope,
    ) -> None:
        self._store_id = store_id
        self._leader = leader
        self._waits = waits
        self._transport = transport
        self._resolve = resolve
        self._clock = clock
        self._metrics = metrics
        self._fail = fail
        self._scope = scope
        self._outbox: deque[deadlock_pb2.DeadlockRequest] = deque()
        self._open = False
        self._wake = asyncio.Event()

    def send(self, request: deadlock_pb2.DeadlockRequest) -> None:
        """Report something; without a stream one is opened, which begins with all waits."""
        if self._open:
            if len(self._outbox) < OUTBOX_MAX:
                self._outbox.append(request)
            else:
                self._open = False
                self._metrics.errors.labels("dropped").inc(len(self._outbox))
        self._wake.set()

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    async def run(self) -> None:
        """Report as long as the store runs."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waits.reported and not self._leader.is_here:
                try:
                    store_id = await self._leader.store_id()
                    if store_id in (0, self._store_id):
                        self._metrics.errors.labels("leader_not_found").inc()
                    else:
                        await self._report_to(store_id)
                except DbError as error:
                    self._metrics.errors.labels("reconnect_leader").inc()
                    get_logger().info("deadlock detector not reached", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _report_to(self, store_id: int) -> None:
        """Until the stream breaks, or another store leads. Raises DbError."""
        channel = self._transport.connect(await self._resolve(store_id))
        stream = channel.stream(DETECT)
        self._outbox.clear()
        self._open = True
        receiving = self._scope.spawn(self._receive(stream), name="deadlocks from the detector")
        try:
            for wait in self._waits.reported_waits():
                await self._send(stream, deadlock_pb2.DeadlockRequest(entry=entry_of(wait)))
            checked_at = self._clock.monotonic()
            while self._open and not receiving.done() and not self._leader.is_here:
                while self._outbox:
                    await self._send(stream, self._outbox.popleft())
                await self._pause()
                if self._waits.reported and self._clock.monotonic() - checked_at >= CHECK_S:
                    if await self._leader.store_id() != store_id:
                        return
                    checked_at = self._clock.monotonic()
        finally:
            self._open = False
            self._outbox.clear()
            receiving.cancel()
            await channel.close()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(CHECK_S):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _send(self, stream: StreamCall, request: deadlock_pb2.DeadlockRequest) -> None:
        if self._fail.armed and (reason := await self._fail.reach("deadlock_report_send")) is not None:
            raise RpcError(f"failpoint deadlock_report_send: {reason}")
        await stream.send(request)

    async def _receive(self, stream: StreamCall) -> None:
        try:
            while (response := await stream.receive()) is not None:
                self._waits.deadlock(cycle_of(response))
        except DbError as error:
            get_logger().info("deadlock detector's stream ended", error=str(error))
        finally:
            self._wake.set()
