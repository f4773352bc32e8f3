"""Self-describing values: a flag byte, then the value; in key form (comparable) or value form (compact).

Keys of indexes and common handles use the key form, whose bytes sort as the values do and NULL sorts first. Column defaults,
old rows and TypeDefault coprocessor answers use the value form. Flags and layouts: wire facts 4.3. Times are UINT datums
of MySQL's packed form, durations are nanoseconds. The Python side is told apart by flag, so integers say whether they are unsigned.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from core_py.codec import decimal as decimal_codec
from core_py.codec import memcomparable, number
from core_py.errors import CodecError

NIL, BYTES, COMPACT_BYTES, INT, UINT, FLOAT, DECIMAL, DURATION, VARINT, VARUINT, JSON = range(11)
MAX_FLAG = 250

NULL_KEY = b"\x00"


@dataclass(frozen=True, slots=True)
class Datum:
    """One decoded value; `flag` is one of NIL, BYTES, INT, UINT, FLOAT, DECIMAL, DURATION (compact forms are folded in)."""

    flag: int
    value: int | float | bytes | Decimal | None


def key_int(value: int) -> bytes:
    """Signed integer in key form."""
    return b"\x03" + number.encode_i64(value)


def key_uint(value: int) -> bytes:
    """Unsigned integer (also packed time, enum, set, bit) in key form."""
    return b"\x04" + number.encode_u64(value)


def key_bytes(value: bytes) -> bytes:
    """Bytes, or a collation sort key, in key form."""
    return b"\x01" + memcomparable.encode(value)


def key_float(value: float) -> bytes:
    """Double in key form."""
    return b"\x05" + number.encode_f64(value)


def key_decimal(value: Decimal, precision: int, scale: int) -> bytes:
    """Decimal in key form; equal shapes within a column keep the order."""
    return b"\x06" + decimal_codec.encode(value, precision, scale)


def key_duration(nanoseconds: int) -> bytes:
    """TIME value in key form."""
    return b"\x07" + number.encode_i64(nanoseconds)


def value_int(value: int) -> bytes:
    """Signed integer in value form."""
    return b"\x08" + number.encode_var_i64(value)


def value_uint(value: int) -> bytes:
    """Unsigned integer in value form."""
    return b"\x09" + number.encode_var_u64(value)


def value_bytes(value: bytes) -> bytes:
    """Bytes in value form."""
    return b"\x02" + number.encode_compact_bytes(value)


def decode(data: bytes, pos: int = 0) -> tuple[Datum, int]:
    """Return (datum, position after it) for either form."""
    if pos >= len(data):
        raise CodecError("a datum is missing")
    flag = data[pos]
    pos += 1
    if flag == NIL:
        return Datum(NIL, None), pos
    if flag == BYTES:
        raw, pos = memcomparable.decode(data, pos)
        return Datum(BYTES, raw), pos
    if flag == COMPACT_BYTES:
        raw, pos = number.decode_compact_bytes(data, pos)
        return Datum(BYTES, raw), pos
    if flag in (INT, DURATION):
        return Datum(flag, number.decode_i64(data, pos)), pos + 8
    if flag == UINT:
        return Datum(UINT, number.decode_u64(data, pos)), pos + 8
    if flag == FLOAT:
        return Datum(FLOAT, number.decode_f64(data, pos)), pos + 8
    if flag == DECIMAL:
        amount, pos = decimal_codec.decode(data, pos)
        return Datum(DECIMAL, amount), pos
    if flag == VARINT:
        integer, pos = number.decode_var_i64(data, pos)
        return Datum(INT, integer), pos
    if flag == VARUINT:
        integer, pos = number.decode_var_u64(data, pos)
        return Datum(UINT, integer), pos
    raise CodecError(f"datum flag {flag} at offset {pos - 1} is unknown")


def decode_all(data: bytes, pos: int = 0) -> list[Datum]:
    """Decode datums until the end of `data`."""
    out = []
    while pos < len(data):
        datum, pos = decode(data, pos)
        out.append(datum)
    return out


def skip(data: bytes, pos: int) -> int:
    """Position after the datum at `pos`."""
    return decode(data, pos)[1]
