"""The dispatcher and the batch stream when handlers fail, and when a client does not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from core_py.ports import CallContext, StatusError
from core_py.region_errors import NotLeader
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2 as pb
from protos.kvproto import tikvpb_pb2
from tikv_py.server import batch_commands
from tikv_py.server.batch_commands import BatchCommandsService
from tikv_py.server.dispatch import Command, Dispatcher
from tikv_py.server.metrics import StoreMetrics


async def answer(request: Any) -> Any:
    """Behaves as the key says."""
    if request.key == b"region":
        raise NotLeader(7, None)
    if request.key == b"bug":
        raise KeyError("a bug")
    if request.key == b"slow":
        await asyncio.sleep(1)
    return pb.RawGetResponse(value=request.key)


def now(request: Any) -> Any:
    if request.key == b"bug at once":
        raise ZeroDivisionError
    return pb.RawGetResponse(value=b"at once") if request.key == b"now" else None


def dispatcher() -> Dispatcher:
    metrics = StoreMetrics(CollectorRegistry())
    commands = {
        "RawGet": Command("RawGet", pb.RawGetResponse, answer, now=now),
        "KvPrewrite": Command("KvPrewrite", pb.PrewriteResponse, answer_without_field),
    }
    return Dispatcher(commands, metrics, LoopClock())


async def answer_without_field(_request: Any) -> Any:
    raise KeyError("a bug")


def batch(*keys: bytes) -> tikvpb_pb2.BatchCommandsRequest:
    request = tikvpb_pb2.BatchCommandsRequest()
    for number, key in enumerate(keys):
        request.requests.add(RawGet=pb.RawGetRequest(key=key))
        request.request_ids.append(number)
    return request


@pytest.mark.parametrize("key", [b"bug", b"bug at once"])
def test_an_unexpected_failure_is_answered(key: bytes) -> None:
    async def main() -> None:
        served = dispatcher()
        response = await served.unary("RawGet", pb.RawGetRequest(key=key))
        assert isinstance(response, pb.RawGetResponse)
        assert "KV:Server:Internal" in response.error
        with pytest.raises(StatusError, match="KvPrewrite failed"):
            await served.unary("KvPrewrite", pb.PrewriteRequest())
        await served.close()

    run_virtual(main())


def test_one_failing_command_leaves_the_others_of_its_stream() -> None:
    async def main() -> None:
        served = dispatcher()
        service = BatchCommandsService(served, frozenset({"RawGet"}))

        async def requests() -> AsyncIterator[Any]:
            yield batch(b"bug at once", b"bug", b"region", b"slow", b"now")
            await asyncio.sleep(3)

        answers = {}
        async for message in service.serve(requests(), CallContext()):
            for number, response in zip(message.request_ids, message.responses, strict=True):
                answers[number] = response.RawGet
        assert sorted(answers) == [0, 1, 2, 3, 4]
        assert "Internal" in answers[0].error
        assert "Internal" in answers[1].error
        assert answers[2].region_error.HasField("not_leader")
        assert (answers[3].value, answers[4].value) == (b"slow", b"at once")
        await served.close()

    run_virtual(main())


def test_a_client_that_does_not_read_is_not_read_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_commands, "OUTBOX_MAX", 50)
    taken = 0

    async def main() -> None:
        nonlocal taken
        served = dispatcher()
        service = BatchCommandsService(served, frozenset({"RawGet"}))

        async def requests() -> AsyncIterator[Any]:
            nonlocal taken
            for _ in range(100):
                yield batch(*[b"now"] * 10)
                taken += 1

        stream = service.serve(requests(), CallContext()).__aiter__()
        first = await anext(stream)
        await asyncio.sleep(1)
        assert taken <= 15, "the rest waits until the client reads"
        received = len(first.responses)
        async for message in stream:
            received += len(message.responses)
        assert received == 1000
        await served.close()

    run_virtual(main())
