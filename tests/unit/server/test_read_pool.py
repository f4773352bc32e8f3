"""The read pool: who goes first, nobody starves, lines are bounded, a round of the loop stays short."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from core_py.region_errors import ServerIsBusy
from core_py.runtime.tasks import TaskScope
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.server.dispatch import Command, Dispatcher
from tikv_py.server.metrics import StoreMetrics
from tikv_py.server.read_pool import BUDGET_S, LOW_SHARE, NORMAL_SHARE, ReadPool

HIGH, NORMAL, LOW = (pb.Context(priority=priority) for priority in (pb.High, pb.Normal, pb.Low))


class HandClock:
    """Time that passes when it is told to, so that a turn can take long."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return int(self.now * 1000)


def pool(clock: Any = None, *, threads: int = 1, max_waiting: int = 100) -> ReadPool:
    metrics = StoreMetrics(CollectorRegistry()).read_pool
    return ReadPool(clock or LoopClock(), metrics, threads=threads, max_waiting=max_waiting)


def run(test: Callable[[TaskScope], Awaitable[None]]) -> None:
    async def main() -> None:
        scope = TaskScope("test", on_failure=lambda _error: None)
        await test(scope)
        await scope.close()

    run_virtual(main())


def test_high_goes_first_and_nobody_starves() -> None:
    async def test(scope: TaskScope) -> None:
        served: list[str] = []
        reads = pool(max_waiting=1000)
        gate = asyncio.Event()

        async def read(name: str, context: pb.Context) -> None:
            async with reads.thread(context):
                served.append(name)
                await gate.wait()

        for name, context in (("first", NORMAL), ("low", LOW), ("normal", NORMAL), ("high", HIGH)):
            for _ in range(1 if name == "first" else 160):
                scope.spawn(read(name, context))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.sleep(1)
        assert served[:4] == ["first", "high", "high", "high"]
        for end in range(LOW_SHARE, 160, LOW_SHARE):
            assert served[1 : end + 1].count("low") == end // LOW_SHARE
            assert served[1 : end + 1].count("normal") >= end // (NORMAL_SHARE + 1)
        assert served[1:161].count("high") > 100
        assert len(served) == 481
        assert served[-10:] == ["low"] * 10

    run(test)


def test_threads_are_held_by_so_many_and_come_back_from_whoever_fails_or_is_cancelled() -> None:
    async def test(scope: TaskScope) -> None:
        reads, running, most = pool(threads=2), 0, 0

        async def read(ends: str) -> None:
            nonlocal running, most
            async with reads.thread(NORMAL):
                running += 1
                most = max(most, running)
                try:
                    await asyncio.sleep(1)
                    if ends == "fails":
                        raise ServerIsBusy("on purpose")
                finally:
                    running -= 1

        tasks = [scope.spawn(read("fails" if at % 3 else "well")) for at in range(9)]
        await asyncio.sleep(0.5)
        tasks[0].cancel()  # holds a thread
        tasks[4].cancel()  # waits for one
        await asyncio.sleep(0)
        tasks[5].cancel()
        await asyncio.sleep(10)
        assert all(task.done() for task in tasks)
        assert most == 2
        async with reads.thread(LOW) as first, reads.thread(LOW) as second:
            assert (first, second) == (0.0, 0.0)

    run(test)


def test_whoever_is_cancelled_just_as_it_gets_a_thread_hands_it_on() -> None:
    async def test(scope: TaskScope) -> None:
        reads = pool()
        release = asyncio.Event()

        async def read(then: Callable[[], object] = lambda: None) -> str:
            async with reads.thread(NORMAL):
                await release.wait()
            then()  # in the same step in which the thread was handed on
            return "read"

        first = scope.spawn(read(lambda: second.cancel()))
        await asyncio.sleep(0)
        second, third = scope.spawn(read()), scope.spawn(read())
        await asyncio.sleep(0)
        release.set()
        await asyncio.wait([first])
        assert await third == "read"
        assert second.cancelled()

    run(test)


def test_full_lines_and_impatient_requests_are_refused_with_the_expected_wait() -> None:
    async def test(scope: TaskScope) -> None:
        reads = pool(max_waiting=2)

        async def read(seconds: float, context: pb.Context = NORMAL) -> None:
            async with reads.thread(context):
                await asyncio.sleep(seconds)

        await read(0.4)  # what a read takes is known from here on
        for _ in range(3):
            scope.spawn(read(0.4))
        await asyncio.sleep(0)
        with pytest.raises(ServerIsBusy, match="read pool: 2 normal reads wait") as full:
            await read(0.4)
        assert full.value.estimated_wait_ms == 1200
        assert full.value.to_pb().server_is_busy.estimated_wait_ms == 1200
        with pytest.raises(ServerIsBusy, match="estimated wait time exceeds threshold") as impatient:
            await read(0.4, pb.Context(priority=pb.High, busy_threshold_ms=100))
        assert impatient.value.estimated_wait_ms == 400
        await read(0.0, pb.Context(priority=pb.High, busy_threshold_ms=1000))

    run(test)


def test_a_deadline_that_passes_while_waiting_ends_the_wait_for_nothing() -> None:
    async def test(scope: TaskScope) -> None:
        reads = pool()
        began: list[str] = []

        async def read(name: str, allowed_ms: int) -> None:
            async with reads.thread(pb.Context(max_execution_duration_ms=allowed_ms)):
                began.append(name)
                await asyncio.sleep(1)

        first = scope.spawn(read("first", 0))
        late, in_time = scope.spawn(read("late", 500)), scope.spawn(read("in time", 5000))
        await asyncio.wait([first, late, in_time])
        assert began == ["first", "in time"]
        assert isinstance(late.exception(), ServerIsBusy)

    run(test)


def test_a_burst_of_long_reads_leaves_the_loop_to_others_between_rounds() -> None:
    """200 reads of a millisecond arrive at once; a ticker counts what runs between two of its ticks."""

    async def test(scope: TaskScope) -> None:
        clock = HandClock()
        reads = pool(clock, max_waiting=1000)
        between: list[int] = []
        done = 0

        async def read(context: pb.Context) -> None:
            nonlocal done
            await reads.turn(context)
            clock.now += 0.001
            reads.ran(0.001)
            done += 1

        async def tick() -> None:
            seen = 0
            while done < 200:
                await asyncio.sleep(0)
                between.append(done - seen)
                seen = done

        for at in range(200):
            scope.spawn(read(LOW if at % 2 else NORMAL))
        await scope.spawn(tick())
        allowed = int(BUDGET_S / 0.001)
        assert max(between) <= 2 * allowed
        assert sum(between[5:]) / len(between[5:]) > allowed / 2, "but the time is used"
        assert reads.try_turn()

    run(test)


def test_who_waits_for_a_turn_and_is_cancelled_takes_nobody_elses() -> None:
    async def test(scope: TaskScope) -> None:
        clock = HandClock()
        reads = pool(clock)
        reads.ran(10 * BUDGET_S)
        got: list[int] = []

        async def read(name: int) -> None:
            await reads.turn(NORMAL)
            got.append(name)

        tasks = [scope.spawn(read(at)) for at in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0.1)
        assert got == [0, 2, 3]
        assert reads.turns.length == 0

    run(test)


def served_pool(reads: ReadPool, clock: Any) -> tuple[Dispatcher, list[str]]:
    order: list[str] = []

    def get(request: pb.RawGetRequest) -> pb.RawGetResponse:
        order.append(request.key.decode())
        return pb.RawGetResponse(value=request.key)

    async def slow_get(request: pb.RawGetRequest) -> pb.RawGetResponse:
        return get(request)

    async def scan(_request: pb.ScanRequest) -> pb.GetResponse:
        clock.now += 2 * BUDGET_S
        order.append("scan")
        return pb.GetResponse(value=b"v")  # it has details

    commands = {
        "RawGet": Command("RawGet", pb.RawGetResponse, slow_get, now=get),
        "KvScan": Command("KvScan", pb.GetResponse, scan),
    }
    return Dispatcher(commands, StoreMetrics(CollectorRegistry()), clock, reads), order


def test_point_reads_are_answered_at_once_unless_their_equals_wait() -> None:
    async def test(_scope: TaskScope) -> None:
        clock = HandClock()
        reads = pool(clock)
        served, order = served_pool(reads, clock)
        answers: list[Any] = []
        served.start("RawGet", pb.RawGetRequest(key=b"at once"), answers.append)
        assert order == ["at once"], "without a turn of the loop"
        for _ in range(3):
            served.start("KvScan", pb.ScanRequest(), answers.append)
        await asyncio.sleep(0)
        assert reads.turns.length == 2
        served.start("RawGet", pb.RawGetRequest(key=b"normal"), answers.append)
        served.start("RawGet", pb.RawGetRequest(key=b"high", context=HIGH), answers.append)
        assert order == ["at once", "scan", "high"]
        served.start("RawGet", pb.RawGetRequest(key=b"low", context=LOW), answers.append)
        await asyncio.sleep(0.1)
        assert order == ["at once", "scan", "high", "scan", "scan", "normal", "low"]
        waited = [
            answer for answer in answers if isinstance(answer, pb.GetResponse) and answer.exec_details_v2.ByteSize()
        ]
        assert len(waited) == 2
        assert waited[1].exec_details_v2.time_detail_v2.wait_wall_time_ns == pytest.approx(2 * BUDGET_S * 1e9, rel=0.01)
        assert waited[1].exec_details_v2.time_detail_v2.process_wall_time_ns == pytest.approx(
            2 * BUDGET_S * 1e9, rel=0.01
        )
        await served.close()

    run(test)
