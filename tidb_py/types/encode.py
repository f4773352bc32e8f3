"""Column values to stored bytes: rows (format v2), index keys and index values, in one table's terms.

Values are in the physical form of `core_py.vector.fieldtype`. TIMESTAMPs are converted from the session's zone to UTC,
ENUM and SET names to numbers. Index keys hold the collation key of strings.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from decimal import Decimal

from core_py.codec import datum, row, tablecodec
from core_py.vector.collate import sort_key
from core_py.vector.expr import Value
from core_py.vector.fieldtype import BIT, ENUM, NEWDECIMAL, SET, TIMESTAMP, EvalType, FieldType
from core_py.vector.scan_decode import shift_zone
from tidb_py.catalog.model import ColumnInfo, IndexInfo, TableInfo


def enum_number(value: bytes, ft: FieldType) -> int:
    """The number of an ENUM name (1 for the first; 0 for the empty error value)."""
    return ft.elems.index(value.decode()) + 1 if value else 0


def set_number(value: bytes, ft: FieldType) -> int:
    """The bits of a SET value."""
    return sum(1 << ft.elems.index(name) for name in value.decode().split(",")) if value else 0


def _stored(value: Value, ft: FieldType, zone: dt.tzinfo) -> Value:
    if ft.tp == TIMESTAMP and zone is not dt.UTC and isinstance(value, int):
        return shift_zone(value, zone, dt.UTC)
    if ft.tp == ENUM and isinstance(value, bytes):
        return enum_number(value, ft)
    if ft.tp == SET and isinstance(value, bytes):
        return set_number(value, ft)
    return value


def value_encoder(ft: FieldType, zone: dt.tzinfo) -> Callable[[Value], bytes]:
    """How a column's values are written into rows."""
    if ft.tp == NEWDECIMAL:
        flen, scale = ft.flen, ft.scale
        return lambda v: row.value_decimal(v if isinstance(v, Decimal) else Decimal(str(v)), flen, scale)
    if ft.tp in (ENUM, SET, BIT) or ft.eval_type is EvalType.TIME:
        return lambda v: row.value_uint(int(_stored(v, ft, zone)))  # type: ignore[arg-type]
    if ft.eval_type is EvalType.REAL:
        return lambda v: row.value_real(float(v))  # type: ignore[arg-type]
    if ft.eval_type is EvalType.INT and ft.unsigned:
        return lambda v: row.value_uint(int(v))  # type: ignore[arg-type]
    if ft.eval_type in (EvalType.INT, EvalType.DURATION):
        return lambda v: row.value_int(int(v))  # type: ignore[arg-type]
    return lambda v: v if isinstance(v, bytes) else str(v).encode()


class KeyEncoder:
    """Values as datums of index keys."""

    def __init__(self, zone: dt.tzinfo = dt.UTC) -> None:
        self._zone = zone

    def raw(self, value: Value, ft: FieldType) -> bytes:
        """One datum in key form."""
        if value is None:
            return datum.NULL_KEY
        value = _stored(value, ft, self._zone)
        if isinstance(value, bytes):
            return datum.key_bytes(sort_key(value, ft.collation))
        if isinstance(value, Decimal):
            return datum.key_decimal(value, ft.flen, ft.scale)
        if isinstance(value, float):
            return datum.key_float(value)
        assert isinstance(value, int)
        if ft.eval_type is EvalType.DURATION:
            return datum.key_duration(value)
        if ft.tp in (ENUM, SET, BIT) or ft.unsigned or ft.eval_type is EvalType.TIME:
            return datum.key_uint(value)
        return datum.key_int(value)

    def datum(self, value: Value, column: ColumnInfo, length: int = -1) -> bytes:
        """One datum of an index column, cut to the index's prefix length."""
        if length >= 0 and isinstance(value, bytes):
            value = cut(value, column.ft, length)
        return self.raw(value, column.ft)


def cut(value: bytes, ft: FieldType, length: int) -> bytes:
    """The first `length` characters (bytes of binary strings)."""
    if abs(ft.collation) == 63:
        return value[:length]
    return value.decode(errors="replace")[:length].encode()


class TableEncoder:
    """Writes the rows and index entries of one table."""

    def __init__(self, table: TableInfo, zone: dt.tzinfo) -> None:
        self.table = table
        handle = table.handle_column
        self._columns = [(c.offset, c.id, value_encoder(c.ft, zone)) for c in table.columns if c is not handle]
        self._keys = KeyEncoder(zone)

    def record_key(self, handle: int) -> bytes:
        """The key of a row."""
        return tablecodec.record_key(self.table.id, handle)

    def row(self, values: Sequence[Value]) -> bytes:
        """The value of a row; the handle column is in its key only."""
        return row.encode([(i, None if values[o] is None else write(values[o])) for o, i, write in self._columns])

    def index_entry(self, index: IndexInfo, values: Sequence[Value], handle: int) -> tuple[bytes, bytes, bool]:
        """Key and value of an index entry, and whether the key must be unique."""
        parts = [tablecodec.index_prefix(self.table.id, index.id)]
        distinct = index.unique
        for column in index.columns:
            value = values[column.offset]
            if value is None:
                distinct = False
            parts.append(self._keys.datum(value, self.table.columns[column.offset], column.length))
        if distinct:
            return b"".join(parts), handle.to_bytes(8, "big", signed=True), True
        parts.append(datum.key_int(handle))
        return b"".join(parts), b"0", False

    def entries(self, values: Sequence[Value], handle: int) -> list[tuple[bytes, bytes, bool, IndexInfo]]:
        """All index entries of a row, also of indexes that are being built."""
        return [(*self.index_entry(i, values, handle), i) for i in self.table.indexes]
