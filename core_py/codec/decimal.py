"""MySQL's binary decimal: nine digits in four bytes, fewer in fewer, sign folded into the first bit; it sorts as numbers do.

A value of precision p and scale s takes the bytes of its p - s integer digits (leading group first, short), then of its s
fraction digits (last group short). Negative values have every bit inverted; at last the top bit is flipped. In keys and
rows the bytes are preceded by precision and scale (wire facts 4.3). `decode_matrix` does a whole column of one shape.
"""

from __future__ import annotations

import decimal
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from core_py.errors import CodecError

DIGITS_PER_WORD = 9
DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
MAX_PRECISION = 65
MAX_SCALE = 30
_CONTEXT = decimal.Context(prec=MAX_PRECISION + MAX_SCALE + 5)


def binary_size(precision: int, scale: int) -> int:
    """Bytes of the binary form of decimal(precision, scale)."""
    whole, whole_rest = divmod(precision - scale, DIGITS_PER_WORD)
    frac, frac_rest = divmod(scale, DIGITS_PER_WORD)
    return whole * 4 + DIGIT_BYTES[whole_rest] + frac * 4 + DIGIT_BYTES[frac_rest]


def _groups(precision: int, scale: int) -> list[int]:
    """Digit counts of the groups, in order."""
    whole, whole_rest = divmod(precision - scale, DIGITS_PER_WORD)
    frac, frac_rest = divmod(scale, DIGITS_PER_WORD)
    return [whole_rest][: bool(whole_rest)] + [9] * (whole + frac) + [frac_rest][: bool(frac_rest)]


def shape_of(value: Decimal) -> tuple[int, int]:
    """(precision, scale) that hold `value` exactly."""
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise CodecError(f"{value} is not a finite decimal")
    scale = max(-exponent, 0)
    return max(len(digits) + max(exponent, 0), scale, 1), scale


def encode(value: Decimal, precision: int, scale: int) -> bytes:
    """Precision byte, scale byte and the binary digits; `value` must fit decimal(precision, scale) exactly."""
    scaled = int(value.scaleb(scale, _CONTEXT))
    text = str(abs(scaled)).rjust(precision, "0")
    if len(text) > precision:
        raise CodecError(f"{value} does not fit decimal({precision},{scale})")
    out = bytearray()
    at = 0
    for digits in _groups(precision, scale):
        out += int(text[at : at + digits]).to_bytes(DIGIT_BYTES[digits], "big")
        at += digits
    if scaled < 0:
        out = bytearray(byte ^ 0xFF for byte in out)
    out[0] ^= 0x80
    return bytes((precision, scale)) + bytes(out)


def decode(data: bytes, pos: int = 0) -> tuple[Decimal, int]:
    """Return (value, position after it) of a precision-scale-digits form."""
    if pos + 2 > len(data):
        raise CodecError("decimal header is truncated")
    precision, scale = data[pos], data[pos + 1]
    if not 0 < precision <= MAX_PRECISION or scale > min(precision, MAX_SCALE):
        raise CodecError(f"decimal({precision},{scale}) is out of range")
    size = binary_size(precision, scale)
    raw = bytearray(data[pos + 2 : pos + 2 + size])
    if len(raw) < size:
        raise CodecError("decimal digits are truncated")
    negative = not raw[0] & 0x80
    raw[0] ^= 0x80
    if negative:
        raw = bytearray(byte ^ 0xFF for byte in raw)
    unscaled, at = 0, 0
    for digits in _groups(precision, scale):
        width = DIGIT_BYTES[digits]
        unscaled = unscaled * 10**digits + int.from_bytes(raw[at : at + width], "big")
        at += width
    return Decimal(-unscaled if negative else unscaled).scaleb(-scale, _CONTEXT), pos + 2 + size


def decode_matrix(
    raw: npt.NDArray[np.uint8], precision: int, scale: int
) -> npt.NDArray[np.object_] | npt.NDArray[np.int64]:
    """Unscaled integers of a column: row i of `raw` holds the binary digits of value i, all of one shape.

    int64 where the precision allows it (at most 18 digits), Python integers otherwise.
    """
    raw = raw.copy()
    negative = raw[:, 0] < 0x80
    raw[:, 0] ^= 0x80
    raw[negative] ^= 0xFF
    narrow = precision <= 18
    total: npt.NDArray[np.object_] | npt.NDArray[np.int64] = np.zeros(len(raw), np.int64 if narrow else object)
    at = 0
    for digits in _groups(precision, scale):
        width = DIGIT_BYTES[digits]
        word = np.zeros(len(raw), np.int64)
        for column in range(at, at + width):
            word = word << 8 | raw[:, column]
        total = total * 10**digits + (word if narrow else word.astype(object))
        at += width
    return np.where(negative, -total, total)
