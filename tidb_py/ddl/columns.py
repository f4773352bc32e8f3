"""CREATE TABLE's column and index definitions to catalog values, with MySQL's defaults and checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlglot import expressions as exp

from core_py.vector.collate import CHARSETS, IDS
from core_py.vector.expr import Constant
from core_py.vector.fieldtype import (
    AUTO_INCREMENT_FLAG,
    BIT,
    BLOB,
    BLOB_TYPES,
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
    NOT_NULL_FLAG,
    ON_UPDATE_NOW_FLAG,
    PRI_KEY_FLAG,
    SET,
    SHORT,
    STRING,
    TIMESTAMP,
    TINY,
    TINY_BLOB,
    UNSIGNED_FLAG,
    VARCHAR,
    YEAR,
    ZEROFILL_FLAG,
    FieldType,
)  # fmt: skip
from core_py.vector.text import value_text
from tidb_py.catalog.model import ColumnInfo, IndexColumn, IndexInfo, TableInfo
from tidb_py.errors import (
    AutoIncrementKey,
    BlobKeyLength,
    DuplicateColumn,
    DuplicateKeyName,
    InvalidDefault,
    KeyColumnMissing,
    MultiplePrimaryKey,
    NotSupported,
    SqlError,
    UnknownCharset,
    UnknownCollation,
)  # fmt: skip
from tidb_py.expression.lower import LowerContext, Lowering
from tidb_py.expression.scope import Scope
from tidb_py.types.convert import Converter

Node = Any
_INTS = {
    "TINYINT": (TINY, 4),
    "SMALLINT": (SHORT, 6),
    "MEDIUMINT": (INT24, 9),
    "INT": (LONG, 11),
    "BIGINT": (LONGLONG, 20),
}
_TEXTS = {
    "TINYTEXT": (TINY_BLOB, 255), "TEXT": (BLOB, 65535), "MEDIUMTEXT": (MEDIUM_BLOB, 16777215),
    "LONGTEXT": (LONG_BLOB, 4294967295),
}  # fmt: skip
_BLOBS = {
    "TINYBLOB": (TINY_BLOB, 255), "BLOB": (BLOB, 65535), "MEDIUMBLOB": (MEDIUM_BLOB, 16777215),
    "LONGBLOB": (LONG_BLOB, 4294967295),
}  # fmt: skip


def collation_id(name: str) -> int:
    """The number of a collation."""
    found = IDS.get(name.lower().replace("utf8mb3", "utf8"))
    if found is None:
        raise UnknownCollation(f"Unknown collation: '{name}'")
    return found


def charset_collation(name: str) -> int:
    """The default collation of a character set."""
    lowered = name.lower().replace("utf8mb3", "utf8")
    found = {"utf8mb4": 46, "utf8": 83, "binary": 63, "latin1": 47, "ascii": 65}.get(lowered)
    if found is None:
        raise UnknownCharset(f"Unknown character set: '{name}'")
    return found


def field_type(kind: Node, collation: int) -> FieldType:
    """The type of a column definition."""
    name = kind.this.value if hasattr(kind.this, "value") else str(kind.this)
    unsigned = name.startswith("U") and name[1:] in {*_INTS, "DOUBLE", "DECIMAL", "FLOAT"}
    name = name[1:] if unsigned else name
    flags = UNSIGNED_FLAG if unsigned else 0
    sizes = [int(p.name) for p in kind.expressions if p.name.isdigit()]
    first = sizes[0] if sizes else -1
    if name in _INTS:
        tp, width = _INTS[name]
        return FieldType(
            tp, flags, first if first > 0 and tp == TINY else width - (1 if unsigned and tp != LONGLONG else 0), 0
        )
    if name in ("BOOLEAN", "BOOL"):
        return FieldType(TINY, 0, 1, 0)
    if name in ("DECIMAL", "BIGDECIMAL", "DECIMAL32", "DECIMAL64"):
        scale = sizes[1] if len(sizes) > 1 else 0
        precision = first if first > 0 else 10
        if precision > 65 or scale > 30 or scale > precision:
            raise NotSupported(f"DECIMAL({precision},{scale}) is larger than DECIMAL(65,30)")
        return FieldType(NEWDECIMAL, flags, precision, scale)
    if name in ("DOUBLE", "FLOAT"):
        pair = (sizes[0], sizes[1]) if len(sizes) > 1 else (22 if name == "DOUBLE" else 12, -1)
        return FieldType(DOUBLE if name == "DOUBLE" else FLOAT, flags, *pair)
    if name in ("VARCHAR", "NVARCHAR"):
        return FieldType(VARCHAR, 0, first if first >= 0 else 255, -1, collation)
    if name in ("CHAR", "NCHAR"):
        return FieldType(STRING, 0, first if first >= 0 else 1, -1, collation)
    if name in ("BINARY", "VARBINARY"):
        return FieldType(STRING if name == "BINARY" else VARCHAR, 128, first if first >= 0 else 1, -1, 63)
    if name in _TEXTS:
        tp, size = _TEXTS[name]
        return FieldType(tp, 0, size, -1, collation)
    if name in _BLOBS:
        tp, size = _BLOBS[name]
        return FieldType(tp, 128, size, -1, 63)
    return _other_type(name, kind, max(0, first), collation)


def _other_type(name: str, kind: Node, size: int, collation: int) -> FieldType:
    if name in ("TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMPLTZ", "TIMESTAMPNTZ", "DATETIME"):
        tp = DATETIME if name == "DATETIME" else TIMESTAMP
        return FieldType(tp, 128, 19 + (size + 1 if size else 0), size)
    if name == "DATE":
        return FieldType(DATE, 128, 10, 0)
    if name in ("TIME", "TIMETZ"):
        return FieldType(DURATION, 128, 10 + (size + 1 if size else 0), size)
    if name == "YEAR":
        return FieldType(YEAR, UNSIGNED_FLAG | ZEROFILL_FLAG, 4, 0)
    if name == "BIT":
        return FieldType(BIT, UNSIGNED_FLAG, size or 1, 0)
    if name == "JSON":
        return FieldType(JSON, 128, 4294967295, -1, 46)
    if name in ("ENUM", "SET"):
        elems = tuple(str(e.this) for e in kind.expressions)
        return FieldType(ENUM if name == "ENUM" else SET, 0, max(map(len, elems), default=0), -1, collation, elems)
    raise NotSupported(f"column type {name} is not supported")


@dataclass(slots=True)
class TableDraft:
    """A table while its definition is read."""

    columns: list[ColumnInfo] = field(default_factory=list)
    keys: list[tuple[str, list[tuple[str, int]], str]] = field(default_factory=list)  # name, parts, kind
    foreign_keys: list[dict[str, Any]] = field(default_factory=list)


def column_info(node: Node, offset: int, column_id: int, collation: int, draft: TableDraft) -> ColumnInfo:
    """One column definition; keys declared on the column go to the draft."""
    constraints = [c.args.get("kind") for c in node.args.get("constraints") or ()]
    for c in constraints:
        if isinstance(c, exp.CharacterSetColumnConstraint):
            collation = charset_collation(str(c.this.name or c.this))
        elif isinstance(c, exp.CollateColumnConstraint):
            collation = collation_id(str(c.this.name or c.this))
    ft = field_type(node.args["kind"], collation)
    column = ColumnInfo(id=column_id, name=node.name, offset=offset, ft=ft)
    default: Node | None = None
    flags, on_update, comment = ft.flags, False, ""
    for c in constraints:
        if isinstance(c, exp.NotNullColumnConstraint):
            flags = flags & ~NOT_NULL_FLAG if c.args.get("allow_null") else flags | NOT_NULL_FLAG
        elif isinstance(c, exp.PrimaryKeyColumnConstraint):
            draft.keys.append(("PRIMARY", [(node.name, -1)], "primary"))
            flags |= NOT_NULL_FLAG
        elif isinstance(c, exp.UniqueColumnConstraint):
            draft.keys.append(("", [(node.name, -1)], "unique"))
        elif isinstance(c, exp.AutoIncrementColumnConstraint):
            flags |= AUTO_INCREMENT_FLAG | NOT_NULL_FLAG
        elif isinstance(c, exp.DefaultColumnConstraint):
            default = c.this
        elif isinstance(c, exp.OnUpdateColumnConstraint):
            on_update, flags = True, flags | ON_UPDATE_NOW_FLAG
        elif isinstance(c, exp.CommentColumnConstraint):
            comment = str(c.this.name)
        elif isinstance(c, exp.ZeroFillColumnConstraint):
            flags |= ZEROFILL_FLAG | UNSIGNED_FLAG
        elif isinstance(c, exp.GeneratedAsIdentityColumnConstraint):
            raise NotSupported("generated columns are not supported")
    column = replace(column, ft=replace(ft, flags=flags), on_update_now=on_update, comment=comment)
    return with_default(column, default) if default is not None else column


def with_default(column: ColumnInfo, node: Node) -> ColumnInfo:
    """A column with the default of a DEFAULT clause."""
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, (exp.CurrentTimestamp, exp.Localtimestamp, exp.Localtime)) or (
        isinstance(node, exp.Anonymous) and str(node.this).lower() == "now"
    ):
        return replace(column, default="CURRENT_TIMESTAMP", has_default=True, default_is_expr=True)
    value = Lowering(LowerContext(), Scope([]))(node)
    if not isinstance(value, Constant):
        raise NotSupported("only literals and CURRENT_TIMESTAMP can be a default")
    if value.value is None:
        if column.not_null:
            raise InvalidDefault(f"Invalid default value for '{column.name}'")
        return replace(column, has_default=True)
    try:
        stored = Converter(column)(value.value, value.ft)
    except SqlError as error:
        raise InvalidDefault(f"Invalid default value for '{column.name}'") from error
    text = value_text(stored, column.ft).decode(errors="replace")
    return replace(column, default=text, has_default=True)


def _parts(nodes: Sequence[Node]) -> list[tuple[str, int]]:
    out = []
    for node in nodes:
        node = node.this if isinstance(node, exp.Ordered) else node
        if isinstance(node, exp.ColumnPrefix):
            out.append((node.name, int(node.expression.name)))
        elif isinstance(node, exp.Anonymous):
            out.append((node.name, int(node.expressions[0].name)))
        elif isinstance(node, exp.Identifier):
            out.append((str(node.this), -1))
        elif isinstance(node, exp.Column):
            out.append((node.name, -1))
        else:
            raise NotSupported("expression indexes are not supported")
    return out


def key_definition(node: Node, draft: TableDraft, name: str = "") -> bool:
    """An index or key clause of CREATE or ALTER TABLE; False when it is none."""
    if isinstance(node, exp.Constraint):
        return all(key_definition(inner, draft, node.name) for inner in node.expressions)
    if isinstance(node, exp.PrimaryKey):
        draft.keys.append(("PRIMARY", _parts(node.expressions), "primary"))
    elif isinstance(node, exp.UniqueColumnConstraint):
        schema = node.this
        own = schema.this.name if isinstance(schema, exp.Schema) and schema.this is not None else ""
        draft.keys.append((own or name, _parts(schema.expressions), "unique"))
    elif isinstance(node, exp.IndexColumnConstraint):
        if str(node.args.get("kind") or "").upper() in ("FULLTEXT", "SPATIAL"):
            raise NotSupported(f"{node.args['kind']} indexes are not supported")
        draft.keys.append((node.name, _parts(node.expressions), "index"))
    elif isinstance(node, exp.ForeignKey):
        _foreign_key(node, draft, name)
    else:
        return isinstance(node, (exp.CheckColumnConstraint, exp.Check))
    return True


def _foreign_key(node: Node, draft: TableDraft, name: str) -> None:
    reference = node.args["reference"].this
    table = reference.this if isinstance(reference, exp.Schema) else reference
    columns = [e.name for e in node.expressions]
    draft.foreign_keys.append({
        "fk_name": {"O": name, "L": name.lower()}, "ref_table": {"O": table.name, "L": table.name.lower()},
        "cols": [{"O": c, "L": c.lower()} for c in columns],
        "ref_cols": [{"O": e.name, "L": e.name.lower()} for e in reference.expressions],
        "on_delete": 0, "on_update": 0, "state": 5,
    })  # fmt: skip
    draft.keys.append((name, [(c, -1) for c in columns], "index"))


def with_foreign_keys(table: TableInfo, draft: TableDraft) -> TableInfo:
    """The table with the foreign keys of a draft; those without a name become fk_1, fk_2, ..."""
    taken = {f["fk_name"]["L"] for f in table.foreign_keys} | {f["fk_name"]["L"] for f in draft.foreign_keys}
    named, number = [], 1
    for key in draft.foreign_keys:
        if not key["fk_name"]["L"]:
            while f"fk_{number}" in taken:
                number += 1
            taken.add(f"fk_{number}")
            key = key | {"fk_name": {"O": f"fk_{number}", "L": f"fk_{number}"}}
        named.append(key)
    return replace(table, foreign_keys=(*table.foreign_keys, *named), by_name={})


def make_index(table: TableInfo, index_id: int, name: str, parts: list[tuple[str, int]], kind: str) -> IndexInfo:
    """An index over a table's columns."""
    columns = []
    for column_name, length in parts:
        column = table.column(column_name)
        if column is None:
            raise KeyColumnMissing(f"Key column '{column_name}' doesn't exist in table")
        if length < 0 and (column.ft.tp in BLOB_TYPES or column.ft.tp == JSON):
            raise BlobKeyLength(f"BLOB/TEXT column '{column.name}' used in key specification without a key length")
        if 0 <= column.ft.flen <= length:
            length = -1
        columns.append(IndexColumn(column.name, column.offset, length))
    name = name or _free_name(table, columns[0].name)
    if table.index(name) is not None:
        raise DuplicateKeyName(f"Duplicate key name '{name}'")
    unique = kind in ("unique", "primary")
    return IndexInfo(id=index_id, name=name, columns=tuple(columns), unique=unique, primary=kind == "primary")


def _free_name(table: TableInfo, base: str) -> str:
    names = {i.name.lower() for i in table.indexes}
    name, n = base, 2
    while name.lower() in names or name.lower() == "primary":
        name, n = f"{base}_{n}", n + 1
    return name


def finish_table(table: TableInfo, draft: TableDraft) -> TableInfo:
    """Put the keys of a draft into a table and check the whole."""
    seen: set[str] = set()
    for column in table.columns:
        if column.name.lower() in seen:
            raise DuplicateColumn(f"Duplicate column name '{column.name}'")
        seen.add(column.name.lower())
    primary = [k for k in draft.keys if k[2] == "primary"]
    if len(primary) > 1:
        raise MultiplePrimaryKey("Multiple primary key defined")
    if primary:
        table = _with_primary(table, [name.lower() for name, _ in primary[0][1]])
    for name, parts, kind in draft.keys:
        if kind == "primary" and table.pk_is_handle:
            continue
        index = make_index(table, table.max_index_id + 1, name, parts, kind)
        table = replace(table, indexes=(*table.indexes, index), max_index_id=index.id, by_name={})
    _check_auto_increment(table)
    return with_foreign_keys(table, draft)


def _with_primary(table: TableInfo, names: list[str]) -> TableInfo:
    for name in names:
        if table.column(name) is None:
            raise KeyColumnMissing(f"Key column '{name}' doesn't exist in table")
    columns = tuple(
        replace(c, ft=replace(c.ft, flags=c.ft.flags | PRI_KEY_FLAG | NOT_NULL_FLAG)) if c.name.lower() in names else c
        for c in table.columns
    )
    only = table.column(names[0])
    assert only is not None
    integer = len(names) == 1 and only.ft.tp in (TINY, SHORT, INT24, LONG, LONGLONG)
    return replace(table, columns=columns, pk_is_handle=integer, by_name={})


def _check_auto_increment(table: TableInfo) -> None:
    columns = [c for c in table.columns if c.auto_increment]
    if not columns:
        return
    keyed = table.handle_column is columns[0] or any(i.columns[0].offset == columns[0].offset for i in table.indexes)
    if len(columns) > 1 or not keyed:
        raise AutoIncrementKey(
            "Incorrect table definition; there can be only one auto column and it must be defined as a key"
        )


def charset_of(collation: int) -> str:
    """The character set of a collation."""
    return CHARSETS.get(collation, "utf8mb4")
