"""Join reorder: a chain of inner joins is put in an order in which every join has an equality to join on.

Greedy: start with the largest estimated input (it streams; the smaller ones become hash tables) and always add the
smallest input that is connected to what is joined already. A product without condition comes last.
"""

from __future__ import annotations

from collections.abc import Callable

from core_py.vector.expr import Expr, ScalarFunc, columns_of
from tidb_py.planner.logical import (
    Aggregation,
    Join,
    Limit,
    LogicalPlan,
    Projection,
    Selection,
    Sort,
    Union,
)  # fmt: skip

Estimate = Callable[[LogicalPlan], float]


def reorder(plan: LogicalPlan, estimate: Estimate) -> LogicalPlan:
    """Apply the rule to a whole plan."""
    if isinstance(plan, Join):
        if plan.kind == "inner":
            inputs: list[LogicalPlan] = []
            conditions: list[Expr] = []
            _flatten(plan, inputs, conditions)
            inputs = [reorder(i, estimate) for i in inputs]
            return _rebuild(inputs, conditions, estimate) if len(inputs) > 2 else _pair(inputs, conditions)
        plan.left, plan.right = reorder(plan.left, estimate), reorder(plan.right, estimate)
    elif isinstance(plan, (Selection, Projection, Aggregation, Sort, Limit)):
        plan.child = reorder(plan.child, estimate)
    elif isinstance(plan, Union):
        plan.children = [reorder(c, estimate) for c in plan.children]
    return plan


def _flatten(plan: LogicalPlan, inputs: list[LogicalPlan], conditions: list[Expr]) -> None:
    if isinstance(plan, Join) and plan.kind == "inner":
        _flatten(plan.left, inputs, conditions)
        _flatten(plan.right, inputs, conditions)
        conditions.extend(plan.conditions)
    else:
        inputs.append(plan)


def _uids(plan: LogicalPlan) -> set[int]:
    return {c.uid for c in plan.columns}


def _pair(inputs: list[LogicalPlan], conditions: list[Expr]) -> LogicalPlan:
    left, right = inputs
    return Join(kind="inner", left=left, right=right, conditions=conditions, columns=[*left.columns, *right.columns])


def _is_equality(condition: Expr) -> bool:
    return isinstance(condition, ScalarFunc) and condition.name.startswith("EQ")


def _rebuild(inputs: list[LogicalPlan], conditions: list[Expr], estimate: Estimate) -> LogicalPlan:
    sizes = {id(i): estimate(i) for i in inputs}
    rest = list(inputs)
    current = max(rest, key=lambda p: sizes[id(p)])
    rest.remove(current)
    waiting = list(conditions)
    while rest:
        have = _uids(current)
        linked = [
            p for p in rest
            if any(_is_equality(c) and columns_of(c) & _uids(p) and columns_of(c) <= have | _uids(p)
                   and columns_of(c) & have for c in waiting)
        ]  # fmt: skip
        following = min(linked or rest, key=lambda p: sizes[id(p)])
        rest.remove(following)
        both = have | _uids(following)
        usable = [c for c in waiting if columns_of(c) <= both]
        waiting = [c for c in waiting if c not in usable]
        current = Join(
            kind="inner", left=current, right=following, conditions=usable,
            columns=[*current.columns, *following.columns],
        )  # fmt: skip
    return Selection(current, waiting) if waiting else current
