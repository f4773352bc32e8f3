"""The executors of a coprocessor request as values: what a planner makes, a codec ships and `dag.py` runs."""

from __future__ import annotations

from dataclasses import dataclass

from core_py.vector.expr import AggDesc, Expr, SortKey
from core_py.vector.fieldtype import FieldType


@dataclass(frozen=True, slots=True)
class ScanColumn:
    """A stored column; `default` is the encoded datum for rows older than the column."""

    column_id: int
    ft: FieldType
    pk_handle: bool = False
    default: bytes | None = None


@dataclass(frozen=True, slots=True)
class TableScan:
    """Rows of a table by record key."""

    table_id: int
    columns: tuple[ScanColumn, ...]
    desc: bool = False
    primary_column_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexScan:
    """Entries of an index: the index's columns and, as a last column with pk_handle, the handle."""

    table_id: int
    index_id: int
    columns: tuple[ScanColumn, ...]
    desc: bool = False
    unique: bool = False
    primary_column_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows for which all conditions hold."""

    conditions: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """Computed columns."""

    exprs: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Partial aggregation."""

    group_by: tuple[Expr, ...]
    aggs: tuple[AggDesc, ...]
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class TopNNode:
    """The first rows in an order."""

    keys: tuple[SortKey, ...]
    limit: int


@dataclass(frozen=True, slots=True)
class LimitNode:
    """The first rows."""

    limit: int


Scan = TableScan | IndexScan
PushedExecutor = Selection | Projection | Aggregate | TopNNode | LimitNode


@dataclass(frozen=True, slots=True)
class Dag:
    """A whole request: a scan, executors over it, and which output columns are wanted."""

    scan: Scan
    executors: tuple[PushedExecutor, ...]
    output_offsets: tuple[int, ...]
    flags: int = 0
    sql_mode: int = 0
    time_zone_name: str = ""
    time_zone_offset: int = 0
    div_precision_increment: int = 4
    collect_summaries: bool = False
