"""Expressions over batches: MySQL's NULL logic, overflow, division, casts, strings and times."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_py.vector import kernels
from core_py.vector.arrow import pa
from core_py.vector.errors import OutOfRange, Truncated
from core_py.vector.eval import EvalContext, evaluate, filter_mask
from core_py.vector.expr import ColumnRef, Constant, Expr, Value, func, int_const
from core_py.vector.fieldtype import (
    FieldType,
    arrow_type,
    bool_type,
    date_type,
    datetime_type,
    decimal_type,
    duration_type,
    int_type,
    real_type,
    string_type,
)  # fmt: skip
from core_py.vector.temporal import pack, parse_duration
from core_py.vector.tipb_codec import expr_from_pb, expr_to_pb

assert len(kernels.SUPPORTED) > 300


def col(values: list[Any], ft: FieldType) -> tuple[Any, FieldType]:
    return pa.array(values, arrow_type(ft)), ft


def run(expr: Expr, *columns: tuple[Any, FieldType], ctx: EvalContext | None = None) -> list[Any]:
    arrays = [c[0] for c in columns]
    rows = len(arrays[0]) if arrays else 1
    again = expr_from_pb(expr_to_pb(expr))  # every expression also survives the wire
    out = evaluate(again, arrays, rows, ctx or EvalContext())
    assert out.type == arrow_type(again.ft)
    result: list[Any] = out.to_pylist()
    return result


def refs(*columns: tuple[Any, FieldType]) -> list[ColumnRef]:
    return [ColumnRef(i, c[1]) for i, c in enumerate(columns)]


INT, UINT, REAL, STR = int_type(), int_type(unsigned=True), real_type(), string_type()


def const(value: Value, ft: FieldType) -> Constant:
    return Constant(value, ft)


def test_integer_arithmetic_and_overflow() -> None:
    a, b = col([1, None, 1 << 62], INT), col([2, 3, 5], INT)
    x, y = refs(a, b)
    assert run(func("PlusInt", INT, x, y), a, b) == [3, None, (1 << 62) + 5]
    with pytest.raises(OutOfRange):
        run(func("MultiplyInt", INT, x, y), a, b)
    u = col([1], UINT)
    with pytest.raises(OutOfRange):
        run(func("MinusInt", UINT, ColumnRef(0, UINT), int_const(2)), u)
    assert run(func("ModInt", INT, int_const(-7), int_const(3))) == [-1]
    assert run(func("IntDivideInt", INT, int_const(-7), int_const(2))) == [-3]


def test_division_by_zero_is_null_with_a_warning() -> None:
    ctx = EvalContext()
    a = col([Decimal("1.00"), Decimal("7.00")], decimal_type(10, 2))
    b = col([Decimal(0), Decimal(3)], decimal_type(5, 0))
    x, y = refs(a, b)
    assert run(func("DivideDecimal", decimal_type(14, 6), x, y), a, b, ctx=ctx) == [None, Decimal("2.333333")]
    assert ctx.warnings == [(1365, "Division by 0")]


@given(st.decimals(-(10**8), 10**8, places=2), st.decimals(-(10**8), 10**8, places=2))
def test_decimals_against_python(left: Decimal, right: Decimal) -> None:
    ft = decimal_type(12, 2)
    a, b = col([left] * 2, ft), col([right] * 2, ft)
    x, y = refs(a, b)
    assert run(func("PlusDecimal", decimal_type(13, 2), x, y), a, b)[0] == left + right
    assert run(func("MultiplyDecimal", decimal_type(24, 4), x, y), a, b)[0] == left * right
    if right:
        expected = (left / right).quantize(Decimal("0.000001"), "ROUND_HALF_UP")
        assert run(func("DivideDecimal", decimal_type(30, 6), x, y), a, b)[0] == expected


def test_comparison_of_signed_and_unsigned() -> None:
    a, b = col([-1, 5], INT), col([1 << 63, 5], UINT)
    x, y = refs(a, b)
    assert run(func("LTInt", bool_type(), x, y), a, b) == [1, 0]
    assert run(func("GTInt", bool_type(), y, const(-1, INT)), a, b) == [1, 1]


def test_three_valued_logic() -> None:
    a, b = col([1, 0, None, None], INT), col([None, None, 0, 1], INT)
    x, y = refs(a, b)
    assert run(func("LogicalAnd", bool_type(), x, y), a, b) == [None, 0, 0, None]
    assert run(func("LogicalOr", bool_type(), x, y), a, b) == [1, None, None, 1]
    mask = filter_mask([func("LogicalOr", bool_type(), x, y)], [a[0], b[0]], 4, EvalContext())
    assert mask is not None
    assert mask.to_pylist() == [True, False, False, True]
    items = func("InInt", bool_type(), x, int_const(1), const(None, INT))
    assert run(items, a) == [1, None, None, None]
    assert run(func("NullEQInt", bool_type(), x, y), a, b) == [0, 0, 0, 0]


def test_string_comparison_by_collation() -> None:
    a = col([b"Abc", b"abc ", b"abd"], STR)
    x = ColumnRef(0, STR)
    ci = FieldType(8, collation=45)
    binary = FieldType(8, collation=46)
    assert run(func("EQString", ci, x, const(b"ABC", STR)), a) == [1, 1, 0]
    assert run(func("EQString", binary, x, const(b"abc", STR)), a) == [0, 1, 0]
    assert run(func("LikeSig", ci, x, const(b"A_C%", STR), int_const(92)), a) == [1, 1, 0]
    assert run(func("LikeSig", binary, x, const(b"ab%", STR), int_const(92)), a) == [0, 1, 1]


def test_string_functions() -> None:
    a = col(["héllo".encode(), None, b""], STR)
    x = ColumnRef(0, STR)
    assert run(func("CharLengthUTF8", INT, x), a) == [5, None, 0]
    assert run(func("Length", INT, x), a) == [6, None, 0]
    assert run(func("UpperUTF8", STR, x), a) == ["HÉLLO".encode(), None, b""]
    assert run(func("Concat", STR, x, const(b"!", STR)), a) == ["héllo!".encode(), None, b"!"]
    assert run(func("Substring3ArgsUTF8", STR, x, int_const(2), int_const(3)), a) == ["éll".encode(), None, b""]
    assert run(func("Substring2ArgsUTF8", STR, x, int_const(-2)), a) == [b"lo", None, b""]
    assert run(func("LpadUTF8", STR, x, int_const(7), const(b"ab", STR)), a)[0] == "abhéllo".encode()
    assert run(func("Replace", STR, x, const(b"l", STR), const(b"L", STR)), a)[0] == "héLLo".encode()


def test_casts_from_text() -> None:
    ctx = EvalContext()
    a = col([b"12", b"3.7abc", b"x", None], STR)
    x = ColumnRef(0, STR)
    assert run(func("CastStringAsInt", INT, x), a, ctx=ctx) == [12, 4, 0, None]
    assert len(ctx.warnings) == 2
    assert run(func("CastStringAsReal", REAL, x), a) == [12.0, 3.7, 0.0, None]
    assert run(func("CastStringAsDecimal", decimal_type(6, 2), x), a)[1] == Decimal("3.70")
    with pytest.raises(Truncated):
        run(func("CastStringAsInt", INT, x), a, ctx=EvalContext(flags=0))


def test_casts_to_text() -> None:
    a = col([1.0, 0.1, 1e20, None, 123456.75], REAL)
    x = ColumnRef(0, REAL)
    assert run(func("CastRealAsString", STR, x), a) == [b"1", b"0.1", b"1e20", None, b"123456.75"]
    d = col([Decimal("0.0000001"), Decimal("-1.5000000")], decimal_type(10, 7))
    assert run(func("CastDecimalAsString", STR, ColumnRef(0, d[1])), d) == [b"0.0000001", b"-1.5000000"]


def test_times() -> None:
    a = col([b"2024-02-29", b"2023-12-31"], STR)
    as_date = func("CastStringAsTime", date_type(), ColumnRef(0, STR))
    assert run(as_date, a) == [pack(2024, 2, 29), pack(2023, 12, 31)]
    assert run(func("Year", INT, as_date), a) == [2024, 2023]
    assert run(func("DayOfWeek", INT, as_date), a) == [5, 1]
    assert run(func("WeekWithMode", INT, as_date, int_const(3)), a) == [9, 52]
    plus = func("AddDateDatetimeInt", date_type(), as_date, int_const(1), const(b"YEAR", STR))
    assert run(plus, a) == [pack(2025, 2, 28), pack(2024, 12, 31)]
    plus = func("AddDateDatetimeInt", datetime_type(), as_date, int_const(25), const(b"HOUR", STR))
    assert run(func("CastTimeAsString", STR, plus), a) == [b"2024-03-01 01:00:00", b"2024-01-01 01:00:00"]
    fmt = func("DateFormatSig", STR, as_date, const(b"%W %M %D %Y", STR))
    assert run(fmt, a) == [b"Thursday February 29th 2024", b"Sunday December 31st 2023"]
    diff = func("DateDiff", INT, as_date, const(pack(2024, 1, 1), date_type()))
    assert run(diff, a) == [59, -1]
    many = col([b"2024-01-01 10:00:00"] * 9, STR)
    as_time = func("CastStringAsTime", datetime_type(), ColumnRef(0, STR))
    assert run(func("CastTimeAsString", STR, as_time), many) == [b"2024-01-01 10:00:00"] * 9
    assert parse_duration("-01:30:00") == -5400 * 10**9
    shown = func("CastDurationAsString", STR, const(-5400 * 10**9, duration_type()))
    assert run(shown) == [b"-01:30:00"]


def test_case_if_and_coalesce() -> None:
    a = col([1, 2, None], INT)
    x = ColumnRef(0, INT)
    one, two = func("EQInt", bool_type(), x, int_const(1)), func("EQInt", bool_type(), x, int_const(2))
    case = func("CaseWhenString", STR, one, const(b"one", STR), two, const(b"two", STR), const(b"?", STR))
    assert run(case, a) == [b"one", b"two", b"?"]
    assert run(func("IfNullInt", INT, x, int_const(9)), a) == [1, 2, 9]
    assert run(func("IfInt", INT, one, x, int_const(0)), a) == [1, 0, 0]


def test_rounding_and_math() -> None:
    d = col([Decimal("2.5"), Decimal("-2.5"), Decimal("1.4")], decimal_type(5, 1))
    x = ColumnRef(0, d[1])
    assert run(func("RoundDec", decimal_type(5, 0), x), d) == [Decimal(3), Decimal(-3), Decimal(1)]
    assert run(func("CeilDecToInt", INT, x), d) == [3, -2, 2]
    assert run(func("Sqrt", REAL, const(-1.0, REAL))) == [None]
    r = col([1.005, 2.345], REAL)
    assert run(func("RoundWithFracReal", REAL, ColumnRef(0, REAL), int_const(1)), r) == [1.0, 2.3]
    assert run(func("Pow", REAL, const(2.0, REAL), const(10.0, REAL))) == [1024.0]
