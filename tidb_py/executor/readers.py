"""Readers: rows from the stores, by coprocessor requests or, where the transaction has written, by merged scans.

A clean read sends the whole request to the stores. In a transaction that has written to the table, keys are scanned with
the own writes merged in, and the pushed executors run here over the merged rows; the answer is the same.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from core_py.codec import tablecodec
from core_py.vector.arrow import Vec
from core_py.vector.dag import DagRun
from core_py.vector.eval import filter_mask
from core_py.vector.plan import Dag, IndexScan, LimitNode, TableScan
from core_py.vector.scan_decode import decode_index, decode_table, index_handle
from tidb_py.executor.context import Batch, Batches, ExecContext
from tidb_py.planner import physical as ph
from tidb_py.session.storage import CopRequest

SCAN_BATCH = 1024
LOOKUP_BATCH = 20_000  # handles looked up at a time (tidb_index_lookup_size)
KeyRange = tuple[bytes, bytes]


def _dag(ctx: ExecContext, scan: TableScan | IndexScan, plan: ph.TableReader | ph.IndexReader | ph.IndexLookUp) -> Dag:
    return Dag(
        scan=scan, executors=plan.pushed, output_offsets=plan.output_offsets, flags=ctx.eval_ctx.flags,
        sql_mode=ctx.sql_mode, time_zone_name=ctx.time_zone_name, time_zone_offset=ctx.time_zone_offset,
        div_precision_increment=ctx.eval_ctx.div_precision_increment,
    )  # fmt: skip


def _is_dirty(ctx: ExecContext, plan: ph.TableReader | ph.IndexReader | ph.IndexLookUp) -> bool:
    prefix = tablecodec.table_prefix(plan.table.id)
    return ctx.dirty(prefix, tablecodec.prefix_next(prefix))


def _limit_of(plan: ph.TableReader | ph.IndexReader) -> int:
    last = plan.pushed[-1] if plan.pushed else None
    return last.limit if isinstance(last, LimitNode) else 0


def table_reader(plan: ph.TableReader, ctx: ExecContext) -> Batches:
    """A table scan."""
    scan = TableScan(plan.scan.table_id, plan.scan.columns, plan.desc, plan.scan.primary_column_ids)
    return _read(scan, plan, ctx, keep_order=plan.keep_order, desc=plan.desc)


def index_reader(plan: ph.IndexReader, ctx: ExecContext) -> Batches:
    """An index scan that has all columns."""
    return _read(plan.scan, plan, ctx)


async def _read(
    scan: TableScan | IndexScan,
    plan: ph.TableReader | ph.IndexReader,
    ctx: ExecContext,
    *,
    keep_order: bool = False,
    desc: bool = False,
) -> Batches:
    dag = _dag(ctx, scan, plan)
    source = (
        _local(dag, plan.ranges, ctx, desc=desc)
        if _is_dirty(ctx, plan)
        else ctx.storage.coprocessor(
            CopRequest(
                dag=dag,
                ranges=plan.ranges,
                start_ts=ctx.reader.ts,
                keep_order=keep_order,
                desc=desc,
                concurrency=ctx.concurrency,
                warn=ctx.eval_ctx.warn,
                limit_hint=_limit_of(plan),
            )
        )
    )
    async with aclosing(source):
        async for columns in source:
            yield Batch(columns, len(columns[0]))


async def _local(
    dag: Dag, ranges: Sequence[KeyRange], ctx: ExecContext, *, desc: bool
) -> AsyncGenerator[list[Vec], None]:
    """Run a request here, over a scan that sees the transaction's own writes."""
    run = DagRun(dag, ctx.eval_ctx)
    keys: list[bytes] = []
    values: list[bytes] = []
    for start, end in reversed(ranges) if desc else ranges:
        async for key, value in ctx.reader.scan(start, end, reverse=desc):
            keys.append(key)
            values.append(value)
            if len(keys) >= SCAN_BATCH:
                out = run.push(_decode(dag, keys, values, ctx), len(keys))
                keys, values = [], []
                if out is not None:
                    yield out
                if run.done:
                    return
    if keys:
        out = run.push(_decode(dag, keys, values, ctx), len(keys))
        if out is not None:
            yield out
    for out in run.finish():
        yield out


def _decode(dag: Dag, keys: list[bytes], values: list[bytes], ctx: ExecContext) -> list[Vec]:
    zone = ctx.eval_ctx.time_zone
    if isinstance(dag.scan, TableScan):
        return decode_table(dag.scan, keys, values, zone)
    return decode_index(dag.scan, keys, values, zone)


async def index_look_up(plan: ph.IndexLookUp, ctx: ExecContext) -> Batches:
    """Handles from an index, then the rows in batches."""
    run = DagRun(_dag(ctx, plan.scan, plan), ctx.eval_ctx)
    dirty = _is_dirty(ctx, plan)
    pending: list[int] = []
    async for handles in _handles(plan, ctx, dirty=dirty):
        pending.extend(handles)
        if len(pending) >= LOOKUP_BATCH:
            async for batch in _look_up(plan, pending, run, ctx, dirty=dirty):
                yield batch
            pending = []
            if run.done:
                return
    async for batch in _look_up(plan, pending, run, ctx, dirty=dirty):
        yield batch
    for columns in run.finish():
        yield Batch(columns, len(columns[0]))


async def _handles(plan: ph.IndexLookUp, ctx: ExecContext, *, dirty: bool) -> AsyncIterator[list[int]]:
    width = len(plan.index.columns)
    if dirty:
        found = []
        for start, end in plan.ranges:
            async for key, value in ctx.reader.scan(start, end):
                found.append(index_handle(key, value, width))
        yield found
        return
    scan = IndexScan(
        plan.index_scan.table_id, plan.index_scan.index_id, plan.index_scan.columns, unique=plan.index_scan.unique
    )
    dag = Dag(scan=scan, executors=(), output_offsets=(width,), flags=ctx.eval_ctx.flags)
    request = CopRequest(
        dag=dag, ranges=plan.ranges, start_ts=ctx.reader.ts, concurrency=ctx.concurrency, warn=ctx.eval_ctx.warn
    )
    async for columns in ctx.storage.coprocessor(request):
        yield columns[0].to_pylist()


async def _look_up(plan: ph.IndexLookUp, handles: list[int], run: DagRun, ctx: ExecContext, *, dirty: bool) -> Batches:
    if not handles:
        return
    handles.sort()
    table_id = plan.table.id
    if dirty or len(handles) <= 64:
        keys = [tablecodec.record_key(table_id, h) for h in handles]
        found = await ctx.reader.batch_get(keys)
        present = [k for k in keys if k in found]
        if present:
            columns = decode_table(plan.scan, present, [found[k] for k in present], ctx.eval_ctx.time_zone)
            out = run.push(columns, len(present))
            if out is not None:
                yield Batch(out, len(out[0]))
        return
    dag = Dag(
        scan=plan.scan, executors=(), output_offsets=tuple(range(len(plan.scan.columns))), flags=ctx.eval_ctx.flags,
        sql_mode=ctx.sql_mode, time_zone_name=ctx.time_zone_name, time_zone_offset=ctx.time_zone_offset,
    )  # fmt: skip
    request = CopRequest(
        dag=dag,
        ranges=tuple(_row_ranges(table_id, handles)),
        start_ts=ctx.reader.ts,
        concurrency=ctx.concurrency,
        warn=ctx.eval_ctx.warn,
    )
    async for columns in ctx.storage.coprocessor(request):
        out = run.push(columns, len(columns[0]))
        if out is not None:
            yield Batch(out, len(out[0]))
        if run.done:
            return


def _row_ranges(table_id: int, handles: list[int]) -> list[KeyRange]:
    """Ranges of rows; neighbours are put together."""
    out = []
    first = last = handles[0]
    for handle in itertools.chain(handles[1:], (None,)):
        if handle is not None and handle <= last + 1:
            last = handle
            continue
        out.append((tablecodec.record_key(table_id, first), tablecodec.key_next(tablecodec.record_key(table_id, last))))
        if handle is not None:
            first = last = handle
    return out


async def point_get(plan: ph.PointGet, ctx: ExecContext) -> Batches:
    """Rows by key."""
    table_id = plan.table.id
    if plan.handles is not None:
        keys = [tablecodec.record_key(table_id, h) for h in plan.handles]
    else:
        entries = await _batch(ctx, list(plan.index_keys))
        handles = [int.from_bytes(entries[k], "big", signed=True) for k in plan.index_keys if k in entries]
        keys = [tablecodec.record_key(table_id, h) for h in handles]
    found = await _batch(ctx, keys)
    present = [k for k in keys if k in found]
    if not present:
        return
    columns = decode_table(plan.scan, present, [found[k] for k in present], ctx.eval_ctx.time_zone)
    rows = len(present)
    if plan.conditions:
        mask = filter_mask(plan.conditions, columns, rows, ctx.eval_ctx)
        if mask is not None:
            columns, rows = [c.filter(mask) for c in columns], int(mask.true_count)
    if rows:
        yield Batch(columns, rows)


async def _batch(ctx: ExecContext, keys: list[bytes]) -> dict[bytes, bytes]:
    if len(keys) == 1:
        value = await ctx.reader.get(keys[0])
        return {} if value is None else {keys[0]: value}
    return await ctx.reader.batch_get(keys) if keys else {}
