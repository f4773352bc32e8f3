"""Running the executors of a coprocessor request over batches of scanned rows; pure, used by stores and by tests.

    run = DagRun(dag, ctx)
    for columns in scan: out = run.push(columns, rows)     # None, or a batch to send
    last = run.finish()
`run.done` becomes true when a LIMIT is reached and nothing more needs to be scanned. `rows_scanned` counts input rows.
Invariant: output batches have the columns `dag.output_offsets` of the types `output_types(dag)`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from core_py.vector.aggregate import Aggregation, Mode, partial_types
from core_py.vector.arrow import Vec
from core_py.vector.errors import EvalError
from core_py.vector.eval import EvalContext, evaluate, filter_mask
from core_py.vector.fieldtype import FieldType
from core_py.vector.ordering import TopN
from core_py.vector.plan import Aggregate, Dag, LimitNode, Projection, PushedExecutor, Selection, TopNNode

Columns = Sequence[Vec]


class UnknownTimeZone(EvalError):
    """A time zone name that this machine's database does not have."""

    code = "Sql:Eval:UnknownTimeZone"
    mysql_code = 1298


def zone_of(name: str, offset_s: int) -> dt.tzinfo:
    """A time zone by name, else by offset."""
    if not name or name.upper() == "SYSTEM":
        return dt.timezone(dt.timedelta(seconds=offset_s)) if offset_s else dt.UTC
    if name.upper() == "UTC":
        return dt.UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UnknownTimeZone(f"Unknown or incorrect time zone: '{name}'") from error


def context_of(dag: Dag) -> EvalContext:
    """The settings a request brings along."""
    return EvalContext(
        flags=dag.flags,
        sql_mode=dag.sql_mode,
        time_zone=zone_of(dag.time_zone_name, dag.time_zone_offset),
        div_precision_increment=dag.div_precision_increment,
    )


def types_after(types: list[FieldType], executors: Sequence[PushedExecutor]) -> list[FieldType]:
    """The column types that come out of executors over columns of `types`."""
    for executor in executors:
        if isinstance(executor, Projection):
            types = [e.ft for e in executor.exprs]
        elif isinstance(executor, Aggregate):
            types = partial_types(executor.group_by, executor.aggs)
    return types


def output_types(dag: Dag) -> list[FieldType]:
    """The types of the columns a request answers with."""
    types = types_after([c.ft for c in dag.scan.columns], dag.executors)
    return [types[i] for i in dag.output_offsets]


class _Step(Protocol):
    def push(self, columns: Columns, rows: int) -> tuple[Columns, int] | None: ...

    def finish(self) -> tuple[Columns, int] | None: ...


class _Select:
    def __init__(self, node: Selection, ctx: EvalContext) -> None:
        self._node, self._ctx = node, ctx

    def push(self, columns: Columns, rows: int) -> tuple[Columns, int] | None:
        mask = filter_mask(self._node.conditions, columns, rows, self._ctx)
        if mask is None:
            return columns, rows
        kept = int(mask.true_count)
        if kept == rows:
            return columns, rows
        return ([c.filter(mask) for c in columns], kept) if kept else None

    def finish(self) -> tuple[Columns, int] | None:
        return None


class _Project:
    def __init__(self, node: Projection, ctx: EvalContext) -> None:
        self._node, self._ctx = node, ctx

    def push(self, columns: Columns, rows: int) -> tuple[Columns, int] | None:
        return [evaluate(e, columns, rows, self._ctx) for e in self._node.exprs], rows

    def finish(self) -> tuple[Columns, int] | None:
        return None


class _Aggregate:
    def __init__(self, node: Aggregate, ctx: EvalContext) -> None:
        self._agg = Aggregation(node.group_by, node.aggs, Mode.PARTIAL, ctx)

    def push(self, columns: Columns, rows: int) -> tuple[Columns, int] | None:
        self._agg.add(columns, rows)
        return None

    def finish(self) -> tuple[Columns, int] | None:
        columns = self._agg.result()
        return (columns, len(columns[0])) if columns and len(columns[0]) else None


class _TopN:
    def __init__(self, node: TopNNode, ctx: EvalContext) -> None:
        self._top = TopN(node.keys, node.limit, ctx)

    def push(self, columns: Columns, rows: int) -> tuple[Columns, int] | None:
        self._top.add(columns, rows)
        return None

    def finish(self) -> tuple[Columns, int] | None:
        columns = self._top.result()
        return (columns, len(columns[0])) if columns else None


class _Limit:
    def __init__(self, node: LimitNode) -> None:
        self.left = node.limit

    def push(self, columns: Columns, rows: int) -> tuple[Columns, int] | None:
        rows = min(rows, self.left)
        self.left -= rows
        return ([c.slice(0, rows) for c in columns], rows) if rows else None

    def finish(self) -> tuple[Columns, int] | None:
        return None


def _step(node: PushedExecutor, ctx: EvalContext) -> _Step:
    if isinstance(node, Selection):
        return _Select(node, ctx)
    if isinstance(node, Projection):
        return _Project(node, ctx)
    if isinstance(node, Aggregate):
        return _Aggregate(node, ctx)
    return _TopN(node, ctx) if isinstance(node, TopNNode) else _Limit(node)


class DagRun:
    """One execution of a request."""

    def __init__(self, dag: Dag, ctx: EvalContext) -> None:
        self._steps = [_step(node, ctx) for node in dag.executors]
        self._offsets = dag.output_offsets
        self.rows_scanned = 0
        self.produced = [0] * len(self._steps)

    @property
    def done(self) -> bool:
        """Whether a LIMIT has all its rows, so that nothing more needs to be scanned."""
        return any(isinstance(step, _Limit) and step.left <= 0 for step in self._steps)

    def push(self, columns: Columns, rows: int) -> list[Vec] | None:
        """Take scanned rows; what comes out at the top, if anything."""
        self.rows_scanned += rows
        return self._through(0, (columns, rows))

    def _through(self, start: int, batch: tuple[Columns, int] | None) -> list[Vec] | None:
        for i in range(start, len(self._steps)):
            if batch is None or not batch[1]:
                return None
            batch = self._steps[i].push(*batch)
            self.produced[i] += batch[1] if batch else 0
        return [batch[0][i] for i in self._offsets] if batch and batch[1] else None

    def finish(self) -> list[list[Vec]]:
        """No more rows: what aggregations and sorts held back."""
        out = []
        for i, step in enumerate(self._steps):
            last = step.finish()
            if last is not None:
                self.produced[i] += last[1]
                made = self._through(i + 1, last)
                if made is not None:
                    out.append(made)
        return out
