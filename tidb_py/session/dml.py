"""INSERT, UPDATE, DELETE for a session: rows to change are found by a query, changed in memory, and handed over at once.

Each function runs inside `Session.write`, which gives a fresh `WriteContext` per attempt; nothing here commits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import expressions as exp

from core_py.vector.arrow import pa
from core_py.vector.eval import EvalContext, evaluate
from core_py.vector.expr import ColumnRef, Constant, Expr, Value, columns_of
from core_py.vector.fieldtype import EvalType, FieldType, arrow_type
from tidb_py.catalog.model import ColumnInfo, TableInfo
from tidb_py.errors import ColumnCount, NoDatabase, NotNullViolation, NotSupported, SqlError, UnknownColumn
from tidb_py.executor.build import bind_subplans, open_plan
from tidb_py.executor.insert import DEFAULT, Cell, Inserter, as_handle, change_row, zero_value
from tidb_py.executor.writer import Row, StatementWriter, WriteContext
from tidb_py.expression.lower import Lowering, literal
from tidb_py.expression.scope import PlanColumn, Scope
from tidb_py.parser.ast import BulkInsert
from tidb_py.server.handler import Done
from tidb_py.session.functions import lower_context
from tidb_py.session.query import exec_context, plan_query
from tidb_py.session.state import SessionState
from tidb_py.types.convert import Converter, from_text

Node = Any
INSERT_BATCH = 4096  # rows of INSERT ... SELECT handled at a time
DML_FLAGS = 256  # division by zero is a warning; bad casts are errors


@dataclass(frozen=True, slots=True)
class Target:
    """A table to write to."""

    table: TableInfo
    database: str
    database_id: int


def find_target(state: SessionState, node: Node) -> Target:
    """The table a statement names."""
    database = node.text("db") or state.database
    if not database:
        raise NoDatabase("No database selected")
    if database.lower() == "information_schema":
        raise NotSupported("information_schema cannot be written")
    info = state.schema.database(database)
    return Target(state.schema.table(database, node.name), database, info.id)


def _columns(target: Target, names: Sequence[str]) -> list[ColumnInfo]:
    out = []
    for name in names:
        column = target.table.column(name)
        if column is None:
            raise UnknownColumn(f"Unknown column '{name}' in 'field list'")
        out.append(column)
    return out


def make_inserter(
    state: SessionState, target: Target, columns: Sequence[ColumnInfo], ctx: WriteContext, mode: str
) -> Inserter:
    """An inserter for a statement."""
    return Inserter(
        target.table,
        target.database_id,
        columns,
        state.server.catalog,
        ctx,
        now=state.now,
        mode=mode,
        strict=state.strict,
    )


async def insert(
    state: SessionState, node: Node, ctx: WriteContext, params: Sequence[Constant], *, replacing: bool
) -> Done:
    """INSERT and REPLACE."""
    body = node.this
    named = isinstance(body, exp.Schema)
    target = find_target(state, body.this if named else body)
    columns = _columns(target, [c.name for c in body.expressions]) if named else list(target.table.columns)
    conflict = node.args.get("conflict")
    mode = (
        "replace"
        if replacing
        else "update"
        if conflict is not None
        else "ignore"
        if node.args.get("ignore")
        else "error"
    )
    inserter = make_inserter(state, target, columns, ctx, mode)
    if conflict is not None:
        inserter.update = _updater(state, target, conflict.expressions, params)
    source = node.expression
    if isinstance(source, exp.Values) or source is None:
        rows = _value_rows(state, source, columns, params)
        await inserter.insert(rows)
    else:
        await _insert_query(state, source, columns, inserter, ctx, params)
    result = inserter.result
    if result.last_insert_id:
        state.last_insert_id = result.last_insert_id
    info = ""
    if result.records > 1 or not isinstance(source, exp.Values):
        info = f"Records: {result.records}  Duplicates: {result.duplicates}  Warnings: {len(state.warnings)}"
    return Done(result.affected, result.last_insert_id, len(state.warnings), info)


async def bulk_insert(state: SessionState, statement: BulkInsert, ctx: WriteContext) -> Done:
    """INSERT and REPLACE of literal rows."""
    node = exp.Table(this=exp.to_identifier(statement.table))
    if statement.database:
        node.set("db", exp.to_identifier(statement.database))
    target = find_target(state, node)
    columns = list(target.table.columns) if statement.columns is None else _columns(target, statement.columns)
    width = len(columns)
    rows = [cells or [(DEFAULT, None)] * width for cells in statement.rows]
    for number, cells in enumerate(rows, 1):
        if len(cells) != width:
            raise ColumnCount(f"Column count doesn't match value count at row {number}")
    inserter = make_inserter(state, target, columns, ctx, statement.mode)
    if statement.assignments:
        inserter.update = _updater(state, target, statement.assignments, ())
    await inserter.insert(rows)
    result = inserter.result
    if result.last_insert_id:
        state.last_insert_id = result.last_insert_id
    info = f"Records: {result.records}  Duplicates: {result.duplicates}  Warnings: {len(state.warnings)}"
    return Done(result.affected, result.last_insert_id, len(state.warnings), info)


def _value_rows(
    state: SessionState, source: Node, columns: Sequence[ColumnInfo], params: Sequence[Constant]
) -> list[list[Cell]]:
    lower = Lowering(lower_context(state, params), Scope([]))
    width = len(columns)
    rows: list[list[Cell]] = []
    for number, item in enumerate(source.expressions if source is not None else [], 1):
        nodes = item.expressions if isinstance(item, exp.Tuple) else [item]
        if nodes and len(nodes) != width:
            raise ColumnCount(f"Column count doesn't match value count at row {number}")
        rows.append([_cell(n, lower, state) for n in nodes] if nodes else [(DEFAULT, None)] * width)
    return rows


def _cell(node: Node, lower: Lowering, state: SessionState) -> Cell:
    kind = type(node)
    if kind is exp.Literal:
        constant = literal(node)
        return constant.value, None
    if kind is exp.Null:
        return None, None
    if (kind is exp.Var or kind is exp.Column) and node.name.upper() == "DEFAULT":
        return DEFAULT, None
    value = lower(node)
    if not isinstance(value, Constant):
        ctx = state.eval_context()
        made = evaluate(value, [], 1, ctx)[0].as_py()
        return made, value.ft
    return value.value, value.ft


async def _insert_query(
    state: SessionState, source: Node, columns: Sequence[ColumnInfo], inserter: Inserter, ctx: WriteContext,
    params: Sequence[Constant],
) -> None:  # fmt: skip
    statement = plan_query(state, source, params)
    types = [c.ft for c in statement.root.columns]
    if len(types) != len(columns):
        raise ColumnCount("Column count doesn't match value count at row 1")
    context = replace(exec_context(state, ctx.reader), txn=ctx.txn)
    root = await bind_subplans(statement, context)
    rows: list[list[Cell]] = []
    async for batch in open_plan(root, context):
        lists = [c.to_pylist() for c in batch.columns]
        rows.extend([list(zip(values, types, strict=True)) for values in zip(*lists, strict=True)])
    for start in range(0, len(rows), INSERT_BATCH):
        await inserter.insert(rows[start : start + INSERT_BATCH])


def _updater(
    state: SessionState, target: Target, assignments: Sequence[Node], params: Sequence[Constant]
) -> Callable[[Row, Row], Any]:
    """ON DUPLICATE KEY UPDATE: expressions over the old row, with VALUES(c) from the new one."""
    table = target.table
    old = [PlanColumn(c.offset, c.name, c.ft, table.name) for c in table.columns]
    new = {c.name.lower(): PlanColumn(len(old) + c.offset, c.name, c.ft) for c in table.columns}
    lower = Lowering(lower_context(state, params), Scope(old))

    def values_of(name: str) -> Expr:
        if name.lower() not in new:
            raise UnknownColumn(f"Unknown column '{name}' in 'field list'")
        return new[name.lower()].ref

    lower.on_values = values_of
    changes = []
    for item in assignments:
        column = _columns(target, [item.this.name])[0]
        changes.append((column, None if _is_default(item.expression) else lower(item.expression)))
    types = [arrow_type(c.ft) for c in table.columns] * 2
    computed = [expr for _, expr in changes if expr is not None and not _is_plain(expr)]
    needed = sorted(set().union(*(columns_of(expr) for expr in computed)))

    async def update(row: Row, would_be: Row) -> Row:
        values: Row = [*row, *would_be]
        arrays: list[Any] = [None] * len(values)  # only those that are computed with
        for i in needed:
            arrays[i] = pa.array([values[i]], types[i])
        ctx = state.eval_context() if needed or computed else EvalContext()
        ctx.flags = DML_FLAGS
        for column, expr in changes:
            value: Value
            if expr is None:
                value = _default(column)
            elif isinstance(expr, ColumnRef) and _is_plain(expr):
                value = values[expr.offset]
            else:
                value = evaluate(expr, arrays, 1, ctx)[0].as_py()
            at = column.offset
            values[at] = _converted(state, column, value, expr.ft if expr is not None else None, 1)
            if arrays[at] is not None:
                arrays[at] = pa.array([values[at]], types[at])
        return values[: len(row)]

    return update


def _is_plain(expr: Expr) -> bool:
    """Whether an expression is a column whose value can be taken as it is (floats may be rounded by their type)."""
    return isinstance(expr, ColumnRef) and expr.ft.eval_type is not EvalType.REAL


def _is_default(node: Node) -> bool:
    return isinstance(node, (exp.Column, exp.Var)) and node.name.upper() == "DEFAULT" and not node.text("table")


def _default(column: ColumnInfo) -> Value:
    return None if column.default is None or column.default_is_expr else from_text(column.default, column)


def _converted(state: SessionState, column: ColumnInfo, value: Value, source: FieldType | None, row: int) -> Value:
    converter = Converter(column, None if state.strict else state.warn)
    converter.row = row
    converted = converter(value, source)
    if converted is None and column.not_null:
        error: SqlError = NotNullViolation(f"Column '{column.name}' cannot be null")
        if state.strict:
            raise error
        state.warn(error)
        return zero_value(column.ft)
    return converted


# -- UPDATE and DELETE --------------------------------------------------------------------------------------------------


def _row_query(node: Node, targets: Sequence[tuple[str, Target]], extra: Sequence[Node]) -> Node:
    """SELECT all columns and the handle of the target tables, then the extra expressions, with the statement's WHERE."""
    items: list[Node] = []
    for alias, target in targets:
        items += [exp.column(c.name, table=alias, quoted=True) for c in target.table.columns]
        if target.table.handle_column is None:
            items.append(exp.column("_tidb_rowid", table=alias))
    source = node.this
    query = exp.Select(expressions=[*items, *extra])
    query.set("from_", exp.From(this=source))
    for part in ("where", "order", "limit", "with_"):
        if node.args.get(part) is not None:
            query.set(part, node.args[part])
    return query


def query_of(node: Node) -> Node | None:
    """The query whose rows a statement changes or inserts, for EXPLAIN."""
    if isinstance(node, exp.Insert):
        return node.expression if isinstance(node.expression, exp.Query) else None
    return _row_query(node.copy(), (), [exp.Star()]) if isinstance(node, (exp.Update, exp.Delete)) else None


async def _fetch(
    state: SessionState, query: Node, ctx: WriteContext, params: Sequence[Constant]
) -> tuple[list[list[Value]], list[FieldType]]:
    statement = plan_query(state, query, params)
    context = replace(exec_context(state, ctx.reader), txn=ctx.txn)
    context.eval_ctx.flags = DML_FLAGS | (0 if state.strict else 2)
    root = await bind_subplans(statement, context)
    rows: list[list[Value]] = []
    async for batch in open_plan(root, context):
        rows.extend(map(list, zip(*[c.to_pylist() for c in batch.columns], strict=True)))
    state.take_warnings(context.eval_ctx)
    return rows, [c.ft for c in root.columns]


def _split_row(target: Target, row: list[Value], at: int) -> tuple[Row, int | None, int]:
    """A target's values, its handle, and where the next target's begin.

    The handle is None where an outer join found no row of the target: there is nothing to change then.
    """
    width = len(target.table.columns)
    values = row[at : at + width]
    pk = target.table.handle_column
    if pk is not None:
        return values, None if values[pk.offset] is None else as_handle(values[pk.offset]), at + width
    handle = row[at + width]
    assert handle is None or isinstance(handle, int)
    return values, handle, at + width + 1


def _tables_of(node: Node) -> list[Node]:
    """The table references of an UPDATE or DELETE, with joins."""
    source = node.this
    return [source, *[j.this for j in source.args.get("joins") or ()]]


async def update(state: SessionState, node: Node, ctx: WriteContext, params: Sequence[Constant]) -> Done:
    """UPDATE."""
    by_alias: dict[str, Target] = {}
    for reference in _tables_of(node):
        if isinstance(reference, exp.Table):
            by_alias[reference.alias or reference.name] = find_target(state, reference)
    assignments: dict[str, list[tuple[ColumnInfo, Node]]] = {}
    for item in node.expressions:
        alias = _owner(item.this, by_alias)
        column = _columns(by_alias[alias], [item.this.name])[0]
        assignments.setdefault(alias, []).append((column, item.expression))
    targets = [(alias, by_alias[alias]) for alias in assignments]
    extra = [v for changes in assignments.values() for _, v in changes if not _is_default(v)]
    rows, types = await _fetch(state, _row_query(node, targets, extra), ctx, params)
    ignore = bool(node.args.get("ignore"))
    affected = matched = 0
    writers = {alias: StatementWriter(target.table, ctx) for alias, target in targets}
    await _lock(ctx, rows, targets, writers)
    done: dict[str, set[int]] = {alias: set() for alias in assignments}
    for row in rows:
        at = 0
        parts = {}
        for alias, target in targets:
            old, handle, at = _split_row(target, row, at)
            parts[alias] = (old, handle)
        for alias, changes in assignments.items():
            old, handle = parts[alias]
            if handle is None:
                at += sum(not _is_default(value) for _, value in changes)
                continue
            new, at = _assign(state, old, changes, row, types, at, matched + 1)
            if handle in done[alias]:
                continue
            done[alias].add(handle)
            matched += 1
            if new != old and await _change(state, writers[alias], old, new, handle, ignore=ignore):
                affected += 1
    info = f"Rows matched: {matched}  Changed: {affected}  Warnings: {len(state.warnings)}"
    return Done(affected, 0, len(state.warnings), info)


async def _change(
    state: SessionState, writer: StatementWriter, old: Row, new: Row, handle: int, *, ignore: bool
) -> bool:
    for column in writer.table.columns:
        if column.on_update_now and new[column.offset] == old[column.offset]:
            new[column.offset] = state.now(column.ft.fsp)
    try:
        await change_row(writer, old, new, handle)
    except SqlError as error:
        if not ignore:
            raise
        state.warn(error)
        return False
    return True


def _owner(column: Node, tables: dict[str, Target]) -> str:
    name = column.text("table")
    if name:
        match = next((a for a in tables if a.lower() == name.lower()), None)
    else:
        match = next((a for a, t in tables.items() if t.table.column(column.name) is not None), None)
    if match is None:
        raise UnknownColumn(f"Unknown column '{column.name}' in 'field list'")
    return match


def _assign(
    state: SessionState, old: Row, changes: Sequence[tuple[ColumnInfo, Node]], row: list[Value],
    types: Sequence[FieldType], at: int, number: int,
) -> tuple[Row, int]:  # fmt: skip
    new = list(old)
    for column, node in changes:
        if _is_default(node):
            value, source = (
                (state.now(column.ft.fsp), column.ft) if column.default_is_expr else (_default(column), None)
            )
        else:
            value, source = row[at], types[at]
            at += 1
        new[column.offset] = _converted(state, column, value, source, number)
    return new, at


async def _lock(
    ctx: WriteContext,
    rows: list[list[Value]],
    targets: Sequence[tuple[str, Target]],
    writers: dict[str, StatementWriter],
) -> None:
    """Lock the rows that were found, in a pessimistic transaction."""
    if not ctx.txn.pessimistic or not rows:
        return
    keys = []
    for row in rows:
        at = 0
        for alias, target in targets:
            _, handle, at = _split_row(target, row, at)
            if handle is not None:
                keys.append(writers[alias].record_key(handle))
    await ctx.txn.lock(list(dict.fromkeys(keys)))


async def delete(state: SessionState, node: Node, ctx: WriteContext, params: Sequence[Constant]) -> Done:
    """DELETE from one table, or from some of several joined ones."""
    named = node.args.get("tables") or []
    references = [r for r in _tables_of(node) if isinstance(r, exp.Table)]
    aliases = {(r.alias or r.name).lower(): r for r in references}
    chosen = [aliases.get(n.name.lower()) for n in named] if named else references[:1]
    targets = []
    for reference in chosen:
        if reference is None:
            raise UnknownColumn("Unknown table in MULTI DELETE")
        targets.append((reference.alias or reference.name, find_target(state, reference)))
    rows, _ = await _fetch(state, _row_query(node, targets, []), ctx, params)
    writers = {alias: StatementWriter(target.table, ctx) for alias, target in targets}
    await _lock(ctx, rows, targets, writers)
    gone: set[tuple[str, int]] = set()
    for row in rows:
        at = 0
        for alias, target in targets:
            values, handle, at = _split_row(target, row, at)
            if handle is not None and (alias, handle) not in gone:
                gone.add((alias, handle))
                writers[alias].remove(values, handle)
    return Done(len(gone), 0, len(state.warnings))


async def lock_rows(state: SessionState, node: Node, ctx: WriteContext, params: Sequence[Constant]) -> None:
    """SELECT ... FOR UPDATE: lock the rows of the query's tables."""
    source = node.args.get("from_")
    if source is None or not isinstance(source.this, exp.Table) or node.args.get("group") is not None:
        return
    carrier = exp.Delete(this=source.this.copy())
    for join in node.args.get("joins") or ():
        carrier.this.append("joins", join.copy())
    for part in ("where", "order", "limit"):
        if node.args.get(part) is not None:
            carrier.set(part, node.args[part].copy())
    references = [r for r in _tables_of(carrier) if isinstance(r, exp.Table)]
    targets = [(r.alias or r.name, find_target(state, r)) for r in references]
    rows, _ = await _fetch(state, _row_query(carrier, targets, []), ctx, params)
    writers = {alias: StatementWriter(target.table, ctx) for alias, target in targets}
    await _lock(ctx, rows, targets, writers)
