"""Dates and times in MySQL's packed form, vectorised with numpy: pack, unpack, print, parse, calendar arithmetic.

Packed: ((((year*13+month)<<5 | day) << 17 | hour<<12 | minute<<6 | second) << 24) | microsecond. Larger means later, and
zero is '0000-00-00 00:00:00'. TIMESTAMP columns are stored in UTC and shown in the session's time zone; here they are
already in the session's zone. TIME is a signed number of nanoseconds.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core_py.vector.arrow import Vec, pa

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
MAX_DURATION_NS = (838 * 3600 + 59 * 60 + 59) * 1_000_000_000
_POW10 = [10**i for i in range(10)]


@dataclass(slots=True)
class Fields:
    """The parts of many packed times."""

    year: I64
    month: I64
    day: I64
    hour: I64
    minute: I64
    second: I64
    micro: I64


def pack(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0, micro: int = 0) -> int:
    """Pack one time."""
    ymd = (year * 13 + month) << 5 | day
    return (ymd << 17 | hour << 12 | minute << 6 | second) << 24 | micro


def unpack(packed: int) -> tuple[int, int, int, int, int, int, int]:
    """Parts of one packed time."""
    rest = packed >> 24
    ymd, hms = rest >> 17, rest & 0x1FFFF
    ym = ymd >> 5
    return ym // 13, ym % 13, ymd & 31, hms >> 12, hms >> 6 & 63, hms & 63, packed & 0xFFFFFF


def fields_of(packed: U64) -> Fields:
    """Parts of many packed times."""
    value = packed.astype(np.int64)
    rest = value >> 24
    ymd, hms = rest >> 17, rest & 0x1FFFF
    ym = ymd >> 5
    return Fields(ym // 13, ym % 13, ymd & 31, hms >> 12, hms >> 6 & 63, hms & 63, value & 0xFFFFFF)


def pack_many(f: Fields) -> U64:
    """Pack many times."""
    ymd = (f.year * 13 + f.month) << 5 | f.day
    return ((ymd << 17 | f.hour << 12 | f.minute << 6 | f.second) << 24 | f.micro).astype(np.uint64)


def days_from_civil(year: I64, month: I64, day: I64) -> I64:
    """Days since 1970-01-01 of proleptic Gregorian dates."""
    y = year - (month <= 2)
    era = np.floor_divide(y, 400)
    yoe = y - era * 400
    doy = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    doe = yoe * 365 + yoe // 4 - yoe // 100 + doy
    return np.asarray(era * 146097 + doe - 719468, dtype=np.int64)


def civil_from_days(days: I64) -> tuple[I64, I64, I64]:
    """Year, month, day of days since 1970-01-01."""
    z = days + 719468
    era = np.floor_divide(z, 146097)
    doe = z - era * 146097
    yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    day = doy - (153 * mp + 2) // 5 + 1
    month = mp + np.where(mp < 10, 3, -9)
    return yoe + era * 400 + (month <= 2), month, day


def to_micros(packed: U64) -> I64:
    """Microseconds since the epoch, as if the times were UTC."""
    f = fields_of(packed)
    days = days_from_civil(f.year, f.month, f.day)
    return np.asarray(((days * 24 + f.hour) * 60 + f.minute) * 60 + f.second, dtype=np.int64) * 1_000_000 + f.micro


def from_micros(micros: I64) -> U64:
    """Packed times of microseconds since the epoch."""
    days = np.floor_divide(micros, 86_400_000_000)
    rest = micros - days * 86_400_000_000
    seconds = rest // 1_000_000
    year, month, day = civil_from_days(days)
    hour, minute = seconds // 3600, seconds // 60 % 60
    return pack_many(Fields(year, month, day, hour, minute, seconds % 60, rest % 1_000_000))


def month_lengths(year: I64, month: I64) -> I64:
    """Days of each month."""
    lengths = np.array([31, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], dtype=np.int64)[month]
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return np.asarray(lengths + ((month == 2) & leap), dtype=np.int64)


def _digits(out: NDArray[np.uint8], start: int, width: int, values: I64) -> None:
    for i in range(width):
        out[:, start + i] = values // _POW10[width - 1 - i] % 10 + 48


def format_times(packed: U64, *, date_only: bool, fsp: int) -> Vec:
    """'YYYY-MM-DD[ hh:mm:ss[.fraction]]' of many packed times, as a large_binary array without nulls."""
    f = fields_of(packed)
    width = 10 if date_only else 19 + (fsp + 1 if fsp else 0)
    out = np.empty((len(packed), width), dtype=np.uint8)
    _digits(out, 0, 4, f.year)
    _digits(out, 5, 2, f.month)
    _digits(out, 8, 2, f.day)
    out[:, 4] = out[:, 7] = 45
    if not date_only:
        out[:, 10] = 32
        out[:, 13] = out[:, 16] = 58
        for start, values in ((11, f.hour), (14, f.minute), (17, f.second)):
            _digits(out, start, 2, values)
        if fsp:
            out[:, 19] = 46
            _digits(out, 20, fsp, f.micro // _POW10[6 - fsp])
    offsets = np.arange(len(packed) + 1, dtype=np.int64) * width
    return pa.Array.from_buffers(
        pa.large_binary(), len(packed), [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(out.tobytes())]
    )


def format_duration(nanoseconds: int, fsp: int) -> str:
    """'[-]hh:mm:ss[.fraction]' of one TIME."""
    sign = "-" if nanoseconds < 0 else ""
    seconds, nanos = divmod(abs(nanoseconds), 1_000_000_000)
    text = f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{nanos // 10 ** (9 - fsp):0{fsp}d}" if fsp else text


def format_time(packed: int, *, date_only: bool, fsp: int) -> str:
    """One packed time as text."""
    y, mo, d, h, mi, s, us = unpack(packed)
    text = f"{y:04d}-{mo:02d}-{d:02d}"
    if date_only:
        return text
    text += f" {h:02d}:{mi:02d}:{s:02d}"
    return f"{text}.{us // 10 ** (6 - fsp):0{fsp}d}" if fsp else text


_TIME_RE = re.compile(
    r"^\s*(\d{2,4})[-/.:](\d{1,2})[-/.:](\d{1,2})"
    r"(?:[T\s]+(\d{1,2})(?::(\d{1,2})(?::(\d{1,2})(?:\.(\d{0,9}))?)?)?)?\s*(Z|[+-]\d{2}:\d{2})?\s*$"
)
_COMPACT_RE = re.compile(r"^\s*(\d{14}|\d{12}|\d{8}|\d{6})(?:\.(\d{0,9}))?\s*$")
_DURATION_RE = re.compile(r"^\s*(-)?(?:(\d+)\s+)?(\d{1,3}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{0,9}))?)?\s*$")
_DURATION_NUM_RE = re.compile(r"^\s*(-)?(\d{1,7})(?:\.(\d{0,9}))?\s*$")


def _full_year(text: str) -> int:
    year = int(text)
    if len(text) <= 2:
        return year + (2000 if year < 70 else 1900)
    return year


def _days_in(year: int, month: int) -> int:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 29 if month == 2 and leap else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def _checked(parts: tuple[int, int, int, int, int, int], fraction: str | None, fsp: int) -> int | None:
    year, month, day, hour, minute, second = parts
    if month > 12 or hour > 23 or minute > 59 or second > 59:
        return None
    if month and day > 28 and day > _days_in(year, month):
        return None
    if (month == 0 or day == 0) and any(parts):
        return None
    micro = int((fraction or "").ljust(9, "0")[:9])
    unit = 10 ** (9 - fsp)
    micro = (micro + unit // 2) // unit * unit // 1000
    if micro >= 1_000_000:
        base = dt.datetime(*parts) + dt.timedelta(seconds=1)  # noqa: DTZ001 - MySQL's DATETIME has no zone
        return pack(base.year, base.month, base.day, base.hour, base.minute, base.second)
    return pack(*parts, micro)


def parse_time(text: str, fsp: int = 6) -> int | None:
    """A packed time from text in any of MySQL's spellings, or None when it is no time."""
    if match := _TIME_RE.match(text):
        y, mo, d, h, mi, s, fraction, _zone = match.groups()
        return _checked((_full_year(y), int(mo), int(d), int(h or 0), int(mi or 0), int(s or 0)), fraction, fsp)
    if match := _COMPACT_RE.match(text):
        digits, fraction = match.groups()
        if len(digits) in (6, 12):
            digits = f"{_full_year(digits[:2]):04d}" + digits[2:]
        digits = digits.ljust(14, "0")
        pieces = int(digits[:4]), int(digits[4:6]), int(digits[6:8])
        return _checked((*pieces, int(digits[8:10]), int(digits[10:12]), int(digits[12:14])), fraction, fsp)
    return None


def parse_duration(text: str, fsp: int = 6) -> int | None:
    """Nanoseconds from the text of a TIME, or None."""
    if match := _DURATION_RE.match(text):
        sign, days, hours, minutes, seconds, fraction = match.groups()
        hour, minute, second = int(days or 0) * 24 + int(hours), int(minutes), int(seconds or 0)
    elif match := _DURATION_NUM_RE.match(text):
        sign, digits, fraction = match.groups()
        number = int(digits)
        hour, minute, second = number // 10000, number // 100 % 100, number % 100
    elif (packed := parse_time(text, fsp)) is not None:
        _, _, _, hour, minute, second, micro = unpack(packed)
        return (hour * 3600 + minute * 60 + second) * 1_000_000_000 + micro * 1000
    else:
        return None
    if minute > 59 or second > 59:
        return None
    unit = 10 ** (9 - fsp)
    nanos = (int((fraction or "").ljust(9, "0")[:9]) + unit // 2) // unit * unit
    total = min((hour * 3600 + minute * 60 + second) * 1_000_000_000 + nanos, MAX_DURATION_NS)
    return int(-total if sign else total)


def parse_times_fast(data: NDArray[np.uint8], width: int) -> U64 | None:
    """Packed times of rows that all look like 'YYYY-MM-DD' or 'YYYY-MM-DD hh:mm:ss'; None when any row does not."""
    if width not in (10, 19):
        return None
    rows = data.reshape(-1, width)
    marks = {4: 45, 7: 45} | ({10: 32, 13: 58, 16: 58} if width == 19 else {})
    digits = [i for i in range(width) if i not in marks]
    if any((rows[:, i] != byte).any() for i, byte in marks.items()):
        return None
    numbers = rows[:, digits].astype(np.int64) - 48
    if ((numbers < 0) | (numbers > 9)).any():
        return None
    year = numbers[:, 0] * 1000 + numbers[:, 1] * 100 + numbers[:, 2] * 10 + numbers[:, 3]
    pairs = [numbers[:, i] * 10 + numbers[:, i + 1] for i in range(4, numbers.shape[1], 2)]
    month, day, *clock = pairs
    if ((month < 1) | (month > 12) | (day < 1)).any() or (day > month_lengths(year, month)).any():
        return None
    zero = np.zeros_like(year)
    hour, minute, second = clock or (zero, zero, zero)
    if ((hour > 23) | (minute > 59) | (second > 59)).any():
        return None
    return pack_many(Fields(year, month, day, hour, minute, second, zero))
