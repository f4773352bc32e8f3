"""From a command's name to its handler, and errors back into responses.

A command is answered in one of three ways, the cheapest that fits: at once (a read under the leader's lease), by the
callback of a raft write (raw writes), or in a task of its own. Reads ask the pool for their turn, point reads only
while others wait for theirs. Region errors go into `response.region_error`, as the
protocol wants; what a response has no field for ends a unary call with a status, and leaves a batched command
unanswered, as TiKV does. A handler that fails in an unexpected way is logged and treated the same: one command's bug must
not take the others of its stream with it.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf.message import Message

from core_py.errors import DbError
from core_py.ports import Clock, StatusError
from core_py.region_errors import RegionError, ServerIsBusy
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.kvproto import kvrpcpb_pb2
from tikv_py.errors import Refused
from tikv_py.mvcc.errors import TxnError
from tikv_py.raftstore.apply import Applied
from tikv_py.server.key_errors import refusal
from tikv_py.server.metrics import StoreMetrics
from tikv_py.server.read_pool import ReadPool, level_of

TASKS_MAX = 20_000  # commands running in tasks; more are answered ServerIsBusy


class Read(enum.Enum):
    """How a command takes part in the read pool."""

    POINT = enum.auto()
    """Reads a key: asks for no turn unless somebody waits for one."""
    POOLED = enum.auto()
    """Reads many keys, in a turn or more."""


READS = {
    "KvGet": Read.POINT,
    "RawGet": Read.POINT,
    "RawGetKeyTTL": Read.POINT,
    **dict.fromkeys(("KvBatchGet", "KvScan", "KvScanLock", "RawBatchGet", "RawScan", "RawBatchScan"), Read.POOLED),
}

Done = Callable[[Message | None], None]
"""Gets a batched command's response, or None when there will be none."""


class Begun(NamedTuple):
    """A command that was decided at once: its answer, which holds when `written` is applied (None: nothing is written)."""

    response: Message
    written: asyncio.Future[Applied] | None


@dataclass(frozen=True, slots=True)
class Command:
    """How one command is served."""

    name: str
    response: type[Any]
    run: Callable[[Any], Awaitable[Any]]
    now: Callable[[Any], Any] | None = None
    """Answers at once, or gives None."""
    begin: Callable[[Any], Begun | None] | None = None
    """Decides a write in this turn, or gives None when it has to wait for something."""


class Dispatcher:
    """Runs commands by name."""

    def __init__(
        self, commands: Mapping[str, Command], metrics: StoreMetrics, clock: Clock, pool: ReadPool | None = None
    ) -> None:
        self._commands = commands
        self._pool = pool or ReadPool(clock, metrics.read_pool, threads=1, max_waiting=TASKS_MAX)
        self._lines = self._pool.turns
        self._detailed = {
            name for name, one in commands.items() if "exec_details_v2" in one.response.DESCRIPTOR.fields_by_name
        }
        self._clock = clock
        self._metrics = metrics
        self._scope = TaskScope("commands", on_failure=lambda _error: None)  # `_run` answers every failure itself
        self._unary = 0
        self._durations = {name: metrics.grpc_duration.labels(name) for name in commands}
        self._started = {name: (one, self._durations[name], READS.get(name)) for name, one in commands.items()}
        self._failures = {name: metrics.grpc_fail.labels(name) for name in commands}

    async def unary(self, name: str, request: Message) -> Message:
        """Serve one command to its end. Raises StatusError when the response cannot carry the failure."""
        command = self._commands[name]
        began = self._clock.monotonic()
        try:
            response = self._at_once(command, request, began)
            if response is None:
                self._check_room()
                self._unary += 1
                try:
                    response = await self._serve(command, request)
                finally:
                    self._unary -= 1
        except DbError as error:
            response = self._failure(command, error)
            if response is None:
                raise StatusError("UNKNOWN", f"{error.code}: {error.message}") from error
        except Exception as error:  # the boundary of a command
            response = self._failure(command, _unexpected(name, error))
            if response is None:
                raise StatusError("INTERNAL", f"{name} failed: {type(error).__name__}") from error
        self._durations[name].observe(self._clock.monotonic() - began)
        result: Message = response
        return result

    def start(self, name: str, request: Message, done: Done) -> None:
        """Serve a batched command; `done` gets its response, now or later."""
        command, duration, kind = self._started[name]
        began = self._clock.monotonic()
        try:
            if (now := command.now) is not None:
                if kind is Read.POINT and not self._lines.length:
                    response = now(request)
                else:
                    response = self._at_once(command, request, began)
                if response is not None:
                    duration.observe(self._clock.monotonic() - began)
                    done(response)
                    return
            if command.begin is not None and self._begin(command, command.begin, request, began, done):
                return
            self._check_room()
        except DbError as error:
            self._answer_failure(command, error, done)
            return
        except Exception as error:  # noqa: BLE001 the boundary of a command
            self._answer_failure(command, _unexpected(name, error), done)
            return
        self._scope.spawn(self._run(command, request, began, done), name=name)

    def _begin(
        self, command: Command, begin: Callable[[Any], Begun | None], request: Message, began: float, done: Done
    ) -> bool:
        """Whether the command was decided at once; it is answered when it is written."""
        begun = begin(request)
        if begun is None:
            return False
        if begun.written is None:
            self._durations[command.name].observe(self._clock.monotonic() - began)
            done(begun.response)
        else:
            begun.written.add_done_callback(
                lambda written: self._written(command, written, began, done, begun.response)
            )
        return True

    def _at_once(self, command: Command, request: Any, began: float) -> Any:
        """The answer of a command that needs no wait, neither for its region nor for its turn; None for another."""
        if command.now is None:
            return None
        kind, pool = READS.get(command.name), self._pool
        if kind is Read.POINT:
            if pool.turns.length and not pool.may_skip(request.context):
                return None
        elif kind is Read.POOLED:
            if not pool.try_turn():
                return None
            response = command.now(request)
            if response is not None:
                pool.ran(self._clock.monotonic() - began)
            return response
        return command.now(request)

    async def _serve(self, command: Command, request: Any) -> Any:
        """Run a command to its end; reads in their turn, and those that waited for it say so."""
        if command.name not in READS:
            return await command.run(request)
        pool, clock = self._pool, self._clock
        waited_s = 0.0 if pool.try_turn() else await pool.turn(request.context)
        began, turn_round = clock.monotonic(), pool.round
        response = None if command.now is None else command.now(request)
        if response is None:
            response = await command.run(request)
        seconds = clock.monotonic() - began
        if pool.round == turn_round:
            pool.ran(seconds)
        if not waited_s:
            return response
        self._metrics.read_pool.handle[level_of(request.context)].observe(seconds)
        if command.name in self._detailed:
            times = response.exec_details_v2.time_detail_v2
            times.wait_wall_time_ns, times.process_wall_time_ns = int(waited_s * 1e9), int(seconds * 1e9)
        return response

    def _check_room(self) -> None:
        running = len(self._scope) + self._unary
        if running >= TASKS_MAX:
            raise ServerIsBusy(f"{running} commands are running")

    def _written(
        self,
        command: Command,
        written: asyncio.Future[Applied],
        began: float,
        done: Done,
        response: Message,
    ) -> None:
        if written.cancelled():
            done(None)
            return
        error = written.exception()
        if isinstance(error, DbError):
            self._answer_failure(command, error, done)
        elif error is None:
            self._durations[command.name].observe(self._clock.monotonic() - began)
            done(response)

    async def _run(self, command: Command, request: Message, began: float, done: Done) -> None:
        try:
            response = await self._serve(command, request)
        except DbError as error:
            self._answer_failure(command, error, done)
            return
        except Exception as error:  # noqa: BLE001 the boundary of a command
            self._answer_failure(command, _unexpected(command.name, error), done)
            return
        self._durations[command.name].observe(self._clock.monotonic() - began)
        done(response)

    def _answer_failure(self, command: Command, error: DbError, done: Done) -> None:
        response = self._failure(command, error)
        if response is None:
            get_logger().warn("command left unanswered", command=command.name, error=str(error))
        done(response)

    def _failure(self, command: Command, error: DbError) -> Message | None:
        """The response that carries the error, or None when it has no place for it."""
        self._failures[command.name].inc()
        if isinstance(error, ServerIsBusy):
            self._metrics.scheduler_busy.labels(command.name).inc()
        if isinstance(error, RegionError):
            response: Message = command.response(region_error=error.to_pb())
            return response
        if isinstance(error, TxnError) and (key_refused := refusal(command.response, error)) is not None:
            return key_refused
        if isinstance(error, Refused) and (answered := refused(command.response, error)) is not None:
            return answered
        for name in ("error", "other_error"):
            descriptor = command.response.DESCRIPTOR.fields_by_name.get(name)
            if descriptor is not None and descriptor.type == descriptor.TYPE_STRING:
                answer: Message = command.response(**{name: f"{error.code}: {error.message}"})
                return answer
        return None

    async def close(self) -> None:
        """End the commands that still run."""
        await self._scope.close()


def refused(response: type[Any], error: Refused) -> Message | None:
    """A response that carries a refusal's text in the place it has for it: a text, a key error or a pair with one."""
    fields = response.DESCRIPTOR.fields_by_name
    key_error = kvrpcpb_pb2.KeyError
    for name in ("error", "other_error", "errors", "pairs", "kvs"):
        field = fields.get(name)
        if field is None:
            continue
        value: Any
        if field.type == field.TYPE_STRING:
            value = error.message
        elif name == "error":
            value = key_error(abort=error.message)
        elif name == "errors":
            value = [key_error(abort=error.message)]
        else:
            value = [kvrpcpb_pb2.KvPair(error=key_error(abort=error.message))]
        answer: Message = response(**{name: value})
        return answer
    return None


class UnexpectedFailure(DbError):
    """A handler failed in a way that nobody foresaw; the log has the details."""

    code = "KV:Server:Internal"


def _unexpected(name: str, error: Exception) -> UnexpectedFailure:
    get_logger().error("command failed", command=name, error=f"{type(error).__name__}: {error}", exc_info=error)
    return UnexpectedFailure(f"{name} failed: {type(error).__name__}; see the store's log")
