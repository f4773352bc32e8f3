"""Type rules: casts between families, the type of arithmetic, of comparisons and of branches; folding of constants.

All pure. A cast of a literal is done at once, so that `id = '5'` can become a key range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from core_py.errors import DbError
from core_py.vector import kernels
from core_py.vector.eval import EvalContext, evaluate
from core_py.vector.expr import ColumnRef, Constant, Expr, ScalarFunc, func, sig
from core_py.vector.fieldtype import (
    DATE,
    DATETIME,
    INT24,
    LONG,
    LONGLONG,
    NEWDECIMAL,
    NULL,
    SHORT,
    TIMESTAMP,
    TINY,
    UNSIGNED_FLAG,
    YEAR,
    EvalType,
    FieldType,
    bool_type,
    datetime_type,
    decimal_type,
    duration_type,
    int_type,
    real_type,
    string_type,
)  # fmt: skip

INT, REAL, DECIMAL, STRING, TIME, DURATION, JSON_T = EvalType
NAMES = {
    INT: "Int",
    REAL: "Real",
    DECIMAL: "Decimal",
    STRING: "String",
    TIME: "Time",
    DURATION: "Duration",
    JSON_T: "Json",
}
_DIGITS = {TINY: 3, SHORT: 5, INT24: 8, LONG: 10, LONGLONG: 20, YEAR: 4}
_VOLATILE = frozenset(sig(n) for n in ("Rand", "UUID", "Sleep", "GetVar"))
assert kernels.SUPPORTED


def fold(expr: ScalarFunc) -> Expr:
    """A function of literals as a literal; failures are left for execution to report."""
    if expr.sig in _VOLATILE or not all(isinstance(a, Constant) for a in expr.args):
        return expr
    ctx = EvalContext()
    try:
        value = evaluate(expr, [], 1, ctx)[0].as_py()
    except DbError:
        return expr
    if ctx.warning_count:
        return expr  # the warning belongs to the execution
    return Constant(value, expr.ft)


def call(name: str, ft: FieldType, *args: Expr) -> Expr:
    """A function call, folded when it can be."""
    return fold(func(name, ft, *args))


def is_null(expr: Expr) -> bool:
    """Whether this is the literal NULL."""
    return isinstance(expr, Constant) and expr.value is None


def int_digits(ft: FieldType) -> int:
    """Decimal digits an integer type may have."""
    return _DIGITS.get(ft.tp, 20)


def as_decimal_type(expr: Expr) -> FieldType:
    """The decimal type that holds an expression's values."""
    ft = expr.ft
    if ft.eval_type is DECIMAL:
        return ft
    if ft.eval_type is INT:
        if isinstance(expr, Constant) and expr.value is not None:
            return decimal_type(len(str(abs(int(expr.value)))), 0)
        return decimal_type(int_digits(ft), 0)
    if ft.eval_type in (TIME, DURATION):
        return decimal_type(14 + ft.fsp, ft.fsp)
    if isinstance(expr, Constant) and isinstance(expr.value, bytes):
        text = expr.value.decode(errors="replace").strip()
        try:
            number = Decimal(text)
        except ArithmeticError:
            return decimal_type(65, 30)
        exponent = number.as_tuple().exponent
        scale = -exponent if isinstance(exponent, int) and exponent < 0 else 0
        return decimal_type(max(len(number.as_tuple().digits), scale) + 1, scale)
    return decimal_type(65, 10)


def cast_to(expr: Expr, ft: FieldType) -> Expr:
    """Cast to a type; nothing is added when the family is right already."""
    source, target = expr.ft.eval_type, ft.eval_type
    if is_null(expr):
        return Constant(None, ft)
    if source is target:
        same = source is INT and (expr.ft.unsigned == ft.unsigned or isinstance(expr, Constant))
        if same or source in (REAL, JSON_T):
            return expr
        if source is STRING and (ft.flen <= 0 or 0 <= expr.ft.flen <= ft.flen):
            return expr
        if source is DECIMAL and (expr.ft.flen, expr.ft.scale) == (ft.flen, ft.scale):
            return expr
        if source in (TIME, DURATION) and expr.ft.tp == ft.tp and expr.ft.fsp <= ft.fsp:
            return expr
    if isinstance(expr, Constant) and isinstance(expr.value, bytes) and expr.ft.flags & 128 and target is INT:
        return Constant(int.from_bytes(expr.value[-8:], "big"), int_type(unsigned=True))
    return call(f"Cast{NAMES[source]}As{NAMES[target]}", ft, expr)


def to_int(expr: Expr) -> Expr:
    """As an integer."""
    return cast_to(expr, int_type(unsigned=expr.ft.unsigned and expr.ft.eval_type is INT))


def to_real(expr: Expr) -> Expr:
    """As a double."""
    return cast_to(expr, real_type())


def to_string(expr: Expr) -> Expr:
    """As a string."""
    if expr.ft.eval_type is STRING:
        return expr
    return cast_to(expr, string_type())


def to_decimal(expr: Expr) -> Expr:
    """As a decimal wide enough."""
    return cast_to(expr, as_decimal_type(expr))


def to_datetime(expr: Expr) -> Expr:
    """As DATETIME (dates stay dates)."""
    if expr.ft.eval_type is TIME:
        return expr
    fsp = 6 if expr.ft.eval_type is STRING else expr.ft.fsp
    if isinstance(expr, Constant) and isinstance(expr.value, bytes):
        text = expr.value.decode(errors="replace").strip()
        if len(text) == 10 and text[4:5] == "-":
            return cast_to(expr, FieldType(DATE, 128, 10, 0))
        fsp = min(6, len(text.partition(".")[2]))
    return cast_to(expr, datetime_type(fsp))


def to_duration(expr: Expr) -> Expr:
    """As TIME."""
    return cast_to(expr, duration_type(6 if expr.ft.eval_type is STRING else expr.ft.fsp))


def numeric_family(expr: Expr) -> EvalType:
    """The family arithmetic happens in for one operand."""
    family = expr.ft.eval_type
    if expr.ft.tp == NULL:
        return INT
    if family in (TIME, DURATION):
        return DECIMAL if expr.ft.fsp else INT
    return family if family in (INT, DECIMAL) else REAL


def _both_numeric(left: Expr, right: Expr) -> EvalType:
    families = {numeric_family(left), numeric_family(right)}
    return REAL if REAL in families else DECIMAL if DECIMAL in families else INT


_ARITHMETIC = {"+": "Plus", "-": "Minus", "*": "Multiply"}


def arithmetic(op: str, left: Expr, right: Expr, *, div_increment: int = 4) -> Expr:
    """The typed expression of + - * / DIV %."""
    family = _both_numeric(left, right)
    if op == "/" and family is INT:
        family = DECIMAL
    if family is REAL:
        left, right = to_real(left), to_real(right)
        if op == "DIV":
            left, right = to_decimal(left), to_decimal(right)
            return call("IntDivideDecimal", int_type(), left, right)
        name = {"/": "Divide", "%": "Mod"}.get(op) or _ARITHMETIC[op]
        return call(f"{name}Real", real_type(), left, right)
    if family is INT:
        left, right = to_int(left), to_int(right)
        unsigned = left.ft.unsigned or right.ft.unsigned
        name = {"DIV": "IntDivide", "%": "Mod"}.get(op) or _ARITHMETIC[op]
        if op == "%":
            unsigned = left.ft.unsigned
        suffix = "Unsigned" if unsigned and op == "*" else ""
        return call(f"{name}Int{suffix}", int_type(unsigned=unsigned), left, right)
    left, right = to_decimal(left), to_decimal(right)
    return _decimal_arithmetic(op, left, right, div_increment)


def _decimal_arithmetic(op: str, left: Expr, right: Expr, div_increment: int) -> Expr:
    (p1, s1), (p2, s2) = (left.ft.flen, left.ft.scale), (right.ft.flen, right.ft.scale)
    if op == "DIV":
        return call("IntDivideDecimal", int_type(), left, right)
    if op == "*":
        return call("MultiplyDecimal", decimal_type(p1 + p2, s1 + s2), left, right)
    if op == "/":
        scale = min(30, s1 + div_increment)
        return call("DivideDecimal", decimal_type(p1 - s1 + s2 + scale, scale), left, right)
    scale = max(s1, s2)
    if op == "%":
        return call("ModDecimal", decimal_type(max(p1 - s1, p2 - s2) + scale, scale), left, right)
    return call(f"{_ARITHMETIC[op]}Decimal", decimal_type(max(p1 - s1, p2 - s2) + scale + 1, scale), left, right)


def common_collation(*exprs: Expr) -> int:
    """The collation strings are compared in: columns before literals, binary before text."""
    columns = [e.ft.collation for e in exprs if e.ft.eval_type is STRING and not isinstance(e, Constant)]
    if not columns:
        columns = [e.ft.collation for e in exprs if e.ft.eval_type is STRING]
    explicit = [abs(c) for c in columns]
    if not explicit:
        return 46
    if 63 in explicit:
        return 63
    return next((c for c in explicit if c != 46), 46)


def comparison_family(left: Expr, right: Expr) -> EvalType:
    """The family a comparison happens in."""
    a, b = left.ft.eval_type, right.ft.eval_type
    if left.ft.tp == NULL:
        return b
    if right.ft.tp == NULL or a is b:
        return a
    pair = {a, b}
    if pair == {JSON_T, STRING}:
        return STRING
    if TIME in pair and not pair & {REAL, DECIMAL, INT} - ({INT} if _const_side(left, right) else set()):
        return TIME
    if DURATION in pair and STRING in pair:
        return DURATION
    if pair <= {INT, DECIMAL}:
        return DECIMAL
    if STRING in pair and pair & {INT, DECIMAL}:
        literal = left if a is STRING else right
        if isinstance(literal, Constant) and isinstance(literal.value, bytes):
            return _literal_family(literal.value, next(iter(pair - {STRING})))
    return REAL


def _const_side(left: Expr, right: Expr) -> bool:
    return isinstance(left, Constant) or isinstance(right, Constant)


def _literal_family(raw: bytes, other: EvalType) -> EvalType:
    try:
        number = Decimal(raw.decode().strip())
    except (ArithmeticError, UnicodeDecodeError):
        return REAL
    if not number.is_finite():
        return REAL
    return other if other is DECIMAL or number == number.to_integral_value() else DECIMAL


def cast_family(expr: Expr, family: EvalType, partner: Expr | None = None) -> Expr:
    """Cast an operand of a comparison."""
    if family is INT:
        return to_int(expr)
    if family is REAL:
        return to_real(expr)
    if family is DECIMAL:
        return to_decimal(expr)
    if family is TIME:
        if partner is not None and partner.ft.tp == TIMESTAMP and expr.ft.eval_type is STRING:
            return cast_to(expr, datetime_type(6))
        return to_datetime(expr)
    if family is STRING and expr.ft.eval_type is JSON_T:
        return call("JsonUnquoteSig", string_type(), to_string(expr))
    return to_duration(expr) if family is DURATION else to_string(expr)


def compare(op: str, left: Expr, right: Expr) -> Expr:
    """The typed expression of LT LE GT GE EQ NE NullEQ."""
    family = comparison_family(left, right)
    left, right = cast_family(left, family, right), cast_family(right, family, left)
    ft = bool_type()
    if family is STRING:
        ft = replace(ft, collation=common_collation(left, right))
    return call(f"{op}{NAMES[family]}", ft, left, right)


def in_list(value: Expr, items: Sequence[Expr]) -> Expr:
    """value IN (items)."""
    families = {comparison_family(value, item) for item in items if not is_null(item)}
    if len(families) > 1:
        families = {REAL} if families & {REAL, STRING} else {DECIMAL}
    family = next(iter(families), value.ft.eval_type)
    args = [cast_family(e, family, value) for e in (value, *items)]
    ft = bool_type()
    if family is STRING:
        ft = replace(
            ft, collation=common_collation(args[0]) if not isinstance(args[0], Constant) else common_collation(*args)
        )
    return call(f"In{NAMES[family]}", ft, *args)


def truth_value(expr: Expr) -> Expr:
    """An expression as a condition: strings and times are compared with zero as numbers."""
    if expr.ft.eval_type in (INT, REAL, DECIMAL):
        return expr
    return to_real(expr)


def logic(name: str, left: Expr, right: Expr) -> Expr:
    """LogicalAnd, LogicalOr, LogicalXor."""
    return call(name, bool_type(), truth_value(left), truth_value(right))


def chain(name: str, parts: Sequence[Expr]) -> Expr:
    """A chain of AND or OR as a balanced tree (messages nest at most a hundred deep); `a = 1 OR a = 2` becomes IN."""
    if name == "LogicalOr" and len(parts) > 1 and (merged := _as_in_list(parts)) is not None:
        return merged
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return logic(name, chain(name, parts[:middle]), chain(name, parts[middle:]))


def _as_in_list(parts: Sequence[Expr]) -> Expr | None:
    first = parts[0]
    if not isinstance(first, ScalarFunc) or not first.name.startswith("EQ"):
        return None
    items = []
    for part in parts:
        if not isinstance(part, ScalarFunc) or part.sig != first.sig or part.ft != first.ft:
            return None
        column, value = part.args
        if column != first.args[0] or not isinstance(column, ColumnRef) or not isinstance(value, Constant):
            return None
        items.append(value)
    return call(f"In{first.name[2:]}", first.ft, first.args[0], *items)


def negate(expr: Expr) -> Expr:
    """NOT, pushed into comparisons where that is exact."""
    if isinstance(expr, ScalarFunc):
        flips = {"LT": "GE", "GE": "LT", "GT": "LE", "LE": "GT", "EQ": "NE", "NE": "EQ"}
        for name, other in flips.items():
            if expr.name.startswith(name) and expr.name[2:] in NAMES.values():
                return call(other + expr.name[2:], expr.ft, *expr.args)
    expr = truth_value(expr)
    return call(f"UnaryNot{NAMES[expr.ft.eval_type]}", bool_type(), expr)


def unify(exprs: Sequence[Expr]) -> FieldType:
    """The type of a CASE, IF, COALESCE or UNION column."""
    types = [e.ft for e in exprs if e.ft.tp != NULL and not is_null(e)]
    if not types:
        return exprs[0].ft if exprs else string_type()
    families = {t.eval_type for t in types}
    if len(families) == 1:
        return _unify_family(next(iter(families)), types, exprs)
    if families <= {INT, DECIMAL, REAL}:
        if REAL in families:
            return real_type()
        return _unify_family(DECIMAL, [as_decimal_type(e) for e in exprs if not is_null(e)], exprs)
    flens = [t.flen for t in types]
    return string_type(-1 if min(flens) < 0 else max(flens), common_collation(*exprs))


def _unify_family(family: EvalType, types: Sequence[FieldType], exprs: Sequence[Expr]) -> FieldType:
    flen = -1 if min(t.flen for t in types) < 0 else max(t.flen for t in types)
    if family is DECIMAL:
        scale = max(t.scale for t in types)
        return decimal_type(max(t.flen - t.scale for t in types) + scale, scale)
    if family is INT:
        unsigned = all(t.unsigned for t in types)
        return replace(int_type(unsigned=unsigned), flen=flen)
    if family is STRING:
        return string_type(flen, common_collation(*exprs))
    if family is TIME:
        tps = {t.tp for t in types}
        if tps == {DATE}:
            return FieldType(DATE, 128, 10, 0)
        return datetime_type(max(t.fsp for t in types))
    if family is DURATION:
        return duration_type(max(t.fsp for t in types))
    return real_type() if family is REAL else types[0]


def branch(expr: Expr, ft: FieldType) -> Expr:
    """A branch cast to the type of the whole."""
    return cast_to(expr, ft)


def is_constant_true(expr: Expr) -> bool:
    """A condition that always holds."""
    return (
        isinstance(expr, Constant) and expr.value is not None and not isinstance(expr.value, bytes) and bool(expr.value)
    )


def type_name(ft: FieldType) -> str:
    """A short name for plans: bigint, decimal(10,2) ..."""
    if ft.tp == NEWDECIMAL:
        return f"decimal({ft.flen},{ft.scale}) BINARY"
    if ft.eval_type is INT:
        return "bigint unsigned BINARY" if ft.flags & UNSIGNED_FLAG else "bigint BINARY"
    if ft.tp in (DATETIME, TIMESTAMP):
        return "datetime BINARY"
    return {REAL: "double BINARY", STRING: "var_string", TIME: "date BINARY", DURATION: "time"}.get(
        ft.eval_type, "json"
    )


def column(offset: int, ft: FieldType) -> ColumnRef:
    """A column reference."""
    return ColumnRef(offset, ft)
