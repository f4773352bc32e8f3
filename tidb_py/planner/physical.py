"""Physical plan nodes: what the executors run. Expressions refer to columns by position in the child's output.

Readers carry the whole coprocessor request but for the timestamp: the scan, the executors pushed to the stores, and the
key ranges. `columns` are the output columns (for EXPLAIN and for the names of a result).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from core_py.vector.expr import AggDesc, ColumnRef, Constant, Expr, ScalarFunc, SortKey, transform
from core_py.vector.fieldtype import FieldType
from core_py.vector.plan import IndexScan, PushedExecutor, TableScan
from tidb_py.catalog.model import IndexInfo, TableInfo
from tidb_py.expression.scope import PlanColumn

KeyRange = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What every node has."""

    columns: tuple[PlanColumn, ...]
    estimate: float = 0.0

    @property
    def types(self) -> list[FieldType]:
        """The types of the output columns."""
        return [c.ft for c in self.columns]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReader(Base):
    """A scan of record keys in the stores."""

    table: TableInfo
    alias: str
    scan: TableScan
    pushed: tuple[PushedExecutor, ...]
    ranges: tuple[KeyRange, ...]
    output_offsets: tuple[int, ...]
    keep_order: bool = False
    desc: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReader(Base):
    """A scan of an index that has all columns wanted."""

    table: TableInfo
    alias: str
    index: IndexInfo
    scan: IndexScan
    pushed: tuple[PushedExecutor, ...]
    ranges: tuple[KeyRange, ...]
    output_offsets: tuple[int, ...]
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexLookUp(Base):
    """A scan of an index for handles, then the rows."""

    table: TableInfo
    alias: str
    index: IndexInfo
    index_scan: IndexScan
    ranges: tuple[KeyRange, ...]
    scan: TableScan
    pushed: tuple[PushedExecutor, ...]
    output_offsets: tuple[int, ...]
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointGet(Base):
    """Rows by handle, or by entries of a unique index, fetched with get or batch-get."""

    table: TableInfo
    alias: str
    scan: TableScan
    handles: tuple[int, ...] | None
    index: IndexInfo | None
    index_keys: tuple[bytes, ...]
    conditions: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionNode(Base):
    """Filter at the root."""

    child: PhysicalPlan
    conditions: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionNode(Base):
    """Computed columns at the root."""

    child: PhysicalPlan
    exprs: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HashJoin(Base):
    """A join; the right side becomes the hash table. `other` is over left and right columns together."""

    kind: str
    left: PhysicalPlan
    right: PhysicalPlan
    left_keys: tuple[Expr, ...]
    right_keys: tuple[Expr, ...]
    other: tuple[Expr, ...] = ()
    null_aware: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HashAgg(Base):
    """Aggregation at the root: of rows (complete) or of the stores' partial results (final)."""

    child: PhysicalPlan
    group_by: tuple[Expr, ...]
    aggs: tuple[AggDesc, ...]
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SortNode(Base):
    """A full sort."""

    child: PhysicalPlan
    keys: tuple[SortKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopNNode(Base):
    """The first rows in an order."""

    child: PhysicalPlan
    keys: tuple[SortKey, ...]
    count: int
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitNode(Base):
    """The first rows."""

    child: PhysicalPlan
    count: int
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnionAll(Base):
    """The rows of all children."""

    children: tuple[PhysicalPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DualNode(Base):
    """Rows without columns."""

    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemTable(Base):
    """Rows the session makes."""

    name: str
    offsets: tuple[int, ...]


PhysicalPlan = (
    TableReader | IndexReader | IndexLookUp | PointGet | SelectionNode | ProjectionNode | HashJoin | HashAgg | SortNode
    | TopNNode | LimitNode | UnionAll | DualNode | MemTable
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PhysicalSubPlan:
    """A sub-query that runs first."""

    number: int
    plan: PhysicalPlan
    kind: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A planned query."""

    root: PhysicalPlan
    subplans: tuple[PhysicalSubPlan, ...] = ()


def inputs_of(plan: PhysicalPlan) -> Sequence[PhysicalPlan]:
    """The children of a node."""
    if isinstance(plan, HashJoin):
        return (plan.left, plan.right)
    if isinstance(plan, UnionAll):
        return plan.children
    child = getattr(plan, "child", None)
    return () if child is None else (child,)


def rewrite_expressions(value: Any, change: Callable[[Expr], Expr]) -> Any:
    """A plan (or any part of one) with every expression rewritten."""
    if isinstance(value, (ColumnRef, Constant, ScalarFunc)):
        return transform(value, change)
    if isinstance(value, tuple):
        new = tuple(rewrite_expressions(v, change) for v in value)
        return new if any(a is not b for a, b in zip(new, value, strict=True)) else value
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, FieldType, PlanColumn, TableInfo, IndexInfo)):
        changed: dict[str, Any] = {}
        for f in dataclasses.fields(value):
            old = getattr(value, f.name)
            new_value = rewrite_expressions(old, change)
            if new_value is not old:
                changed[f.name] = new_value
        return dataclasses.replace(value, **changed) if changed else value
    return value
