"""Types and tables as SQL text: COLUMN_TYPE, SHOW CREATE TABLE in TiDB's format."""

from __future__ import annotations

from core_py.vector.collate import CHARSETS, NAMES
from core_py.vector.fieldtype import (
    BIT,
    BLOB,
    DATE,
    DATETIME,
    DOUBLE,
    DURATION,
    ENUM,
    FLOAT,
    INT24,
    JSON,
    LONG,
    LONG_BLOB,
    LONGLONG,
    MEDIUM_BLOB,
    NEWDECIMAL,
    SET,
    SHORT,
    STRING,
    TIMESTAMP,
    TINY,
    TINY_BLOB,
    VARCHAR,
    YEAR,
    EvalType,
    FieldType,
)  # fmt: skip
from tidb_py.catalog.model import ColumnInfo, IndexInfo, TableInfo

_NAMES = {
    TINY: "tinyint", SHORT: "smallint", INT24: "mediumint", LONG: "int", LONGLONG: "bigint", FLOAT: "float", DOUBLE: "double",
    NEWDECIMAL: "decimal", DATE: "date", DATETIME: "datetime", TIMESTAMP: "timestamp", DURATION: "time", YEAR: "year",
    BIT: "bit", JSON: "json", ENUM: "enum", SET: "set",
}  # fmt: skip
_TEXTS = {TINY_BLOB: "tiny", BLOB: "", MEDIUM_BLOB: "medium", LONG_BLOB: "long"}


def data_type(ft: FieldType) -> str:
    """DATA_TYPE: the bare name."""
    binary = ft.collation == 63
    if ft.tp in _TEXTS:
        return _TEXTS[ft.tp] + ("blob" if binary else "text")
    if ft.tp == VARCHAR:
        return "varbinary" if binary else "varchar"
    if ft.tp == STRING:
        return "binary" if binary else "char"
    return _NAMES.get(ft.tp, "varchar")


def column_type(ft: FieldType) -> str:
    """COLUMN_TYPE: the name with sizes and signs."""
    name = data_type(ft)
    if ft.tp == NEWDECIMAL:
        name += f"({ft.flen},{ft.scale})"
    elif ft.tp in (VARCHAR, STRING, BIT):
        name += f"({ft.flen})"
    elif ft.tp in (DATETIME, TIMESTAMP, DURATION) and ft.fsp:
        name += f"({ft.fsp})"
    elif ft.tp == YEAR:
        return "year(4)"
    elif ft.tp == TINY and ft.flen == 1:
        name += "(1)"
    elif ft.tp in (FLOAT, DOUBLE) and 0 <= ft.decimal < 31:
        name += f"({ft.flen},{ft.decimal})"
    elif ft.tp in (ENUM, SET):
        name += "(" + ",".join(quoted(e) for e in ft.elems) + ")"
    if ft.unsigned and ft.tp not in (BIT, YEAR):
        name += " unsigned"
    if ft.flags & 64 and ft.tp not in (BIT, YEAR):
        name += " zerofill"
    return name


def quoted(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def name(text: str) -> str:
    """A quoted name."""
    return "`" + text.replace("`", "``") + "`"


def column_text(column: ColumnInfo, table: TableInfo) -> str:
    """A column definition."""
    ft = column.ft
    out = f"{name(column.name)} {column_type(ft)}"
    if ft.eval_type is EvalType.STRING and ft.collation not in (63, table.collation):
        out += f" CHARACTER SET {CHARSETS[ft.collation]} COLLATE {NAMES[ft.collation]}"
    if column.not_null:
        out += " NOT NULL"
    elif ft.tp == TIMESTAMP:
        out += " NULL"
    if column.auto_increment:
        out += " AUTO_INCREMENT"
    elif column.default_is_expr:
        out += " DEFAULT CURRENT_TIMESTAMP" + (f"({ft.fsp})" if ft.fsp else "")
    elif column.default is not None:
        out += f" DEFAULT {quoted(column.default)}"
    elif not column.not_null and ft.tp not in (*_TEXTS, JSON):
        out += " DEFAULT NULL"
    if column.on_update_now:
        out += " ON UPDATE CURRENT_TIMESTAMP" + (f"({ft.fsp})" if ft.fsp else "")
    if column.comment:
        out += f" COMMENT {quoted(column.comment)}"
    return out


def index_text(index: IndexInfo) -> str:
    """An index definition."""
    columns = ",".join(name(c.name) + (f"({c.length})" if c.length >= 0 else "") for c in index.columns)
    if index.primary:
        return f"PRIMARY KEY ({columns}) /*T![clustered_index] NONCLUSTERED */"
    return f"{'UNIQUE KEY' if index.unique else 'KEY'} {name(index.name)} ({columns})"


def create_table(table: TableInfo) -> str:
    """SHOW CREATE TABLE."""
    lines = [column_text(c, table) for c in table.columns]
    handle = table.handle_column
    if handle is not None:
        lines.append(f"PRIMARY KEY ({name(handle.name)}) /*T![clustered_index] CLUSTERED */")
    lines += [index_text(i) for i in sorted(table.indexes, key=lambda i: not i.primary)]
    for fk in table.foreign_keys:
        own = ",".join(name(c["O"]) for c in fk["cols"])
        other = ",".join(name(c["O"]) for c in fk["ref_cols"])
        lines.append(
            f"CONSTRAINT {name(fk['fk_name']['O'])} FOREIGN KEY ({own}) REFERENCES {name(fk['ref_table']['O'])} ({other})"
        )
    out = f"CREATE TABLE {name(table.name)} (\n  " + ",\n  ".join(lines) + "\n) ENGINE=InnoDB"
    if table.auto_inc_start > 1:
        out += f" AUTO_INCREMENT={table.auto_inc_start}"
    out += f" DEFAULT CHARSET={CHARSETS[table.collation]} COLLATE={NAMES[table.collation]}"
    return out + (f" COMMENT={quoted(table.comment)}" if table.comment else "")
