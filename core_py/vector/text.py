"""Values to text and text to numbers by MySQL's rules; used by casts, by result encoding and by DML.

Reals print in the shortest form that reads back the same (as MySQL 8 does). A text becomes a number by its longest
numeric prefix; the rest is a truncation warning.
"""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pyarrow as _pyarrow

from core_py.vector.arrow import Vec, pa, pc
from core_py.vector.fieldtype import DATE, FLOAT, EvalType, FieldType
from core_py.vector.temporal import format_duration, format_time, format_times

_NUMBER_RE = re.compile(rb"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")


def real_text(value: float, *, single: bool = False) -> str:
    """One DOUBLE (or FLOAT) as MySQL prints it."""
    if single:
        value = float(np.format_float_positional(np.float32(value), unique=True, trim="0")) if value == value else value
    if value == int(value) and abs(value) < 1e15:
        return str(int(value)) if value or str(value)[0] != "-" else "-0"
    text = repr(value)
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    power = int(exponent)
    if -15 < power < 15:
        return format(Decimal(text), "f")
    return f"{mantissa.removesuffix('.0')}e{power}"


def number_prefix(raw: bytes) -> tuple[str, bool]:
    """The longest numeric prefix ('0' when there is none), and whether the whole text was a number."""
    match = _NUMBER_RE.match(raw)
    if match is None:
        return "0", False
    return match.group(1).decode(), match.end() == len(raw.rstrip())


def value_text(value: object, ft: FieldType) -> bytes:
    """One physical value as text."""
    family = ft.eval_type
    if isinstance(value, bytes):
        return value
    if family is EvalType.TIME:
        return format_time(int(str(value)), date_only=ft.tp == DATE, fsp=ft.fsp).encode()
    if family is EvalType.DURATION:
        return format_duration(int(str(value)), ft.fsp).encode()
    if isinstance(value, float):
        return real_text(value, single=ft.tp == FLOAT).encode()
    if isinstance(value, Decimal):
        return format(value, "f").encode()
    if isinstance(value, bool):
        return b"1" if value else b"0"
    return str(value).encode()


def to_text(values: Vec, ft: FieldType) -> Vec:
    """A column (or scalar) as large_binary text."""
    if isinstance(values, _pyarrow.Scalar):
        raw = values.as_py()
        return pa.scalar(None if raw is None else value_text(raw, ft), pa.large_binary())
    if values.type == pa.large_binary():
        return values
    if values.type == pa.bool_():
        values = values.cast(pa.int64())
    if len(values) <= 4:
        return pa.array([None if v is None else value_text(v, ft) for v in values.to_pylist()], pa.large_binary())
    family = ft.eval_type
    if family is EvalType.TIME:
        filled = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
        out = format_times(filled, date_only=ft.tp == DATE, fsp=ft.fsp)
        return pc.if_else(pc.is_valid(values), out, pa.scalar(None, pa.large_binary())) if values.null_count else out
    if family in (EvalType.REAL, EvalType.DURATION):
        encoded = values.dictionary_encode()
        texts = [None if v is None else value_text(v, ft) for v in encoded.dictionary.to_pylist()]
        return pa.array(texts, pa.large_binary()).take(encoded.indices)
    if pa.types.is_decimal256(values.type) or pa.types.is_decimal(values.type):
        return _decimal_text(values)
    return values.cast(pa.large_string()).cast(pa.large_binary())


def _decimal_text(values: Vec) -> Vec:
    """Arrow prints decimals with the scale's digits, except very small ones, which get an exponent."""
    out = values.cast(pa.large_string())
    if values.type.scale >= 6 and pc.any(pc.match_substring(out, "E")).as_py():
        texts = [None if v is None else format(v, "f").encode() for v in values.to_pylist()]
        return pa.array(texts, pa.large_binary())
    return out.cast(pa.large_binary())
