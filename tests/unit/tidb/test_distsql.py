"""The copIterator against stores that split, lock, page and fail: every row exactly once, in order when asked."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_py.codec import row, tablecodec
from core_py.vector import chunk_codec, kernels
from core_py.vector.dag import DagRun, context_of, output_types
from core_py.vector.expr import COUNT, AggDesc, ColumnRef, func, int_const
from core_py.vector.fieldtype import bool_type, int_type
from core_py.vector.plan import Aggregate, Dag, LimitNode, ScanColumn, Selection, TableScan
from core_py.vector.scan_decode import decode_table
from core_py.vector.tipb_codec import dag_from_pb
from protos.kvproto import coprocessor_pb2
from protos.tipb import select_pb2
from tidb_py.distsql.copiterator import CopIterator, EvaluationFailed
from tidb_py.distsql.ranges import KeyRanges
from tidb_py.distsql.tasks import CopTask, MemoryTracker, cut, next_paging, small_task_concurrency
from tidb_py.session.storage import CopRequest
from tikv_py.client.errors import CoprocessorError, RegionStale
from tikv_py.client.region.backoff import Backoffer

assert kernels.SUPPORTED
TABLE = 42
INT = int_type()


def key(handle: int) -> bytes:
    return tablecodec.record_key(TABLE, handle)


ranges_st = st.lists(st.integers(0, 60), min_size=2, max_size=14, unique=True).map(
    lambda points: [(b"%02d" % a, b"%02d" % b) for a, b in zip(sorted(points)[::2], sorted(points)[1::2], strict=False)]
)


@given(ranges_st, st.integers(0, 61), st.integers(0, 61))
def test_cut_ranges_hold_the_same_keys(ranges: list[tuple[bytes, bytes]], low: int, high: int) -> None:
    def keys(parts: Any) -> set[int]:
        return {k for start, end in parts for k in range(int(start), int(end))}

    whole = KeyRanges(ranges)
    assert keys(whole.after(b"%02d" % low)) == {k for k in keys(ranges) if k >= low}
    assert keys(whole.before(b"%02d" % high)) == {k for k in keys(ranges) if k < high}
    both = whole.after(b"%02d" % low).before(b"%02d" % high)
    assert keys(both) == {k for k in keys(ranges) if low <= k < high}
    assert len(both) == len(list(both))


def test_tasks() -> None:
    ranges = [(b"%06d" % i, b"%06d\0" % i) for i in range(60_000)]
    tasks = cut([("r1", ranges)], paging=0, desc=False)
    assert [len(t.ranges) for t in tasks] == [25_000, 25_000, 10_000]
    small = [CopTask("r", KeyRanges(ranges[i : i + 5])) for i in range(100)]
    assert small_task_concurrency(small, 2) == 39
    assert small_task_concurrency(small, 1) == 20
    assert small_task_concurrency(small[:1], 8) == 0
    assert [next_paging(128), next_paging(8000), next_paging(8192)] == [256, 8192, 8192]


async def test_memory_tracker_pauses_above_its_quota() -> None:
    tracker = MemoryTracker(100)
    tracker.consume(150)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await tracker.wait_for_room()
    tracker.release(80)
    await tracker.wait_for_room()
    assert (tracker.used, tracker.peak) == (70, 150)


@dataclass(frozen=True)
class FakeRegion:
    start: bytes
    end: bytes


class FakeCache:
    def __init__(self, bounds: list[bytes]) -> None:
        self.bounds = sorted(bounds)

    def region(self, at: bytes) -> FakeRegion:
        i = bisect_right(self.bounds, at)
        return FakeRegion(self.bounds[i - 1] if i else b"", self.bounds[i] if i < len(self.bounds) else b"\xff" * 30)

    async def split_ranges_by_region(self, ranges: Sequence[tuple[bytes, bytes]], _b: Backoffer) -> list[Any]:
        out: list[tuple[FakeRegion, list[tuple[bytes, bytes]]]] = []
        for start, end in ranges:
            while start < end:
                region = self.region(start)
                if not out or out[-1][0] != region:
                    out.append((region, []))
                out[-1][1].append((start, min(end, region.end)))
                start = min(end, region.end)
        return out

    def invalidate(self, _region: FakeRegion) -> None:
        pass


class FakeResolver:
    def __init__(self) -> None:
        self.resolved: list[int] = []

    async def resolve_for_read(self, locks: Sequence[Any], _ts: int, _b: Backoffer) -> Any:
        self.resolved += [lock.lock_version for lock in locks]

        @dataclass
        class Result:
            wait_ms: int = 0
            ignorable: tuple[int, ...] = ()

        return Result(ignorable=tuple(lock.lock_version for lock in locks if lock.lock_version % 2))


class FakeClient:
    """Stores with rows 0 .. count-1; `faults` are consumed one per request."""

    def __init__(self, count: int, bounds: list[int], faults: list[Any] | None = None) -> None:
        self.rows = [(key(i), row.encode([(2, row.value_int(i * i))])) for i in range(count)]
        self.region_cache = FakeCache([key(b) for b in bounds])
        self.lock_resolver = FakeResolver()
        self.faults = faults or []
        self.requests: list[coprocessor_pb2.Request] = []
        self.running = self.peak = 0

    def new_backoffer(self, budget_ms: int) -> Backoffer:
        return Backoffer(budget_ms, random.Random(1))

    async def send_coprocessor(self, region: FakeRegion, request: Any, _b: Backoffer) -> Any:
        self.requests.append(request)
        self.running += 1
        self.peak = max(self.peak, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        fault = self.faults.pop() if self.faults else None
        if isinstance(fault, int):  # the region split at this row
            self.region_cache.bounds = sorted({*self.region_cache.bounds, key(fault)})
        if isinstance(fault, coprocessor_pb2.Response):
            return fault
        if region != self.region_cache.region(request.ranges[0].start):
            raise RegionStale(1, "split")
        dag_pb = select_pb2.DAGRequest()
        dag_pb.ParseFromString(request.data)
        dag = dag_from_pb(dag_pb)
        for part in request.ranges:
            assert region.start <= part.start < part.end <= region.end
        return self._scan(dag, request)

    def _scan(self, dag: Dag, request: Any) -> Any:
        run = DagRun(dag, context_of(dag))
        desc = dag.scan.desc
        wanted = [p for p in self.rows if any(r.start <= p[0] < r.end for r in request.ranges)]
        if desc:
            wanted.reverse()
        answer = select_pb2.SelectResponse(encode_type=select_pb2.EncodeType.TypeChunk)
        response = coprocessor_pb2.Response()
        limit = request.paging_size or len(wanted) + 1
        part, rest = wanted[:limit], wanted[limit:]
        outs = []
        if part:
            assert isinstance(dag.scan, TableScan)
            outs.append(run.push(decode_table(dag.scan, [k for k, _ in part], [v for _, v in part]), len(part)))
        outs += run.finish()
        for out in outs:
            if out is not None:
                answer.chunks.add(rows_data=chunk_codec.encode(out, output_types(dag)))
        if rest and request.paging_size:
            last = part[-1][0]
            ranges = request.ranges
            response.range.start = last if desc else ranges[0].start
            response.range.end = ranges[-1].end if desc else last + b"\0"
        response.data = answer.SerializeToString()
        return response


def request(
    *executors: Any, desc: bool = False, keep_order: bool = False, limit_hint: int = 0, spans: Any = None
) -> CopRequest:
    scan = TableScan(TABLE, (ScanColumn(1, INT, pk_handle=True), ScanColumn(2, INT)), desc)
    whole = ((tablecodec.record_prefix(TABLE), tablecodec.prefix_next(tablecodec.record_prefix(TABLE))),)
    return CopRequest(
        dag=Dag(scan, executors, (0,)), ranges=spans or whole, start_ts=5, keep_order=keep_order, desc=desc, concurrency=3,
        limit_hint=limit_hint,
    )  # fmt: skip


async def read(client: FakeClient, wanted: CopRequest) -> list[int]:
    out: list[int] = []
    async for batch in CopIterator(client, wanted).run():  # type: ignore[arg-type]
        out += batch[0].to_pylist()
    return out


@pytest.mark.parametrize("desc", [False, True])
async def test_order_is_kept_across_regions_and_pages(desc: bool) -> None:
    client = FakeClient(3000, [100, 900, 2000])
    got = await read(client, request(desc=desc, keep_order=True, limit_hint=10))
    assert got == sorted(range(3000), reverse=desc)
    assert {r.paging_size for r in client.requests} >= {128, 256}
    assert client.peak > 1


@pytest.mark.parametrize("keep_order", [False, True])
async def test_splits_meanwhile_lose_and_repeat_nothing(keep_order: bool) -> None:
    client = FakeClient(1000, [300, 600], faults=[850, 100, 700, 450, 10])
    got = await read(client, request(keep_order=keep_order))
    assert (got if keep_order else sorted(got)) == list(range(1000))


async def test_locks_are_resolved_and_passed_over() -> None:
    locked = coprocessor_pb2.Response()
    locked.locked.lock_version = 77
    client = FakeClient(50, [], faults=[locked])
    assert await read(client, request()) == list(range(50))
    assert client.lock_resolver.resolved == [77]
    assert list(client.requests[-1].context.resolved_locks) == [77]


async def test_errors_end_the_query() -> None:
    other = coprocessor_pb2.Response(other_error="no such column")
    with pytest.raises(CoprocessorError, match="no such column"):
        await read(FakeClient(50, [10, 20, 30], faults=[other]), request())
    answer = select_pb2.SelectResponse()
    answer.error.code, answer.error.msg = 1690, "BIGINT value is out of range"
    failed = coprocessor_pb2.Response(data=answer.SerializeToString())
    with pytest.raises(EvaluationFailed) as info:
        await read(FakeClient(50, [25], faults=[failed]), request(keep_order=True))
    assert info.value.mysql_code == 1690
    bound = coprocessor_pb2.Response(other_error="Request range exceeds bound, ...")
    assert await read(FakeClient(50, [], faults=[bound]), request()) == list(range(50))


async def test_pushed_executors_and_points() -> None:
    client = FakeClient(1000, [500])
    condition = Selection((func("GTInt", bool_type(), ColumnRef(1, INT), int_const(810_000)),))
    assert sorted(await read(client, request(condition))) == list(range(901, 1000))
    counted = Aggregate((), (AggDesc(COUNT, (int_const(1),), INT),))
    assert sum(await read(client, request(condition, counted))) == 99
    spans = tuple((key(i), key(i) + b"\0") for i in range(0, 1000, 7))
    assert sorted(await read(client, request(spans=spans))) == list(range(0, 1000, 7))


async def test_leaving_early_stops_the_workers() -> None:
    client = FakeClient(100_000, list(range(0, 100_000, 1000)))
    iterator = CopIterator(client, request(LimitNode(5), keep_order=True, limit_hint=5))  # type: ignore[arg-type]
    async for batch in (running := iterator.run()):
        assert batch[0].to_pylist() == [0, 1, 2, 3, 4]
        break
    await running.aclose()
    assert len(client.requests) < 40
    assert len(asyncio.all_tasks()) == 1


async def test_default_encoding_is_read_too() -> None:
    answer = select_pb2.SelectResponse(encode_type=select_pb2.EncodeType.TypeDefault)
    answer.chunks.add(rows_data=b"\x08\x0a\x08\x0c")  # two VARINT datums: 5 and 6
    response = coprocessor_pb2.Response(data=answer.SerializeToString())
    assert await read(FakeClient(1, [], faults=[response]), request()) == [5, 6]
