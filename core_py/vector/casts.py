"""The cast signatures: every family to every family.

A text that is not wholly a value is cut to its numeric prefix (or NULL for times), with a truncation warning, or with an
error in strict DML. Numbers that do not fit are clamped or refused as MySQL does: error 1690 for decimals, rounding for
reals.
"""

from __future__ import annotations

import decimal
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as _pyarrow

from core_py.vector.arrow import Vec, pa, pc
from core_py.vector.eval import Call, conform, ints, kernel, map_unique
from core_py.vector.fieldtype import DATE, STRING, VAR_STRING, VARCHAR, FieldType, arrow_type
from core_py.vector.temporal import (
    fields_of,
    from_micros,
    parse_duration,
    parse_time,
    parse_times_fast,
    to_micros,
    unpack,
)
from core_py.vector.text import number_prefix, to_text

I64_MIN, I64_MAX, U64_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1


def _clamp(call: Call, value: int) -> int:
    low, high = (0, U64_MAX) if call.ft.unsigned else (I64_MIN, I64_MAX)
    return min(max(value, low), high)


@kernel("CastIntAsInt")
def _int_int(call: Call, value: Vec) -> Vec:
    value = ints(value)
    target = arrow_type(call.ft)
    return value if value.type == target else value.cast(target, safe=False)


@kernel("CastIntAsReal")
def _int_real(_call: Call, value: Vec) -> Vec:
    return pc.cast(ints(value), pa.float64(), safe=False)


@kernel("CastIntAsDecimal")
def _int_decimal(call: Call, value: Vec) -> Vec:
    return conform(ints(value).cast(pa.decimal128(20, 0)), arrow_type(call.ft))


@kernel("CastRealAsReal", "CastStringAsJson")
def _same(_call: Call, value: Vec) -> Vec:
    return value


@kernel("CastRealAsInt")
def _real_int(call: Call, value: Vec) -> Vec:
    rounded = pc.round(value, round_mode="half_to_even")
    try:
        return rounded.cast(arrow_type(call.ft))
    except _pyarrow.ArrowInvalid:
        return map_unique(rounded, lambda v: _clamp(call, int(v)), arrow_type(call.ft))


@kernel("CastRealAsDecimal")
def _real_decimal(call: Call, value: Vec) -> Vec:
    target = arrow_type(call.ft)
    quantum = Decimal(1).scaleb(-target.scale)
    with decimal.localcontext(prec=90):
        return map_unique(value, lambda v: Decimal(repr(v)).quantize(quantum, decimal.ROUND_HALF_UP), target)


@kernel("CastDecimalAsInt")
def _decimal_int(call: Call, value: Vec) -> Vec:
    rounded = pc.round(value, ndigits=0, round_mode="half_towards_infinity")
    try:
        return rounded.cast(arrow_type(call.ft))
    except _pyarrow.ArrowInvalid:
        return map_unique(rounded, lambda v: _clamp(call, int(v)), arrow_type(call.ft))


@kernel("CastDecimalAsReal")
def _decimal_real(_call: Call, value: Vec) -> Vec:
    return pc.cast(value, pa.float64())


@kernel("CastDecimalAsDecimal")
def _decimal_decimal(call: Call, value: Vec) -> Vec:
    return conform(value, arrow_type(call.ft))


def _prefix_number(call: Call, kind: str, raw: bytes) -> Decimal:
    text, whole = number_prefix(raw)
    if not whole:
        call.ctx.truncated(kind, raw.decode(errors="replace"))
    return Decimal(text)


def _clean_numbers(value: Vec, target: Any) -> Vec | None:
    """Texts that all are plain numbers go through Arrow's own parser."""
    if isinstance(value, _pyarrow.Scalar):
        return None
    try:
        return value.cast(pa.large_string()).cast(target)
    except _pyarrow.ArrowInvalid:
        return None


@kernel("CastStringAsInt")
def _string_int(call: Call, value: Vec) -> Vec:
    fast = _clean_numbers(value, arrow_type(call.ft))
    if fast is not None:
        return fast

    def convert(raw: bytes) -> int:
        number = _prefix_number(call, "INTEGER", raw)
        result = int(number.to_integral_value(decimal.ROUND_HALF_UP))
        if call.ft.unsigned and I64_MIN <= result < 0:
            return result + (1 << 64)
        return _clamp(call, result)

    return map_unique(value, convert, arrow_type(call.ft))


@kernel("CastStringAsReal")
def _string_real(call: Call, value: Vec) -> Vec:
    fast = _clean_numbers(value, pa.float64())
    return (
        fast
        if fast is not None
        else map_unique(value, lambda raw: float(_prefix_number(call, "DOUBLE", raw)), pa.float64())
    )


@kernel("CastStringAsDecimal")
def _string_decimal(call: Call, value: Vec) -> Vec:
    target = arrow_type(call.ft)
    quantum = Decimal(1).scaleb(-target.scale)
    with decimal.localcontext(prec=90):
        return map_unique(
            value,
            lambda raw: _prefix_number(call, "DECIMAL", raw).quantize(quantum, decimal.ROUND_HALF_UP),
            target,
        )


@kernel("CastIntAsString", "CastRealAsString", "CastDecimalAsString", "CastTimeAsString", "CastDurationAsString")
def _to_string(call: Call, value: Vec) -> Vec:
    return _cut(call.ft, to_text(ints(value), call.arg_type(0)))


@kernel("CastStringAsString", "CastJsonAsString")
def _string_string(call: Call, value: Vec) -> Vec:
    return _cut(call.ft, value)


def _cut(ft: FieldType, value: Vec) -> Vec:
    """CHAR(n) cuts; other string casts keep everything."""
    if ft.flen <= 0 or ft.tp not in (VARCHAR, VAR_STRING, STRING):
        return value
    if ft.collation == 63:
        return pc.binary_slice(value, 0, ft.flen)
    return pc.utf8_slice_codeunits(value.cast(pa.large_string()), 0, ft.flen).cast(pa.large_binary())


def _time_number(ft: FieldType, packed: int) -> Decimal:
    y, mo, d, h, mi, s, us = unpack(packed)
    number = y * 10000 + mo * 100 + d
    if ft.tp != DATE:
        number = ((number * 100 + h) * 100 + mi) * 100 + s
    return Decimal(number) + (Decimal(us) / 1_000_000 if ft.fsp else 0)


def _duration_number(nanoseconds: int) -> Decimal:
    seconds, nanos = divmod(abs(nanoseconds), 1_000_000_000)
    number = Decimal(seconds // 3600 * 10000 + seconds // 60 % 60 * 100 + seconds % 60) + Decimal(nanos) / 10**9
    return -number if nanoseconds < 0 else number


def _from_clock(number: Callable[[Call, Any], Decimal], convert: Callable[[Decimal], Any]) -> Callable[..., Vec]:
    def run(call: Call, value: Vec) -> Vec:
        target = arrow_type(call.ft)
        if pa.types.is_decimal(target):
            quantum = Decimal(1).scaleb(-target.scale)
            return map_unique(value, lambda v: number(call, v).quantize(quantum, decimal.ROUND_HALF_UP), target)
        return map_unique(value, lambda v: convert(number(call, v)), target)

    return run


def _round_int(number: Decimal) -> int:
    return int(number.to_integral_value(decimal.ROUND_HALF_UP))


for _source, _number in (
    ("Time", lambda call, v: _time_number(call.arg_type(0), v)),
    ("Duration", lambda _call, v: _duration_number(v)),
):
    kernel(f"Cast{_source}AsInt")(_from_clock(_number, _round_int))
    kernel(f"Cast{_source}AsReal")(_from_clock(_number, float))
    kernel(f"Cast{_source}AsDecimal")(_from_clock(_number, lambda d: d))


def round_time(ft: FieldType, packed: Vec) -> Vec:
    """Packed times (numpy) rounded to the type's fraction, or cut to days for DATE."""
    if ft.tp == DATE:
        return packed >> np.uint64(41) << np.uint64(41)
    if ft.fsp >= 6 or not (packed & np.uint64(0xFFFFFF)).any():
        return packed
    unit = 10 ** (6 - ft.fsp)
    micros = to_micros(packed)
    rounded = from_micros((micros + unit // 2) // unit * unit)
    return np.where(fields_of(packed).month == 0, packed, rounded)


def map_numpy(value: Vec, function: Callable[[Any], Any]) -> Vec:
    """Apply a numpy function to the values under the NULLs of an array or scalar."""
    if isinstance(value, _pyarrow.Scalar):
        if not value.is_valid:
            return value
        array = pa.array([value.as_py()], value.type)
        return pa.array(function(array.to_numpy(zero_copy_only=False)))[0]
    filled = pc.fill_null(value, 0) if value.null_count else value
    out = pa.array(function(filled.to_numpy(zero_copy_only=False)))
    return pc.if_else(pc.is_valid(value), out, pa.scalar(None, out.type)) if value.null_count else out


@kernel("CastTimeAsTime")
def _time_time(call: Call, value: Vec) -> Vec:
    return map_numpy(value, lambda packed: round_time(call.ft, packed))


@kernel("CastStringAsTime")
def _string_time(call: Call, value: Vec) -> Vec:
    if not isinstance(value, _pyarrow.Scalar) and len(value) and not value.null_count:
        lengths = pc.binary_length(value)
        low, high = pc.min(lengths).as_py(), pc.max(lengths).as_py()
        if low == high:
            offsets = np.frombuffer(value.buffers()[1], dtype=np.int64)[value.offset :]
            data = np.frombuffer(value.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[0] + len(value) * low]
            fast = parse_times_fast(data, low)
            if fast is not None:
                return pa.array(round_time(call.ft, fast))

    def convert(raw: bytes) -> int | None:
        packed = parse_time(raw.decode(errors="replace"), 6 if call.ft.tp == DATE else call.ft.fsp)
        if packed is None:
            call.ctx.truncated("datetime", raw.decode(errors="replace"))
            return None
        return packed >> 41 << 41 if call.ft.tp == DATE else packed

    return map_unique(value, convert, pa.uint64())


@kernel("CastIntAsTime", "CastRealAsTime", "CastDecimalAsTime")
def _number_time(call: Call, value: Vec) -> Vec:
    return _string_time(call, to_text(ints(value), call.arg_type(0)))


@kernel("CastDurationAsTime")
def _duration_time(call: Call, value: Vec) -> Vec:
    call.ctx.truncated("datetime", "TIME")
    return pa.nulls(call.rows, pa.uint64()) if not isinstance(value, _pyarrow.Scalar) else pa.scalar(None, pa.uint64())


@kernel("CastStringAsDuration")
def _string_duration(call: Call, value: Vec) -> Vec:
    def convert(raw: bytes) -> int | None:
        result = parse_duration(raw.decode(errors="replace"), call.ft.fsp)
        if result is None:
            call.ctx.truncated("time", raw.decode(errors="replace"))
        return result

    return map_unique(value, convert, pa.int64())


@kernel("CastIntAsDuration", "CastRealAsDuration", "CastDecimalAsDuration", "CastTimeAsDuration")
def _other_duration(call: Call, value: Vec) -> Vec:
    return _string_duration(call, to_text(ints(value), call.arg_type(0)))


@kernel("CastDurationAsDuration")
def _duration_duration(call: Call, value: Vec) -> Vec:
    unit = 10 ** (9 - call.ft.fsp)
    return map_numpy(value, lambda v: np.sign(v) * ((np.abs(v) + unit // 2) // unit * unit))


@kernel("CastIntAsJson", "CastRealAsJson", "CastDecimalAsJson")
def _number_json(call: Call, value: Vec) -> Vec:
    return to_text(ints(value), call.arg_type(0))


@kernel("CastTimeAsJson", "CastDurationAsJson")
def _clock_json(call: Call, value: Vec) -> Vec:
    return map_unique(to_text(value, call.arg_type(0)), lambda v: json.dumps(v.decode()).encode(), pa.large_binary())
