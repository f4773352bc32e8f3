"""One contract for both transports: gRPC on real sockets and the memory network behave alike towards callers and handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core_py.errors import ConfigError, DeadlineExceeded, InvariantViolation, PdError, RpcError
from core_py.ports import CallContext, Service, StatusError, StreamCall, Transport, methods_of
from core_py.runtime.grpc_transport import GrpcTransport
from core_py.sim.network import MemoryNetwork
from protos.kvproto import debugpb_pb2, pdpb_pb2, raft_serverpb_pb2, tikvpb_pb2

PD = pdpb_pb2.DESCRIPTOR.services_by_name["PD"]
TIKV = tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"]
ALLOC, TSO, RAFT = methods_of(PD)["AllocID"], methods_of(PD)["Tso"], methods_of(TIKV)["BatchRaft"]
DEBUG = debugpb_pb2.DESCRIPTOR.services_by_name["Debug"]
SCAN = methods_of(DEBUG)["ScanMvcc"]
UNSERVED = methods_of(PD)["GetStore"]


class Handlers:
    """A handler per shape; the count of a request says how to behave."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.metadata: dict[str, str] = {}

    async def alloc(self, request: Any, context: CallContext) -> Any:
        self.metadata = dict(context.metadata)
        if request.count == 1:
            raise StatusError("FAILED_PRECONDITION", "not now")
        if request.count == 2:
            raise PdError("refused")
        if request.count == 3:
            raise ValueError("a bug")
        if request.count == 4:
            try:
                await asyncio.sleep(60)
            finally:
                self.ended.set()
        return pdpb_pb2.AllocIDResponse(id=request.count)

    async def tso(self, requests: AsyncIterator[Any], _context: CallContext) -> AsyncIterator[Any]:
        try:
            async for request in requests:
                if request.count == 1:
                    raise StatusError("UNAVAILABLE", "no longer")
                yield pdpb_pb2.TsoResponse(count=request.count)
        finally:
            self.ended.set()

    async def raft(self, batches: AsyncIterator[Any], _context: CallContext) -> Any:
        async for batch in batches:
            if batch.last_observed_time == 1:
                raise StatusError("UNKNOWN", "StoreNotMatch")
        return raft_serverpb_pb2.Done()

    async def scan(self, request: Any, _context: CallContext) -> AsyncIterator[Any]:
        try:
            for number in range(request.limit):
                if request.to_key and number == 2:
                    raise StatusError("NOT_FOUND", "no more")
                yield debugpb_pb2.ScanMvccResponse(key=b"%d" % number)
        finally:
            self.ended.set()

    def services(self) -> list[Service]:
        return [
            Service(PD, {"AllocID": self.alloc, "Tso": self.tso}),
            Service(TIKV, {"BatchRaft": self.raft}),
            Service(DEBUG, {"ScanMvcc": self.scan}),
        ]


@pytest.fixture(params=["memory", "grpc"])
def transport(request: pytest.FixtureRequest) -> Transport:
    if request.param == "memory":
        return MemoryNetwork().transport("test")
    return GrpcTransport()


class World:
    """A server and a channel to it."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.handlers = Handlers()

    async def __aenter__(self) -> World:
        self.listener = await self.transport.serve("127.0.0.1:0", self.handlers.services())
        self.channel = self.transport.connect(f"http://{self.listener.address}")
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.channel.close()
        await self.listener.stop(0)

    async def alloc(self, count: int, timeout_s: float = 5) -> Any:
        return await self.channel.unary(ALLOC, pdpb_pb2.AllocIDRequest(count=count), timeout_s=timeout_s)

    def tso(self) -> StreamCall:
        return self.channel.stream(TSO)


async def test_unary(transport: Transport) -> None:
    async with World(transport) as world:
        assert (await world.alloc(9)).id == 9
        request = pdpb_pb2.AllocIDRequest(count=8)
        await world.channel.unary(ALLOC, request, timeout_s=5, metadata=(("source", "me"),))
        assert world.handlers.metadata["source"] == "me"


@pytest.mark.parametrize(
    ("count", "status", "text"),
    [(1, "FAILED_PRECONDITION", "not now"), (2, "UNKNOWN", "refused"), (3, "UNKNOWN", "a bug")],
)
async def test_failures_of_a_handler_are_statuses(transport: Transport, count: int, status: str, text: str) -> None:
    async with World(transport) as world:
        with pytest.raises(RpcError, match=text) as failed:
            await world.alloc(count)
        assert failed.value.status == status
        assert (await world.alloc(9)).id == 9, "the next call is served"


async def test_unserved_methods(transport: Transport) -> None:
    async with World(transport) as world:
        with pytest.raises(RpcError) as failed:
            await world.channel.unary(UNSERVED, pdpb_pb2.GetStoreRequest(), timeout_s=5)
        assert failed.value.status == "UNIMPLEMENTED"


async def test_deadline(transport: Transport) -> None:
    async with World(transport) as world:
        with pytest.raises(DeadlineExceeded):
            await world.alloc(4, timeout_s=0.05)


async def test_nobody_listens(transport: Transport) -> None:
    channel = transport.connect("127.0.0.1:1")
    with pytest.raises(RpcError) as failed:
        await channel.unary(ALLOC, pdpb_pb2.AllocIDRequest(count=9), timeout_s=5)
    assert failed.value.status == "UNAVAILABLE"
    await channel.close()


async def test_a_stream_answers_in_order_and_ends_well(transport: Transport) -> None:
    async with World(transport) as world:
        stream = world.tso()
        for count in range(2, 40):
            await stream.send(pdpb_pb2.TsoRequest(count=count))
        await stream.done_sending()
        received = []
        while (response := await stream.receive()) is not None:
            received.append(response.count)
        assert received == list(range(2, 40))
        assert await stream.receive() is None


async def test_a_handler_ends_a_stream_with_a_status(transport: Transport) -> None:
    async with World(transport) as world:
        stream = world.tso()
        await stream.send(pdpb_pb2.TsoRequest(count=1))
        with pytest.raises(RpcError) as failed:
            await stream.receive()
        assert failed.value.status == "UNAVAILABLE"
        with pytest.raises(RpcError):
            await stream.send(pdpb_pb2.TsoRequest(count=2))


async def test_a_cancelled_stream_ends_its_handler(transport: Transport) -> None:
    async with World(transport) as world:
        stream = world.tso()
        await stream.send(pdpb_pb2.TsoRequest(count=2))
        assert (await stream.receive()).count == 2
        stream.cancel()
        await asyncio.wait_for(world.handlers.ended.wait(), 5)


async def test_a_client_stream_is_answered_once(transport: Transport) -> None:
    async with World(transport) as world:
        stream = world.channel.stream(RAFT, metadata=(("source_store_id", "1"),))
        await stream.send(tikvpb_pb2.BatchRaftMessage(last_observed_time=2))
        await stream.done_sending()
        assert await stream.receive() is not None
        refused = world.channel.stream(RAFT)
        await refused.send(tikvpb_pb2.BatchRaftMessage(last_observed_time=1))
        with pytest.raises(RpcError, match="StoreNotMatch"):
            await refused.receive()


async def drain(stream: StreamCall) -> None:
    while await stream.receive() is not None:
        continue


async def test_one_request_is_answered_by_a_stream(transport: Transport) -> None:
    async with World(transport) as world:
        stream = world.channel.stream(SCAN)
        await stream.send(debugpb_pb2.ScanMvccRequest(limit=3))
        await stream.done_sending()
        assert [(await stream.receive()).key for _ in range(3)] == [b"0", b"1", b"2"]
        assert await stream.receive() is None

        failing = world.channel.stream(SCAN)
        await failing.send(debugpb_pb2.ScanMvccRequest(limit=3, to_key=b"fail"))
        with pytest.raises(RpcError, match="no more") as caught:
            await drain(failing)  # a failure may overtake what was sent before it
        assert caught.value.status == "NOT_FOUND"


async def test_a_cancelled_answer_ends_its_handler(transport: Transport) -> None:
    async with World(transport) as world:
        stream = world.channel.stream(SCAN)
        stream.cancel()
        stream = world.channel.stream(SCAN)
        await stream.send(debugpb_pb2.ScanMvccRequest(limit=1 << 40))
        assert (await stream.receive()).key == b"0"
        stream.cancel()
        await asyncio.wait_for(world.handlers.ended.wait(), 10)


async def test_a_stopped_server_fails_its_calls_and_refuses_new_ones(transport: Transport) -> None:
    async with World(transport) as world:
        stream = world.tso()
        await stream.send(pdpb_pb2.TsoRequest(count=2))
        assert (await stream.receive()).count == 2
        await world.listener.stop(0)
        with pytest.raises(RpcError):
            await stream.receive()
        with pytest.raises(RpcError) as refused:
            await world.alloc(9, timeout_s=2)
        assert refused.value.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


async def test_one_address_is_served_once(transport: Transport) -> None:
    async with World(transport) as world:
        with pytest.raises(ConfigError, match="cannot listen on"):
            await transport.serve(world.listener.address, world.handlers.services())


async def test_a_stream_that_was_ended_here_is_broken_not_its_user_cancelled(transport: Transport) -> None:
    async with World(transport) as world:
        stream = world.tso()
        await stream.send(pdpb_pb2.TsoRequest(count=2))
        waiting = asyncio.get_running_loop().create_task(drained(stream))
        await asyncio.sleep(0.05)
        stream.cancel()
        with pytest.raises(RpcError):
            await asyncio.wait_for(waiting, 5)
        with pytest.raises(RpcError):
            await stream.send(pdpb_pb2.TsoRequest(count=2))


async def test_cancelling_the_user_of_a_stream_cancels_it(transport: Transport) -> None:
    async with World(transport) as world:
        waiting = asyncio.get_running_loop().create_task(drained(world.tso()))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def drained(stream: StreamCall) -> None:
    while await stream.receive() is not None:
        pass


async def test_a_process_that_ends_in_memory_breaks_its_streams(broken_invariants: list[BaseException]) -> None:
    async def breaks(_requests: AsyncIterator[Any], _context: CallContext) -> Any:
        raise InvariantViolation("on purpose")

    network = MemoryNetwork()
    listener = await network.transport("server").serve("server:1", [Service(TIKV, {"BatchRaft": breaks})])
    channel = network.transport("client").connect("server:1")
    with pytest.raises(RpcError, match="UNAVAILABLE"):
        async with asyncio.timeout(5):
            await channel.stream(RAFT).receive()
    await channel.close()
    with pytest.raises(InvariantViolation):
        await listener.stop(0)
    assert len(broken_invariants) == 1
    broken_invariants.clear()
