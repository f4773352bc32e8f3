"""information_schema: its tables, and their rows made from the catalog when a query asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from core_py.vector.arrow import Vec, pa
from core_py.vector.collate import CHARSETS, NAMES
from core_py.vector.fieldtype import BLOB_TYPES, EvalType, FieldType, arrow_type, int_type, string_type
from tidb_py.catalog.infoschema import InfoSchema
from tidb_py.catalog.model import ColumnInfo, DatabaseInfo, TableInfo
from tidb_py.session.ddl_text import column_type, data_type

Cell = str | int | None
Rows = Iterable[tuple[Cell, ...]]
S, I = "s", "i"  # noqa: E741 - the two column kinds of the table below
_COLUMNS: dict[str, str] = {
    "schemata": "CATALOG_NAME SCHEMA_NAME DEFAULT_CHARACTER_SET_NAME DEFAULT_COLLATION_NAME SQL_PATH",
    "tables": "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME TABLE_TYPE ENGINE VERSION:i ROW_FORMAT TABLE_ROWS:i AVG_ROW_LENGTH:i "
    "DATA_LENGTH:i MAX_DATA_LENGTH:i INDEX_LENGTH:i DATA_FREE:i AUTO_INCREMENT:i CREATE_TIME UPDATE_TIME CHECK_TIME "
    "TABLE_COLLATION CHECKSUM:i CREATE_OPTIONS TABLE_COMMENT TIDB_TABLE_ID:i",
    "columns": "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION:i COLUMN_DEFAULT IS_NULLABLE DATA_TYPE "
    "CHARACTER_MAXIMUM_LENGTH:i CHARACTER_OCTET_LENGTH:i NUMERIC_PRECISION:i NUMERIC_SCALE:i DATETIME_PRECISION:i "
    "CHARACTER_SET_NAME COLLATION_NAME COLUMN_TYPE COLUMN_KEY EXTRA PRIVILEGES COLUMN_COMMENT GENERATION_EXPRESSION",
    "statistics": "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME NON_UNIQUE:i INDEX_SCHEMA INDEX_NAME SEQ_IN_INDEX:i COLUMN_NAME "
    "COLLATION CARDINALITY:i SUB_PART:i PACKED NULLABLE INDEX_TYPE COMMENT INDEX_COMMENT IS_VISIBLE EXPRESSION",
    "key_column_usage": "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME "
    "COLUMN_NAME ORDINAL_POSITION:i POSITION_IN_UNIQUE_CONSTRAINT:i REFERENCED_TABLE_SCHEMA REFERENCED_TABLE_NAME "
    "REFERENCED_COLUMN_NAME",
    "table_constraints": "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_SCHEMA TABLE_NAME CONSTRAINT_TYPE ENFORCED",
    "referential_constraints": "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME UNIQUE_CONSTRAINT_CATALOG "
    "UNIQUE_CONSTRAINT_SCHEMA UNIQUE_CONSTRAINT_NAME MATCH_OPTION UPDATE_RULE DELETE_RULE TABLE_NAME REFERENCED_TABLE_NAME",
    "character_sets": "CHARACTER_SET_NAME DEFAULT_COLLATE_NAME DESCRIPTION MAXLEN:i",
    "collations": "COLLATION_NAME CHARACTER_SET_NAME ID:i IS_DEFAULT IS_COMPILED SORTLEN:i PAD_ATTRIBUTE",
    "collation_character_set_applicability": "COLLATION_NAME CHARACTER_SET_NAME",
    "engines": "ENGINE SUPPORT COMMENT TRANSACTIONS XA SAVEPOINTS",
    "views": "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME VIEW_DEFINITION CHECK_OPTION IS_UPDATABLE DEFINER SECURITY_TYPE "
    "CHARACTER_SET_CLIENT COLLATION_CONNECTION",
    "routines": "SPECIFIC_NAME ROUTINE_CATALOG ROUTINE_SCHEMA ROUTINE_NAME ROUTINE_TYPE DTD_IDENTIFIER",
    "triggers": "TRIGGER_CATALOG TRIGGER_SCHEMA TRIGGER_NAME EVENT_MANIPULATION EVENT_OBJECT_CATALOG EVENT_OBJECT_SCHEMA "
    "EVENT_OBJECT_TABLE ACTION_ORDER:i ACTION_CONDITION ACTION_STATEMENT ACTION_ORIENTATION ACTION_TIMING "
    "ACTION_REFERENCE_OLD_TABLE ACTION_REFERENCE_NEW_TABLE ACTION_REFERENCE_OLD_ROW ACTION_REFERENCE_NEW_ROW CREATED "
    "SQL_MODE DEFINER CHARACTER_SET_CLIENT COLLATION_CONNECTION DATABASE_COLLATION",
    "column_privileges": "GRANTEE TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME PRIVILEGE_TYPE IS_GRANTABLE",
    "files": "FILE_ID:i FILE_NAME FILE_TYPE TABLESPACE_NAME LOGFILE_GROUP_NAME ENGINE TOTAL_EXTENTS:i INITIAL_SIZE:i "
    "EXTENT_SIZE:i EXTRA",
    "events": "EVENT_CATALOG EVENT_SCHEMA EVENT_NAME",
    "parameters": "SPECIFIC_CATALOG SPECIFIC_SCHEMA SPECIFIC_NAME ORDINAL_POSITION:i",
    "check_constraints": "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME CHECK_CLAUSE",
    "partitions": "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME PARTITION_NAME",
    "processlist": "ID:i USER HOST DB COMMAND TIME:i STATE INFO",
    "session_variables": "VARIABLE_NAME VARIABLE_VALUE",
    "user_privileges": "GRANTEE TABLE_CATALOG PRIVILEGE_TYPE IS_GRANTABLE",
}


def names() -> list[str]:
    """The tables there are."""
    return sorted(_COLUMNS)


def columns_of(table: str) -> list[tuple[str, FieldType]] | None:
    """The columns of a table, or None when there is no such table."""
    spec = _COLUMNS.get(table.lower())
    if spec is None:
        return None
    out = []
    for word in spec.split():
        name, _, kind = word.partition(":")
        out.append((name, int_type(flen=21) if kind == I else string_type(512, 45)))
    return out


def to_columns(table: str, rows: Rows) -> list[Vec]:
    """Rows as Arrow columns."""
    columns = columns_of(table) or []
    lists: list[list[object]] = [[] for _ in columns]
    for row in rows:
        for cell, values in zip(row, lists, strict=True):
            values.append(cell.encode() if isinstance(cell, str) else cell)
    return [pa.array(v, arrow_type(ft)) for v, (_, ft) in zip(lists, columns, strict=True)]


def rows_of(table: str, schema: InfoSchema) -> Rows:
    """The rows of a table that only depends on the schema."""
    maker = _MAKERS.get(table.lower())
    return maker(schema) if maker is not None else ()


def _all_tables(schema: InfoSchema) -> list[tuple[DatabaseInfo, TableInfo]]:
    return [(d, t) for _, d in sorted(schema.databases.items()) for t in schema.tables(d.name)]


def _schemata(schema: InfoSchema) -> Rows:
    yield ("def", "information_schema", "utf8mb4", "utf8mb4_bin", None)
    for _, d in sorted(schema.databases.items()):
        yield ("def", d.name, CHARSETS[d.collation], NAMES[d.collation], None)


def _tables(schema: InfoSchema) -> Rows:
    for name in names():
        yield (
            "def",
            "information_schema",
            name.upper(),
            "SYSTEM VIEW",
            None,
            *[None] * 12,
            "utf8mb4_bin",
            None,
            "",
            "",
            0,
        )
    for d, t in _all_tables(schema):
        auto = t.auto_inc_start or 1 if t.auto_column is not None else None
        yield ("def", d.name, t.name, "BASE TABLE", "InnoDB", 10, "Compact", 0, 0, 0, 0, 0, 0, auto, None, None, None,
               NAMES[t.collation], None, "", t.comment, t.id)  # fmt: skip


def column_key(table: TableInfo, column: ColumnInfo) -> str:
    """PRI, UNI, MUL or nothing."""
    if column.ft.flags & 2:
        return "PRI"
    for index in table.indexes:
        if index.columns[0].offset == column.offset:
            return "UNI" if index.unique and len(index.columns) == 1 else "MUL"
    return ""


def extra_of(column: ColumnInfo) -> str:
    """The Extra column of SHOW COLUMNS."""
    parts = ["auto_increment"] if column.auto_increment else []
    if column.default_is_expr:
        parts.append("DEFAULT_GENERATED")
    if column.on_update_now:
        parts.append("on update CURRENT_TIMESTAMP" + (f"({column.ft.fsp})" if column.ft.fsp else ""))
    return " ".join(parts)


def shown_default(column: ColumnInfo) -> str | None:
    """The default as SHOW COLUMNS prints it."""
    if column.default_is_expr:
        return "CURRENT_TIMESTAMP" + (f"({column.ft.fsp})" if column.ft.fsp else "")
    return column.default


def _columns(schema: InfoSchema) -> Rows:
    for d, t in _all_tables(schema):
        for c in t.columns:
            ft = c.ft
            family = ft.eval_type
            text = family is EvalType.STRING
            octets = ft.flen if ft.tp in BLOB_TYPES or ft.collation == 63 else ft.flen * 4
            precision = {EvalType.INT: ft.flen, EvalType.DECIMAL: ft.flen, EvalType.REAL: 22}.get(family)
            clock = ft.fsp if family in (EvalType.TIME, EvalType.DURATION) and ft.tp != 10 else None
            collated = text and ft.collation != 63
            yield (
                "def", d.name, t.name, c.name, c.offset + 1, shown_default(c), "NO" if c.not_null else "YES",
                data_type(ft), ft.flen if text else None, octets if text else None, precision,
                ft.scale if family in (EvalType.DECIMAL, EvalType.INT) else None, clock,
                CHARSETS.get(ft.collation) if collated else None, NAMES.get(ft.collation) if collated else None,
                column_type(ft), column_key(t, c), extra_of(c), "select,insert,update,references", c.comment, "",
            )  # fmt: skip


def index_rows(t: TableInfo) -> list[tuple[str, bool, list[tuple[ColumnInfo, int]], str]]:
    """All keys of a table, the clustered one first: name, unique, columns with lengths, comment."""
    out = []
    handle = t.handle_column
    if handle is not None:
        out.append(("PRIMARY", True, [(handle, -1)], ""))
    ordered = sorted(t.indexes, key=lambda i: not i.primary)
    out += [(i.name, i.unique, [(t.columns[c.offset], c.length) for c in i.columns], i.comment) for i in ordered]
    return out


def _statistics(schema: InfoSchema) -> Rows:
    for d, t in _all_tables(schema):
        for name, unique, columns, comment in index_rows(t):
            for seq, (c, length) in enumerate(columns, 1):
                yield ("def", d.name, t.name, 0 if unique else 1, d.name, name, seq, c.name, "A", 0,
                       length if length >= 0 else None, None, "" if c.not_null else "YES", "BTREE", "", comment, "YES",
                       None)  # fmt: skip


def _key_column_usage(schema: InfoSchema) -> Rows:
    for d, t in _all_tables(schema):
        for name, unique, columns, _ in index_rows(t):
            if unique:
                for seq, (c, _) in enumerate(columns, 1):
                    yield ("def", d.name, name, "def", d.name, t.name, c.name, seq, None, None, None, None)
        for fk in t.foreign_keys:
            for seq, (c, r) in enumerate(zip(fk["cols"], fk["ref_cols"], strict=False), 1):
                yield ("def", d.name, fk["fk_name"]["O"], "def", d.name, t.name, c["O"], seq, seq, d.name,
                       fk["ref_table"]["O"], r["O"])  # fmt: skip


def _table_constraints(schema: InfoSchema) -> Rows:
    for d, t in _all_tables(schema):
        for name, unique, _, _ in index_rows(t):
            if unique:
                kind = "PRIMARY KEY" if name == "PRIMARY" else "UNIQUE"
                yield ("def", d.name, name, d.name, t.name, kind, "YES")
        for fk in t.foreign_keys:
            yield ("def", d.name, fk["fk_name"]["O"], d.name, t.name, "FOREIGN KEY", "YES")


def _referential_constraints(schema: InfoSchema) -> Rows:
    for d, t in _all_tables(schema):
        for fk in t.foreign_keys:
            yield ("def", d.name, fk["fk_name"]["O"], "def", d.name, "PRIMARY", "NONE", "NO ACTION", "NO ACTION", t.name,
                   fk["ref_table"]["O"])  # fmt: skip


def character_sets() -> list[tuple[str, str, str, int]]:
    """The character sets."""
    return [
        ("ascii", "ascii_bin", "US ASCII", 1), ("binary", "binary", "binary", 1), ("latin1", "latin1_bin", "Latin1", 1),
        ("utf8", "utf8_bin", "UTF-8 Unicode", 3), ("utf8mb4", "utf8mb4_bin", "UTF-8 Unicode", 4),
    ]  # fmt: skip


def _collations(_schema: InfoSchema) -> Rows:
    defaults = {c[1] for c in character_sets()}
    for number, name in sorted(NAMES.items()):
        pad = "NO PAD" if number in (63, 255, 309) else "PAD SPACE"
        yield (name, CHARSETS[number], number, "Yes" if name in defaults else "", "Yes", 1, pad)


ENGINES = [("InnoDB", "DEFAULT", "Supports transactions, row-level locking, and foreign keys", "YES", "YES", "YES")]

_MAKERS: dict[str, Callable[[InfoSchema], Rows]] = {
    "schemata": _schemata,
    "tables": _tables,
    "columns": _columns,
    "statistics": _statistics,
    "key_column_usage": _key_column_usage,
    "table_constraints": _table_constraints,
    "referential_constraints": _referential_constraints,
    "character_sets": lambda _s: character_sets(),
    "collations": _collations,
    "collation_character_set_applicability": lambda _s: [(n, CHARSETS[i]) for i, n in sorted(NAMES.items())],
    "engines": lambda _s: ENGINES,
}
