"""Planning and running queries for a session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from core_py.vector.arrow import Vec
from core_py.vector.expr import Constant
from core_py.vector.fieldtype import (
    BLOB_FLAG,
    BLOB_TYPES,
    DOUBLE,
    ENUM,
    FLOAT,
    JSON,
    NULL,
    SET,
    EvalType,
    FieldType,
    int_type,
)  # fmt: skip
from core_py.vector.scan_decode import HANDLE_ID
from tidb_py.catalog.model import PUBLIC
from tidb_py.errors import NoDatabase, NoSuchTable, UnknownDatabase
from tidb_py.executor.build import bind_subplans, open_plan
from tidb_py.executor.context import ExecContext
from tidb_py.expression.scope import Ids, PlanColumn
from tidb_py.mysql.constants import ColumnFlag
from tidb_py.mysql.responses import ColumnDef
from tidb_py.parser.tokens import select_items
from tidb_py.planner import physical as ph
from tidb_py.planner.builder import QueryBuilder
from tidb_py.planner.logical import DataSource, VirtualTable
from tidb_py.planner.optimize import PlanOptions, optimize
from tidb_py.server.handler import Batch, ResultSet
from tidb_py.session import infoschema_tables
from tidb_py.session.functions import lower_context
from tidb_py.session.overlay import OverlayReader
from tidb_py.session.state import SessionState
from tidb_py.session.storage import MAX_TS, Reader

Node = Any


class SessionTables:
    """Finds the tables of FROM for one statement."""

    def __init__(self, state: SessionState) -> None:
        self._state = state

    @property
    def full_group_by(self) -> bool:
        """ONLY_FULL_GROUP_BY."""
        return "ONLY_FULL_GROUP_BY" in self._state.variables.get("sql_mode")

    def source(self, database: str, table: str, alias: str, ids: Ids) -> DataSource | VirtualTable:
        """The plan node of a table."""
        name = database or self._state.database
        if not name:
            raise NoDatabase("No database selected")
        if name.lower() == "information_schema":
            return self._virtual(table, alias, ids)
        schema = self._state.schema
        if name.lower() not in schema.databases:
            if name.lower() == "performance_schema":
                raise NoSuchTable(f"Table '{name}.{table}' doesn't exist")
            raise UnknownDatabase(f"Unknown database '{name}'")
        info = schema.table(name, table)
        columns, column_ids = [], {}
        for c in info.columns:
            if c.state != PUBLIC:
                continue
            column = PlanColumn(ids(), c.name, c.ft, alias, name, c.name, info.name)
            columns.append(column)
            column_ids[column.uid] = c.id
        if info.handle_column is None:
            hidden = PlanColumn(
                ids(), "_tidb_rowid", int_type(not_null=True), alias, name, "_tidb_rowid", info.name, hidden=True
            )
            columns.append(hidden)
            column_ids[hidden.uid] = HANDLE_ID
        database_id = schema.database(name).id
        return DataSource(
            table=info, database=name, database_id=database_id, alias=alias, columns=columns, column_ids=column_ids
        )

    def _virtual(self, table: str, alias: str, ids: Ids) -> VirtualTable:
        found = infoschema_tables.columns_of(table)
        if found is None:
            raise NoSuchTable(f"Table 'information_schema.{table}' doesn't exist")
        columns = [PlanColumn(ids(), n, ft, alias, "information_schema", n, table) for n, ft in found]
        return VirtualTable(name=table.lower(), columns=columns, offsets={c.uid: i for i, c in enumerate(columns)})


def plan_query(state: SessionState, node: Node, params: Sequence[Constant] = (), text: str = "") -> ph.Statement:
    """The physical plan of a query."""
    builder = QueryBuilder(lower_context(state, params), SessionTables(state))
    names: list[str] = select_items(text) if text and _needs_names(node) else []
    logical = builder.query(node, None, names)
    options = PlanOptions(zone=state.zone())
    root = optimize(logical, options)
    subplans = tuple(ph.PhysicalSubPlan(s.number, optimize(s.plan, options), s.kind) for s in builder.subplans)
    return ph.Statement(root, subplans)


def _needs_names(node: Node) -> bool:
    return any(type(e).__name__ not in ("Column", "Alias", "Star") for e in node.args.get("expressions") or ())


def mem_table(state: SessionState) -> Callable[[str], list[Vec]]:
    """The rows of information_schema's tables."""

    def rows(name: str) -> list[Vec]:
        made: infoschema_tables.Rows
        if name == "processlist":
            made = [(i, u, h, d, "Query", 0, "", None) for i, u, h, d in state.server.processes()]
        elif name == "session_variables":
            made = [(n, state.variables.get(n)) for n in state.variables.names()]
        elif name == "user_privileges":
            made = [
                (f"'{state.user}'@'%'", "def", p, "YES") for p in ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE")
            ]
        else:
            made = infoschema_tables.rows_of(name, state.schema)
        return infoschema_tables.to_columns(name, made)

    return rows


def exec_context(state: SessionState, reader: Reader) -> ExecContext:
    """The context of one statement's execution."""
    name, offset = state.zone_pair()
    return ExecContext(
        storage=state.server.storage, reader=reader, txn=state.txn, eval_ctx=state.eval_context(), time_zone_name=name,
        time_zone_offset=offset, sql_mode=0,
        concurrency=int(state.variables.get("tidb_distsql_scan_concurrency")), mem_table=mem_table(state),
    )  # fmt: skip


def only_points(plan: ph.PhysicalPlan) -> bool:
    """Whether a plan reads one row by key and nothing else, so that it may read the newest version."""
    while isinstance(plan, (ph.ProjectionNode, ph.SelectionNode, ph.LimitNode)):
        plan = plan.child
    if isinstance(plan, ph.PointGet):
        return plan.handles is not None and len(plan.handles) == 1
    return isinstance(plan, (ph.DualNode, ph.MemTable))


async def reader_for(state: SessionState, statement: ph.Statement) -> Reader:
    """Where a query reads: the transaction's snapshot, or a fresh one."""
    storage = state.server.storage
    if state.txn is not None:
        return (
            OverlayReader(storage.snapshot(state.txn.ts), state.txn)
            if state.txn.dirty
            else storage.snapshot(state.txn.ts)
        )
    if not statement.subplans and only_points(statement.root):
        return storage.snapshot(MAX_TS)
    return storage.snapshot(await storage.timestamp())


async def run_query(state: SessionState, statement: ph.Statement, reader: Reader) -> ResultSet:
    """Start a query; its rows are pulled by the caller."""
    ctx = exec_context(state, reader)
    root = await bind_subplans(statement, ctx)
    return ResultSet([column_def(c) for c in root.columns], [c.ft for c in root.columns], _batches(state, root, ctx))


async def _batches(state: SessionState, root: ph.PhysicalPlan, ctx: ExecContext) -> AsyncIterator[Batch]:
    rows = 0
    async with aclosing(open_plan(root, ctx)) as source:
        async for batch in source:
            rows += batch.rows
            if batch.rows:
                yield batch.columns
    state.found_rows = rows
    state.row_count = -1
    state.take_warnings(ctx.eval_ctx)


def column_def(column: PlanColumn) -> ColumnDef:
    """What a client is told of a result column."""
    ft = column.ft
    text = ft.eval_type in (EvalType.STRING, EvalType.JSON)
    flags = ft.flags & 0xFFFF
    tp = ft.tp
    if ft.tp in BLOB_TYPES:
        flags |= BLOB_FLAG
        tp = 252
    if ft.tp in (ENUM, SET):
        flags |= int(ColumnFlag.ENUM if ft.tp == ENUM else ColumnFlag.SET)
        tp = 254
    charset = abs(ft.collation) if text else 63
    if charset == 63 and text:
        flags |= int(ColumnFlag.BINARY)
    decimals = ft.decimal if ft.decimal >= 0 else 31 if ft.tp in (FLOAT, DOUBLE) or tp == 253 else 0
    return ColumnDef(
        name=column.name, type=tp, org_name=column.org_name, table=column.table, org_table=column.org_table,
        database=column.database, charset=charset, length=_length(ft), flags=flags, decimals=min(decimals, 31),
    )  # fmt: skip


def _length(ft: FieldType) -> int:
    if ft.tp == NULL:
        return 0
    if ft.eval_type is EvalType.DECIMAL:
        return ft.flen + 2
    if ft.tp == JSON:
        return 4294967295
    if ft.eval_type is EvalType.STRING and ft.collation != 63 and ft.tp not in BLOB_TYPES:
        return ft.flen * 4 if ft.flen >= 0 else 262144
    return max(ft.flen, 0)


async def collect(result: ResultSet) -> list[tuple[Any, ...]]:
    """All rows of a result as Python values (for the server's own queries)."""
    rows: list[tuple[Any, ...]] = []
    async for batch in result.batches:
        rows.extend(zip(*[c.to_pylist() for c in batch], strict=True))
    return rows
