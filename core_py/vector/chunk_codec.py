"""Result chunks of the coprocessor in TypeChunk encoding (TiDB's column layout), encoded and decoded by numpy.

Per column: u32 length, u32 null count, bitmap of not-NULL rows if there are NULLs, i64 offsets for variable-length
values, data. Times use TiDB's core-time bits (not the packed form), decimals the 40-byte MyDecimal struct. Decimals are
written with a fixed number of digits per column, which readers of MyDecimal accept (leading zeros do not count).
"""

from __future__ import annotations

import decimal
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from core_py.errors import CodecError
from core_py.vector.arrow import Vec, pa, pc
from core_py.vector.fieldtype import DATE, FLOAT, TIMESTAMP, EvalType, FieldType, arrow_type
from core_py.vector.temporal import Fields, fields_of, pack_many

DECIMAL_SIZE = 40
_DIGITS = 9
_BASE = 10**9
_FIXED_WIDTH = {EvalType.INT: 8, EvalType.REAL: 8, EvalType.TIME: 8, EvalType.DURATION: 8, EvalType.DECIMAL: 40}


def encode(columns: Sequence[Vec], types: Sequence[FieldType]) -> bytes:
    """The chunk of a batch."""
    out: list[bytes] = []
    for values, ft in zip(columns, types, strict=True):
        rows, nulls = len(values), values.null_count
        out.append(rows.to_bytes(4, "little") + nulls.to_bytes(4, "little"))
        if nulls:
            valid = pc.is_valid(values).to_numpy(zero_copy_only=False)
            out.append(np.packbits(valid, bitorder="little").tobytes())
        out.extend(_encode_data(values, ft))
    return b"".join(out)


def _filled(values: Vec, zero: object) -> NDArray[np.generic]:
    filled = pc.fill_null(values, pa.scalar(zero, values.type)) if values.null_count else values
    return np.asarray(filled.to_numpy(zero_copy_only=False))


def _encode_data(values: Vec, ft: FieldType) -> list[bytes]:
    family = ft.eval_type
    if family in (EvalType.INT, EvalType.DURATION):
        return [_filled(values, 0).tobytes()]
    if family is EvalType.REAL:
        numbers = _filled(values, 0.0)
        return [(numbers.astype("<f4") if ft.tp == FLOAT else numbers).tobytes()]
    if family is EvalType.TIME:
        return [_to_core_time(_filled(values, 0).astype(np.uint64), ft).tobytes()]
    if family is EvalType.DECIMAL:
        return [_encode_decimals(values)]
    filled = pc.fill_null(values, b"") if values.null_count else values
    offsets = np.frombuffer(filled.buffers()[1], dtype=np.int64)[filled.offset : filled.offset + len(filled) + 1]
    data = filled.buffers()[2]
    body = memoryview(data)[int(offsets[0]) : int(offsets[-1])] if data is not None and len(filled) else b""
    return [(offsets - offsets[0]).tobytes() if len(offsets) else bytes(8), bytes(body)]


def _to_core_time(packed: NDArray[np.uint64], ft: FieldType) -> NDArray[np.uint64]:
    f = fields_of(packed)
    kind = 0b1110 if ft.tp == DATE else ft.fsp << 1 | (1 if ft.tp == TIMESTAMP else 0)
    bits = f.year << 50 | f.month << 46 | f.day << 41 | f.hour << 36 | f.minute << 30 | f.second << 24
    return (bits | f.micro << 4 | kind).astype(np.uint64)


def _from_core_time(core: NDArray[np.uint64]) -> NDArray[np.uint64]:
    v = core.astype(np.int64)
    return pack_many(
        Fields(v >> 50 & 0x3FFF, v >> 46 & 15, v >> 41 & 31, v >> 36 & 31, v >> 30 & 63, v >> 24 & 63, v >> 4 & 0xFFFFF)
    )


def _words(digits: int) -> int:
    return (digits + _DIGITS - 1) // _DIGITS


def _encode_decimals(values: Vec) -> bytes:
    rows, scale = len(values), values.type.scale
    out = np.zeros((rows, DECIMAL_SIZE), dtype=np.uint8)
    unscaled = _small_unscaled(values)
    if unscaled is None:
        for i, value in enumerate(values.to_pylist()):
            if value is not None:
                out[i] = np.frombuffer(encode_decimal(value, scale), dtype=np.uint8)
        return out.tobytes()
    magnitude = np.abs(unscaled)
    whole, fraction = magnitude // 10**scale, magnitude % 10**scale
    whole_words, fraction_words = 3, _words(scale)
    if rows:
        whole_digits = len(str(int(whole.max())))
        whole_words = _words(whole_digits)
        out[:, 0], out[:, 1], out[:, 2], out[:, 3] = whole_digits, scale, scale, unscaled < 0
    words = out[:, 4:].view("<u4")
    for i in range(whole_words):
        words[:, i] = whole // _BASE ** (whole_words - 1 - i) % _BASE
    padded_digits = fraction_words * _DIGITS
    for i in range(fraction_words):
        cut = padded_digits - scale  # zeros that fill the last word
        low = (fraction_words - 1 - i) * _DIGITS - cut
        word = fraction // 10**low % _BASE if low >= 0 else fraction * 10**-low % _BASE
        words[:, whole_words + i] = word
    return out.tobytes()


def _small_unscaled(values: Vec) -> NDArray[np.int64] | None:
    """The unscaled numbers when all fit 64 bits."""
    if not pa.types.is_decimal128(values.type) or values.type.scale > 18:
        return None
    filled = pc.fill_null(values, pa.scalar(Decimal(0), values.type)) if values.null_count else values
    raw = np.frombuffer(filled.buffers()[1], dtype="<i8")[2 * filled.offset : 2 * (filled.offset + len(filled))]
    low, high = raw[0::2], raw[1::2]
    return low if bool((high == low >> 63).all()) and bool((low != np.iinfo(np.int64).min).all()) else None


def encode_decimal(value: Decimal, scale: int) -> bytes:
    """One MyDecimal struct."""
    digits = format(value.copy_abs(), "f")
    whole, _, fraction = digits.partition(".")
    fraction = fraction.ljust(scale, "0")
    whole_words, fraction_words = _words(len(whole)), _words(len(fraction))
    padded = whole.zfill(whole_words * _DIGITS) + fraction.ljust(fraction_words * _DIGITS, "0")
    words = [int(padded[i : i + _DIGITS]) for i in range(0, len(padded), _DIGITS)][:9]
    head = bytes([len(whole), len(fraction), len(fraction), value < 0])
    return head + np.array(words + [0] * (9 - len(words)), dtype="<u4").tobytes()


def decode(data: bytes, types: Sequence[FieldType]) -> list[Vec]:
    """The batch of a chunk."""
    out: list[Vec] = []
    pos = 0
    for ft in types:
        if pos + 8 > len(data):
            raise CodecError(f"a chunk ends early: column {len(out)} of {len(types)} is missing")
        rows = int.from_bytes(data[pos : pos + 4], "little")
        nulls = int.from_bytes(data[pos + 4 : pos + 8], "little")
        pos += 8
        mask = None
        if nulls:
            size = (rows + 7) // 8
            mask = pa.py_buffer(data[pos : pos + size])
            pos += size
        array, pos = _decode_column(data, pos, rows, nulls, mask, ft)
        out.append(array)
    if pos != len(data):
        raise CodecError(f"{len(data) - pos} bytes after the last column of a chunk")
    return out


def _decode_column(data: bytes, pos: int, rows: int, nulls: int, mask: Vec, ft: FieldType) -> tuple[Vec, int]:
    family = ft.eval_type
    if family not in _FIXED_WIDTH:
        size = 8 * (rows + 1)
        offsets = np.frombuffer(data, dtype="<i8", count=rows + 1, offset=pos)
        end = pos + size + int(offsets[-1])
        if end > len(data) or (np.diff(offsets) < 0).any() or offsets[0] < 0:
            raise CodecError("a chunk's string offsets leave the chunk")
        buffers = [mask, pa.py_buffer(data[pos : pos + size]), pa.py_buffer(data[pos + size : end])]
        return pa.Array.from_buffers(pa.large_binary(), rows, buffers, nulls), end
    width = 4 if ft.tp == FLOAT else _FIXED_WIDTH[family]
    end = pos + width * rows
    if end > len(data):
        raise CodecError("a chunk's column ends early")
    if family is EvalType.DECIMAL:
        return _decode_decimals(data, pos, rows, nulls, mask, ft), end
    raw = data[pos:end]
    if ft.tp == FLOAT:
        raw = np.frombuffer(raw, dtype="<f4").astype("<f8").tobytes()
    elif family is EvalType.TIME:
        raw = _from_core_time(np.frombuffer(raw, dtype="<u8")).tobytes()
    return pa.Array.from_buffers(arrow_type(ft), rows, [mask, pa.py_buffer(raw)], nulls), end


def _decode_decimals(data: bytes, pos: int, rows: int, nulls: int, mask: Vec, ft: FieldType) -> Vec:
    raw = np.frombuffer(data, dtype=np.uint8, count=rows * DECIMAL_SIZE, offset=pos).reshape(rows, DECIMAL_SIZE)
    target = arrow_type(ft)
    shapes = {(int(a), int(b)) for a, b in np.unique(raw[:, :2], axis=0)} if rows else set()
    if not pa.types.is_decimal128(target) or any(a + max(b, target.scale) > 18 or b > target.scale for a, b in shapes):
        values = [decode_decimal(row.tobytes()) for row in raw]
        bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little") if mask is not None else None
        quantum = Decimal(1).scaleb(-target.scale)
        with decimal.localcontext(prec=90):
            kept = [None if bits is not None and not bits[i] else v.quantize(quantum) for i, v in enumerate(values)]
        return pa.array(kept, target)
    unscaled = np.zeros(rows, dtype=np.int64)
    words = np.ascontiguousarray(raw[:, 4:]).view("<u4").astype(np.int64)
    for whole_digits, scale in shapes:
        here = (raw[:, 0] == whole_digits) & (raw[:, 1] == scale)
        whole_words, fraction_words = _words(whole_digits), _words(scale)
        number = np.zeros(int(here.sum()), dtype=np.int64)
        for i in range(whole_words):
            number = number * _BASE + words[here, i]
        for i in range(fraction_words):
            digits = min(_DIGITS, scale - i * _DIGITS)
            number = number * 10**digits + words[here, whole_words + i] // 10 ** (_DIGITS - digits)
        unscaled[here] = number * 10 ** (target.scale - scale)
    unscaled = np.where(raw[:, 3] != 0, -unscaled, unscaled)
    pairs = np.empty((rows, 2), dtype="<i8")
    pairs[:, 0], pairs[:, 1] = unscaled, unscaled >> 63
    return pa.Array.from_buffers(target, rows, [mask, pa.py_buffer(pairs.tobytes())], nulls)


def decode_decimal(raw: bytes) -> Decimal:
    """One MyDecimal struct."""
    whole_digits, scale, negative = raw[0], raw[1], raw[3]
    words = np.frombuffer(raw, dtype="<u4", offset=4)
    whole_words, fraction_words = _words(whole_digits), _words(scale)
    whole = "".join(f"{w:09d}" for w in words[:whole_words]) or "0"
    fraction = "".join(f"{w:09d}" for w in words[whole_words : whole_words + fraction_words])[:scale]
    number = Decimal(f"{whole}.{fraction}" if fraction else whole)
    return number.copy_negate() if negative else number
