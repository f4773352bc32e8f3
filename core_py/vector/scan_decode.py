"""Scanned keys and values to columns: what a table scan and an index scan give, decoded a column at a time.

Rows are format v2. Special columns: the integer handle (pk_handle, or column id -1). ENUM and SET are stored as numbers
and come out as their names; TIMESTAMP is stored in UTC and comes out in the session's zone. Index keys of fixed-width
columns are cut with numpy; others are decoded datum by datum.

A string column cannot be read from an index when its collation changes the bytes (see `restorable`); planners must not
ask for it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from core_py.codec import datum, number, row
from core_py.codec import decimal as decimal_codec
from core_py.codec.row_columns import ColumnSpec, Kind, RowBatch
from core_py.errors import CodecError
from core_py.vector.arrow import Vec, pa
from core_py.vector.eval import map_unique
from core_py.vector.fieldtype import BIT, ENUM, SET, TIMESTAMP, EvalType, FieldType, arrow_type
from core_py.vector.plan import IndexScan, ScanColumn, TableScan
from core_py.vector.temporal import from_micros, pack, to_micros, unpack

HANDLE_ID = -1
INDEX_PREFIX_SIZE = 19


def kind_of(ft: FieldType) -> Kind:
    """How a column lies in a row."""
    if ft.tp in (ENUM, SET, BIT):
        return Kind.UINT
    family = ft.eval_type
    if family is EvalType.INT:
        return Kind.UINT if ft.unsigned else Kind.INT
    if family is EvalType.TIME:
        return Kind.UINT
    if family is EvalType.DURATION:
        return Kind.INT
    if family is EvalType.REAL:
        return Kind.REAL
    return Kind.DECIMAL if family is EvalType.DECIMAL else Kind.BYTES


def restorable(ft: FieldType) -> bool:
    """Whether an index key holds the very bytes of the value."""
    return ft.eval_type is not EvalType.STRING or (abs(ft.collation) == 63 and ft.tp not in (ENUM, SET))


def _default_value(column: ScanColumn) -> bytes | None:
    """The default of a column added later, as a value inside a row."""
    if column.default is None:
        return None
    value = datum.decode(column.default)[0].value
    if value is None:
        return None
    if isinstance(value, bytes):
        return value
    if isinstance(value, Decimal):
        return row.value_decimal(value, max(column.ft.flen, 1), column.ft.scale)
    if isinstance(value, float):
        return row.value_real(value)
    number_value = int(value)
    return row.value_int(number_value) if kind_of(column.ft) is Kind.INT else row.value_uint(number_value)


def handles_of(keys: Sequence[bytes]) -> NDArray[np.int64]:
    """Integer handles: the last eight bytes of each record key."""
    joined = np.frombuffer(b"".join([key[-8:] for key in keys]), dtype=">u8")
    return (joined ^ np.uint64(1 << 63)).astype("<u8").view(np.int64)


def decode_table(
    scan: TableScan, keys: Sequence[bytes], values: Sequence[bytes] | RowBatch, zone: dt.tzinfo = dt.UTC
) -> list[Vec]:
    """The columns of a table scan; a store gives the rows as they lie in its scan's buffer."""
    if len(keys) == 1 and not isinstance(values, RowBatch):
        return _decode_one(scan, keys[0], values[0], zone)
    batch = values if isinstance(values, RowBatch) else None
    out: list[Vec] = []
    for column in scan.columns:
        if column.pk_handle or column.column_id == HANDLE_ID:
            handles = pa.array(handles_of(keys))
            out.append(handles.view(pa.uint64()) if column.ft.unsigned else handles)
            continue
        if batch is None:
            batch = RowBatch(values)  # type: ignore[arg-type]
        ft = column.ft
        spec = ColumnSpec(column.column_id, kind_of(ft), max(ft.flen, 1), ft.scale, _default_value(column))
        out.append(present(batch.column(spec), ft, zone))
    return out


def _decode_one(scan: TableScan, key: bytes, value: bytes, zone: dt.tzinfo) -> list[Vec]:
    """One row: setting up the column-wise decoder would cost more than the row."""
    stored = row.decode(value) if value[:1] == b"\x80" else {}
    out: list[Vec] = []
    for column in scan.columns:
        ft = column.ft
        if column.pk_handle or column.column_id == HANDLE_ID:
            handle = number.decode_i64(key, len(key) - 8)
            out.append(pa.array([handle & (1 << 64) - 1 if ft.unsigned else handle], arrow_type(ft)))
            continue
        raw = stored[column.column_id] if column.column_id in stored else _default_value(column)
        kind = kind_of(ft)
        cell: object = raw
        if raw is not None and kind is Kind.INT:
            cell = row.decode_int(raw)
        elif raw is not None and kind is Kind.UINT:
            cell = row.decode_uint(raw)
        elif raw is not None and kind is Kind.REAL:
            cell = number.decode_f64(raw)
        elif raw is not None and kind is Kind.DECIMAL:
            cell = decimal_codec.decode(raw)[0]
        natural = {Kind.INT: pa.int64(), Kind.UINT: pa.uint64()}.get(kind) or arrow_type(ft)
        out.append(present(pa.array([cell], natural), ft, zone))
    return out


def present(values: Vec, ft: FieldType, zone: dt.tzinfo) -> Vec:
    """Stored values as expressions see them."""
    if ft.tp == ENUM:
        names = pa.array([b"", *[e.encode() for e in ft.elems]], pa.large_binary())
        return names.take(values)
    if ft.tp == SET:
        return map_unique(values, lambda v: set_names(v, ft), pa.large_binary())
    if ft.tp == TIMESTAMP and zone is not dt.UTC:
        return map_unique(values, lambda v: shift_zone(v, dt.UTC, zone), pa.uint64())
    target = arrow_type(ft)
    return values if values.type == target else values.cast(target, safe=False)


def set_names(bits: int, ft: FieldType) -> bytes:
    """The members of a SET value."""
    return ",".join(e for i, e in enumerate(ft.elems) if bits >> i & 1).encode()


def shift_zone(packed: int, source: dt.tzinfo, target: dt.tzinfo) -> int:
    """The same moment in another time zone; the zero time stays."""
    if not packed >> 41:
        return packed
    if isinstance(source, dt.timezone) and isinstance(target, dt.timezone):
        offset = target.utcoffset(None) - source.utcoffset(None)
        micros = to_micros(np.array([packed], dtype=np.uint64)) + round(offset.total_seconds() * 1_000_000)
        return int(from_micros(micros)[0])
    t = dt.datetime(*unpack(packed), tzinfo=source).astimezone(target)
    return pack(t.year, t.month, t.day, t.hour, t.minute, t.second, t.microsecond)


_FIXED = {Kind.INT: 3, Kind.UINT: 4, Kind.REAL: 5}


def decode_index(
    scan: IndexScan, keys: Sequence[bytes], values: Sequence[bytes], zone: dt.tzinfo = dt.UTC
) -> list[Vec]:
    """The columns of an index scan; a pk_handle column at the end is the handle."""
    columns = [c for c in scan.columns if not (c.pk_handle or c.column_id == HANDLE_ID)]
    want_handle = len(columns) < len(scan.columns)
    fast = _fixed_index(columns, keys)
    if fast is not None:
        out = [present(array, c.ft, zone) for array, c in zip(fast, columns, strict=True)]
        if want_handle:
            out.append(_handles(scan, columns, keys, values))
        return out
    lists: list[list[object]] = [[] for _ in columns]
    for key in keys:
        pos = INDEX_PREFIX_SIZE
        for cells in lists:
            item, pos = datum.decode(key, pos)
            cells.append(item.value)
    out = [_from_python(cells, c.ft, zone) for cells, c in zip(lists, columns, strict=True)]
    if want_handle:
        out.append(_handles(scan, columns, keys, values))
    return out


def _from_python(cells: list[object], ft: FieldType, zone: dt.tzinfo) -> Vec:
    stored = {Kind.UINT: pa.uint64(), Kind.INT: pa.int64()}.get(kind_of(ft), arrow_type(ft))
    return present(pa.array(cells, stored), ft, zone)


def _fixed_index(columns: Sequence[ScanColumn], keys: Sequence[bytes]) -> list[Vec] | None:
    if not keys or any(kind_of(c.ft) not in _FIXED for c in columns):
        return None
    width = len(keys[0])
    joined = b"".join(keys)
    if len(joined) != width * len(keys) or width < INDEX_PREFIX_SIZE + 9 * len(columns):
        return None
    matrix = np.frombuffer(joined, dtype=np.uint8).reshape(len(keys), width)
    out = []
    for i, column in enumerate(columns):
        start = INDEX_PREFIX_SIZE + 9 * i
        kind = kind_of(column.ft)
        if (matrix[:, start] != _FIXED[kind]).any():
            return None
        raw = np.ascontiguousarray(matrix[:, start + 1 : start + 9]).view(">u8")[:, 0].astype("<u8")
        if kind is Kind.INT:
            raw = (raw ^ np.uint64(1 << 63)).view(np.int64)
        elif kind is Kind.REAL:
            sign = np.uint64(1 << 63)
            raw = np.where(raw & sign, raw ^ sign, ~raw).view(np.float64)
        out.append(pa.array(raw))
    return out


def index_handle(key: bytes, value: bytes, columns: int) -> int:
    """The handle of one index entry: in the value of a unique one, at the end of the key otherwise."""
    if len(value) == 8:
        return int.from_bytes(value, "big", signed=True)
    if len(value) >= 10:
        tail = value[0]
        if tail >= 8:
            return int.from_bytes(value[len(value) - tail : len(value) - tail + 8], "big", signed=True)
    pos = INDEX_PREFIX_SIZE
    for _ in range(columns):
        pos = datum.skip(key, pos)
    if pos >= len(key):
        raise CodecError("an index entry has no handle")
    return number.decode_i64(key, pos + 1)


def _handles(scan: IndexScan, columns: Sequence[ScanColumn], keys: Sequence[bytes], values: Sequence[bytes]) -> Vec:
    if not scan.unique and all(len(v) == 1 for v in values):
        return pa.array(handles_of(keys))
    count = len(columns)
    handles = [index_handle(k, v, count) for k, v in zip(keys, values, strict=True)]
    return pa.array(handles, pa.int64())
