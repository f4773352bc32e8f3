"""SQL functions by name: argument checks, casts, result type, and the signature that computes them.

`FUNCTIONS[name]` takes the arguments as typed expressions. Functions of the session (NOW, USER, LAST_INSERT_ID ...) are not
here: they are constants of a statement, see `session_functions.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from core_py.vector.expr import Constant, Expr
from core_py.vector.fieldtype import (
    DATE,
    JSON,
    EvalType,
    FieldType,
    bool_type,
    date_type,
    datetime_type,
    decimal_type,
    duration_type,
    int_type,
    real_type,
    string_type,
)  # fmt: skip
from tidb_py.errors import WrongArguments
from tidb_py.expression import typing as t
from tidb_py.expression.typing import DECIMAL, DURATION, INT, NAMES, REAL, STRING, TIME, call

Args = Sequence[Expr]
Builder = Callable[[Args], Expr]
_CLOCKS = frozenset({"unix_timestamp"})  # without arguments functions of the session
FUNCTIONS: dict[str, tuple[Builder, int, int]] = {}


def define(name: str, low: int, high: int | None = None) -> Callable[[Builder], Builder]:
    """Register a function with its least and greatest number of arguments (-1: any)."""

    def register(builder: Builder) -> Builder:
        for alias in name.split():
            FUNCTIONS[alias] = (builder, low, low if high is None else high)
        return builder

    return register


def build(name: str, args: Args) -> Expr | None:
    """A function call, or None when there is no such function here."""
    entry = FUNCTIONS.get(name)
    if entry is None or (not args and name in _CLOCKS):
        return None
    builder, low, high = entry
    if len(args) < low or (high >= 0 and len(args) > high):
        raise WrongArguments(f"Incorrect parameter count in the call to native function '{name.upper()}'")
    return builder(args)


def _text(signature: str, name: str, count: int = 1, *, result: FieldType | None = None) -> None:
    """A function of strings."""

    @define(name, count)
    def _build(args: Args) -> Expr:
        ft = result or string_type(collation=t.common_collation(*args))
        if result is not None and result.eval_type is INT:
            ft = replace(result, collation=t.common_collation(*args))
        return call(signature, ft, *[t.to_string(a) for a in args])


for _signature, _name, _count in (
    ("UpperUTF8", "upper ucase", 1), ("LowerUTF8", "lower lcase", 1), ("LTrim", "ltrim", 1), ("RTrim", "rtrim", 1),
    ("ReverseUTF8", "reverse", 1), ("Replace", "replace", 3), ("Quote", "quote", 1), ("UnHex", "unhex", 1),
    ("MD5", "md5", 1), ("SHA1", "sha sha1", 1), ("ToBase64", "to_base64", 1), ("FromBase64", "from_base64", 1),
    ("Trim1Arg", "trim", 1), ("Trim2Args", "trim2", 2),
):  # fmt: skip
    _text(_signature, _name, _count)
for _signature, _name, _count in (
    ("Length", "length octet_length", 1), ("BitLength", "bit_length", 1), ("CharLengthUTF8", "char_length character_length", 1),
    ("ASCII", "ascii", 1), ("Ord", "ord", 1), ("CRC32", "crc32", 1), ("Strcmp", "strcmp", 2),
    ("FindInSet", "find_in_set", 2), ("InstrUTF8", "instr", 2), ("RegexpLikeSig", "regexp_like", 2),
):  # fmt: skip
    _text(_signature, _name, _count, result=int_type(flen=10))


@define("concat", 1, -1)
def _concat(args: Args) -> Expr:
    flens = [a.ft.flen if a.ft.eval_type is STRING else 23 for a in args]
    flen = -1 if min(flens) < 0 else sum(flens)
    return call("Concat", string_type(flen, t.common_collation(*args)), *[t.to_string(a) for a in args])


@define("concat_ws", 2, -1)
def _concat_ws(args: Args) -> Expr:
    return call("ConcatWS", string_type(collation=t.common_collation(*args)), *[t.to_string(a) for a in args])


def _substring(args: Args) -> Expr:
    text = t.to_string(args[0])
    binary = "" if text.ft.collation == 63 else "UTF8"
    ft = string_type(text.ft.flen, text.ft.collation)
    return call(f"Substring{len(args)}Args{binary}", ft, text, *[t.to_int(a) for a in args[1:]])


define("substring substr mid", 2, 3)(_substring)


def _string_and_int(signature: str, name: str) -> None:
    @define(name, 2)
    def _build(args: Args) -> Expr:
        text = t.to_string(args[0])
        return call(signature, string_type(collation=text.ft.collation), text, t.to_int(args[1]))


_string_and_int("LeftUTF8", "left")
_string_and_int("RightUTF8", "right")
_string_and_int("Repeat", "repeat")


@define("space", 1)
def _space(args: Args) -> Expr:
    return call("Space", string_type(), t.to_int(args[0]))


def _pad(signature: str, name: str) -> None:
    @define(name, 2, 3)
    def _build(args: Args) -> Expr:
        pad = args[2] if len(args) > 2 else Constant(b" ", string_type())
        return call(signature, string_type(), t.to_string(args[0]), t.to_int(args[1]), t.to_string(pad))


_pad("LpadUTF8", "lpad")
_pad("RpadUTF8", "rpad")


@define("locate", 2, 3)
def _locate(args: Args) -> Expr:
    texts = [t.to_string(a) for a in args[:2]]
    ft = replace(int_type(), collation=t.common_collation(*texts))
    return call(f"Locate{len(args)}ArgsUTF8", ft, *texts, *[t.to_int(a) for a in args[2:]])


@define("substring_index", 3)
def _substring_index(args: Args) -> Expr:
    return call("SubstringIndex", string_type(), t.to_string(args[0]), t.to_string(args[1]), t.to_int(args[2]))


@define("insert", 4)
def _insert(args: Args) -> Expr:
    text, new = t.to_string(args[0]), t.to_string(args[3])
    return call("InsertUTF8", string_type(), text, t.to_int(args[1]), t.to_int(args[2]), new)


@define("hex", 1)
def _hex(args: Args) -> Expr:
    if args[0].ft.eval_type in (INT, REAL, DECIMAL):
        return call("HexIntArg", string_type(), t.to_int(args[0]))
    return call("HexStrArg", string_type(), t.to_string(args[0]))


@define("bin", 1)
def _bin(args: Args) -> Expr:
    return call("Bin", string_type(), t.to_int(args[0]))


@define("oct", 1)
def _oct(args: Args) -> Expr:
    return call("OctInt", string_type(), t.to_int(args[0]))


@define("char", 1, -1)
def _char(args: Args) -> Expr:
    return call("Char", string_type(collation=63), *[t.to_int(a) for a in args])


@define("sha2", 2)
def _sha2(args: Args) -> Expr:
    return call("SHA2", string_type(), t.to_string(args[0]), t.to_int(args[1]))


@define("conv", 3)
def _conv(args: Args) -> Expr:
    return call("Conv", string_type(), t.to_string(args[0]), t.to_int(args[1]), t.to_int(args[2]))


@define("format", 2, 3)
def _format(args: Args) -> Expr:
    return call("Format", string_type(), t.to_decimal(args[0]), t.to_int(args[1]))


@define("elt", 2, -1)
def _elt(args: Args) -> Expr:
    return call("Elt", string_type(), t.to_int(args[0]), *[t.to_string(a) for a in args[1:]])


@define("field", 2, -1)
def _field(args: Args) -> Expr:
    if all(a.ft.eval_type is INT for a in args):
        return call("FieldInt", int_type(), *args)
    if all(a.ft.eval_type is STRING for a in args):
        return call("FieldString", int_type(), *args)
    return call("FieldReal", int_type(), *[t.to_real(a) for a in args])


# -- numbers ------------------------------------------------------------------------------------------------------------


def _real(signature: str, name: str, count: int = 1) -> None:
    @define(name, count)
    def _build(args: Args) -> Expr:
        return call(signature, real_type(), *[t.to_real(a) for a in args])


for _signature, _name, _count in (
    ("Sqrt", "sqrt", 1), ("Log1Arg", "ln", 1), ("Log2Args", "log", 2), ("Log2", "log2", 1), ("Log10", "log10", 1),
    ("Exp", "exp", 1), ("Pow", "pow power", 2), ("Acos", "acos", 1), ("Asin", "asin", 1), ("Atan1Arg", "atan", 1),
    ("Atan2Args", "atan2", 2), ("Cos", "cos", 1), ("Sin", "sin", 1), ("Tan", "tan", 1), ("Cot", "cot", 1),
    ("Degrees", "degrees", 1), ("Radians", "radians", 1),
):  # fmt: skip
    _real(_signature, _name, _count)


@define("pi", 0)
def _pi(_args: Args) -> Expr:
    return call("PI", real_type())


@define("rand", 0, 1)
def _rand(args: Args) -> Expr:
    return call("RandWithSeedFirstGen", real_type(), t.to_int(args[0])) if args else call("Rand", real_type())


@define("uuid", 0)
def _uuid(_args: Args) -> Expr:
    return call("UUID", string_type(36))


def _number(expr: Expr) -> Expr:
    return expr if expr.ft.eval_type in (INT, DECIMAL) else t.to_real(expr)


@define("abs", 1)
def _abs(args: Args) -> Expr:
    value = _number(args[0])
    name = {INT: "AbsUInt" if value.ft.unsigned else "AbsInt", DECIMAL: "AbsDecimal"}.get(value.ft.eval_type, "AbsReal")
    return call(name, value.ft.nullable(), value)


def _to_whole(verb: str, name: str) -> None:
    @define(name, 1)
    def _build(args: Args) -> Expr:
        value = _number(args[0])
        if value.ft.eval_type is INT:
            return value
        if value.ft.eval_type is REAL:
            return call(f"{verb}Real", real_type(), value)
        digits = value.ft.flen - value.ft.scale + 1
        if digits <= 18:
            return call(f"{verb}DecToInt", int_type(), value)
        return call(f"{verb}DecToDec", decimal_type(digits, 0), value)


_to_whole("Ceil", "ceil ceiling")
_to_whole("Floor", "floor")


def _to_digits(name: str, whole: dict[EvalType, str], digits: dict[EvalType, str]) -> None:
    @define(name, 1, 2)
    def _build(args: Args) -> Expr:
        value = _number(args[0])
        family = value.ft.eval_type
        if len(args) == 1:
            ft = decimal_type(value.ft.flen - value.ft.scale + 1, 0) if family is DECIMAL else value.ft.nullable()
            return call(whole[family], ft, value)
        count = t.to_int(args[1])
        ft = value.ft.nullable()
        if family is DECIMAL:
            known = isinstance(count, Constant) and isinstance(count.value, int)
            scale = max(0, min(count.value, value.ft.scale)) if known else value.ft.scale  # type: ignore[union-attr,type-var]
            ft = decimal_type(value.ft.flen - value.ft.scale + int(scale) + 1, int(scale))  # type: ignore[arg-type]
        return call(digits[family], ft, value, count)


_to_digits(
    "round",
    {INT: "RoundInt", REAL: "RoundReal", DECIMAL: "RoundDec"},
    {INT: "RoundWithFracInt", REAL: "RoundWithFracReal", DECIMAL: "RoundWithFracDec"},
)
_to_digits("truncate", {}, {INT: "TruncateInt", REAL: "TruncateReal", DECIMAL: "TruncateDecimal"})


@define("sign", 1)
def _sign(args: Args) -> Expr:
    return call("Sign", int_type(), t.to_real(args[0]))


@define("bit_count", 1)
def _bit_count(args: Args) -> Expr:
    return call("BitCount", int_type(), t.to_int(args[0]))


# -- control ------------------------------------------------------------------------------------------------------------


def _branches(prefix: str, args: Args) -> Expr:
    ft = t.unify(args)
    return call(f"{prefix}{NAMES[ft.eval_type]}", ft, *[t.branch(a, ft) for a in args])


@define("coalesce", 1, -1)
def _coalesce(args: Args) -> Expr:
    return _branches("Coalesce", args)


@define("ifnull", 2)
def _ifnull(args: Args) -> Expr:
    return _branches("IfNull", args)


@define("if", 3)
def _if(args: Args) -> Expr:
    ft = t.unify(args[1:])
    return call(f"If{NAMES[ft.eval_type]}", ft, t.truth_value(args[0]), *[t.branch(a, ft) for a in args[1:]])


@define("nullif", 2)
def _nullif(args: Args) -> Expr:
    ft = args[0].ft.nullable()
    return call(f"If{NAMES[ft.eval_type]}", ft, t.compare("EQ", args[0], args[1]), Constant(None, ft), args[0])


@define("isnull", 1)
def _isnull(args: Args) -> Expr:
    family = args[0].ft.eval_type
    return call(f"{NAMES[family]}IsNull", bool_type(), args[0])


def _extreme(verb: str, name: str) -> None:
    @define(name, 2, -1)
    def _build(args: Args) -> Expr:
        ft = t.unify(args)
        if ft.eval_type is STRING and not all(a.ft.eval_type is STRING for a in args):
            ft = real_type()
        return call(f"{verb}{NAMES[ft.eval_type]}", ft, *[t.branch(a, ft) for a in args])


_extreme("Greatest", "greatest")
_extreme("Least", "least")


@define("interval", 2, -1)
def _interval(args: Args) -> Expr:
    return call("IntervalReal", int_type(), *[t.to_real(a) for a in args])


@define("any_value", 1)
def _any_value(args: Args) -> Expr:
    return args[0]


# -- JSON ---------------------------------------------------------------------------------------------------------------

JSON_TYPE = FieldType(JSON, 128, -1, -1, 46)


@define("json_extract", 2, -1)
def _json_extract(args: Args) -> Expr:
    return call("JsonExtractSig", JSON_TYPE, *[t.to_string(a) for a in args])


@define("json_unquote", 1)
def _json_unquote(args: Args) -> Expr:
    return call("JsonUnquoteSig", string_type(), t.to_string(args[0]))


@define("json_type", 1)
def _json_type(args: Args) -> Expr:
    return call("JsonTypeSig", string_type(51), t.to_string(args[0]))


@define("json_valid", 1)
def _json_valid(args: Args) -> Expr:
    return call("JsonValidStringSig", int_type(flen=1), t.to_string(args[0]))


@define("json_length", 1, 2)
def _json_length(args: Args) -> Expr:
    return call("JsonLengthSig", int_type(), *[t.to_string(a) for a in args])


@define("json_contains", 2, 3)
def _json_contains(args: Args) -> Expr:
    return call("JsonContainsSig", int_type(flen=1), *[t.to_string(a) for a in args])


@define("json_contains_path", 3, -1)
def _json_contains_path(args: Args) -> Expr:
    return call("JsonContainsPathSig", int_type(flen=1), *[t.to_string(a) for a in args])


@define("json_keys", 1)
def _json_keys(args: Args) -> Expr:
    return call("JsonKeysSig", JSON_TYPE, t.to_string(args[0]))


@define("json_array", 0, -1)
def _json_array(args: Args) -> Expr:
    return call("JsonArraySig", JSON_TYPE, *args)


@define("json_object", 0, -1)
def _json_object(args: Args) -> Expr:
    return call("JsonObjectSig", JSON_TYPE, *args)


# -- dates and times ----------------------------------------------------------------------------------------------------


def _of_time(signature: str, name: str, result: FieldType | None = None) -> None:
    @define(name, 1)
    def _build(args: Args) -> Expr:
        return call(signature, result or int_type(flen=4), t.to_datetime(args[0]))


for _signature, _name in (
    ("Year", "year"), ("Month", "month"), ("DayOfMonth", "day dayofmonth"), ("Quarter", "quarter"),
    ("DayOfWeek", "dayofweek"), ("WeekDay", "weekday"), ("DayOfYear", "dayofyear"), ("ToDays", "to_days"),
    ("ToSeconds", "to_seconds"), ("WeekOfYear", "weekofyear"),
):  # fmt: skip
    _of_time(_signature, _name)
_of_time("MonthName", "monthname", string_type(10))
_of_time("DayName", "dayname", string_type(10))
_of_time("LastDay", "last_day", date_type())


@define("date", 1)
def _date(args: Args) -> Expr:
    return t.cast_to(args[0], date_type())


@define("timestamp", 1)
def _timestamp(args: Args) -> Expr:
    return t.cast_to(args[0], datetime_type(args[0].ft.fsp))


@define("time", 1)
def _time(args: Args) -> Expr:
    return t.to_duration(args[0])


def _clock(signature: str, name: str) -> None:
    @define(name, 1)
    def _build(args: Args) -> Expr:
        value = args[0]
        if value.ft.eval_type not in (TIME, DURATION):
            literal = isinstance(value, Constant) and isinstance(value.value, bytes) and b"-" in value.value[1:]
            value = t.to_datetime(value) if literal else t.to_duration(value)
        return call(signature, int_type(flen=3), value)


for _signature, _name in (("Hour", "hour"), ("Minute", "minute"), ("Second", "second"), ("MicroSecond", "microsecond")):
    _clock(_signature, _name)


def _week(verb: str, name: str) -> None:
    @define(name, 1, 2)
    def _build(args: Args) -> Expr:
        value = t.to_datetime(args[0])
        if len(args) == 1:
            return call(f"{verb}WithoutMode", int_type(), value)
        return call(f"{verb}WithMode", int_type(), value, t.to_int(args[1]))


_week("Week", "week")
_week("YearWeek", "yearweek")


@define("datediff", 2)
def _datediff(args: Args) -> Expr:
    return call("DateDiff", int_type(), *[t.to_datetime(a) for a in args])


@define("timediff", 2)
def _timediff(args: Args) -> Expr:
    if any(a.ft.eval_type is TIME for a in args):
        return call("TimeTimeTimeDiff", duration_type(6), *[t.to_datetime(a) for a in args])
    return call(
        "DurationDurationTimeDiff", duration_type(max(a.ft.fsp for a in args)), *[t.to_duration(a) for a in args]
    )


def _add_time(verb: str, name: str) -> None:
    @define(name, 2)
    def _build(args: Args) -> Expr:
        amount = t.to_duration(args[1])
        if args[0].ft.eval_type is TIME:
            return call(f"{verb}DatetimeAndDuration", datetime_type(args[0].ft.fsp), args[0], amount)
        return call(f"{verb}DurationAndDuration", duration_type(6), t.to_duration(args[0]), amount)


_add_time("Add", "addtime")
_add_time("Sub", "subtime")


@define("date_format", 2)
def _date_format(args: Args) -> Expr:
    return call("DateFormatSig", string_type(), t.to_datetime(args[0]), t.to_string(args[1]))


@define("str_to_date", 2)
def _str_to_date(args: Args) -> Expr:
    pattern = args[1]
    text = pattern.value if isinstance(pattern, Constant) and isinstance(pattern.value, bytes) else b"%H"
    has_clock = any(b"%" + bytes([c]) in text for c in b"HhIkilsSTrfp")
    ft = datetime_type(6 if b"%f" in text else 0) if has_clock else FieldType(DATE, 128, 10, 0)
    name = "StrToDateDatetime" if has_clock else "StrToDateDate"
    return call(name, ft, t.to_string(args[0]), t.to_string(pattern))


@define("unix_timestamp", 1)
def _unix_timestamp(args: Args) -> Expr:
    value = t.cast_to(args[0], datetime_type(args[0].ft.fsp)) if args[0].ft.tp == DATE else t.to_datetime(args[0])
    if value.ft.fsp:
        return call("UnixTimestampDec", decimal_type(12 + value.ft.fsp, value.ft.fsp), value)
    return call("UnixTimestampInt", int_type(), value)


@define("from_unixtime", 1, 2)
def _from_unixtime(args: Args) -> Expr:
    value = t.to_decimal(args[0])
    if len(args) == 2:
        return call("FromUnixTime2Arg", string_type(), value, t.to_string(args[1]))
    return call("FromUnixTime1Arg", datetime_type(min(6, value.ft.scale)), value)


@define("from_days", 1)
def _from_days(args: Args) -> Expr:
    return call("FromDays", date_type(), t.to_int(args[0]))


@define("makedate", 2)
def _makedate(args: Args) -> Expr:
    return call("MakeDate", date_type(), *[t.to_int(a) for a in args])


@define("sec_to_time", 1)
def _sec_to_time(args: Args) -> Expr:
    return call("SecToTime", duration_type(0), t.to_int(args[0]))


@define("time_to_sec", 1)
def _time_to_sec(args: Args) -> Expr:
    return call("TimeToSec", int_type(), t.to_duration(args[0]))


@define("convert_tz", 3)
def _convert_tz(args: Args) -> Expr:
    return call("ConvertTz", datetime_type(6), t.to_datetime(args[0]), t.to_string(args[1]), t.to_string(args[2]))


def date_arithmetic(verb: str, value: Expr, amount: Expr, unit: str) -> Expr:
    """DATE_ADD and DATE_SUB."""
    clock_unit = any(part in unit for part in ("HOUR", "MINUTE", "SECOND"))
    value = (
        t.to_datetime(value) if value.ft.eval_type is not DURATION else t.cast_to(value, datetime_type(value.ft.fsp))
    )
    if value.ft.tp == DATE and not clock_unit:
        ft: FieldType = date_type()
    else:
        fsp = 6 if "MICROSECOND" in unit else value.ft.fsp
        if unit == "SECOND" and amount.ft.eval_type in (DECIMAL, REAL):
            fsp = 6
        ft = datetime_type(fsp)
    kind = {INT: "Int", DECIMAL: "Decimal", REAL: "Real"}.get(amount.ft.eval_type, "String")
    if kind == "String":
        amount = t.to_string(amount)
    return call(f"{verb}DateDatetime{kind}", ft, value, amount, Constant(unit.encode(), string_type()))


def timestamp_diff(unit: str, start: Expr, end: Expr) -> Expr:
    """TIMESTAMPDIFF."""
    return call(
        "TimestampDiff", int_type(), Constant(unit.encode(), string_type()), t.to_datetime(start), t.to_datetime(end)
    )
