"""Whose turn it is to read: reads of three priorities share the loop and the threads, and ticks of raft are not kept waiting.

Two things are shared out, each over lines of its own. *Turns* of the loop: a turn is one piece of synchronous work, a few hundred
keys at most; all turns between two rounds of the loop last no longer than `BUDGET_S`, as far as earlier ones tell. *Threads*: who
computes for long (push-down requests, checksums) holds one of `max-thread-count` while it runs.

While nobody waits a turn costs two comparisons, so reads of a leader in lease are answered in the round in which they came,
point reads without asking at all. Once there is a line, high goes before normal before low, but whoever was passed over often
enough goes next: of N turns in a row low gets at least N / `LOW_SHARE`, normal N / `NORMAL_SHARE`, rounded down.

Lines are bounded: who finds one full is told ServerIsBusy at once, and so is a request that would wait longer than its context's
`busy_threshold_ms`, because its sender has another replica to ask. A request whose deadline passes while it waits
is not begun. What a request costs is not known before: waits are estimated from the recent past.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core_py.ports import Clock
from core_py.region_errors import ServerIsBusy
from protos.kvproto import kvrpcpb_pb2
from tikv_py.server.metrics import ReadPoolMetrics
from tikv_py.txn.deadline import Deadline

BUDGET_S = 0.002
SLICE_KEYS = 256  # what a scan reads in one turn
LOW_SHARE, NORMAL_SHARE = 16, 4
SOME_WAIT_S = 1e-9
SMOOTHING = 0.1  # weight of the newest measurement
NAMES = ("high", "normal", "low")
_LEVELS = {kvrpcpb_pb2.High: 0, kvrpcpb_pb2.Normal: 1, kvrpcpb_pb2.Low: 2}
_PATIENCE = (0, NORMAL_SHARE - 1, LOW_SHARE - 1)

Waiter = asyncio.Future[None]


def level_of(context: kvrpcpb_pb2.Context) -> int:
    """0 is served first. A priority of a later protocol counts as normal."""
    return _LEVELS.get(context.priority, 1)


class Lines:
    """Who waits, by priority, in order of arrival. Waiters that were cancelled are passed over."""

    def __init__(self) -> None:
        self._lines: tuple[deque[Waiter], ...] = (deque(), deque(), deque())
        self._since: tuple[deque[float], ...] = (deque(), deque(), deque())
        self._passed_over = [0, 0, 0]
        self.length = 0

    def push(self, level: int, waiter: Waiter, now: float) -> None:
        """To the end of its line."""
        self._lines[level].append(waiter)
        self._since[level].append(now)
        self.length += 1

    def ahead_of(self, level: int) -> int:
        """How many are served before a newcomer, low's share left aside."""
        return sum(len(line) for line in self._lines[: level + 1])

    def in_line(self, level: int) -> int:
        """How many wait at one priority."""
        return len(self._lines[level])

    def longest_wait_s(self, level: int, now: float) -> float:
        """Of who is first in that line."""
        since = self._since[level]
        return now - since[0] if since else 0.0

    def pop(self) -> Waiter | None:
        """Who is next."""
        while self.length:
            level = self._next_level()
            waiter = self._lines[level].popleft()
            self._since[level].popleft()
            self.length -= 1
            if waiter.done():
                continue
            self._passed_over[level] = 0
            for other in range(level + 1, len(self._lines)):
                self._passed_over[other] += bool(self._lines[other])
            return waiter
        return None

    def _next_level(self) -> int:
        for level in (2, 1):
            if self._lines[level] and self._passed_over[level] >= _PATIENCE[level]:
                return level
        return next(level for level, line in enumerate(self._lines) if line)


class _Average:
    """Of durations in seconds; newer ones weigh more."""

    def __init__(self) -> None:
        self.value_s = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.value_s += SMOOTHING * (seconds - self.value_s) if self.value_s else seconds


class ReadPool:
    """One per store. `max_waiting` holds for each priority's line, for turns and for threads."""

    def __init__(self, clock: Clock, metrics: ReadPoolMetrics, *, threads: int, max_waiting: int) -> None:
        self._clock = clock
        self._metrics = metrics
        self._max_waiting = max_waiting
        self.turns, self._for_thread = Lines(), Lines()
        self._turn_s, self._thread_s = _Average(), _Average()
        self._spent_s = 0.0
        self._round_watched = False
        self.round = 0
        """Rises between any two rounds of the loop in which turns were given."""
        self._threads = threads
        self._running = 0

    # ---- turns of the loop ----

    def may_skip(self, context: kvrpcpb_pb2.Context) -> bool:
        """Whether a point read need not wait: nobody of its own or a higher priority does."""
        return not self.turns.length or not self.turns.ahead_of(level_of(context))

    def try_turn(self) -> bool:
        """A turn at once, if nobody waits and this round has time left. `ran` ends it."""
        if self.turns.length or self._spent_s >= BUDGET_S:
            return False
        self._watch_round()
        return True

    async def turn(self, context: kvrpcpb_pb2.Context) -> float:
        """Wait for a turn, which lasts until the caller gives up the loop; the seconds waited. Raises ServerIsBusy.

        They are 0 only if the loop was not given up.
        """
        if self.try_turn():
            return 0.0
        level, began = level_of(context), self._clock.monotonic()
        lines, deadline = self.turns, Deadline(context, self._clock)
        self._check_room(lines, level, context, lines.ahead_of(level) * self._turn_s.value_s)
        waiter = asyncio.get_running_loop().create_future()
        lines.push(level, waiter, began)
        self._watch_round()
        await waiter
        deadline.check()
        waited_s = max(self._clock.monotonic() - began, SOME_WAIT_S)
        self._metrics.wait[level].observe(waited_s)
        return waited_s

    def ran(self, seconds: float) -> None:
        """A turn has ended after `seconds` without giving up the loop."""
        self._spent_s += seconds
        self._turn_s.add(seconds)

    async def next_turn(self, context: kvrpcpb_pb2.Context, began: float) -> float:
        """Between two pieces of one read: end the turn that began at `began`, wait for another; when that began."""
        self.ran(self._clock.monotonic() - began)
        await asyncio.sleep(0)
        await self.turn(context)
        return self._clock.monotonic()

    def _watch_round(self) -> None:
        if not self._round_watched:
            self._round_watched = True
            asyncio.get_running_loop().call_soon(self._next_round)

    def _next_round(self) -> None:
        """Give as many turns as should fit in a round: their takers run behind this callback, in this order."""
        self.round += 1
        self._spent_s = 0.0
        if not self.turns.length:
            self._round_watched = False
            return
        left_s = BUDGET_S
        while left_s > 0 and (waiter := self.turns.pop()) is not None:
            waiter.set_result(None)
            left_s -= max(self._turn_s.value_s, BUDGET_S / 1000)
        asyncio.get_running_loop().call_soon(self._next_round)

    # ---- threads ----

    @asynccontextmanager
    async def thread(self, context: kvrpcpb_pb2.Context) -> AsyncIterator[float]:
        """One of the threads, within `async with`; gives the seconds waited for it. Raises ServerIsBusy.

        They are 0 only if the loop was not given up, so that what the caller has checked still holds.
        """
        level, began, deadline = level_of(context), self._clock.monotonic(), Deadline(context, self._clock)
        waited_s = 0.0
        if self._running >= self._threads or self._for_thread.length:
            await self._wait_for_thread(context, level, began)
            waited_s = max(self._clock.monotonic() - began, SOME_WAIT_S)
        else:
            self._running += 1
        self._metrics.running.set(self._running)
        try:
            deadline.check()
            self._metrics.wait[level].observe(waited_s)
            yield waited_s
        finally:
            seconds = self._clock.monotonic() - began - waited_s
            self._thread_s.add(seconds)
            self._metrics.handle[level].observe(seconds)
            self._hand_on_thread()

    async def _wait_for_thread(self, context: kvrpcpb_pb2.Context, level: int, began: float) -> None:
        lines = self._for_thread
        expected_s = (lines.ahead_of(level) + self._running) * self._thread_s.value_s / self._threads
        self._check_room(lines, level, context, expected_s)
        waiter = asyncio.get_running_loop().create_future()
        lines.push(level, waiter, began)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._hand_on_thread()
            raise

    def _hand_on_thread(self) -> None:
        """A thread is free: whoever is next holds it from now on."""
        following = self._for_thread.pop()
        if following is not None:
            following.set_result(None)
        else:
            self._running -= 1
            self._metrics.running.set(self._running)

    # ---- refusals ----

    def _check_room(self, lines: Lines, level: int, context: kvrpcpb_pb2.Context, expected_s: float) -> None:
        expected_s = max(expected_s, lines.longest_wait_s(level, self._clock.monotonic()))
        expected_ms = round(expected_s * 1000)
        if lines.in_line(level) >= self._max_waiting:
            self._metrics.refused.inc()
            raise ServerIsBusy(f"read pool: {lines.in_line(level)} {NAMES[level]} reads wait", 0, expected_ms)
        if 0 < context.busy_threshold_ms < expected_ms:
            self._metrics.refused.inc()
            raise ServerIsBusy("estimated wait time exceeds threshold", 0, expected_ms)
