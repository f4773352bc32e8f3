"""Values on their way into a column: type conversion, ranges, lengths, with MySQL's strict-mode errors.

The result is in the column's physical form. In non-strict statements (INSERT IGNORE, UPDATE IGNORE) a value that does not
fit is cut or clamped and `warn` is told. Works on one value at a time: writes are per row anyway.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext

import numpy as np

from core_py.vector.expr import Value
from core_py.vector.fieldtype import (
    BIT,
    BLOB_TYPES,
    DATE,
    DOUBLE,
    ENUM,
    FLOAT,
    INT24,
    JSON,
    LONG,
    LONGLONG,
    SET,
    SHORT,
    STRING,
    TIMESTAMP,
    TINY,
    YEAR,
    EvalType,
    FieldType,
)  # fmt: skip
from core_py.vector.temporal import MAX_DURATION_NS, format_time, parse_duration, parse_time
from core_py.vector.text import number_prefix, value_text
from tidb_py.catalog.model import ColumnInfo
from tidb_py.errors import DataOutOfRange, DataTooLong, DataTruncated, SqlError, WrongTime, WrongValue

_BITS = {TINY: 8, SHORT: 16, INT24: 24, LONG: 32, LONGLONG: 64}
Warn = Callable[[SqlError], None]


class Converter:
    """Converts values for one column."""

    __slots__ = ("_convert", "column", "row", "warn")

    def __init__(self, column: ColumnInfo, warn: Warn | None = None) -> None:
        self.column = column
        self.warn = warn  # None: strict, errors are raised
        self.row = 1
        family = column.ft.eval_type
        tp = column.ft.tp
        self._convert = {
            EvalType.INT: self._int,
            EvalType.REAL: self._real,
            EvalType.DECIMAL: self._decimal,
            EvalType.STRING: self._string,
            EvalType.TIME: self._time,
            EvalType.DURATION: self._duration,
            EvalType.JSON: self._json,
        }[family]
        special = {ENUM: self._enum, SET: self._set, BIT: self._bit, YEAR: self._year}.get(tp)
        if special is not None:
            self._convert = special

    def __call__(self, value: Value, source: FieldType | None = None) -> Value:
        """Convert one value; `source` tells dates and times, which are numbers physically, from numbers."""
        if value is None:
            return None
        if source is not None and source.eval_type in (EvalType.TIME, EvalType.DURATION):
            if source.eval_type is self.column.ft.eval_type:
                return self._same_clock(value)
            value = value_text(value, source)
        return self._convert(value)

    def _fail(self, error: SqlError, fallback: Value) -> Value:
        if self.warn is None:
            raise error
        self.warn(error)
        return fallback

    def _range(self, fallback: Value) -> Value:
        return self._fail(
            DataOutOfRange(f"Out of range value for column '{self.column.name}' at row {self.row}"), fallback
        )

    def _number(self, value: Value, kind: str) -> Decimal | float | int:
        if not isinstance(value, bytes):
            assert value is not None
            return value
        text, whole = number_prefix(value)
        if not whole:
            shown = value.decode(errors="replace")
            name = self.column.name
            self._fail(WrongValue(f"Incorrect {kind} value: '{shown}' for column '{name}' at row {self.row}"), None)
        return float(text) if "e" in text.lower() else Decimal(text)

    def _int(self, value: Value) -> Value:
        if not isinstance(value, int):
            if isinstance(value, bytes):
                try:
                    value = int(value)
                except ValueError:
                    value = _round(self._number(value, "integer"))
            else:
                assert value is not None
                value = _round(value)
        ft = self.column.ft
        bits = _BITS.get(ft.tp, 64)
        low, high = (0, (1 << bits) - 1) if ft.unsigned else (-(1 << bits - 1), (1 << bits - 1) - 1)
        return value if low <= value <= high else self._range(min(max(value, low), high))

    def _bit(self, value: Value) -> Value:
        number = int.from_bytes(value, "big") if isinstance(value, bytes) else _round(value or 0)
        limit = (1 << max(1, self.column.ft.flen)) - 1
        if 0 <= number <= limit:
            return number
        return self._fail(DataTooLong(f"Data too long for column '{self.column.name}' at row {self.row}"), limit)

    def _year(self, value: Value) -> Value:
        number = _round(self._number(value, "integer"))
        if 0 < number < 70 or (number == 0 and isinstance(value, bytes) and len(value) < 4):
            number += 2000
        elif 70 <= number <= 99:
            number += 1900
        return number if number == 0 or 1901 <= number <= 2155 else self._range(0)

    def _real(self, value: Value) -> Value:
        ft = self.column.ft
        number = float(self._number(value, "double" if ft.tp == DOUBLE else "float"))
        if ft.unsigned and number < 0:
            return self._range(0.0)
        if 0 <= ft.decimal < 31 and ft.flen > 0:
            number = round(number, ft.decimal)
            if abs(number) >= 10 ** (ft.flen - ft.decimal):
                return self._range(0.0)
        if ft.tp == FLOAT:
            if abs(number) > 3.4028235e38:
                return self._range(0.0)
            number = _single(number)
        return number

    def _decimal(self, value: Value) -> Value:
        ft = self.column.ft
        number = self._number(value, "decimal")
        exact = number if isinstance(number, Decimal) else Decimal(str(number))
        try:
            with localcontext(prec=90):
                rounded = exact.quantize(Decimal(1).scaleb(-ft.scale), ROUND_HALF_UP)
        except InvalidOperation:
            return self._range(Decimal(0))
        limit = Decimal(10) ** (ft.flen - ft.scale)
        if abs(rounded) >= limit:
            most = limit - Decimal(1).scaleb(-ft.scale)
            return self._range(most.copy_sign(rounded))
        return self._range(Decimal(0)) if ft.unsigned and rounded < 0 else rounded

    def _string(self, value: Value) -> Value:
        ft = self.column.ft
        raw = value if isinstance(value, bytes) else value_text(value, _source_of(value))
        limit = ft.flen
        if ft.tp == STRING and ft.collation != 63:
            raw = raw.rstrip(b" ")
        if limit >= 0 and len(raw) > limit:
            count = len(raw) if ft.collation == 63 or ft.tp in BLOB_TYPES else len(raw.decode(errors="replace"))
            if count > limit:
                kept = raw[:limit] if ft.collation == 63 else raw.decode(errors="replace")[:limit].encode()
                if not (ft.collation != 63 and raw[len(kept) :].strip(b" ") == b""):
                    return self._fail(
                        DataTooLong(f"Data too long for column '{self.column.name}' at row {self.row}"), kept
                    )
                raw = kept
        if ft.collation != 63 and not raw.isascii():
            try:
                raw.decode()
            except UnicodeDecodeError:
                return self._fail(self._wrong_string(raw), raw.decode(errors="replace").encode())
        return raw.ljust(limit, b"\0") if ft.tp == STRING and ft.collation == 63 and limit > 0 else raw

    def _wrong_string(self, raw: bytes) -> SqlError:
        shown = "".join(f"\\x{b:02X}" for b in raw[:6])
        return WrongValue(f"Incorrect string value: '{shown}' for column '{self.column.name}' at row {self.row}")

    def _same_clock(self, value: Value) -> Value:
        ft = self.column.ft
        if ft.eval_type is EvalType.DURATION or not isinstance(value, int):
            return value
        if ft.tp == DATE:
            return value >> 41 << 41
        if value & 0xFFFFFF and ft.fsp < 6:
            text = format_time(value, date_only=False, fsp=6)
            return parse_time(text, ft.fsp)
        return value

    def _time(self, value: Value) -> Value:
        ft = self.column.ft
        text = (value if isinstance(value, bytes) else value_text(value, _source_of(value))).decode(errors="replace")
        packed = parse_time(text, 0 if ft.tp == DATE else ft.fsp)
        bad = packed is None or (ft.tp == TIMESTAMP and packed >> 41 and not 1970 <= (packed >> 46) // 13 <= 2038)
        if packed is None or bad or not packed >> 41:
            kind = "date" if ft.tp == DATE else "datetime"
            name = self.column.name
            return self._fail(WrongTime(f"Incorrect {kind} value: '{text}' for column '{name}' at row {self.row}"), 0)
        return packed >> 41 << 41 if ft.tp == DATE else packed

    def _duration(self, value: Value) -> Value:
        text = (value if isinstance(value, bytes) else value_text(value, _source_of(value))).decode(errors="replace")
        nanos = parse_duration(text, self.column.ft.fsp)
        if nanos is None:
            name = self.column.name
            return self._fail(WrongTime(f"Incorrect time value: '{text}' for column '{name}' at row {self.row}"), 0)
        return max(-MAX_DURATION_NS, min(nanos, MAX_DURATION_NS))

    def _truncated(self, fallback: Value) -> Value:
        return self._fail(DataTruncated(f"Data truncated for column '{self.column.name}' at row {self.row}"), fallback)

    def _enum(self, value: Value) -> Value:
        elems = self.column.ft.elems
        if not isinstance(value, bytes):
            at = _round(value or 0)
            return elems[at - 1].encode() if 1 <= at <= len(elems) else self._truncated(b"")
        lowered = value.decode(errors="replace").rstrip(" ").lower()
        match = next((e for e in elems if e.lower() == lowered), None)
        if match is None and value.isdigit() and 1 <= int(value) <= len(elems):
            match = elems[int(value) - 1]
        return match.encode() if match is not None else self._truncated(b"")

    def _set(self, value: Value) -> Value:
        elems = self.column.ft.elems
        if not isinstance(value, bytes):
            bits = _round(value or 0)
            return ",".join(e for i, e in enumerate(elems) if bits >> i & 1).encode()
        wanted = {part.lower() for part in value.decode(errors="replace").split(",") if part}
        known = [e for e in elems if e.lower() in wanted]
        result = ",".join(known).encode()
        return result if len(known) == len(wanted) else self._truncated(result)

    def _json(self, value: Value) -> Value:
        raw = value if isinstance(value, bytes) else str(value).encode()
        try:
            return json.dumps(json.loads(raw), ensure_ascii=False).encode()
        except ValueError:
            shown = raw.decode(errors="replace")[:64]
            return self._fail(WrongValue(f"Invalid JSON text: '{shown}' for column '{self.column.name}'"), b"null")


def _round(value: Decimal | float | int | bytes) -> int:
    if isinstance(value, int):
        return value
    number = value if isinstance(value, Decimal) else Decimal(str(value))
    return int(number.to_integral_value(ROUND_HALF_UP))


def _single(value: float) -> float:
    return float(np.float32(value))


def _source_of(value: Value) -> FieldType:
    if isinstance(value, float):
        return FieldType(DOUBLE)
    return FieldType(JSON) if isinstance(value, bytes) else FieldType(LONGLONG)


def from_text(text: str, column: ColumnInfo, _zone: dt.tzinfo = dt.UTC) -> Value:
    """The value of a default that is kept as text."""
    return Converter(column)(text.encode())
