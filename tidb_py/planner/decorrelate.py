"""Pulling correlated conditions out of a sub-query, so that it becomes a join.

`pull_up` takes the conditions that name outer columns out of the sub-query's selections and returns them for the join; what
they need of the inner side is added to the columns on the way. Below an aggregate without LIMIT only equalities can
leave, and their inner sides become group-by columns. What cannot be pulled up is error 1235.
"""

from __future__ import annotations

from core_py.vector.expr import Expr, ScalarFunc, columns_of, transform
from tidb_py.errors import NotSupported
from tidb_py.expression.scope import Ids, PlanColumn
from tidb_py.planner.logical import (
    Aggregation,
    DataSource,
    Join,
    Limit,
    LogicalPlan,
    Projection,
    Selection,
    Sort,
    children_of,
    expressions_of,
)  # fmt: skip


def mentions(plan: LogicalPlan, outer: set[int]) -> bool:
    """Whether any expression in a plan names an outer column."""
    if any(columns_of(e) & outer for e in expressions_of(plan)):
        return True
    return any(mentions(child, outer) for child in children_of(plan))


def pull_up(plan: LogicalPlan, outer: set[int], ids: Ids) -> tuple[LogicalPlan, list[Expr]]:
    """The plan without correlated conditions, and the conditions."""
    new, pulled = _pull(plan, outer, ids)
    if mentions(new, outer):
        raise NotSupported("this kind of correlated sub-query is not supported")
    return new, pulled


def _pull(plan: LogicalPlan, outer: set[int], ids: Ids) -> tuple[LogicalPlan, list[Expr]]:
    if isinstance(plan, Selection):
        child, pulled = _pull(plan.child, outer, ids)
        stay = [c for c in plan.conditions if not columns_of(c) & outer]
        pulled += [c for c in plan.conditions if columns_of(c) & outer]
        return (Selection(child, stay) if stay else child), pulled
    if isinstance(plan, DataSource):
        pulled = [c for c in plan.conditions if columns_of(c) & outer]
        plan.conditions = [c for c in plan.conditions if not columns_of(c) & outer]
        return plan, pulled
    if isinstance(plan, Projection):
        child, pulled = _pull(plan.child, outer, ids)
        plan.child = child
        _expose(plan, child, pulled, outer)
        return plan, pulled
    if isinstance(plan, Aggregation):
        return _pull_aggregation(plan, outer, ids)
    if isinstance(plan, Sort):
        return _pull(plan.child, outer, ids)
    if isinstance(plan, Join) and plan.kind in ("inner", "left"):
        plan.left, pulled = _pull(plan.left, outer, ids)
        if plan.kind == "inner":
            plan.right, more = _pull(plan.right, outer, ids)
            pulled += more + [c for c in plan.conditions if columns_of(c) & outer]
            plan.conditions = [c for c in plan.conditions if not columns_of(c) & outer]
        plan.columns = [*plan.left.columns, *plan.right.columns]
        return plan, pulled
    if isinstance(plan, Limit) and mentions(plan, outer):
        raise NotSupported("LIMIT in a correlated sub-query is not supported")
    return plan, []


def _expose(plan: Projection, child: LogicalPlan, pulled: list[Expr], outer: set[int]) -> None:
    """Let a projection also give the columns that pulled conditions need."""
    have = {c.uid for c in plan.columns}
    available = {c.uid: c for c in child.columns}
    for condition in pulled:
        for uid in sorted(columns_of(condition) - outer - have):
            if uid in available:
                plan.exprs.append(available[uid].ref)
                plan.columns.append(available[uid])
                have.add(uid)


def _pull_aggregation(plan: Aggregation, outer: set[int], ids: Ids) -> tuple[LogicalPlan, list[Expr]]:
    child, pulled = _pull(plan.child, outer, ids)
    plan.child = child
    out: list[Expr] = []
    for condition in pulled:
        if not (isinstance(condition, ScalarFunc) and condition.name.startswith("EQ") and len(condition.args) == 2):
            raise NotSupported("a correlated condition under an aggregate must be an equality")
        left, right = condition.args
        inner = right if columns_of(left) & outer else left
        if columns_of(inner) & outer:
            raise NotSupported("a correlated condition under an aggregate must be an equality")
        column = PlanColumn(ids(), "", inner.ft, hidden=True)
        plan.group_by.append(inner)
        plan.columns.append(column)
        reference: Expr = column.ref

        def put(e: Expr, _inner: Expr = inner, _reference: Expr = reference) -> Expr:
            return _reference if e == _inner else e

        out.append(transform(condition, put))
    return plan, out
