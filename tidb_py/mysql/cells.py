"""Typed columns to the cells of result rows: text for the text protocol, wire values for the binary protocol."""

from __future__ import annotations

import numpy as np

from core_py.vector.arrow import Vec, pa, pc
from core_py.vector.fieldtype import (
    BIT,
    DATE,
    DOUBLE,
    FLOAT,
    INT24,
    LONG,
    LONGLONG,
    SHORT,
    TINY,
    YEAR,
    EvalType,
    FieldType,
)  # fmt: skip
from core_py.vector.temporal import fields_of
from core_py.vector.text import to_text
from tidb_py.mysql.resultset import Cells, fixed_cells

_INT_WIDTH = {TINY: 1, SHORT: 2, YEAR: 2, LONG: 4, INT24: 4, LONGLONG: 8}


def bit_bytes(ft: FieldType) -> int:
    """How many bytes a BIT(n) value has."""
    return (max(1, ft.flen) + 7) // 8


def text_cells(values: Vec, ft: FieldType) -> Cells:
    """The text of each value."""
    if ft.tp == BIT:
        size = bit_bytes(ft)
        texts = [None if v is None else v.to_bytes(8, "big", signed=v < 0)[-size:] for v in values.to_pylist()]
        return pa.array(texts, pa.large_binary())
    if ft.tp == YEAR:
        years = [None if v is None else b"%04d" % v for v in values.to_pylist()]
        return pa.array(years, pa.large_binary())
    return to_text(values, ft)


def is_prefixed(ft: FieldType) -> bool:
    """Whether a binary cell needs its length in front; times bring their own."""
    if ft.tp in _INT_WIDTH or ft.tp in (FLOAT, DOUBLE):
        return False
    return ft.eval_type not in (EvalType.TIME, EvalType.DURATION)


def binary_cells(values: Vec, ft: FieldType) -> Cells:
    """Each value as the binary protocol writes it, without the length of prefixed ones."""
    width = _INT_WIDTH.get(ft.tp)
    if width is not None:
        numbers = _numpy(values).astype("<u8" if values.type == pa.uint64() else "<i8")
        return _with_nulls(fixed_cells(numbers.view(np.uint8).reshape(len(values), 8)[:, :width]), values)
    if ft.tp in (FLOAT, DOUBLE):
        kind = "<f4" if ft.tp == FLOAT else "<f8"
        reals = np.ascontiguousarray(_numpy(values).astype(kind))
        return _with_nulls(fixed_cells(reals.view(np.uint8).reshape(len(values), 4 if ft.tp == FLOAT else 8)), values)
    if ft.eval_type is EvalType.TIME:
        return _with_nulls(_datetime_cells(values, ft), values)
    if ft.eval_type is EvalType.DURATION:
        return pa.array([None if v is None else _duration_cell(v) for v in values.to_pylist()], pa.large_binary())
    return text_cells(values, ft)


def _numpy(values: Vec) -> Vec:
    filled = pc.fill_null(values, pa.scalar(0, values.type)) if values.null_count else values
    return filled.to_numpy(zero_copy_only=False)


def _with_nulls(cells: Cells, values: Vec) -> Cells:
    return pc.if_else(pc.is_valid(values), cells, pa.scalar(None, pa.large_binary())) if values.null_count else cells


def _datetime_cells(values: Vec, ft: FieldType) -> Cells:
    f = fields_of(_numpy(values).astype(np.uint64))
    size = 4 if ft.tp == DATE else 11 if ft.fsp else 7
    out = np.zeros((len(values), size + 1), dtype=np.uint8)
    out[:, 0] = size
    out[:, 1], out[:, 2], out[:, 3], out[:, 4] = f.year & 0xFF, f.year >> 8, f.month, f.day
    if size >= 7:
        out[:, 5], out[:, 6], out[:, 7] = f.hour, f.minute, f.second
    if size == 11:
        out[:, 8:12] = f.micro.astype("<u4").view(np.uint8).reshape(len(values), 4)
    return fixed_cells(out)


def _duration_cell(nanoseconds: int) -> bytes:
    if not nanoseconds:
        return b"\0"
    micros = abs(nanoseconds) // 1000
    seconds, micro = divmod(micros, 1_000_000)
    days, rest = divmod(seconds, 86400)
    body = bytes([nanoseconds < 0]) + days.to_bytes(4, "little") + bytes([rest // 3600, rest // 60 % 60, rest % 60])
    if micro:
        body += micro.to_bytes(4, "little")
    return bytes([len(body)]) + body
