"""Physical plans to running operators: each is an async generator of batches that pulls from its inputs.

Sub-queries of the statement run first; their values are put into the plan as literals, so the stores can filter by them.
"""

from __future__ import annotations

from contextlib import aclosing

from core_py.vector.aggregate import Aggregation, Mode
from core_py.vector.arrow import Vec
from core_py.vector.eval import evaluate, filter_mask
from core_py.vector.expr import Constant, Expr, ScalarFunc, Value, sig
from core_py.vector.ordering import TopN, concat_columns, sort_order, take
from tidb_py.errors import SubqueryRows
from tidb_py.executor import readers
from tidb_py.executor.context import Batch, Batches, ExecContext
from tidb_py.executor.join import hash_join
from tidb_py.planner import physical as ph

_GET_VAR = sig("GetVar")
OUTPUT_ROWS = 4096  # rows a sorted or aggregated result is cut into


def open_plan(plan: ph.PhysicalPlan, ctx: ExecContext) -> Batches:
    """The batches of a plan."""
    if isinstance(plan, ph.TableReader):
        return readers.table_reader(plan, ctx)
    if isinstance(plan, ph.IndexReader):
        return readers.index_reader(plan, ctx)
    if isinstance(plan, ph.IndexLookUp):
        return readers.index_look_up(plan, ctx)
    if isinstance(plan, ph.PointGet):
        return readers.point_get(plan, ctx)
    if isinstance(plan, ph.SelectionNode):
        return _selection(plan, ctx)
    if isinstance(plan, ph.ProjectionNode):
        return _projection(plan, ctx)
    if isinstance(plan, ph.HashJoin):
        return hash_join(plan, open_plan(plan.left, ctx), open_plan(plan.right, ctx), ctx)
    if isinstance(plan, ph.HashAgg):
        return _aggregation(plan, ctx)
    if isinstance(plan, ph.SortNode):
        return _sort(plan, ctx)
    if isinstance(plan, ph.TopNNode):
        return _top_n(plan, ctx)
    if isinstance(plan, ph.LimitNode):
        return _limit(plan, ctx)
    if isinstance(plan, ph.UnionAll):
        return _union(plan, ctx)
    if isinstance(plan, ph.MemTable):
        return _mem_table(plan, ctx)
    return _dual(plan)


async def _selection(plan: ph.SelectionNode, ctx: ExecContext) -> Batches:
    async with aclosing(open_plan(plan.child, ctx)) as source:
        async for batch in source:
            mask = filter_mask(plan.conditions, batch.columns, batch.rows, ctx.eval_ctx)
            if mask is None:
                yield batch
            elif mask.true_count:
                yield Batch([c.filter(mask) for c in batch.columns], int(mask.true_count))


async def _projection(plan: ph.ProjectionNode, ctx: ExecContext) -> Batches:
    async with aclosing(open_plan(plan.child, ctx)) as source:
        async for batch in source:
            yield Batch([evaluate(e, batch.columns, batch.rows, ctx.eval_ctx) for e in plan.exprs], batch.rows)


async def _aggregation(plan: ph.HashAgg, ctx: ExecContext) -> Batches:
    mode = Mode.FINAL if plan.final else Mode.COMPLETE
    agg = Aggregation(plan.group_by, plan.aggs, mode, ctx.eval_ctx)
    async for batch in open_plan(plan.child, ctx):
        agg.add(batch.columns, batch.rows)
    for out in _slices(agg.result()):
        yield out


def _slices(columns: list[Vec] | None) -> list[Batch]:
    if not columns:
        return []
    rows = len(columns[0])
    if rows <= OUTPUT_ROWS:
        return [Batch(columns, rows)] if rows else []
    starts = range(0, rows, OUTPUT_ROWS)
    return [Batch([c.slice(s, OUTPUT_ROWS) for c in columns], min(OUTPUT_ROWS, rows - s)) for s in starts]


async def _sort(plan: ph.SortNode, ctx: ExecContext) -> Batches:
    batches = [b async for b in open_plan(plan.child, ctx) if b.rows]
    if not batches:
        return
    columns = concat_columns([b.columns for b in batches])
    order = sort_order(plan.keys, columns, len(columns[0]), ctx.eval_ctx)
    for out in _slices(take(columns, order)):
        yield out


async def _top_n(plan: ph.TopNNode, ctx: ExecContext) -> Batches:
    top = TopN(plan.keys, plan.count + plan.offset, ctx.eval_ctx)
    async for batch in open_plan(plan.child, ctx):
        top.add(batch.columns, batch.rows)
    columns = top.result()
    if columns:
        for out in _slices([c.slice(plan.offset, plan.count) for c in columns]):
            yield out


async def _limit(plan: ph.LimitNode, ctx: ExecContext) -> Batches:
    skip, left = plan.offset, plan.count
    if not left:
        return
    async with aclosing(open_plan(plan.child, ctx)) as source:
        async for batch in source:
            start = min(skip, batch.rows)
            skip -= start
            size = min(left, batch.rows - start)
            if size:
                left -= size
                yield Batch([c.slice(start, size) for c in batch.columns], size)
            if not left:
                return


async def _union(plan: ph.UnionAll, ctx: ExecContext) -> Batches:
    for child in plan.children:
        async for batch in open_plan(child, ctx):
            yield batch


async def _mem_table(plan: ph.MemTable, ctx: ExecContext) -> Batches:
    columns = ctx.mem_table(plan.name)
    if columns and len(columns[0]):
        yield Batch([columns[i] for i in plan.offsets], len(columns[0]))


async def _dual(plan: ph.DualNode) -> Batches:
    if plan.rows:
        yield Batch([], plan.rows)


async def bind_subplans(statement: ph.Statement, ctx: ExecContext) -> ph.PhysicalPlan:
    """Run the statement's sub-queries and put their values into its plan."""
    values: dict[int, Value] = {}

    def change(expr: Expr) -> Expr:
        if isinstance(expr, ScalarFunc) and expr.sig == _GET_VAR and isinstance(expr.args[0], Constant):
            number = expr.args[0].value
            if isinstance(number, int) and number in values:
                return Constant(values[number], expr.ft)
        return expr

    for sub in statement.subplans:
        plan: ph.PhysicalPlan = ph.rewrite_expressions(sub.plan, change) if values else sub.plan
        values[sub.number] = await _value(sub, plan, ctx)
    if not values:
        return statement.root
    bound: ph.PhysicalPlan = ph.rewrite_expressions(statement.root, change)
    return bound


async def _value(sub: ph.PhysicalSubPlan, plan: ph.PhysicalPlan, ctx: ExecContext) -> Value:
    rows = 0
    value: Value = None
    async for batch in open_plan(plan, ctx):
        rows += batch.rows
        if sub.kind == "exists" and rows:
            return 1
        if rows > 1:
            raise SubqueryRows("Subquery returns more than 1 row")
        if batch.rows:
            value = batch.columns[0][0].as_py()
    return 0 if sub.kind == "exists" else value
