"""The copIterator: sends coprocessor tasks to the stores and gives their answers to the reader.

Tasks are cut by region. Several workers take them in order; with keep-order each task has its own queue and the reader takes
queue after queue, otherwise all answers go to one queue. Tokens bound how far workers run ahead of the reader (twice the
concurrency when order is kept). A single task is run by the reader itself (lite worker). A region error cuts the rest of the
task anew; a lock is resolved and the task repeated; both within the task's back-off budget of 20 s. Leaving the iterator early
stops the workers.

Invariant: every row of the ranges is given exactly once: after a page, only what lies behind it is asked for again.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from google.protobuf.message import DecodeError

from core_py.codec import datum
from core_py.errors import DbError
from core_py.runtime.tasks import TaskScope
from core_py.vector import chunk_codec
from core_py.vector.arrow import Vec, pa
from core_py.vector.dag import output_types
from core_py.vector.errors import EvalError
from core_py.vector.fieldtype import FieldType, arrow_type
from core_py.vector.ordering import concat_columns
from core_py.vector.plan import Aggregate, TopNNode
from core_py.vector.tipb_codec import dag_to_pb
from protos.kvproto import coprocessor_pb2
from protos.tipb import select_pb2
from tidb_py.distsql.ranges import KeyRange, KeyRanges
from tidb_py.distsql.tasks import (
    MAX_PAGING,
    MIN_PAGING,
    CopTask,
    MemoryTracker,
    cut,
    next_paging,
    small_task_concurrency,
)  # fmt: skip
from tidb_py.session.storage import CopRequest
from tikv_py.client.errors import CoprocessorError, RegionStale
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.txn.client import TxnClient

REQUEST_DAG = 103
TASK_BUDGET_MS = 20_000
MEMORY_QUOTA = 1 << 30
_BOUND_ERROR = "Request range exceeds bound"
_END = None


class EvaluationFailed(EvalError):
    """A store could not compute an expression; number and text are the store's."""

    code = "Sql:Distsql:Evaluation"

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.mysql_code = number or 1105  # type: ignore[misc]


class CopIterator:
    """Runs one request."""

    def __init__(self, client: TxnClient, request: CopRequest) -> None:
        self._client, self._request = client, request
        self._types: list[FieldType] = output_types(request.dag)
        self._data = dag_to_pb(request.dag).SerializeToString()
        self._resolved: dict[int, None] = {}  # transactions whose locks this read may pass over
        self._memory = MemoryTracker(MEMORY_QUOTA)
        blocking = any(isinstance(e, (Aggregate, TopNNode)) for e in request.dag.executors)
        self._paging = 0 if blocking else MIN_PAGING if request.limit_hint else MAX_PAGING

    async def run(self) -> AsyncGenerator[list[Vec], None]:
        """The answers."""
        if not self._request.ranges:
            return
        backoffer = self._client.new_backoffer(TASK_BUDGET_MS)
        tasks = await self._build(self._request.ranges, backoffer, self._paging)
        if len(tasks) == 1:
            async for batch in self._answers(tasks[0]):  # lite worker
                yield batch
            return
        source = self._ordered(tasks) if self._request.keep_order else self._unordered(tasks)
        async with aclosing(source):
            async for batch in source:
                yield batch

    async def _build(
        self, ranges: KeyRanges | tuple[KeyRange, ...], backoffer: Backoffer, paging: int
    ) -> list[CopTask]:
        groups = await self._client.region_cache.split_ranges_by_region(list(ranges), backoffer)
        return cut(groups, paging=paging, desc=self._request.desc)

    def _concurrency(self, tasks: list[CopTask]) -> int:
        base = min(self._request.concurrency, len(tasks))
        return max(1, min(base + small_task_concurrency(tasks, os.cpu_count() or 1), len(tasks)))

    async def _ordered(self, tasks: list[CopTask]) -> AsyncGenerator[list[Vec], None]:
        """Each task has its own queue; they are read in task order."""
        workers = self._concurrency(tasks)
        tokens = asyncio.Semaphore(2 * workers)
        waiting = deque(tasks)

        async def work() -> None:
            while waiting:
                await tokens.acquire()
                if not waiting:
                    return
                task = waiting.popleft()
                await self._into(task, task.answers)

        scope = TaskScope("cop workers")
        try:
            for _ in range(workers):
                scope.spawn(work(), name="cop worker")
            for task in tasks:
                async for batch in self._read(task.answers, 1):
                    yield batch
                tokens.release()
        finally:
            await scope.close()

    async def _unordered(self, tasks: list[CopTask]) -> AsyncGenerator[list[Vec], None]:
        """All tasks answer into one queue."""
        workers = self._concurrency(tasks)
        answers: asyncio.Queue[list[Vec] | BaseException | None] = asyncio.Queue(maxsize=2 * workers)
        waiting = deque(tasks)

        async def work() -> None:
            while waiting:
                await self._into(waiting.popleft(), answers)

        scope = TaskScope("cop workers")
        try:
            for _ in range(workers):
                scope.spawn(work(), name="cop worker")
            async for batch in self._read(answers, len(tasks)):
                yield batch
        finally:
            await scope.close()

    async def _into(self, task: CopTask, answers: asyncio.Queue[list[Vec] | BaseException | None]) -> None:
        """Run a task; its end, or what went wrong, is the last thing it puts."""
        try:
            async for batch in self._answers(task):
                self._memory.consume(_size(batch))
                await answers.put(batch)
                await self._memory.wait_for_room()
        except DbError as error:
            await answers.put(error)
            return
        await answers.put(_END)

    async def _read(
        self, answers: asyncio.Queue[list[Vec] | BaseException | None], ends: int
    ) -> AsyncIterator[list[Vec]]:
        while ends:
            item = await answers.get()
            if item is _END:
                ends -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                self._memory.release(_size(item))
                yield item

    # -- one task ---------------------------------------------------------------------------------------------

    async def _answers(self, task: CopTask) -> AsyncIterator[list[Vec]]:
        """Everything one task (and what it is cut into) answers."""
        backoffer = self._client.new_backoffer(TASK_BUDGET_MS)
        waiting = deque([task])
        while waiting:
            current = waiting.popleft()
            try:
                response = await self._client.send_coprocessor(current.region, self._message(current), backoffer)
            except RegionStale as error:
                await backoffer.backoff(kinds.REGION_MISS, error)
                waiting.extendleft(reversed(await self._build(current.ranges, backoffer, current.paging)))
                continue
            if response.HasField("locked"):
                await self._resolve(response, backoffer)
                waiting.appendleft(current)
                continue
            if response.other_error:
                if _BOUND_ERROR not in response.other_error:
                    raise CoprocessorError(f"other error: {response.other_error}")
                self._client.region_cache.invalidate(current.region)
                await backoffer.backoff(kinds.REGION_MISS, response.other_error)
                waiting.extendleft(reversed(await self._build(current.ranges, backoffer, current.paging)))
                continue
            batch = self._decode(response.data)
            if response.HasField("range") and current.paging:
                rest = self._rest(current, response.range)
                if len(rest):
                    waiting.appendleft(CopTask(current.region, rest, next_paging(current.paging)))
            if batch is not None:
                yield batch

    def _message(self, task: CopTask) -> coprocessor_pb2.Request:
        message = coprocessor_pb2.Request(
            tp=REQUEST_DAG, data=self._data, start_ts=self._request.start_ts, paging_size=task.paging
        )
        for start, end in task.ranges:
            message.ranges.add(start=start, end=end)
        if self._resolved:
            message.context.resolved_locks.extend(self._resolved)
        return message

    def _rest(self, task: CopTask, scanned: coprocessor_pb2.KeyRange) -> KeyRanges:
        return task.ranges.before(scanned.start) if self._request.desc else task.ranges.after(scanned.end)

    async def _resolve(self, response: coprocessor_pb2.Response, backoffer: Backoffer) -> None:
        """Settle the lock in the way, or wait for its owner."""
        resolver = self._client.lock_resolver
        result = await resolver.resolve_for_read([response.locked], self._request.start_ts, backoffer)
        for start_ts in result.ignorable:
            self._resolved[start_ts] = None
        if result.wait_ms:
            cause = f"key {response.locked.key.hex()} is locked by {response.locked.lock_version}"
            await backoffer.backoff(kinds.TXN_LOCK_FAST, cause, at_most_ms=result.wait_ms)

    def _decode(self, data: bytes) -> list[Vec] | None:
        answer = select_pb2.SelectResponse()
        try:
            answer.ParseFromString(data)
        except DecodeError as error:
            raise CoprocessorError(f"an answer that is no SelectResponse: {error}") from error
        if answer.HasField("error") and (answer.error.code or answer.error.msg):
            raise EvaluationFailed(answer.error.code, answer.error.msg)
        if self._request.warn is not None:
            for warning in answer.warnings:
                self._request.warn(warning.code, warning.msg)
        decode = self._columns if answer.encode_type == select_pb2.EncodeType.TypeChunk else self._rows
        batches = [b for b in (decode(chunk.rows_data) for chunk in answer.chunks if chunk.rows_data) if len(b[0])]
        return concat_columns(batches) if batches else None

    def _columns(self, data: bytes) -> list[Vec]:
        return chunk_codec.decode(data, self._types)

    def _rows(self, data: bytes) -> list[Vec]:
        """TypeDefault: rows of datums; only stores that cannot encode a column in chunks answer so."""
        values = [d.value for d in datum.decode_all(data)]
        width = len(self._types)
        return [pa.array(values[i::width], arrow_type(ft)) for i, ft in enumerate(self._types)]


def _size(batch: list[Vec]) -> int:
    return sum(int(column.nbytes) for column in batch)
