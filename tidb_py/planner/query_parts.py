"""Small steps shared by the builders of queries: conjuncts, visible columns, DISTINCT, positions in ORDER BY."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlglot import expressions as exp

from core_py.vector.expr import Expr, ScalarFunc
from tidb_py.expression.scope import Ids, PlanColumn
from tidb_py.planner.logical import Aggregation, LogicalPlan

Node = Any


def unwrap(node: Node) -> Node:
    """The query inside parentheses and EXISTS."""
    while isinstance(node, (exp.Subquery, exp.Exists, exp.Paren)) and not (
        isinstance(node, exp.Subquery) and (node.args.get("limit") or node.args.get("order"))
    ):
        node = node.this
    return node


def conjuncts(node: Node) -> list[Node]:
    """The parts of an AND."""
    out: list[Node] = []
    stack = [node]
    while stack:
        top = stack.pop()
        if isinstance(top, exp.And):
            stack += [top.expression, top.this]
        elif isinstance(top, exp.Paren) and isinstance(top.this, (exp.And, exp.Paren)):
            stack.append(top.this)
        else:
            out.append(top)
    return out


def split_and(expr: Expr) -> list[Expr]:
    """The parts of a typed AND."""
    if isinstance(expr, ScalarFunc) and expr.name == "LogicalAnd":
        return [*split_and(expr.args[0]), *split_and(expr.args[1])]
    return [expr]


def visible(plan: LogicalPlan) -> list[PlanColumn]:
    """The columns a user sees."""
    return [c for c in plan.columns if not c.hidden]


def distinct(plan: LogicalPlan, ids: Ids) -> LogicalPlan:
    """DISTINCT as a group-by of all columns."""
    columns = visible(plan)
    grouped = [replace(c, uid=ids()) for c in columns]
    return Aggregation(plan, [c.ref for c in columns], [], grouped)


def position_of(node: Node) -> int:
    """The number when ORDER BY or GROUP BY names a column by position; 0 otherwise."""
    return int(node.this) if isinstance(node, exp.Literal) and not node.is_string and str(node.this).isdigit() else 0
