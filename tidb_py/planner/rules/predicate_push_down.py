"""Predicate push-down: conditions move to where their columns first exist, best into the table's own scan.

A condition that NULL cannot satisfy turns an outer join below it into an inner join (outer-join elimination). Conditions
stop above LIMIT, and above an aggregation unless they name only group-by columns.
"""

from __future__ import annotations

from core_py.vector.expr import ColumnRef, Constant, Expr, ScalarFunc, columns_of, transform
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
)  # fmt: skip

_NULL_SAFE = (
    "NullEQ",
    "IsNull",
    "IfNull",
    "Coalesce",
    "CaseWhen",
    "LogicalOr",
    "If",
    "IsTrue",
    "IsFalse",
    "ConcatWS",
    "GetVar",
)


def push_down(plan: LogicalPlan) -> LogicalPlan:
    """Apply the rule to a whole plan."""
    return _push(plan, [])


def _above(plan: LogicalPlan, conditions: list[Expr]) -> LogicalPlan:
    return Selection(plan, conditions) if conditions else plan


def _push(plan: LogicalPlan, conditions: list[Expr]) -> LogicalPlan:
    if isinstance(plan, Selection):
        wanted = conditions + plan.conditions
        if any(isinstance(c, Constant) and not c.value for c in wanted):
            return Dual(0, plan.columns)
        return _push(plan.child, [c for c in wanted if not isinstance(c, Constant)])
    if isinstance(plan, DataSource):
        plan.conditions = plan.conditions + conditions
        return plan
    if isinstance(plan, Projection):
        return _through_projection(plan, conditions)
    if isinstance(plan, Join):
        return _join(plan, conditions)
    if isinstance(plan, Aggregation):
        groups = {c.uid: g for c, g in zip(plan.columns[len(plan.aggs) :], plan.group_by, strict=False)}
        down = [c for c in conditions if plan.group_by and columns_of(c) and columns_of(c) <= groups.keys()]
        plan.child = _push(plan.child, [_replace(c, groups) for c in down])
        return _above(plan, [c for c in conditions if c not in down])
    if isinstance(plan, Sort):
        plan.child = _push(plan.child, conditions)
        return plan
    if isinstance(plan, Limit):
        plan.child = _push(plan.child, [])
        return _above(plan, conditions)
    if isinstance(plan, Union):
        for i, child in enumerate(plan.children):
            change: dict[int, Expr] = {c.uid: d.ref for c, d in zip(plan.columns, child.columns, strict=False)}
            plan.children[i] = _push(child, [_replace(c, change) for c in conditions])
        return plan
    return _above(plan, conditions)


def _replace(expr: Expr, change: dict[int, Expr]) -> Expr:
    return transform(expr, lambda e: change.get(e.offset, e) if isinstance(e, ColumnRef) else e)


def _volatile(expr: Expr) -> bool:
    if not isinstance(expr, ScalarFunc):
        return False
    return expr.name in ("Rand", "UUID", "Sleep") or any(_volatile(a) for a in expr.args)


def _through_projection(plan: Projection, conditions: list[Expr]) -> LogicalPlan:
    change = {c.uid: e for c, e in zip(plan.columns, plan.exprs, strict=True)}
    down: list[Expr] = []
    stay: list[Expr] = []
    for condition in conditions:
        used = columns_of(condition)
        blocked = any(_volatile(change[uid]) for uid in used if uid in change)
        (stay if blocked else down).append(condition)
    plan.child = _push(plan.child, [_replace(c, change) for c in down])
    return _above(plan, stay)


def rejects_null(condition: Expr, uids: set[int]) -> bool:
    """Whether the condition cannot be true when all these columns are NULL."""
    if not isinstance(condition, ScalarFunc) or not columns_of(condition) & uids:
        return False
    if condition.name == "LogicalAnd":
        return any(rejects_null(a, uids) for a in condition.args)
    if condition.name.startswith("UnaryNot") and isinstance(condition.args[0], ScalarFunc):
        if condition.args[0].name.endswith("IsNull"):
            return isinstance(condition.args[0].args[0], ColumnRef) and condition.args[0].args[0].offset in uids
        return _strict(condition.args[0], uids)
    return _strict(condition, uids)


def _strict(expr: Expr, uids: set[int]) -> bool:
    """NULL in one of the columns makes the expression NULL."""
    if isinstance(expr, ColumnRef):
        return expr.offset in uids
    if not isinstance(expr, ScalarFunc) or any(n in expr.name for n in _NULL_SAFE):
        return False
    if expr.name.startswith("In"):
        return _strict(expr.args[0], uids)
    return any(_strict(a, uids) for a in expr.args)


def _join(plan: Join, conditions: list[Expr]) -> LogicalPlan:
    left, right = {c.uid for c in plan.left.columns}, {c.uid for c in plan.right.columns}
    if plan.kind == "left" and any(rejects_null(c, right) for c in conditions):
        plan.kind = "inner"
    if plan.kind == "inner":
        conditions = conditions + plan.conditions
        plan.conditions = []
        plan.conditions = [c for c in conditions if columns_of(c) & left and columns_of(c) & right]
        plan.left = _push(plan.left, [c for c in conditions if columns_of(c) <= left])
        plan.right = _push(plan.right, [c for c in conditions if not columns_of(c) <= left and columns_of(c) <= right])
        rest = [c for c in conditions if not columns_of(c) <= left | right]
        return _above(plan, rest)
    down_left = [c for c in conditions if columns_of(c) <= left]
    stay = [c for c in conditions if not columns_of(c) <= left]
    right_only = [c for c in plan.conditions if columns_of(c) and columns_of(c) <= right]
    if plan.null_aware:
        right_only = []
    left_only = [c for c in plan.conditions if plan.kind == "semi" and columns_of(c) and columns_of(c) <= left]
    plan.conditions = [c for c in plan.conditions if c not in right_only and c not in left_only]
    plan.left = _push(plan.left, down_left + left_only)
    plan.right = _push(plan.right, right_only)
    return _above(plan, stay)
