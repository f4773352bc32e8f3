"""Timestamps: all callers of one client share one Tso stream, and requests that wait together share one message.

A sender task drains the waiting futures into one TsoRequest(count = n) and sends the next without waiting for the answer; answers
come in order, and each carries the *last* timestamp of its batch (wire facts 2.2). Under load the batches grow by
themselves, so the number of messages is bound by round trips and not by callers.

Invariants: timestamps handed out by one client never repeat or decrease; an answer whose count differs, or that would go back,
breaks the stream. Futures of a broken stream are asked again on the next one; each caller has its own deadline.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass

from core_py.codec import ts as tso
from core_py.errors import ClusterIdMismatch, PdError, RpcError
from core_py.ports import StreamCall
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.kvproto import pdpb_pb2
from tikv_py.client.concurrency import received
from tikv_py.client.pd.errors import TsoUnavailable, from_header
from tikv_py.client.pd.members import FIRST_PAUSE_S, MAX_PAUSE_S, PdMembers

MAX_BATCH = 10_000  # timestamps in one request; more wait for the next one
MAX_COUNT = 100_000  # timestamps for one caller at once; PD's counter has room for 262,143 in a millisecond
MAX_WAITING = 100_000  # callers without a timestamp; further ones are refused
LOW_RESOLUTION_S = 2.0
MAX_OUTSTANDING = 16  # requests without an answer; beyond that batches grow instead
BUDGET_S = 10.0
ANSWER_TIMEOUT_S = 3.0  # a stream that leaves a request unanswered for so long is given up

log = get_logger()


@dataclass(slots=True, eq=False)
class _Wish:
    """`count` timestamps in a row; the future gets the first of them."""

    count: int
    first: asyncio.Future[int]


class TsoBatcher:
    """`await batcher.timestamp()`; the stream is opened by the first caller and kept."""

    def __init__(self, members: PdMembers, scope: TaskScope) -> None:
        self._members, self._scope = members, scope
        self._waiting: list[_Wish] = []
        self._in_flight: deque[list[_Wish]] = deque()
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.Timeout | None = None
        self._newest = 0
        self._newest_at = -math.inf
        self._last_error = "no answer"
        self.requests_sent = 0
        self._stopped = False

    async def timestamps(self, count: int, budget_s: float = BUDGET_S) -> range:
        """`count` new timestamps in a row, larger than every one handed out before. Raises TsoUnavailable, ValueError."""
        if not 0 < count <= MAX_COUNT:
            raise ValueError(f"{count} timestamps at once: between 1 and {MAX_COUNT} can be had")
        if len(self._waiting) >= MAX_WAITING:
            raise TsoUnavailable(f"{MAX_WAITING} callers wait for a timestamp already: {self._last_error}")
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Wish(count, waiter))
        self._work.set()
        if self._task is None or self._task.done():
            self._task = self._scope.spawn(self._run(), name="tso")
        try:
            async with asyncio.timeout(budget_s):
                first = await waiter
        except TimeoutError:
            raise TsoUnavailable(f"no timestamp from PD within {budget_s} s: {self._last_error}") from None
        return range(first, first + count)

    async def low_resolution(self, max_age_s: float = LOW_RESOLUTION_S) -> int:
        """A timestamp that was the newest at most `max_age_s` ago: any that came lately, else a new one. Raises TsoUnavailable.

        Good for judging how old something is, never for reading or writing.
        """
        if asyncio.get_running_loop().time() - self._newest_at <= max_age_s:
            return self._newest
        return (await self.timestamps(1))[0]

    def stop(self) -> None:
        """Ask for nothing more. The task ends with the scope."""
        self._stopped = True

    async def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            address = ""
            before = self._newest
            try:
                address = await self._members.find_leader()
                await self._serve_stream(self._members.open_stream("Tso", address))
            except* ClusterIdMismatch as group:
                self._fail_all(group.exceptions[0])
            except* (RpcError, PdError) as group:
                self._last_error = str(group.exceptions[0])
                log.warning("TSO stream broke", leader=address, error=self._last_error)
            if self._stopped:
                return  # a group of tasks that fails and is cancelled at once forgets the cancellation (CPython 3.11, 3.12)
            self._members.doubt(address)
            self._requeue()
            pause = FIRST_PAUSE_S if self._newest != before else min(pause * 2, MAX_PAUSE_S)
            await asyncio.sleep(pause)
            while not self._waiting:  # an idle client does not keep asking a PD that is gone
                self._work.clear()
                await self._work.wait()

    async def _serve_stream(self, stream: StreamCall) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(stream))
                group.create_task(self._send(stream))
        finally:
            stream.cancel()

    async def _send(self, stream: StreamCall) -> None:
        while True:
            while len(self._in_flight) >= MAX_OUTSTANDING:
                self._room.clear()
                await self._room.wait()
            if not self._waiting:
                self._work.clear()
                await self._work.wait()
                continue
            batch = self._next_batch()
            if not batch:
                continue
            request = pdpb_pb2.TsoRequest(count=_size(batch), dc_location="global")
            self._members.fill_header(request)
            self._in_flight.append(batch)
            if len(self._in_flight) == 1:
                self._watch()
            self.requests_sent += 1
            await stream.send(request)

    def _next_batch(self) -> list[_Wish]:
        """Wishes that still have somebody waiting: at least one, and as many as fit."""
        batch: list[_Wish] = []
        taken, room = 0, MAX_BATCH
        for wish in self._waiting:
            if not wish.first.done():
                if batch and wish.count > room:
                    break
                batch.append(wish)
                room -= wish.count
            taken += 1
        del self._waiting[:taken]
        return batch

    def _watch(self) -> None:
        """Start the time for the oldest request again, or stop it when there is none."""
        if self._timer is not None and not self._timer.expired():
            now = asyncio.get_running_loop().time()
            self._timer.reschedule(now + ANSWER_TIMEOUT_S if self._in_flight else None)

    async def _receive(self, stream: StreamCall) -> None:
        try:
            async with asyncio.timeout(None) as self._timer:
                while True:
                    response = await received(stream)
                    if response is None:
                        raise RpcError("PD ended the Tso stream")
                    error = from_header(response.header)
                    if error is not None:
                        raise error
                    self._take(response)
        except TimeoutError:
            raise RpcError(f"PD left a timestamp request unanswered for {ANSWER_TIMEOUT_S} s") from None
        finally:
            self._timer = None

    def _take(self, response: pdpb_pb2.TsoResponse) -> None:
        if not self._in_flight or response.count != _size(self._in_flight[0]):
            raise RpcError(f"PD answered {response.count} timestamps, asked for another number: stream is broken")
        last = tso.compose(response.timestamp.physical, response.timestamp.logical)
        first = last - response.count + 1
        if first <= self._newest:
            raise RpcError(f"timestamp {first} of PD goes back behind {self._newest}: stream is broken")
        self._newest, self._newest_at = last, asyncio.get_running_loop().time()
        for wish in self._in_flight.popleft():
            if not wish.first.done():
                wish.first.set_result(first)
            first += wish.count
        self._watch()
        self._room.set()

    def _requeue(self) -> None:
        again = [wish for batch in self._in_flight for wish in batch if not wish.first.done()]
        self._in_flight.clear()
        self._room.set()
        self._waiting = again + [wish for wish in self._waiting if not wish.first.done()]

    def _fail_all(self, error: BaseException) -> None:
        for wish in (*self._waiting, *(wish for batch in self._in_flight for wish in batch)):
            if not wish.first.done():
                wish.first.set_exception(TsoUnavailable(str(error)))


def _size(batch: list[_Wish]) -> int:
    return sum([wish.count for wish in batch])
