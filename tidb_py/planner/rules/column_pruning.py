"""Column pruning: nodes give only the columns that something above them reads, so scans decode nothing else."""

from __future__ import annotations

from core_py.vector.expr import Expr, columns_of
from tidb_py.expression.scope import PlanColumn
from tidb_py.planner.logical import (
    Aggregation,
    DataSource,
    Dual,
    Join,
    Limit,
    LogicalPlan,
    Projection,
    Selection,
    Sort,
    Union,
    VirtualTable,
)  # fmt: skip


def prune(plan: LogicalPlan, needed: set[int] | None = None) -> None:
    """Apply the rule to a whole plan; at the root every column is needed."""
    wanted = {c.uid for c in plan.columns} if needed is None else needed
    if isinstance(plan, (DataSource, VirtualTable)):
        used = wanted | _used(plan.conditions if isinstance(plan, DataSource) else [])
        plan.columns = _keep(plan.columns, used)
    elif isinstance(plan, Selection):
        prune(plan.child, wanted | _used(plan.conditions))
    elif isinstance(plan, Projection):
        pairs = [(e, c) for e, c in zip(plan.exprs, plan.columns, strict=True) if c.uid in wanted]
        if not pairs:
            pairs = list(zip(plan.exprs, plan.columns, strict=True))[:1]
        plan.exprs, plan.columns = [e for e, _ in pairs], [c for _, c in pairs]
        prune(plan.child, _used(plan.exprs))
    elif isinstance(plan, Join):
        below = wanted | _used(plan.conditions)
        prune(plan.left, below & {c.uid for c in plan.left.columns})
        prune(plan.right, below & {c.uid for c in plan.right.columns})
        both = plan.left.columns if plan.kind in ("semi", "anti") else [*plan.left.columns, *plan.right.columns]
        plan.columns = list(both)
    elif isinstance(plan, Aggregation):
        _prune_aggregation(plan, wanted)
    elif isinstance(plan, Sort):
        prune(plan.child, wanted | _used([k.expr for k in plan.keys]))
    elif isinstance(plan, Limit):
        prune(plan.child, wanted)
    elif isinstance(plan, Union):
        for child in plan.children:
            prune(child, None)
    elif isinstance(plan, Dual):
        plan.columns = _keep(plan.columns, wanted) or plan.columns


def _prune_aggregation(plan: Aggregation, wanted: set[int]) -> None:
    count = len(plan.aggs)
    kept = [(a, c) for a, c in zip(plan.aggs, plan.columns, strict=False) if c.uid in wanted]
    if not kept and not plan.group_by:
        kept = [(plan.aggs[0], plan.columns[0])]
    plan.columns = [c for _, c in kept] + plan.columns[count:]
    plan.aggs = [a for a, _ in kept]
    inputs: list[Expr] = [*plan.group_by]
    for agg in plan.aggs:
        inputs += [*agg.args, *(k.expr for k in agg.order_by)]
    prune(plan.child, _used(inputs))


def _used(exprs: list[Expr]) -> set[int]:
    out: set[int] = set()
    for expr in exprs:
        out |= columns_of(expr)
    return out


def _keep(columns: list[PlanColumn], used: set[int]) -> list[PlanColumn]:
    kept = [c for c in columns if c.uid in used]
    return kept or columns[:1]
