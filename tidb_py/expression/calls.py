"""sqlglot's function classes and the SQL functions they stand for, with the names of their arguments in order."""

from __future__ import annotations

from typing import Any

from sqlglot import expressions as exp

# class: (function name, argument keys)
CALLS: dict[Any, tuple[str, tuple[str, ...]]] = {
    exp.Upper: ("upper", ("this",)), exp.Lower: ("lower", ("this",)), exp.Reverse: ("reverse", ("this",)),
    exp.BitLength: ("bit_length", ("this",)), exp.Concat: ("concat", ("expressions",)),
    exp.ConcatWs: ("concat_ws", ("expressions",)), exp.Substring: ("substring", ("this", "start", "length")),
    exp.Left: ("left", ("this", "expression")), exp.Right: ("right", ("this", "expression")),
    exp.Repeat: ("repeat", ("this", "times")), exp.Space: ("space", ("this",)),
    exp.SubstringIndex: ("substring_index", ("this", "delimiter", "count")),
    exp.Stuff: ("insert", ("this", "start", "length", "expression")), exp.Hex: ("hex", ("this",)),
    exp.Unhex: ("unhex", ("this",)), exp.Chr: ("char", ("expressions",)), exp.SHA: ("sha1", ("this",)),
    exp.SHA2: ("sha2", ("this", "length")), exp.MD5: ("md5", ("this",)), exp.ToBase64: ("to_base64", ("this",)),
    exp.FromBase64: ("from_base64", ("this",)), exp.NumberToStr: ("format", ("this", "format")),
    exp.Elt: ("elt", ("this", "expressions")), exp.Ascii: ("ascii", ("this",)),
    exp.Replace: ("replace", ("this", "expression", "replacement")),
    exp.RegexpLike: ("regexp_like", ("this", "expression")), exp.BitwiseCount: ("bit_count", ("this",)),
    exp.Sqrt: ("sqrt", ("this",)), exp.Ln: ("ln", ("this",)), exp.Exp: ("exp", ("this",)),
    exp.Pow: ("pow", ("this", "expression")),
    exp.Log: ("log", ("this", "expression")), exp.Acos: ("acos", ("this",)), exp.Asin: ("asin", ("this",)),
    exp.Atan: ("atan", ("this",)), exp.Atan2: ("atan2", ("this", "expression")), exp.Cos: ("cos", ("this",)),
    exp.Sin: ("sin", ("this",)), exp.Tan: ("tan", ("this",)), exp.Cot: ("cot", ("this",)),
    exp.Degrees: ("degrees", ("this",)), exp.Radians: ("radians", ("this",)), exp.Pi: ("pi", ()), exp.Rand: ("rand", ("this",)),
    exp.Uuid: ("uuid", ()), exp.Abs: ("abs", ("this",)), exp.Ceil: ("ceil", ("this",)), exp.Floor: ("floor", ("this",)),
    exp.Round: ("round", ("this", "decimals")), exp.Trunc: ("truncate", ("this", "decimals")), exp.Sign: ("sign", ("this",)),
    exp.Coalesce: ("coalesce", ("this", "expressions")), exp.If: ("if", ("this", "true", "false")),
    exp.Nullif: ("nullif", ("this", "expression")), exp.Greatest: ("greatest", ("this", "expressions")),
    exp.Least: ("least", ("this", "expressions")), exp.AnyValue: ("any_value", ("this",)),
    exp.JSONType: ("json_type", ("this",)),
    exp.JSONKeys: ("json_keys", ("this", "expression")),
    exp.Year: ("year", ("this",)), exp.Month: ("month", ("this",)), exp.Day: ("day", ("this",)),
    exp.DayOfMonth: ("day", ("this",)), exp.DayOfWeek: ("dayofweek", ("this",)), exp.DayOfYear: ("dayofyear", ("this",)),
    exp.Quarter: ("quarter", ("this",)), exp.WeekOfYear: ("weekofyear", ("this",)), exp.Week: ("week", ("this", "mode")),
    exp.Hour: ("hour", ("this",)), exp.Minute: ("minute", ("this",)), exp.Second: ("second", ("this",)),
    exp.Dayname: ("dayname", ("this",)), exp.LastDay: ("last_day", ("this",)), exp.Time: ("time", ("this",)),
    exp.Timestamp: ("timestamp", ("this",)), exp.UnixToTime: ("from_unixtime", ("this", "format")),
    exp.ConvertTimezone: ("convert_tz", ("timestamp", "source_tz", "target_tz")),
}  # fmt: skip
