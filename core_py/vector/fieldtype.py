"""MySQL field types and the Arrow type that carries each of them.

    integers, BIT, YEAR              int64, or uint64 when UNSIGNED (a comparison may also be Arrow bool inside a kernel)
    FLOAT, DOUBLE                    float64
    DECIMAL                          decimal128(precision, scale), decimal256 above 38 digits
    strings, ENUM, SET, JSON (text)  large_binary
    DATE, DATETIME, TIMESTAMP        uint64, MySQL's packed form (keeps the order; see temporal.py)
    TIME                             int64 nanoseconds

Numbers of types, flags and collations are those of the MySQL protocol and of tipb.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from core_py.vector.arrow import Vec, pa

TINY, SHORT, LONG, FLOAT, DOUBLE, NULL, TIMESTAMP, LONGLONG, INT24 = range(1, 10)
DATE, DURATION, DATETIME, YEAR = 10, 11, 12, 13
VARCHAR, BIT = 15, 16
JSON, NEWDECIMAL, ENUM, SET = 0xF5, 0xF6, 0xF7, 0xF8
TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB, VAR_STRING, STRING = 0xF9, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE

NOT_NULL_FLAG, PRI_KEY_FLAG, UNIQUE_KEY_FLAG, MULTIPLE_KEY_FLAG = 1, 2, 4, 8
BLOB_FLAG, UNSIGNED_FLAG, ZEROFILL_FLAG, BINARY_FLAG = 16, 32, 64, 128
ENUM_FLAG, AUTO_INCREMENT_FLAG, TIMESTAMP_FLAG, SET_FLAG = 256, 512, 1024, 2048
NO_DEFAULT_FLAG, ON_UPDATE_NOW_FLAG = 4096, 8192

UTF8MB4_BIN, UTF8MB4_GENERAL_CI, UTF8MB4_UNICODE_CI, UTF8MB4_0900_AI_CI, BINARY_COLLATION = 46, 45, 224, 255, 63
UNSPECIFIED = -1
DECIMAL128_DIGITS = 38

INT_TYPES = frozenset({TINY, SHORT, LONG, LONGLONG, INT24, YEAR, BIT})
STRING_TYPES = frozenset({ENUM, SET, VARCHAR, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB, VAR_STRING, STRING})
BLOB_TYPES = frozenset({TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB})
TIME_TYPES = frozenset({DATE, DATETIME, TIMESTAMP})


class EvalType(enum.IntEnum):
    """The family a value is computed in; the order is that of the comparison signatures of tipb."""

    INT = 0
    REAL = 1
    DECIMAL = 2
    STRING = 3
    TIME = 4
    DURATION = 5
    JSON = 6


@dataclass(frozen=True, slots=True)
class FieldType:
    """A column's or expression's type."""

    tp: int
    flags: int = 0
    flen: int = UNSPECIFIED
    decimal: int = UNSPECIFIED
    collation: int = BINARY_COLLATION
    elems: tuple[str, ...] = ()

    @property
    def unsigned(self) -> bool:
        """Whether integers are unsigned."""
        return bool(self.flags & UNSIGNED_FLAG)

    @property
    def not_null(self) -> bool:
        """Whether NULL cannot occur."""
        return bool(self.flags & NOT_NULL_FLAG)

    @property
    def eval_type(self) -> EvalType:
        """The family to compute in."""
        return eval_type_of(self.tp)

    @property
    def fsp(self) -> int:
        """Digits of the fraction of a second."""
        return self.decimal if 0 <= self.decimal <= 6 else 0

    @property
    def scale(self) -> int:
        """Digits after the decimal point."""
        return max(0, self.decimal) if self.decimal <= 30 else 0

    def nullable(self) -> FieldType:
        """The same type, with NULL allowed."""
        return replace(self, flags=self.flags & ~NOT_NULL_FLAG) if self.not_null else self


def eval_type_of(tp: int) -> EvalType:
    """The family of a type number."""
    if tp in INT_TYPES:
        return EvalType.INT
    if tp in (FLOAT, DOUBLE):
        return EvalType.REAL
    if tp == NEWDECIMAL:
        return EvalType.DECIMAL
    if tp in TIME_TYPES:
        return EvalType.TIME
    if tp == DURATION:
        return EvalType.DURATION
    return EvalType.JSON if tp == JSON else EvalType.STRING


def int_type(*, unsigned: bool = False, flen: int = 20, not_null: bool = False) -> FieldType:
    """BIGINT."""
    flags = BINARY_FLAG | (UNSIGNED_FLAG if unsigned else 0) | (NOT_NULL_FLAG if not_null else 0)
    return FieldType(LONGLONG, flags, flen, 0)


def bool_type() -> FieldType:
    """What a comparison gives: BIGINT of one digit."""
    return FieldType(LONGLONG, BINARY_FLAG, 1, 0)


def real_type() -> FieldType:
    """DOUBLE."""
    return FieldType(DOUBLE, BINARY_FLAG, 23, 31)


def decimal_type(precision: int, scale: int) -> FieldType:
    """DECIMAL(precision, scale) within MySQL's limits."""
    scale = min(scale, 30)
    return FieldType(NEWDECIMAL, BINARY_FLAG, max(1, min(precision, 65)), scale)


def string_type(flen: int = UNSPECIFIED, collation: int = UTF8MB4_BIN) -> FieldType:
    """VARCHAR."""
    return FieldType(VAR_STRING, 0, flen, UNSPECIFIED, collation)


def datetime_type(fsp: int = 0) -> FieldType:
    """DATETIME(fsp)."""
    return FieldType(DATETIME, BINARY_FLAG, 19 + (fsp + 1 if fsp else 0), fsp)


def date_type() -> FieldType:
    """DATE."""
    return FieldType(DATE, BINARY_FLAG, 10, 0)


def duration_type(fsp: int = 0) -> FieldType:
    """TIME(fsp)."""
    return FieldType(DURATION, BINARY_FLAG, 10 + (fsp + 1 if fsp else 0), fsp)


def null_type() -> FieldType:
    """The type of the literal NULL."""
    return FieldType(NULL, BINARY_FLAG, 0, 0)


_FIXED = {
    EvalType.REAL: pa.float64(),
    EvalType.STRING: pa.large_binary(),
    EvalType.JSON: pa.large_binary(),
    EvalType.TIME: pa.uint64(),
    EvalType.DURATION: pa.int64(),
}


def decimal_arrow(precision: int, scale: int) -> Vec:
    """The narrowest Arrow decimal with room for these digits."""
    precision = max(precision, scale, 1)
    if precision <= DECIMAL128_DIGITS:
        return pa.decimal128(precision, scale)
    return pa.decimal256(min(precision, 76), scale)


def arrow_type(ft: FieldType) -> Vec:
    """The Arrow type of a column of this field type."""
    family = ft.eval_type
    if family is EvalType.INT:
        return pa.uint64() if ft.unsigned else pa.int64()
    if family is EvalType.DECIMAL:
        return decimal_arrow(ft.flen if ft.flen > 0 else 65, ft.scale)
    return _FIXED[family]
