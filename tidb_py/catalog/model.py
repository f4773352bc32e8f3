"""Databases, tables, columns and indexes as values, and their JSON in TiDB's shape.

The JSON lives in the meta key space and is what other TiDB tools read; fields that this server does not use are written
with TiDB's defaults and ignored when read. Values of the `default` are kept as the text of the literal (None: no default).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from core_py.vector.collate import CHARSETS, IDS, NAMES
from core_py.vector.fieldtype import NOT_NULL_FLAG, FieldType

PUBLIC, DELETE_ONLY, WRITE_ONLY, REORGANIZATION = 5, 1, 2, 3  # schema states of TiDB
NO_DEFAULT_NOW = "CURRENT_TIMESTAMP"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnInfo:
    """A column of a table."""

    id: int
    name: str
    offset: int
    ft: FieldType
    default: str | None = None
    has_default: bool = False
    default_is_expr: bool = False  # CURRENT_TIMESTAMP
    on_update_now: bool = False
    origin_default: str | None = None  # for rows older than the column
    comment: str = ""
    state: int = PUBLIC

    @property
    def not_null(self) -> bool:
        """NOT NULL."""
        return bool(self.ft.flags & NOT_NULL_FLAG)

    @property
    def auto_increment(self) -> bool:
        """AUTO_INCREMENT."""
        return bool(self.ft.flags & 512)


@dataclass(frozen=True, slots=True)
class IndexColumn:
    """A column in an index; `length` -1 is the whole value."""

    name: str
    offset: int
    length: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexInfo:
    """An index of a table."""

    id: int
    name: str
    columns: tuple[IndexColumn, ...]
    unique: bool = False
    primary: bool = False
    state: int = PUBLIC
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableInfo:
    """A table."""

    id: int
    name: str
    columns: tuple[ColumnInfo, ...]
    indexes: tuple[IndexInfo, ...] = ()
    pk_is_handle: bool = False
    collation: int = 46
    comment: str = ""
    auto_inc_start: int = 0
    max_column_id: int = 0
    max_index_id: int = 0
    foreign_keys: tuple[dict[str, Any], ...] = ()
    by_name: dict[str, ColumnInfo] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Index the columns by lower-case name."""
        self.by_name.update({c.name.lower(): c for c in self.columns})

    @property
    def handle_column(self) -> ColumnInfo | None:
        """The integer primary key that is the record key."""
        if not self.pk_is_handle:
            return None
        return next(c for c in self.columns if c.ft.flags & 2)

    @property
    def auto_column(self) -> ColumnInfo | None:
        """The AUTO_INCREMENT column."""
        return next((c for c in self.columns if c.auto_increment), None)

    def column(self, name: str) -> ColumnInfo | None:
        """A column by name, whatever its case."""
        return self.by_name.get(name.lower())

    def index(self, name: str) -> IndexInfo | None:
        """An index by name, whatever its case."""
        lowered = name.lower()
        return next((i for i in self.indexes if i.name.lower() == lowered), None)


@dataclass(frozen=True, slots=True)
class DatabaseInfo:
    """A database."""

    id: int
    name: str
    collation: int = 46


def _name(text: str) -> dict[str, str]:
    return {"O": text, "L": text.lower()}


def _type_to_json(ft: FieldType) -> dict[str, Any]:
    collation = NAMES.get(abs(ft.collation), "binary")
    charset = CHARSETS.get(abs(ft.collation), "binary")
    return {
        "Tp": ft.tp, "Flag": ft.flags, "Flen": ft.flen, "Decimal": ft.decimal, "Charset": charset,
        "Collate": collation, "Elems": list(ft.elems) or None,
    }  # fmt: skip


def _type_from_json(raw: dict[str, Any]) -> FieldType:
    collation = IDS.get(raw.get("Collate") or "binary", 63)
    return FieldType(raw["Tp"], raw["Flag"], raw["Flen"], raw["Decimal"], collation, tuple(raw.get("Elems") or ()))


def _column_to_json(c: ColumnInfo) -> dict[str, Any]:
    return {
        "id": c.id, "name": _name(c.name), "offset": c.offset, "origin_default": c.origin_default,
        "default": c.default, "default_is_expr": c.default_is_expr, "has_default": c.has_default,
        "on_update_now": c.on_update_now, "type": _type_to_json(c.ft), "state": c.state, "comment": c.comment,
        "generated_expr_string": "", "generated_stored": False, "version": 2,
    }  # fmt: skip


def _column_from_json(raw: dict[str, Any]) -> ColumnInfo:
    default = raw.get("default")
    return ColumnInfo(
        id=raw["id"], name=raw["name"]["O"], offset=raw["offset"], ft=_type_from_json(raw["type"]),
        default=default, has_default=raw.get("has_default", default is not None),
        default_is_expr=raw.get("default_is_expr", False) or default == NO_DEFAULT_NOW,
        on_update_now=raw.get("on_update_now", bool(raw["type"]["Flag"] & 8192)),
        origin_default=raw.get("origin_default"), comment=raw.get("comment", ""), state=raw["state"],
    )  # fmt: skip


def _index_to_json(table: TableInfo, i: IndexInfo) -> dict[str, Any]:
    columns = [{"name": _name(c.name), "offset": c.offset, "length": c.length} for c in i.columns]
    return {
        "id": i.id, "idx_name": _name(i.name), "tbl_name": _name(table.name), "idx_cols": columns, "state": i.state,
        "comment": i.comment, "index_type": 1, "is_unique": i.unique, "is_primary": i.primary, "is_invisible": False,
    }  # fmt: skip


def _index_from_json(raw: dict[str, Any]) -> IndexInfo:
    columns = tuple(IndexColumn(c["name"]["O"], c["offset"], c["length"]) for c in raw["idx_cols"])
    return IndexInfo(
        id=raw["id"], name=raw["idx_name"]["O"], columns=columns, unique=raw["is_unique"], primary=raw["is_primary"],
        state=raw["state"], comment=raw.get("comment", ""),
    )  # fmt: skip


def table_to_json(t: TableInfo) -> bytes:
    """A table as TiDB stores it."""
    body = {
        "id": t.id, "name": _name(t.name), "charset": CHARSETS[t.collation], "collate": NAMES[t.collation],
        "cols": [_column_to_json(c) for c in t.columns],
        "index_info": [_index_to_json(t, i) for i in t.indexes] or None, "constraint_info": None,
        "fk_info": list(t.foreign_keys) or None, "state": PUBLIC, "pk_is_handle": t.pk_is_handle,
        "is_common_handle": False, "comment": t.comment, "auto_inc_id": t.auto_inc_start,
        "max_col_id": t.max_column_id, "max_idx_id": t.max_index_id, "version": 5,
    }  # fmt: skip
    return json.dumps(body, separators=(",", ":")).encode()


def table_from_json(raw: bytes) -> TableInfo:
    """A table from TiDB's JSON."""
    body = json.loads(raw)
    return TableInfo(
        id=body["id"], name=body["name"]["O"],
        columns=tuple(_column_from_json(c) for c in body["cols"]),
        indexes=tuple(_index_from_json(i) for i in body.get("index_info") or ()),
        pk_is_handle=body["pk_is_handle"], collation=IDS.get(body.get("collate", ""), 46),
        comment=body.get("comment", ""), auto_inc_start=body.get("auto_inc_id", 0),
        max_column_id=body.get("max_col_id", 0), max_index_id=body.get("max_idx_id", 0),
        foreign_keys=tuple(body.get("fk_info") or ()),
    )  # fmt: skip


def database_to_json(d: DatabaseInfo) -> bytes:
    """A database as TiDB stores it."""
    body = {
        "id": d.id, "db_name": _name(d.name), "charset": CHARSETS[d.collation], "collate": NAMES[d.collation],
        "state": PUBLIC,
    }  # fmt: skip
    return json.dumps(body, separators=(",", ":")).encode()


def database_from_json(raw: bytes) -> DatabaseInfo:
    """A database from TiDB's JSON."""
    body = json.loads(raw)
    return DatabaseInfo(body["id"], body["db_name"]["O"], IDS.get(body.get("collate", ""), 46))
