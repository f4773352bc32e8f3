"""SHOW and DESCRIBE: small tables of text made from the catalog and the session."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence

from core_py.vector.arrow import pa
from core_py.vector.fieldtype import FieldType, int_type, string_type
from core_py.vector.strings import like_pattern
from tidb_py.catalog.model import TableInfo
from tidb_py.errors import NoDatabase, NotSupported
from tidb_py.mysql.responses import ColumnDef
from tidb_py.parser.ast import Show
from tidb_py.server.handler import Batch, ResultSet
from tidb_py.session import infoschema_tables as tables
from tidb_py.session.ddl_text import column_type, create_table, name
from tidb_py.session.state import SessionState

Cell = str | int | None
Rows = list[tuple[Cell, ...]]
Made = tuple[list[str], Rows]
TEXT, NUMBER = string_type(256), int_type(flen=21)


def rows_result(names: Sequence[str], rows: Sequence[tuple[Cell, ...]]) -> ResultSet:
    """A result of text and integer columns."""
    types: list[FieldType] = []
    arrays = []
    for i in range(len(names)):
        values = [row[i] for row in rows]
        numeric = bool(values) and all(isinstance(v, int) for v in values)
        types.append(NUMBER if numeric else TEXT)
        if numeric:
            arrays.append(pa.array(values, pa.int64()))
        else:
            raw = [None if v is None else str(v).encode() for v in values]
            arrays.append(pa.array(raw, pa.large_binary()))
    columns = [
        ColumnDef(name=n, type=8 if t is NUMBER else 253, length=1024, charset=63 if t is NUMBER else 46)
        for n, t in zip(names, types, strict=True)
    ]

    async def batches() -> AsyncIterator[Batch]:
        if rows:
            yield arrays

    return ResultSet(columns, types, batches())


def show(state: SessionState, statement: Show) -> ResultSet:
    """Run a SHOW statement."""
    handler = _HANDLERS.get(statement.kind)
    if handler is None:
        raise NotSupported(f"SHOW {statement.kind.upper()} is not supported")
    names, rows = handler(state, statement)
    if statement.pattern is not None and statement.kind not in ("create table",):
        match = re.compile(like_pattern(statement.pattern.encode(), b"\\"), re.IGNORECASE)
        rows = [r for r in rows if match.match(str(r[0]))]
    if statement.where:
        rows = _where(names, rows, str(statement.where))
    return rows_result(names, rows)


_CONDITION = re.compile(r"^\s*`?(\w+)`?\s*(=|like|in)\s*(.*?)\s*$", re.IGNORECASE | re.DOTALL)


def _where(names: list[str], rows: Rows, text: str) -> Rows:
    """WHERE of SHOW: column = 'x', LIKE or IN, joined by OR or AND."""
    parts = re.split(r"\s+or\s+", text, flags=re.IGNORECASE)
    return [row for row in rows if any(_holds(names, row, part) for part in parts)]


def _holds(names: list[str], row: tuple[Cell, ...], text: str) -> bool:
    for part in re.split(r"\s+and\s+", text, flags=re.IGNORECASE):
        match = _CONDITION.match(part.strip("() "))
        lowered = [n.lower() for n in names]
        if match is None or match.group(1).lower() not in lowered:
            raise NotSupported(f"WHERE {part.strip()} is not supported in SHOW")
        value = str(row[lowered.index(match.group(1).lower())]).lower()
        wanted = [w.strip("'\" ").lower() for w in match.group(3).strip("()").split(",")]
        if match.group(2).lower() == "like":
            if re.match(like_pattern(wanted[0].encode(), b"\\"), value) is None:
                return False
        elif value not in wanted:
            return False
    return True


def _database(state: SessionState, statement: Show) -> str:
    database = statement.database or state.database
    if not database:
        raise NoDatabase("No database selected")
    if database.lower() != "information_schema":
        return state.schema.database(database).name
    return database


def _table(state: SessionState, statement: Show) -> TableInfo:
    return state.schema.table(_database(state, statement), statement.table)


def _databases(state: SessionState, _: Show) -> Made:
    names = ["information_schema", *sorted(d.name for d in state.schema.databases.values())]
    return ["Database"], [(n,) for n in names]


def _tables(state: SessionState, statement: Show) -> Made:
    database = _database(state, statement)
    if database.lower() == "information_schema":
        rows: list[tuple[Cell, ...]] = [(n.upper(), "SYSTEM VIEW") for n in tables.names()]
    else:
        rows = [(t.name, "BASE TABLE") for t in state.schema.tables(database)]
    names = [f"Tables_in_{database}"]
    if statement.full:
        return [*names, "Table_type"], rows
    return names, [row[:1] for row in rows]


def _columns(state: SessionState, statement: Show) -> Made:
    if _database(state, statement).lower() == "information_schema":
        found = tables.columns_of(statement.table) or []
        return ["Field", "Type", "Null", "Key", "Default", "Extra"], [
            (n, column_type(ft), "YES", "", None, "") for n, ft in found
        ]
    table = _table(state, statement)
    names = ["Field", "Type", "Null", "Key", "Default", "Extra"]
    rows: Rows = []
    for c in table.columns:
        base = (c.name, column_type(c.ft), "NO" if c.not_null else "YES", tables.column_key(table, c),
                tables.shown_default(c), tables.extra_of(c))  # fmt: skip
        if statement.full:
            from_charset = (
                None if abs(c.ft.collation) == 63 else "utf8mb4_bin" if c.ft.collation == 46 else str(c.ft.collation)
            )
            rows.append((base[0], base[1], from_charset, *base[2:], "select,insert,update,references", c.comment))
        else:
            rows.append(base)
    if statement.full:
        names = ["Field", "Type", "Collation", "Null", "Key", "Default", "Extra", "Privileges", "Comment"]
    return names, rows


def _index(state: SessionState, statement: Show) -> Made:
    table = _table(state, statement)
    names = ["Table", "Non_unique", "Key_name", "Seq_in_index", "Column_name", "Collation", "Cardinality", "Sub_part", "Packed",
             "Null", "Index_type", "Comment", "Index_comment", "Visible", "Expression", "Clustered"]  # fmt: skip
    rows: Rows = []
    for index, unique, columns, comment in tables.index_rows(table):
        clustered = "YES" if index == "PRIMARY" and table.pk_is_handle else "NO"
        for seq, (c, length) in enumerate(columns, 1):
            rows.append((table.name, 0 if unique else 1, index, seq, c.name, "A", 0, length if length >= 0 else None, None,
                         "" if c.not_null else "YES", "BTREE", "", comment, "YES", None, clustered))  # fmt: skip
    return names, rows


def _create_table(state: SessionState, statement: Show) -> Made:
    table = _table(state, statement)
    return ["Table", "Create Table"], [(table.name, create_table(table))]


def _create_database(state: SessionState, statement: Show) -> Made:
    database = state.schema.database(statement.database)
    tolerant = "/*!32312 IF NOT EXISTS*/ " if statement.full else ""
    text = f"CREATE DATABASE {tolerant}{name(database.name)} /*!40100 DEFAULT CHARACTER SET utf8mb4 */"
    return ["Database", "Create Database"], [(database.name, text)]


def _variables(state: SessionState, statement: Show) -> Made:
    variables = state.variables
    return ["Variable_name", "Value"], [(n, variables.get(n, statement.scope)) for n in variables.names()]


def _warnings(state: SessionState, _: Show) -> Made:
    return ["Level", "Code", "Message"], list(state.warnings)


def _errors(state: SessionState, _: Show) -> Made:
    return ["Level", "Code", "Message"], [w for w in state.warnings if w[0] == "Error"]


def _table_status(state: SessionState, statement: Show) -> Made:
    database = _database(state, statement)
    names = ["Name", "Engine", "Version", "Row_format", "Rows", "Avg_row_length", "Data_length", "Max_data_length",
             "Index_length", "Data_free", "Auto_increment", "Create_time", "Update_time", "Check_time", "Collation",
             "Checksum", "Create_options", "Comment"]  # fmt: skip
    rows: Rows = [
        (t.name, "InnoDB", 10, "Compact", 0, 0, 0, 0, 0, 0, None, None, None, None, "utf8mb4_bin", "", "", t.comment)
        for t in state.schema.tables(database)
    ]
    return names, rows


def _processlist(state: SessionState, _: Show) -> Made:
    rows: Rows = [(i, u, h, d or None, "Sleep", 0, "", None) for i, u, h, d in state.server.processes()]
    return ["Id", "User", "Host", "db", "Command", "Time", "State", "Info"], rows


def _grants(state: SessionState, _: Show) -> Made:
    user = state.user
    return [f"Grants for {user}@%"], [(f"GRANT ALL PRIVILEGES ON *.* TO '{user}'@'%' WITH GRANT OPTION",)]


def _collation(state: SessionState, _: Show) -> Made:
    names = ["Collation", "Charset", "Id", "Default", "Compiled", "Sortlen", "Pad_attribute"]
    return names, list(tables.rows_of("collations", state.schema))


def _empty(*names: str) -> Callable[[SessionState, Show], Made]:
    return lambda _state, _statement: (list(names), [])


_HANDLERS: dict[str, Callable[[SessionState, Show], Made]] = {
    "databases": _databases,
    "tables": _tables,
    "open tables": _empty("Database", "Table", "In_use", "Name_locked"),
    "columns": _columns,
    "index": _index,
    "create table": _create_table,
    "create database": _create_database,
    "create user": lambda _s, show_: ([f"CREATE USER for {show_.table}@%"], [(f"CREATE USER '{show_.table}'@'%'",)]),
    "variables": _variables,
    "status": lambda _s, _st: (["Variable_name", "Value"], [("Threads_connected", "1"), ("Uptime", "1")]),
    "warnings": _warnings,
    "errors": _errors,
    "count warnings": lambda s, _st: (["@@session.warning_count"], [(len(s.warnings),)]),
    "count errors": lambda s, _st: (["@@session.error_count"], [(sum(w[0] == "Error" for w in s.warnings),)]),
    "table status": _table_status,
    "processlist": _processlist,
    "grants": _grants,
    "engines": lambda _s, _st: (["Engine", "Support", "Comment", "Transactions", "XA", "Savepoints"], list(tables.ENGINES)),
    "charset": lambda _s, _st: (["Charset", "Description", "Default collation", "Maxlen"],
                                [(n, d, c, m) for n, c, d, m in tables.character_sets()]),
    "collation": _collation,
    "privileges": _empty("Privilege", "Context", "Comment"),
    "plugins": _empty("Name", "Status", "Type", "Library", "License"),
    "triggers": _empty("Trigger", "Event", "Table", "Statement", "Timing"),
    "events": _empty("Db", "Name", "Definer"),
    "routines": _empty("Db", "Name", "Type", "Definer"),
    "profiles": _empty("Query_ID", "Duration", "Query"),
    "master status": _empty("File", "Position"),
}  # fmt: skip
