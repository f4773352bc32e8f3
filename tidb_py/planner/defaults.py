"""The value of a column in rows that are older than the column, as a datum for the scan."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from core_py.codec import datum
from core_py.vector.fieldtype import BIT, ENUM, SET, EvalType
from tidb_py.catalog.model import ColumnInfo
from tidb_py.types.convert import from_text
from tidb_py.types.encode import enum_number, set_number


def origin_default_datum(column: ColumnInfo, zone: dt.tzinfo) -> bytes | None:
    """The encoded datum, or None when old rows show NULL."""
    if column.origin_default is None:
        return None
    value = from_text(column.origin_default, column, zone)
    if value is None:
        return None
    ft = column.ft
    if isinstance(value, bytes):
        if ft.tp == ENUM:
            return datum.value_uint(enum_number(value, ft))
        return datum.value_uint(set_number(value, ft)) if ft.tp == SET else datum.value_bytes(value)
    if isinstance(value, Decimal):
        return datum.key_decimal(value, ft.flen, ft.scale)
    if isinstance(value, float):
        return datum.key_float(value)
    unsigned = ft.unsigned or ft.tp == BIT or ft.eval_type is EvalType.TIME
    return datum.value_uint(value) if unsigned else datum.value_int(value)
