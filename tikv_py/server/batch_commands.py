"""BatchCommands: any number of commands on one stream, answered as they finish, in any order (wire facts 3.2).

All commands of a received message are started in one turn of the loop, so their raft writes share an entry and a sync; all answers
that are ready when the stream can take more go out in one message. A client that does not read its answers is not read from
either, once `OUTBOX_MAX` of its commands run or have answers that wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import Message

from core_py.failpoints import UNARMED, FailPoints
from core_py.ports import CallContext, StatusError
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.kvproto import tikvpb_pb2
from tikv_py.server.dispatch import Dispatcher

RESPONSES_MAX = 1024  # answers in one message
OUTBOX_MAX = 16_384  # commands of one client that run or whose answers wait; then no more of its requests are taken in


def _is_unary(method: Any) -> bool:
    return not method.client_streaming and not method.server_streaming


def _oneof_commands() -> dict[str, str]:
    """Field name of the request's oneof → method name, from the descriptors: the types are the same on both."""
    service = tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"]
    by_type = {method.input_type.full_name: method.name for method in service.methods if _is_unary(method)}
    fields: list[Any] = list(tikvpb_pb2.BatchCommandsRequest.Request.DESCRIPTOR.fields)
    return {
        field.name: by_type[field.message_type.full_name] for field in fields if field.message_type.full_name in by_type
    }


COMMAND_OF_FIELD = _oneof_commands()


class _Outbox:
    """Answers of one stream that wait to be sent."""

    def __init__(self) -> None:
        self.responses: list[Any] = []
        self.request_ids: list[int] = []
        self.running = 0
        self.wake = asyncio.Event()
        self.space = asyncio.Event()
        self.space.set()
        self.ended = False

    def begin(self) -> None:
        """A command of this stream starts; `add` ends it."""
        self.running += 1
        if self.running + len(self.responses) >= OUTBOX_MAX:
            self.space.clear()

    def add(self, field: str, request_id: int, response: Message | None) -> None:
        """Queue an answer, unless there is none."""
        self.running -= 1
        if response is None:
            self._make_space()
            return
        arguments: dict[str, Any] = {field: response}
        self.responses.append(tikvpb_pb2.BatchCommandsResponse.Response(**arguments))
        self.request_ids.append(request_id)
        self.wake.set()

    def take(self) -> tikvpb_pb2.BatchCommandsResponse:
        """The next message of answers."""
        message = tikvpb_pb2.BatchCommandsResponse(
            responses=self.responses[:RESPONSES_MAX], request_ids=self.request_ids[:RESPONSES_MAX]
        )
        del self.responses[:RESPONSES_MAX]
        del self.request_ids[:RESPONSES_MAX]
        self._make_space()
        return message

    def _make_space(self) -> None:
        if self.running + len(self.responses) < OUTBOX_MAX:
            self.space.set()


class BatchCommandsService:
    """Serves the stream over a dispatcher."""

    def __init__(self, dispatcher: Dispatcher, supported: frozenset[str], fail: FailPoints = UNARMED) -> None:
        self._dispatcher = dispatcher
        self._fail = fail
        self._supported = supported

    async def serve(
        self, requests: AsyncIterator[tikvpb_pb2.BatchCommandsRequest], _context: CallContext
    ) -> AsyncIterator[tikvpb_pb2.BatchCommandsResponse]:
        """The stream's handler."""
        outbox, fail = _Outbox(), self._fail
        scope = TaskScope("batch commands", on_failure=lambda error: self._failed(outbox, error))
        scope.spawn(self._read(requests, outbox))
        try:
            while True:
                await outbox.wake.wait()
                outbox.wake.clear()
                while outbox.responses:
                    if fail.armed and (reason := await fail.reach("batch_commands_send")) is not None:
                        raise StatusError("UNAVAILABLE", f"failpoint: {reason}")
                    yield outbox.take()
                if outbox.ended:
                    return
        finally:
            await scope.close()

    def _failed(self, outbox: _Outbox, error: BaseException) -> None:
        get_logger().warn("batch stream failed", error=f"{type(error).__name__}: {error}")
        self._end(outbox)

    @staticmethod
    def _end(outbox: _Outbox) -> None:
        outbox.ended = True
        outbox.wake.set()

    async def _read(self, requests: AsyncIterator[tikvpb_pb2.BatchCommandsRequest], outbox: _Outbox) -> None:
        try:
            async for batch in requests:
                if self._fail.armed and await self._fail.reach("batch_commands_receive") is not None:
                    continue
                for request, request_id in zip(batch.requests, batch.request_ids, strict=False):
                    self._start(request, request_id, outbox)
                await outbox.space.wait()
        finally:
            self._end(outbox)

    def _start(self, request: Any, request_id: int, outbox: _Outbox) -> None:
        field = request.WhichOneof("cmd")
        if field is None:
            return
        if field == "empty":
            outbox.begin()
            outbox.add("empty", request_id, tikvpb_pb2.BatchCommandsEmptyResponse(test_id=request.empty.test_id))
            return
        name = COMMAND_OF_FIELD.get(field)
        if name is None or name not in self._supported:
            return
        outbox.begin()
        self._dispatcher.start(name, getattr(request, field), lambda response: outbox.add(field, request_id, response))
