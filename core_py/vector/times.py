"""Date and time functions over packed times, with numpy. NOW() and its kin are constants that the planner puts in."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as _pyarrow

from core_py.vector import temporal as tm
from core_py.vector.arrow import Vec, pa, pc
from core_py.vector.casts import map_numpy
from core_py.vector.errors import InvalidArgument
from core_py.vector.eval import Call, conform, ints, kernel, map_rows
from core_py.vector.fieldtype import DATE, EvalType, arrow_type

I64 = pa.int64()
BIN = pa.large_binary()
_MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
           "December"]  # fmt: skip
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86400, "WEEK": 604800}
_MONTHS_OF = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}


def _days(packed: Any) -> Any:
    f = tm.fields_of(packed)
    return tm.days_from_civil(f.year, f.month, f.day)


def _part(function: Callable[[Any], Any]) -> Callable[..., Vec]:
    def run(_call: Call, value: Vec) -> Vec:
        return map_numpy(value, lambda v: np.asarray(function(v), dtype=np.int64))

    return run


for _name, _getter in {
    "Year": lambda v: tm.fields_of(v).year,
    "Month": lambda v: tm.fields_of(v).month,
    "DayOfMonth": lambda v: tm.fields_of(v).day,
    "Quarter": lambda v: (tm.fields_of(v).month + 2) // 3,
    "DayOfWeek": lambda v: (_days(v) + 4) % 7 + 1,
    "WeekDay": lambda v: (_days(v) + 3) % 7,
    "ToDays": lambda v: _days(v) + 719528,
    "ToSeconds": lambda v: tm.to_micros(v) // 1_000_000 + 719528 * 86400,
}.items():
    kernel(_name)(_part(_getter))


@kernel("DayOfYear")
def _day_of_year(_call: Call, value: Vec) -> Vec:
    def get(v: Any) -> Any:
        f = tm.fields_of(v)
        one = np.ones_like(f.year)
        return _days(v) - tm.days_from_civil(f.year, one, one) + 1

    return map_numpy(value, get)


def week_of(packed: int, mode: int) -> tuple[int, int]:
    """Year and week number by MySQL's WEEK modes."""
    year, month, day, *_ = tm.unpack(packed)
    date = dt.date(year, month, day)
    monday, year_rule = bool(mode & 1), bool(mode & 2)
    # week 1 is the one with the first Monday (Sunday) of the year; otherwise the one with four of its days or more
    first_weekday = bool(mode & 4) == monday
    weekday = (date.weekday() + (0 if monday else 1)) % 7

    def first(y: int) -> dt.date:
        jan1 = dt.date(y, 1, 1)
        w = (jan1.weekday() + (0 if monday else 1)) % 7
        skip = w > 0 if first_weekday else w > 3
        return jan1 + dt.timedelta(days=(7 - w) if skip else -w)

    start = date - dt.timedelta(days=weekday)
    if start < first(year):
        if not year_rule:
            return year, 0
        return year - 1, (start - first(year - 1)).days // 7 + 1
    if year_rule and year < 9999 and start >= first(year + 1):
        return year + 1, 1
    return year, (start - first(year)).days // 7 + 1


@kernel("WeekWithoutMode", "WeekWithMode")
def _week(call: Call, value: Vec, *mode: Vec) -> Vec:
    return map_rows(
        call, lambda v, m=0: week_of(v, m & 7)[1] if v >> 46 else None, I64, value, *[ints(m) for m in mode]
    )


@kernel("WeekOfYear")
def _week_of_year(call: Call, value: Vec) -> Vec:
    return map_rows(call, lambda v: week_of(v, 3)[1], I64, value)


@kernel("YearWeekWithoutMode", "YearWeekWithMode")
def _year_week(call: Call, value: Vec, *mode: Vec) -> Vec:
    def both(v: int, m: int = 0) -> int:
        year, week = week_of(v, m & 7 | 2)
        return year * 100 + week

    return map_rows(call, both, I64, value, *[ints(m) for m in mode])


@kernel("MonthName")
def _month_name(call: Call, value: Vec) -> Vec:
    return map_rows(call, lambda v: _MONTHS[tm.unpack(v)[1] - 1].encode() if tm.unpack(v)[1] else None, BIN, value)


@kernel("DayName")
def _day_name(call: Call, value: Vec) -> Vec:
    def name(v: int) -> bytes | None:
        y, m, d, *_ = tm.unpack(v)
        return _DAYS[dt.date(y, m, d).weekday()].encode() if m and d else None

    return map_rows(call, name, BIN, value)


def _is_time(call: Call) -> bool:
    return call.arg_type(0).eval_type is EvalType.TIME


def _clock_part(from_time: Callable[[Any], Any], from_duration: Callable[[Any], Any]) -> Callable[..., Vec]:
    def run(call: Call, value: Vec) -> Vec:
        return map_numpy(value, from_time if _is_time(call) else from_duration)

    return run


kernel("Hour")(_clock_part(lambda v: tm.fields_of(v).hour, lambda v: np.abs(v) // 3_600_000_000_000))
kernel("Minute")(_clock_part(lambda v: tm.fields_of(v).minute, lambda v: np.abs(v) // 60_000_000_000 % 60))
kernel("Second")(_clock_part(lambda v: tm.fields_of(v).second, lambda v: np.abs(v) // 1_000_000_000 % 60))
kernel("MicroSecond")(_clock_part(lambda v: tm.fields_of(v).micro, lambda v: np.abs(v) // 1000 % 1_000_000))


@kernel("Date")
def _date(_call: Call, value: Vec) -> Vec:
    return map_numpy(value, lambda v: v >> np.uint64(41) << np.uint64(41))


@kernel("LastDay")
def _last_day(_call: Call, value: Vec) -> Vec:
    def last(v: Any) -> Any:
        f = tm.fields_of(v)
        zero = np.zeros_like(f.year)
        return tm.pack_many(tm.Fields(f.year, f.month, tm.month_lengths(f.year, f.month), zero, zero, zero, zero))

    return map_numpy(value, last)


@kernel("DateDiff")
def _date_diff(_call: Call, left: Vec, right: Vec) -> Vec:
    return pc.subtract(map_numpy(left, _days), map_numpy(right, _days))


@kernel("TimeTimeTimeDiff")
def _time_diff(_call: Call, left: Vec, right: Vec) -> Vec:
    micros = pc.subtract(map_numpy(left, tm.to_micros), map_numpy(right, tm.to_micros))
    return pc.multiply(micros, 1000)


@kernel("DurationDurationTimeDiff", "SubDurationAndDuration")
def _duration_diff(_call: Call, left: Vec, right: Vec) -> Vec:
    return pc.subtract(left, right)


@kernel("AddDurationAndDuration")
def _duration_sum(_call: Call, left: Vec, right: Vec) -> Vec:
    return pc.add(left, right)


def _add_months(packed: Any, months: Any) -> Any:
    f = tm.fields_of(packed)
    total = f.year * 12 + f.month - 1 + months
    year, month = np.floor_divide(total, 12), total % 12 + 1
    day = np.minimum(f.day, tm.month_lengths(year, month))
    return tm.pack_many(tm.Fields(year, month, day, f.hour, f.minute, f.second, f.micro))


_COMPOSITE = {
    "YEAR_MONTH": ("YEAR", "MONTH"),
    "DAY_HOUR": ("DAY", "HOUR"),
    "DAY_MINUTE": ("DAY", "HOUR", "MINUTE"),
    "DAY_SECOND": ("DAY", "HOUR", "MINUTE", "SECOND"),
    "DAY_MICROSECOND": ("DAY", "HOUR", "MINUTE", "SECOND", "MICROSECOND"),
    "HOUR_MINUTE": ("HOUR", "MINUTE"),
    "HOUR_SECOND": ("HOUR", "MINUTE", "SECOND"),
    "HOUR_MICROSECOND": ("HOUR", "MINUTE", "SECOND", "MICROSECOND"),
    "MINUTE_SECOND": ("MINUTE", "SECOND"),
    "MINUTE_MICROSECOND": ("MINUTE", "SECOND", "MICROSECOND"),
    "SECOND_MICROSECOND": ("SECOND", "MICROSECOND"),
}


def _interval(value: Any, unit: str) -> tuple[int, int]:
    """Months and microseconds of one interval."""
    if unit in _COMPOSITE:
        text = value.decode() if isinstance(value, bytes) else str(value)
        sign = -1 if text.strip().startswith("-") else 1
        numbers = [int(n) for n in "".join(c if c.isdigit() else " " for c in text).split()]
        names = _COMPOSITE[unit][-len(numbers) :] if numbers else ()
        parts = [_interval(n, name) for name, n in zip(names, numbers, strict=False)]
        return sign * sum(m for m, _ in parts), sign * sum(us for _, us in parts)
    number = Decimal(value.decode()) if isinstance(value, bytes) else Decimal(str(value))
    if unit == "MICROSECOND":
        return 0, round(number)
    if unit == "SECOND":
        return 0, round(number * 1_000_000)
    whole = int(number.to_integral_value())
    if unit in _SECONDS:
        return 0, whole * _SECONDS[unit] * 1_000_000
    if unit in _MONTHS_OF:
        return whole * _MONTHS_OF[unit], 0
    raise InvalidArgument(f"unknown interval unit {unit}")


def _date_arith(sign: int) -> Callable[..., Vec]:
    def run(call: Call, value: Vec, amount: Vec, unit: Vec) -> Vec:
        name = unit.as_py().decode().upper()
        is_date = call.ft.tp == DATE
        if isinstance(amount, _pyarrow.Scalar):
            if not amount.is_valid:
                return pa.scalar(None, pa.uint64())
            months, micros = _interval(amount.as_py(), name)
            return map_numpy(value, lambda v: _shift(v, sign * months, sign * micros, is_date=is_date))

        def one(v: int, n: Any) -> int:
            months, micros = _interval(n, name)
            shifted = _shift(np.array([v], dtype=np.uint64), sign * months, sign * micros, is_date=is_date)
            return int(shifted[0])

        return map_rows(call, one, pa.uint64(), value, ints(amount))

    return run


def _shift(packed: Any, months: int, micros: int, *, is_date: bool) -> Any:
    if months:
        packed = _add_months(packed, months)
    if micros:
        packed = tm.from_micros(tm.to_micros(packed) + micros)
    return packed >> np.uint64(41) << np.uint64(41) if is_date else packed


for _verb, _sign in (("Add", 1), ("Sub", -1)):
    kernel(*[f"{_verb}DateDatetime{kind}" for kind in ("Int", "String", "Real", "Decimal")])(_date_arith(_sign))


@kernel("AddDatetimeAndDuration")
def _add_duration(_call: Call, value: Vec, duration: Vec) -> Vec:
    micros = pc.add(map_numpy(value, tm.to_micros), pc.divide(duration, 1000))
    return map_numpy(micros, tm.from_micros)


@kernel("SubDatetimeAndDuration")
def _sub_duration(_call: Call, value: Vec, duration: Vec) -> Vec:
    micros = pc.subtract(map_numpy(value, tm.to_micros), pc.divide(duration, 1000))
    return map_numpy(micros, tm.from_micros)


@kernel("TimestampDiff")
def _timestamp_diff(call: Call, unit: Vec, start: Vec, end: Vec) -> Vec:
    name = unit.as_py().decode().upper()
    if name in _MONTHS_OF:
        months = _MONTHS_OF[name]

        def diff(a: int, b: int) -> int:
            sign = 1 if b >= a else -1
            low, high = (a, b) if b >= a else (b, a)
            ly, lm, *_ = tm.unpack(low)
            hy, hm, *_ = tm.unpack(high)
            rest_mask = (1 << 46) - 1
            count = (hy * 12 + hm) - (ly * 12 + lm) - ((high & rest_mask) < (low & rest_mask))
            return sign * (count // months)

        return map_rows(call, diff, I64, start, end)
    micros = pc.subtract(map_numpy(end, tm.to_micros), map_numpy(start, tm.to_micros))
    unit_micros = 1 if name == "MICROSECOND" else _SECONDS[name] * 1_000_000
    return pc.divide(micros, unit_micros)


def _fmt_one(c: str, v: int) -> str:
    y, mo, d, h, mi, s, us = tm.unpack(v)
    hour12 = (h + 11) % 12 + 1
    date = dt.date(y, mo, d) if mo and d else None
    simple = {
        "Y": f"{y:04d}", "y": f"{y % 100:02d}", "m": f"{mo:02d}", "c": str(mo), "d": f"{d:02d}", "e": str(d),
        "H": f"{h:02d}", "k": str(h), "h": f"{hour12:02d}", "I": f"{hour12:02d}", "l": str(hour12), "i": f"{mi:02d}",
        "s": f"{s:02d}", "S": f"{s:02d}", "f": f"{us:06d}", "p": "PM" if h >= 12 else "AM",
        "T": f"{h:02d}:{mi:02d}:{s:02d}", "r": f"{hour12:02d}:{mi:02d}:{s:02d} {'PM' if h >= 12 else 'AM'}", "%": "%",
    }  # fmt: skip
    if c in simple:
        return simple[c]
    if date is None:
        return "00"
    if c in "UuVvXx":
        year, week = week_of(v, {"U": 0, "u": 1, "V": 2, "v": 3, "X": 2, "x": 3}[c])
        return f"{year:04d}" if c in "Xx" else f"{week:02d}"
    suffix = "th" if 11 <= d <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(d % 10, "th")
    named = {
        "M": _MONTHS[mo - 1], "b": _MONTHS[mo - 1][:3], "W": _DAYS[date.weekday()], "a": _DAYS[date.weekday()][:3],
        "j": f"{date.timetuple().tm_yday:03d}", "w": str((date.weekday() + 1) % 7), "D": f"{d}{suffix}",
    }  # fmt: skip
    return named.get(c, c)


def date_format(packed: int, pattern: bytes) -> bytes:
    """DATE_FORMAT of one time."""
    out, text, i = [], pattern.decode(errors="replace"), 0
    while i < len(text):
        if text[i] == "%" and i + 1 < len(text):
            i += 1
            out.append(_fmt_one(text[i], packed))
        else:
            out.append(text[i])
        i += 1
    return "".join(out).encode()


@kernel("DateFormatSig")
def _date_format(call: Call, value: Vec, pattern: Vec) -> Vec:
    return map_rows(call, date_format, BIN, value, pattern)


_STRPTIME = {"Y": "%Y", "y": "%y", "m": "%m", "c": "%m", "d": "%d", "e": "%d", "H": "%H", "k": "%H", "h": "%I", "I": "%I",
             "l": "%I", "i": "%M", "s": "%S", "S": "%S", "f": "%f", "p": "%p", "M": "%B", "b": "%b", "W": "%A", "a": "%a",
             "j": "%j", "T": "%H:%M:%S", "r": "%I:%M:%S %p", "%": "%%"}  # fmt: skip


@kernel("StrToDateDate", "StrToDateDatetime")
def _str_to_date(call: Call, value: Vec, pattern: Vec) -> Vec:
    def parse(v: bytes, p: bytes) -> int | None:
        text, out, i = p.decode(), "", 0
        while i < len(text):
            if text[i] == "%" and i + 1 < len(text):
                i += 1
                out += _STRPTIME.get(text[i], text[i])
            else:
                out += text[i]
            i += 1
        try:
            t = dt.datetime.strptime(v.decode().strip(), out)  # noqa: DTZ007 - MySQL's DATETIME has no zone
        except ValueError:
            call.ctx.truncated("datetime", v.decode(errors="replace"))
            return None
        return tm.pack(t.year, t.month, t.day, t.hour, t.minute, t.second, t.microsecond)

    return map_rows(call, parse, pa.uint64(), value, pattern)


def to_epoch(packed: int, zone: dt.tzinfo) -> Decimal:
    """Seconds since the epoch of a time in a zone."""
    moment = dt.datetime(*tm.unpack(packed), tzinfo=zone)
    return Decimal(round(moment.timestamp() * 1_000_000)) / 1_000_000


@kernel("UnixTimestampInt")
def _unix_timestamp(call: Call, value: Vec) -> Vec:
    return map_rows(call, lambda v: int(to_epoch(v, call.ctx.time_zone)) if v else 0, I64, value)


@kernel("UnixTimestampDec")
def _unix_timestamp_dec(call: Call, value: Vec) -> Vec:
    out = map_rows(call, lambda v: to_epoch(v, call.ctx.time_zone), pa.decimal128(18, 6), value)
    return conform(out, arrow_type(call.ft))


@kernel("FromUnixTime1Arg", "FromUnixTime2Arg")
def _from_unixtime(call: Call, value: Vec, *pattern: Vec) -> Vec:
    def convert(v: Any) -> int:
        t = dt.datetime.fromtimestamp(float(v), call.ctx.time_zone)
        return tm.pack(t.year, t.month, t.day, t.hour, t.minute, t.second, t.microsecond)

    packed = map_rows(call, convert, pa.uint64(), value)
    return map_rows(call, date_format, BIN, packed, pattern[0]) if pattern else packed


@kernel("FromDays")
def _from_days(_call: Call, value: Vec) -> Vec:
    return map_numpy(ints(value), lambda v: tm.from_micros((v - 719528) * 86_400_000_000))


@kernel("MakeDate")
def _make_date(call: Call, year: Vec, day: Vec) -> Vec:
    def make(y: int, n: int) -> int | None:
        if n <= 0:
            return None
        t = dt.date(y, 1, 1) + dt.timedelta(days=n - 1)
        return tm.pack(t.year, t.month, t.day)

    return map_rows(call, make, pa.uint64(), ints(year), ints(day))


@kernel("SecToTime")
def _sec_to_time(call: Call, value: Vec) -> Vec:
    limit = tm.MAX_DURATION_NS
    return map_rows(call, lambda v: max(-limit, min(round(v * 1_000_000_000), limit)), I64, ints(value))


@kernel("TimeToSec")
def _time_to_sec(_call: Call, value: Vec) -> Vec:
    return pc.divide(value, 1_000_000_000)


@kernel("ConvertTz")
def _convert_tz(call: Call, value: Vec, source: Vec, target: Vec) -> Vec:
    def convert(v: int, a: bytes, b: bytes) -> int | None:
        zones = [parse_zone(z.decode(errors="replace")) for z in (a, b)]
        if None in zones or v == 0:
            return None
        t = dt.datetime(*tm.unpack(v), tzinfo=zones[0]).astimezone(zones[1])
        return tm.pack(t.year, t.month, t.day, t.hour, t.minute, t.second, t.microsecond)

    return map_rows(call, convert, pa.uint64(), value, source, target)


@functools.lru_cache(maxsize=256)
def parse_zone(name: str) -> dt.tzinfo | None:
    """'+08:00', 'UTC' or a name of the time zone database as a zone; None when it is none of these."""
    if name.upper() in ("UTC", "SYSTEM"):
        return dt.UTC
    try:
        if name[:1] not in ("+", "-"):
            return ZoneInfo(name)
        sign = {"+": 1, "-": -1}[name[0]]
        hours, minutes = name[1:].split(":")
        return dt.timezone(sign * dt.timedelta(hours=int(hours), minutes=int(minutes)))
    except (KeyError, ValueError, IndexError, OSError):  # ZoneInfo: a name that is none, or a folder's
        return None
