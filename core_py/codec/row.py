"""Row format v2, one row at a time: what a record key's value holds (wire facts 4.3).

    0x80 | flags (1 = big) | u16le not-null count | u16le null count | not-null ids, sorted | null ids, sorted
         | end offset of each not-null value | values

Ids take one byte and offsets two; in a big row (an id over 255, or over 65,535 bytes of values) both take four. Integers are
the shortest of 1, 2, 4, 8 little-endian bytes, reals 8 comparable bytes, strings raw, times packed as unsigned integers,
decimals precision, scale and digits. A column id that is in neither list was added after the row was written: the reader
gives it the column's default. `row_columns` decodes many rows at once; this module is for point reads and for writing.
"""

from __future__ import annotations

import struct
from decimal import Decimal

from core_py.codec import decimal as decimal_codec
from core_py.codec import number
from core_py.errors import CodecError

VERSION = 0x80
FLAG_BIG = 1
MAX_SMALL_ID = 255
MAX_SMALL_DATA = 65535


def encode(values: list[tuple[int, bytes | None]]) -> bytes:
    """Encode (column id, encoded value or None for NULL) pairs, in any order."""
    not_null = sorted((item for item in values if item[1] is not None), key=lambda item: item[0])
    nulls = sorted(column_id for column_id, value in values if value is None)
    ends, parts, size = [], [], 0
    for _, value in not_null:
        size += len(value or b"")
        ends.append(size)
        parts.append(value or b"")
    ids = [column_id for column_id, _ in not_null] + nulls
    big = size > MAX_SMALL_DATA or any(column_id > MAX_SMALL_ID for column_id in ids)
    head = struct.pack("<BBHH", VERSION, FLAG_BIG if big else 0, len(not_null), len(nulls))
    if big:
        layout = struct.pack(f"<{len(ids)}I{len(ends)}I", *ids, *ends)
    else:
        layout = struct.pack(f"<{len(ids)}B{len(ends)}H", *ids, *ends)
    return head + layout + b"".join(parts)


def decode(row: bytes) -> dict[int, bytes | None]:
    """Column id → encoded value (None for NULL) of every column the row holds."""
    try:
        version, flags, not_null, nulls = struct.unpack_from("<BBHH", row)
        if version != VERSION:
            raise CodecError(f"row version {version:#x} is not {VERSION:#x}")
        big = flags & FLAG_BIG
        layout = struct.Struct(f"<{not_null + nulls}I{not_null}I" if big else f"<{not_null + nulls}B{not_null}H")
        fields = layout.unpack_from(row, 6)
    except struct.error:
        raise CodecError("row header is truncated") from None
    base = 6 + layout.size
    out: dict[int, bytes | None] = {}
    begin = 0
    for at in range(not_null):
        end = fields[not_null + nulls + at]
        if end < begin or base + end > len(row):
            raise CodecError(f"value of column {fields[at]} lies outside the row")
        out[fields[at]] = row[base + begin : base + end]
        begin = end
    for column_id in fields[not_null : not_null + nulls]:
        out[column_id] = None
    return out


def value_int(value: int) -> bytes:
    """Signed integer or duration in nanoseconds."""
    return number.compact_int(value)


def value_uint(value: int) -> bytes:
    """Unsigned integer, packed time, year, enum, set or bit."""
    return number.compact_uint(value)


def value_real(value: float) -> bytes:
    """Double."""
    return number.encode_f64(value)


def value_decimal(value: Decimal, precision: int, scale: int) -> bytes:
    """Decimal of the column's shape."""
    return decimal_codec.encode(value, precision, scale)


def decode_int(value: bytes) -> int:
    """The inverse of `value_int`."""
    if len(value) not in (1, 2, 4, 8):
        raise CodecError(f"an integer of {len(value)} bytes")
    return int.from_bytes(value, "little", signed=True)


def decode_uint(value: bytes) -> int:
    """The inverse of `value_uint`."""
    if len(value) not in (1, 2, 4, 8):
        raise CodecError(f"an integer of {len(value)} bytes")
    return int.from_bytes(value, "little")
