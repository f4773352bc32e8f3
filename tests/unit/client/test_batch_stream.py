"""One BatchCommands stream over a channel in the test's hands: batching, order, deadlines, cancellation, breaks, idleness."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from core_py.errors import DeadlineExceeded, RpcError
from core_py.ports import Method
from core_py.runtime.tasks import TaskScope
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2, tikvpb_pb2
from tikv_py.client.rpc.batch_commands import BatchOptions
from tikv_py.client.rpc.connection import StoreConnection

KEYS = [b"k%03d" % number for number in range(400)]


class Stream:
    """Keeps what was sent; answers when the test says so."""

    def __init__(self, channel: Channel) -> None:
        self.sent: list[list[bytes]] = []
        self.open_ids: dict[bytes, int] = {}
        self.cancelled = False
        self._answers: asyncio.Queue[Any] = asyncio.Queue(1000)
        self._channel = channel

    async def send(self, message: Any) -> None:
        self.sent.append([request.Get.key for request in message.requests])
        self.open_ids.update(zip(self.sent[-1], message.request_ids, strict=True))
        if self._channel.blocked is not None:
            await self._channel.blocked.wait()

    async def receive(self) -> Any:
        item = await self._answers.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def answer(self, *keys: bytes, load: int = 0) -> None:
        batch = tikvpb_pb2.BatchCommandsResponse(transport_layer_load=load)
        for key in keys:
            batch.request_ids.append(self.open_ids.pop(key))
            batch.responses.add().Get.value = key
        self._answers.put_nowait(batch)

    def break_off(self, status: str = "UNAVAILABLE") -> None:
        self._answers.put_nowait(RpcError("reset", status=status))

    async def done_sending(self) -> None:
        raise NotImplementedError

    def cancel(self) -> None:
        self.cancelled = True


class Channel:
    """One connection; `refuse` makes opening a stream fail."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.unary_names: list[str] = []
        self.closed = self.opened = 0
        self.refuse: RpcError | None = None
        self.blocked: asyncio.Event | None = None

    def stream(self, _method: Method, **_options: Any) -> Stream:
        if self.refuse is not None:
            raise self.refuse
        self.streams.append(Stream(self))
        return self.streams[-1]

    async def unary(self, method: Method, _request: Any, *, timeout_s: float, **_options: Any) -> Any:
        self.unary_names.append(f"{method.name} {timeout_s}")
        return method.response()

    async def close(self) -> None:
        self.closed += 1

    @property
    def keys(self) -> list[list[bytes]]:
        return [batch for stream in self.streams for batch in stream.sent]


class Bench:
    """A connection over channels of the test."""

    def __init__(self, **options: Any) -> None:
        self.channels: list[Channel] = []
        self.scope = TaskScope("test")
        self.heard: list[int] = []
        self.connection = StoreConnection(
            self._connect,  # type: ignore[arg-type]
            self.scope,
            "kv1:1",
            options=BatchOptions(**options),
            on_health=lambda feedback: self.heard.append(feedback.slow_score),
        )
        self.stats = self.connection.stats
        self.next_channel = Channel()

    def _connect(self) -> Channel:
        self.channels.append(self.next_channel)
        self.next_channel = Channel()
        return self.channels[-1]

    @property
    def stream(self) -> Stream:
        return self.channels[-1].streams[-1]

    def get(self, key: bytes, timeout_s: float = 30.0, *, urgent: bool = False) -> asyncio.Task[Any]:
        call = self.connection.call("KvGet", kvrpcpb_pb2.GetRequest(key=key), timeout_s, urgent=urgent)
        return asyncio.get_running_loop().create_task(call)


def with_bench(test: Callable[[Bench], Awaitable[None]], **options: Any) -> None:
    async def body() -> None:
        bench = Bench(**options)
        try:
            await test(bench)
        finally:
            await bench.scope.close()
            await bench.connection.close()

    run_virtual(body())


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_requests_of_one_turn_share_messages_of_limited_size() -> None:
    async def body(bench: Bench) -> None:
        calls = [bench.get(key) for key in KEYS[:300]]
        await settle()
        assert [len(batch) for batch in bench.channels[0].keys] == [128, 128, 44]
        bench.stream.answer(*reversed(KEYS[:300]))
        assert [response.value for response in await asyncio.gather(*calls)] == KEYS[:300]
        assert (bench.stats.batches, bench.stats.batched, bench.stats.requests["KvGet"]) == (3, 300, 300)

    with_bench(body)


def test_urgent_requests_go_first() -> None:
    async def body(bench: Bench) -> None:
        bench.next_channel.blocked = asyncio.Event()
        first = bench.get(b"first")
        await settle()
        calls = [bench.get(key) for key in KEYS[:5]] + [bench.get(b"urgent", urgent=True)]
        await settle()
        bench.next_channel = Channel()
        blocked = bench.channels[0].blocked
        assert blocked is not None
        blocked.set()
        await settle()
        assert bench.channels[0].keys == [[b"first"], [b"urgent", *KEYS[:3]], KEYS[3:5]]
        bench.stream.answer(b"first", b"urgent", *KEYS[:5])
        await asyncio.gather(first, *calls)

    with_bench(body, max_batch=4)


def test_a_loaded_store_gets_fewer_larger_messages() -> None:
    async def body(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        first = bench.get(b"first")
        await settle()
        bench.stream.answer(b"first", load=201)
        await first
        began = loop.time()
        call = bench.get(b"alone")
        await settle()
        assert bench.stream.sent == [[b"first"]]
        await asyncio.sleep(0.006)
        assert bench.stream.sent[1:] == [[b"alone"]]
        several = [bench.get(key) for key in KEYS[:4]]
        await settle()
        assert bench.stream.sent[2:] == [KEYS[:4]]
        waiting = bench.get(b"waits")
        await settle()
        urgent = bench.get(b"urgent", urgent=True)
        await settle()
        assert bench.stream.sent[3:] == [[b"urgent", b"waits"]]
        assert loop.time() - began < 0.007
        bench.stream.answer(b"alone", b"urgent", b"waits", *KEYS[:4], load=200)
        await asyncio.gather(call, waiting, urgent, *several)
        bench.get(b"at once")
        await settle()
        assert bench.stream.sent[4:] == [[b"at once"]]
        assert bench.stats.waits == 2

    with_bench(body, max_wait_s=0.005, wait_size=4)


def test_a_cancelled_request_is_not_sent_and_its_answer_dropped() -> None:
    async def body(bench: Bench) -> None:
        bench.next_channel.blocked = asyncio.Event()
        sent = bench.get(b"sent")
        await settle()
        queued, other = bench.get(b"queued"), bench.get(b"other")
        await settle()
        sent.cancel()
        queued.cancel()
        await settle()
        blocked = bench.channels[0].blocked
        assert blocked is not None
        blocked.set()
        await settle()
        assert bench.stream.sent == [[b"sent"], [b"other"]]
        bench.stream.answer(b"sent", b"other")
        assert (await other).value == b"other"
        assert sent.cancelled()
        assert queued.cancelled()
        assert not bench.connection._streams[0]._calls

    with_bench(body)


def test_deadlines_pass_one_by_one_and_late_answers_are_dropped() -> None:
    async def body(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        calls = [bench.get(key, 1.0 + 0.5 * number) for number, key in enumerate(KEYS[:4])]
        ended: dict[int, float] = {}

        async def timed(number: int, call: asyncio.Task[Any]) -> Any:
            try:
                return await call
            finally:
                ended[number] = loop.time() - began

        watched = [loop.create_task(timed(number, call)) for number, call in enumerate(calls)]
        await asyncio.sleep(1.2)
        bench.stream.answer(*KEYS[:2])
        done: list[Any] = await asyncio.gather(*watched, return_exceptions=True)
        assert isinstance(done[0], DeadlineExceeded)
        assert str(done[0]) == "store kv1:1: Get was not answered within its deadline"
        assert done[1].value == KEYS[1]
        assert isinstance(done[2], DeadlineExceeded)
        assert [round(ended[number], 1) for number in range(4)] == [1.0, 1.2, 2.0, 2.5]
        assert bench.stats.deadlines_missed == 3

    with_bench(body)


def test_a_request_that_was_never_sent_has_a_deadline_too() -> None:
    async def body(bench: Bench) -> None:
        bench.next_channel.blocked = asyncio.Event()
        first = bench.get(b"first", 5)
        await settle()
        late = bench.get(b"late", 1)
        with pytest.raises(DeadlineExceeded):
            await late
        blocked = bench.channels[0].blocked
        assert blocked is not None
        blocked.set()
        await settle()
        assert bench.stream.sent == [[b"first"]]
        bench.stream.answer(b"first")
        await first

    with_bench(body)


def test_callers_beyond_the_bound_wait_their_turn_and_no_longer_than_they_want() -> None:
    async def body(bench: Bench) -> None:
        calls = [bench.get(key) for key in KEYS[:6]]
        late = bench.get(b"late", 0.5)
        await settle()
        assert bench.stream.sent == [KEYS[:4]]
        with pytest.raises(DeadlineExceeded, match="no room among 4 requests") as caught:
            await late
        assert not caught.value.sent
        bench.stream.answer(KEYS[2])
        await settle()
        assert bench.stream.sent[1:] == [[KEYS[4]]]
        calls[0].cancel()
        bench.stream.answer(KEYS[0], KEYS[1])
        await settle()
        assert bench.stream.sent[2:] == [[KEYS[5]]]
        bench.stream.answer(*KEYS[3:6])
        await asyncio.gather(*calls, return_exceptions=True)
        assert bench.stats.full == 3

    with_bench(body, max_pending=4)


def test_a_break_fails_only_its_own_streams_requests_and_says_what_was_sent() -> None:
    async def body(bench: Bench) -> None:
        bench.next_channel.blocked = asyncio.Event()
        sent = bench.get(b"sent")
        await settle()
        other = bench.get(b"other")  # the first stream is busy writing: the second one takes it
        await settle()
        assert len(bench.channels) == 2
        third = bench.get(b"third")
        queue = bench.connection._streams[0]
        unsent = queue.submit("Get", kvrpcpb_pb2.GetRequest(key=b"unsent"), 30)
        bench.channels[0].streams[0].break_off()
        with pytest.raises(RpcError) as broken:
            await sent
        assert broken.value.sent
        with pytest.raises(RpcError) as held:
            await unsent
        assert not held.value.sent
        bench.channels[1].streams[0].answer(b"other")
        assert (await other).value == b"other"
        await settle()
        bench.channels[1].streams[0].answer(b"third")
        await third
        assert bench.stats.streams_broken == 1

    with_bench(body, connections=2)


def test_connecting_again_is_tried_with_growing_pauses() -> None:
    async def body(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        channel = bench.next_channel
        channel.refuse = RpcError("nothing listens", sent=False)
        until = loop.time() + 3
        while loop.time() < until:
            with pytest.raises(RpcError, match="nothing listens") as caught:
                await bench.get(b"k")
            assert not caught.value.sent
            await asyncio.sleep(0.01)
        assert 6 <= bench.stats.streams_opened <= 10
        channel.refuse = None
        await asyncio.sleep(0.5)
        call = bench.get(b"k")
        await settle()
        bench.stream.answer(b"k")
        await call
        bench.stream.break_off()
        await settle()
        again = bench.get(b"k")  # it had worked: no pause
        await settle()
        bench.stream.answer(b"k")
        await again

    with_bench(body)


def test_an_idle_connection_is_closed_and_opened_by_the_next_request() -> None:
    async def body(bench: Bench) -> None:
        call = bench.get(b"k")
        await settle()
        bench.stream.answer(b"k")
        await call
        await asyncio.sleep(205)
        assert bench.channels[0].closed == 0
        await asyncio.sleep(10)
        assert bench.channels[0].closed == 1
        assert bench.channels[0].streams[0].cancelled
        again = bench.get(b"k")
        await settle()
        assert len(bench.channels) == 2
        bench.stream.answer(b"k")
        assert (await again).value == b"k"
        assert bench.stats.streams_idle == 1

    with_bench(body)


def test_a_connection_in_use_is_kept() -> None:
    async def body(bench: Bench) -> None:
        for _ in range(20):
            call = bench.get(b"k")
            await settle()
            bench.stream.answer(b"k")
            await call
            await asyncio.sleep(100)
        assert len(bench.channels) == 1
        slow = bench.get(b"slow", 1000)
        await asyncio.sleep(900)
        bench.stream.answer(b"slow")
        await slow
        assert len(bench.channels) == 1

    with_bench(body)


def test_a_store_without_batches_is_asked_by_single_calls() -> None:
    async def body(bench: Bench) -> None:
        call = bench.get(b"k", 7)
        await settle()
        bench.stream.break_off("UNIMPLEMENTED")
        await call
        await bench.get(b"k", 8)
        assert bench.channels[0].unary_names == ["KvGet 7", "KvGet 8"]

    with_bench(body)


def test_a_wrong_number_of_responses_hurts_nobody() -> None:
    async def body(bench: Bench) -> None:
        call = bench.get(b"k", 3)
        await settle()
        strange = tikvpb_pb2.BatchCommandsResponse(request_ids=[77, bench.stream.open_ids[b"k"]])
        strange.health_feedback.slow_score = 90
        bench.stream._answers.put_nowait(strange)
        with pytest.raises(DeadlineExceeded):
            await call
        assert bench.heard == [90]

    with_bench(body)
