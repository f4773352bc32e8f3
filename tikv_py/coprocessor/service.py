"""The coprocessor's front: find the region, check locks, freeze a view, run the request in a worker thread.

A view is frozen on the loop right after the read barrier, so the answer is of one moment; the work itself happens in
threads in short slices of the interpreter, so that raft ticks go on. Who has a thread is the read pool's to say, by priority;
no view is frozen for a request that still waits for one. The number of requests that wait is bounded.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from core_py.codec import memcomparable
from core_py.errors import CodecError, DbError
from core_py.ports import Clock, Workers
from core_py.region_errors import RegionError, ServerIsBusy
from core_py.runtime.log import get_logger
from protos.kvproto import coprocessor_pb2, kvrpcpb_pb2
from tikv_py.engine.port import CF_LOCK, CF_WRITE, Range, Snapshot
from tikv_py.mvcc import keys
from tikv_py.mvcc.errors import KeyIsLocked
from tikv_py.mvcc.lock import Lock
from tikv_py.mvcc.reader import check_read_lock
from tikv_py.raftstore.keys import data_range, region_bounds
from tikv_py.raftstore.peer import Peer
from tikv_py.server.dispatch import Command
from tikv_py.server.key_errors import lock_info
from tikv_py.server.metrics import StoreMetrics
from tikv_py.server.read_pool import ReadPool
from tikv_py.txn.context import RegionAccess
from tikv_py.txn.deadline import Deadline

DAG, ANALYZE, CHECKSUM = 103, 104, 105
STREAMED_RANGES = 16
MAX_RANGES = 1 << 17

EngineRanges = tuple[tuple[bytes, bytes], ...]


class CoprocessorService:
    """Handlers of Coprocessor."""

    def __init__(
        self,
        access: RegionAccess,
        workers: Workers,
        metrics: StoreMetrics,
        clock: Clock,
        *,
        max_tasks: int,
        pool: ReadPool,
    ) -> None:
        self._access = access
        self._engine = access.store.kv_db
        self._fail = access.store.fail
        self._workers = workers
        self._metrics = metrics
        self._clock = clock
        self._waiting = 0
        self._max_tasks = max_tasks
        self._pool = pool
        self._execute: Any = None
        self._duration = metrics.cop_duration.labels("select")
        self._rows = metrics.cop_rows.labels("select")

    def commands(self) -> dict[str, Command]:
        """For the dispatcher."""
        return {"Coprocessor": Command("Coprocessor", coprocessor_pb2.Response, self.handle)}

    async def handle(self, request: coprocessor_pb2.Request) -> coprocessor_pb2.Response:
        """One request, and the ones for other regions of this store that ride on it."""
        if request.tp != DAG:
            return coprocessor_pb2.Response(other_error=f"unsupported tp {request.tp}: this store answers {DAG} (DAG)")
        if self._waiting >= self._max_tasks:
            self._metrics.cop_errors.labels("busy").inc()
            raise ServerIsBusy(f"coprocessor: {self._waiting} requests are running or waiting")
        began = self._clock.monotonic()
        self._waiting += 1
        try:
            response = await self._one(request, request.context, list(request.ranges))
            for task in request.tasks:
                response.batch_responses.append(await self._batched(request, task))
        finally:
            self._waiting -= 1
        self._duration.observe(self._clock.monotonic() - began)
        return response

    async def _batched(
        self, request: coprocessor_pb2.Request, task: coprocessor_pb2.StoreBatchTask
    ) -> coprocessor_pb2.StoreBatchTaskResponse:
        context = kvrpcpb_pb2.Context()
        context.CopyFrom(request.context)
        context.region_id = task.region_id
        context.region_epoch.CopyFrom(task.region_epoch)
        context.peer.CopyFrom(task.peer)
        out = coprocessor_pb2.StoreBatchTaskResponse(task_id=task.task_id)
        try:
            response = await self._one(request, context, list(task.ranges))
        except RegionError as error:
            out.region_error.CopyFrom(error.to_pb())
            return out
        out.data, out.other_error = response.data, response.other_error
        if response.HasField("locked"):
            out.locked.CopyFrom(response.locked)
        return out

    async def _one(
        self,
        request: coprocessor_pb2.Request,
        context: kvrpcpb_pb2.Context,
        user_ranges: list[coprocessor_pb2.KeyRange],
    ) -> coprocessor_pb2.Response:
        execute = self._loaded()
        deadline = Deadline(context, self._clock)
        try:
            parsed = execute.parse(request)
        except (CodecError, DbError) as error:
            self._metrics.cop_errors.labels("other").inc()
            return coprocessor_pb2.Response(other_error=f"{error.code}: {error.message}")
        read_ts = parsed[2]
        if self._fail.armed and (reason := await self._fail.reach("coprocessor_before_read")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")
        try:
            peer = await self._access.readable(context, read_ts)
            async with self._pool.thread(context) as waited_s:
                if waited_s:
                    peer = await self._access.readable(context, read_ts)
                began = self._clock.monotonic()
                response = await self._read(request, context, peer, user_ranges, parsed, deadline)
        except KeyIsLocked as error:
            return self._locked(error)
        times = response.exec_details_v2.time_detail_v2
        times.wait_wall_time_ns = int(waited_s * 1e9)
        times.process_wall_time_ns = int((self._clock.monotonic() - began) * 1e9)
        return response

    async def _read(
        self,
        request: coprocessor_pb2.Request,
        context: kvrpcpb_pb2.Context,
        peer: Peer,
        user_ranges: list[coprocessor_pb2.KeyRange],
        parsed: tuple[Any, int, int],
        deadline: Deadline,
    ) -> coprocessor_pb2.Response:
        """Freeze a view of what may be read now, and compute in a thread."""
        execute = self._loaded()
        dag, encode_type, read_ts = parsed
        wanted = [bounds for bounds in user_ranges if not bounds.end or bounds.start < bounds.end]
        ranges = _engine_ranges(peer, wanted)
        if ranges is None:
            return coprocessor_pb2.Response(other_error=f"Request range exceeds bound of region {peer.region.id}")
        if context.isolation_level == kvrpcpb_pb2.SI and not context.stale_read:
            try:
                self._check_locks(ranges, read_ts, frozenset(context.resolved_locks))
            except KeyIsLocked as error:
                return self._locked(error)
        streamed = not dag.scan.desc and len(ranges) <= STREAMED_RANGES
        view = self._engine.snapshot([Range(CF_WRITE, start, end) for start, end in ranges] if streamed else [])
        pairs = tuple((bounds.start, bounds.end) for bounds in wanted)
        task = execute.Task(request, dag, encode_type, ranges, pairs, read_ts)
        if self._fail.armed and (reason := await self._fail.reach("coprocessor_view_frozen")) is not None:
            view.release()
            return coprocessor_pb2.Response(other_error=f"failpoint: {reason}")
        response, records = await self._workers.run(_run_in_time, deadline, execute.run, task, view)
        self._count(peer, ranges, records)
        self._rows.inc(records)
        result: coprocessor_pb2.Response = response
        return result

    def _locked(self, error: KeyIsLocked) -> coprocessor_pb2.Response:
        self._metrics.cop_errors.labels("lock").inc()
        return coprocessor_pb2.Response(locked=lock_info(error.user_key, error.lock))

    @staticmethod
    def _count(peer: Peer, ranges: EngineRanges, records: int) -> None:
        """A request counts as one read; bytes are estimated by the region's average, because only records are counted."""
        flow = peer.flow
        flow.read_keys += records
        flow.scan_surplus += records - 1
        flow.read_bytes += records * peer.approximate_size // max(1, peer.approximate_keys)
        if peer.hot_reads is not None and ranges:
            peer.hot_reads.add(*region_bounds(ranges[0][0], ranges[-1][1]))

    def _loaded(self) -> Any:
        """The executing half, imported when it is needed for the first time."""
        if self._execute is None:
            self._execute = importlib.import_module("tikv_py.coprocessor.execute")
            get_logger().info("coprocessor loaded")
        return self._execute

    def _check_locks(self, ranges: EngineRanges, read_ts: int, resolved: frozenset[int]) -> None:
        """Raise KeyIsLocked for the first lock that a read at `read_ts` must wait for."""
        for start, end in ranges if len(self._access.concurrency) else ():
            self._access.concurrency.check_range(start, end, read_ts, resolved)
        found = self._engine.scan(CF_LOCK, ranges[0][0], ranges[-1][1]) if ranges else []
        for key, data in found:
            if len(ranges) > 1 and not any(start <= key < end for start, end in ranges):
                continue
            check_read_lock(Lock.from_bytes(data), keys.user_key(key), read_ts, resolved)


def _run_in_time(
    deadline: Deadline, run: Callable[[Any, Snapshot], tuple[coprocessor_pb2.Response, int]], task: Any, view: Snapshot
) -> tuple[coprocessor_pb2.Response, int]:
    """In the thread: `run` releases the view, unless the request waited too long for the thread."""
    try:
        deadline.check()
    except ServerIsBusy:
        view.release()
        raise
    return run(task, view)


def _engine_ranges(peer: Peer, user_ranges: list[coprocessor_pb2.KeyRange]) -> EngineRanges | None:
    """The ranges as engine keys; None when one lies outside the region, or they are not in order."""
    low, high = data_range(peer.region.start_key, peer.region.end_key)
    out = []
    previous = low
    for bounds in user_ranges[:MAX_RANGES]:
        start = b"z" + memcomparable.encode(bounds.start)
        end = b"z" + memcomparable.encode(bounds.end) if bounds.end else high
        if start < previous or end > high:
            return None
        out.append((start, end))
        previous = end
    return tuple(out) if len(user_ranges) <= MAX_RANGES else None
