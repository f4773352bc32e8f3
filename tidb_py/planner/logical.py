"""Logical plan nodes: what a query means, before it is decided how to run it.

Every node has `columns`, the columns it gives, by unique id. Rules rewrite nodes in place or return new ones. Join kinds:
inner, left, semi, anti; `null_aware` anti joins are NOT IN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from core_py.vector.expr import AggDesc, Expr, SortKey
from tidb_py.catalog.model import TableInfo
from tidb_py.expression.scope import PlanColumn


@dataclass(slots=True, kw_only=True)
class DataSource:
    """A stored table."""

    table: TableInfo
    database: str
    database_id: int
    alias: str
    columns: list[PlanColumn]
    column_ids: dict[int, int]  # uid -> column id (-1: the hidden row id)
    conditions: list[Expr] = field(default_factory=list)
    index_hint: str = ""


@dataclass(slots=True, kw_only=True)
class VirtualTable:
    """A table whose rows the session makes (information_schema)."""

    name: str
    columns: list[PlanColumn]
    offsets: dict[int, int]  # uid -> position in the table


@dataclass(slots=True)
class Selection:
    """Rows for which all conditions hold."""

    child: LogicalPlan
    conditions: list[Expr]

    @property
    def columns(self) -> list[PlanColumn]:
        """The child's."""
        return self.child.columns


@dataclass(slots=True)
class Projection:
    """Computed columns."""

    child: LogicalPlan
    exprs: list[Expr]
    columns: list[PlanColumn]


@dataclass(slots=True, kw_only=True)
class Join:
    """Two inputs; the columns of a semi or anti join are the left ones."""

    kind: str
    left: LogicalPlan
    right: LogicalPlan
    conditions: list[Expr]
    columns: list[PlanColumn]
    null_aware: bool = False


@dataclass(slots=True)
class Aggregation:
    """GROUP BY; `columns` are those of the aggregates, then those of the groups."""

    child: LogicalPlan
    group_by: list[Expr]
    aggs: list[AggDesc]
    columns: list[PlanColumn]


@dataclass(slots=True)
class Sort:
    """ORDER BY."""

    child: LogicalPlan
    keys: list[SortKey]

    @property
    def columns(self) -> list[PlanColumn]:
        """The child's."""
        return self.child.columns


@dataclass(slots=True)
class Limit:
    """LIMIT offset, count."""

    child: LogicalPlan
    count: int
    offset: int = 0

    @property
    def columns(self) -> list[PlanColumn]:
        """The child's."""
        return self.child.columns


@dataclass(slots=True)
class Union:
    """UNION ALL; the children's columns fit by position."""

    children: list[LogicalPlan]
    columns: list[PlanColumn]


@dataclass(slots=True)
class Dual:
    """A fixed number of rows without columns (one: SELECT without FROM; none: an impossible WHERE)."""

    rows: int
    columns: list[PlanColumn] = field(default_factory=list)


LogicalPlan = DataSource | VirtualTable | Selection | Projection | Join | Aggregation | Sort | Limit | Union | Dual


@dataclass(slots=True)
class SubPlan:
    """An uncorrelated sub-query whose one value is put into expressions before the main plan runs."""

    number: int
    plan: LogicalPlan
    kind: str  # "scalar" or "exists"


def children_of(plan: LogicalPlan) -> Sequence[LogicalPlan]:
    """The inputs of a node."""
    if isinstance(plan, Join):
        return (plan.left, plan.right)
    if isinstance(plan, Union):
        return plan.children
    if isinstance(plan, (DataSource, VirtualTable, Dual)):
        return ()
    return (plan.child,)


def expressions_of(plan: LogicalPlan) -> list[Expr]:
    """The expressions in a node."""
    if isinstance(plan, (Selection, Join, DataSource)):
        return list(plan.conditions)
    if isinstance(plan, Projection):
        return list(plan.exprs)
    if isinstance(plan, Aggregation):
        keys = [k.expr for a in plan.aggs for k in a.order_by]
        return [*plan.group_by, *(arg for a in plan.aggs for arg in a.args), *keys]
    if isinstance(plan, Sort):
        return [k.expr for k in plan.keys]
    return []
