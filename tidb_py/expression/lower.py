"""sqlglot expressions to typed expressions: literals, names, operators, casts, functions, intervals.

sqlglot normalises some MySQL functions into others (CHAR_LENGTH into Length, DATE_FORMAT patterns into strftime ones); the
tables here undo that. Sub-queries and aggregates are the query builder's: it passes handlers for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from sqlglot import expressions as exp

from core_py.vector.collate import IDS
from core_py.vector.expr import Constant, Expr, func
from core_py.vector.fieldtype import (
    BINARY_FLAG,
    DATE,
    JSON,
    FieldType,
    bool_type,
    date_type,
    datetime_type,
    decimal_type,
    duration_type,
    int_type,
    null_type,
    real_type,
    string_type,
)  # fmt: skip
from core_py.vector.temporal import parse_duration, parse_time
from tidb_py.errors import GroupFunction, NotSupported, OperandColumns, ParseError, UnknownCollation, UnknownFunction
from tidb_py.expression import functions
from tidb_py.expression import typing as t
from tidb_py.expression.calls import CALLS
from tidb_py.expression.scope import Scope

Node = Any  # a sqlglot expression; the compiled package has no types

_COMPARE = {
    exp.EQ: "EQ",
    exp.NEQ: "NE",
    exp.LT: "LT",
    exp.LTE: "LE",
    exp.GT: "GT",
    exp.GTE: "GE",
    exp.NullSafeEQ: "NullEQ",
}
_ARITHMETIC = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.IntDiv: "DIV", exp.Mod: "%"}
_LOGIC = {exp.And: "LogicalAnd", exp.Or: "LogicalOr"}
_BITS = {
    exp.BitwiseAnd: "BitAndSig", exp.BitwiseOr: "BitOrSig", exp.BitwiseXor: "BitXorSig",
    exp.BitwiseLeftShift: "LeftShift", exp.BitwiseRightShift: "RightShift",
}  # fmt: skip
_AGGREGATES = (exp.AggFunc,)
_STRFTIME_BACK = [
    ("%H:%M:%S", "%T"), ("%-m", "%c"), ("%-d", "%e"), ("%-H", "%k"), ("%-I", "%l"), ("%B", "\0M"), ("%M", "%i"),
    ("%S", "%s"), ("%I", "%h"), ("%W", "%u"), ("%A", "%W"), ("\0M", "%M"),
]  # fmt: skip


@dataclass(slots=True)
class LowerContext:
    """What lowering needs from the statement and its session."""

    params: Sequence[Constant] = ()
    session_function: Callable[[str, list[Expr]], Expr | None] = lambda _name, _args: None
    system_variable: Callable[[str, str], Constant] = lambda _name, _scope: Constant(None, null_type())
    user_variable: Callable[[str], Constant] = lambda _name: Constant(None, null_type())
    assign_user_variable: Callable[[str, Expr], Expr] | None = None
    div_precision_increment: int = 4
    used_params: set[int] = field(default_factory=set)


class Lowering:
    """Turns the expressions of one query level into typed ones."""

    def __init__(self, ctx: LowerContext, scope: Scope) -> None:
        self.ctx = ctx
        self.scope = scope
        self.on_aggregate: Callable[[Node], Expr] | None = None
        self.on_subquery: Callable[[Node], Expr] | None = None
        self.on_window: Callable[[Node], Expr] | None = None
        self.on_values: Callable[[str], Expr] | None = None
        self.substitute: Callable[[Node], Expr | None] | None = None

    def __call__(self, node: Node) -> Expr:
        """The typed expression of a node."""
        if self.substitute is not None:
            known = self.substitute(node)
            if known is not None:
                return known
        kind = type(node)
        if kind in _COMPARE:
            return self._compare(_COMPARE[kind], node.this, node.expression)
        if kind in _ARITHMETIC:
            return self._arithmetic(_ARITHMETIC[kind], node)
        if kind in (exp.And, exp.Or):
            return t.chain(_LOGIC[kind], [self(part) for part in _flat(node, kind)])
        if kind is exp.Xor:
            return t.logic("LogicalXor", self(node.this), self(node.expression))
        if node is None:
            raise NotSupported("this expression is not supported")
        if kind in CALLS:
            return self._call(*CALLS[kind], node)
        if kind in _BITS:
            args = [t.to_int(self(node.this)), t.to_int(self(node.expression))]
            return t.call(_BITS[kind], int_type(unsigned=True), *args)
        handler = _HANDLERS.get(kind)
        if handler is not None:
            return handler(self, node)
        if isinstance(node, _AGGREGATES):
            if self.on_aggregate is None:
                raise GroupFunction("Invalid use of group function")
            return self.on_aggregate(node)
        if isinstance(node, exp.Query) or kind in (exp.Exists, exp.Any, exp.All):
            return self._subquery(node)
        raise NotSupported(f"expression {node.sql('mysql')[:60]} is not supported")

    def _subquery(self, node: Node) -> Expr:
        if self.on_subquery is None:
            raise NotSupported("a sub-query cannot be used here")
        return self.on_subquery(node)

    def _compare(self, op: str, left: Node, right: Node) -> Expr:
        if isinstance(right, (exp.Any, exp.All)) or (isinstance(left, exp.Tuple) and isinstance(right, exp.Query)):
            return self._subquery(exp.EQ(this=left, expression=right) if op == "EQ" else right.parent)
        lefts, rights = _tuple_items(left), _tuple_items(right)
        if lefts is None and rights is None:
            return t.compare(op, self(left), self(right))
        if lefts is None or rights is None or len(lefts) != len(rights):
            raise OperandColumns(f"Operand should contain {len(lefts or rights or [])} column(s)")
        return self._compare_rows(op, lefts, rights)

    def _compare_rows(self, op: str, lefts: list[Node], rights: list[Node]) -> Expr:
        if op in ("EQ", "NullEQ", "NE"):
            parts = [self._compare("EQ" if op == "NE" else op, a, b) for a, b in zip(lefts, rights, strict=True)]
            whole = parts[0]
            for part in parts[1:]:
                whole = t.logic("LogicalAnd", whole, part)
            return t.negate(whole) if op == "NE" else whole
        first, strict = (lefts[0], rights[0]), op[:1] + "T"
        if len(lefts) == 1:
            return self._compare(op, *first)
        rest = t.logic("LogicalAnd", self._compare("EQ", *first), self._compare_rows(op, lefts[1:], rights[1:]))
        return t.logic("LogicalOr", self._compare(strict, *first), rest)

    def _arithmetic(self, op: str, node: Node) -> Expr:
        left, right = node.this, node.expression
        for value, interval in ((left, right), (right, left)):
            if isinstance(interval, exp.Interval) and op in "+-":
                return self._shift("Add" if op == "+" else "Sub", value, interval.this, _unit(interval))
        return t.arithmetic(op, self(left), self(right), div_increment=self.ctx.div_precision_increment)

    def _shift(self, verb: str, value: Node, amount: Node, unit: str) -> Expr:
        typed = self(amount)
        if isinstance(typed, Constant) and isinstance(typed.value, bytes) and "_" not in unit:
            text = typed.value.decode(errors="replace")
            typed = t.to_decimal(typed) if "." in text else t.to_int(typed)
        return functions.date_arithmetic(verb, self(value), typed, unit)

    def _call(self, name: str, keys: tuple[str, ...], node: Node) -> Expr:
        nodes: list[Node] = []
        for key in keys:
            value = node.args.get(key)
            if isinstance(value, list):
                nodes.extend(value)
            elif value is not None:
                nodes.append(value)
        if name == "log" and isinstance(nodes[0], exp.Literal) and nodes[0].this in ("2", "10") and len(nodes) == 2:
            name, nodes = f"log{nodes[0].this}", nodes[1:]
        if name == "coalesce" and len(nodes) == 2:
            name = "ifnull"
        return self.named(name, [self(n) for n in nodes])

    def named(self, name: str, args: list[Expr]) -> Expr:
        """A function by its SQL name."""
        built = functions.build(name, args)
        if built is None:
            built = self.ctx.session_function(name, args)
        if built is None:
            raise UnknownFunction(f"FUNCTION {name} does not exist")
        return built


def _flat(node: Node, kind: Any) -> list[Node]:
    """The operands of a chain of one operator, however deep the parser nested it."""
    out, stack = [], [node]
    while stack:
        top = stack.pop()
        while isinstance(top, exp.Paren) and isinstance(top.this, kind):
            top = top.this
        if isinstance(top, kind):
            stack += [top.expression, top.this]
        else:
            out.append(top)
    return out


def _tuple_items(node: Node) -> list[Node] | None:
    if isinstance(node, exp.Tuple):
        return list(node.expressions)
    if isinstance(node, exp.Anonymous) and str(node.this).lower() == "row":
        return list(node.expressions)
    return None


def _unit(node: Node) -> str:
    unit = node.args.get("unit")
    name = str(unit.this if hasattr(unit, "this") else unit).upper() if unit is not None else "DAY"
    return name.removesuffix("S") if name in ("DAYS", "MONTHS", "YEARS", "HOURS", "MINUTES", "WEEKS") else name


def literal(node: Node) -> Constant:
    """A literal of the text."""
    text = str(node.this)
    if node.is_string:
        raw = text.encode("utf-8", "surrogateescape")
        return Constant(raw, string_type(len(text)))
    return number(text)


def number(text: str) -> Constant:
    """A number as MySQL types it: integer, decimal, or double when it has an exponent."""
    if text.isdigit():
        value = int(text)
        if value < 1 << 64:
            return Constant(value, int_type(unsigned=value >= 1 << 63, flen=len(text), not_null=True))
        return Constant(Decimal(text), decimal_type(len(text), 0))
    if "e" in text or "E" in text:
        return Constant(float(text), real_type())
    exact = Decimal(text)
    exponent = exact.as_tuple().exponent
    scale = min(30, -exponent) if isinstance(exponent, int) else 0
    return Constant(exact, decimal_type(max(len(exact.as_tuple().digits), scale, 1), scale))


def _lower_column(self: Lowering, node: Node) -> Expr:
    if isinstance(node.this, exp.Star):
        raise ParseError("'*' cannot be used here")
    return self.scope.find(node.name, node.text("table"), node.text("db")).ref


def _lower_literal(_self: Lowering, node: Node) -> Expr:
    return literal(node)


def _lower_placeholder(self: Lowering, node: Node) -> Expr:
    name = str(node.this or "")
    if not name.startswith("v") or not name[1:].isdigit() or int(name[1:]) >= len(self.ctx.params):
        raise ParseError("a parameter marker has no value here")
    self.ctx.used_params.add(int(name[1:]))
    return self.ctx.params[int(name[1:])]


def _lower_neg(self: Lowering, node: Node) -> Expr:
    value = self(node.this)
    family = t.numeric_family(value)
    if family is t.INT:
        value = t.to_int(value)
        return t.call("UnaryMinusInt", int_type(), value)
    if family is t.DECIMAL:
        value = t.to_decimal(value)
        return t.call("UnaryMinusDecimal", value.ft.nullable(), value)
    return t.call("UnaryMinusReal", real_type(), t.to_real(value))


def _lower_not(self: Lowering, node: Node) -> Expr:
    return t.negate(self(node.this))


def _lower_is(self: Lowering, node: Node) -> Expr:
    value, what = self(node.this), node.expression
    if isinstance(what, exp.Null):
        return t.call(f"{t.NAMES[value.ft.eval_type]}IsNull", bool_type(), value)
    value = t.truth_value(value)
    verb = "True" if isinstance(what, exp.Boolean) and what.this else "False"
    return t.call(f"{t.NAMES[value.ft.eval_type]}Is{verb}", bool_type(), value)


def _lower_between(self: Lowering, node: Node) -> Expr:
    value, low, high = self(node.this), self(node.args["low"]), self(node.args["high"])
    return t.logic("LogicalAnd", t.compare("GE", value, low), t.compare("LE", value, high))


def _lower_in(self: Lowering, node: Node) -> Expr:
    if node.args.get("query") is not None:
        return self._subquery(node)
    lefts = _tuple_items(node.this)
    if lefts is None:
        return t.in_list(self(node.this), [self(e) for e in node.expressions])
    whole: Expr | None = None
    for item in node.expressions:
        one = self._compare("EQ", node.this, item)
        whole = one if whole is None else t.logic("LogicalOr", whole, one)
    assert whole is not None
    return whole


def _lower_like(self: Lowering, node: Node, escape: int = 92) -> Expr:
    value, pattern = t.to_string(self(node.this)), t.to_string(self(node.expression))
    ft = replace(bool_type(), collation=t.common_collation(value, pattern))
    mark = Constant(escape, int_type())
    like = t.call("LikeSig", ft, value, pattern, mark)
    return t.negate(like) if node.args.get("negate") else like


def _lower_escape(self: Lowering, node: Node) -> Expr:
    mark = self(node.expression)
    raw = mark.value if isinstance(mark, Constant) and isinstance(mark.value, bytes) else b"\\"
    if isinstance(node.this, exp.Not):
        return t.negate(_lower_like(self, node.this.this, raw[0] if raw else 0))
    return _lower_like(self, node.this, raw[0] if raw else 0)


def _lower_case(self: Lowering, node: Node) -> Expr:
    conditions, values = [], []
    for branch in node.args["ifs"]:
        if node.this is not None:
            conditions.append(self._compare("EQ", node.this, branch.this))
        else:
            conditions.append(t.truth_value(self(branch.this)))
        values.append(self(branch.args["true"]))
    default = node.args.get("default")
    if default is not None:
        values.append(self(default))
    ft = t.unify(values).nullable()
    args: list[Expr] = []
    for condition, value in zip(conditions, values, strict=False):
        args += [condition, t.branch(value, ft)]
    if default is not None:
        args.append(t.branch(values[-1], ft))
    return t.call(f"CaseWhen{t.NAMES[ft.eval_type]}", ft, *args)


def cast_type(node: Node) -> FieldType:
    """The type named in CAST."""
    kind = node.this.value if hasattr(node.this, "value") else str(node.this)
    sizes = [int(p.name) for p in node.expressions if p.name.isdigit()]
    first = sizes[0] if sizes else -1
    if kind in ("BIGINT", "INT", "SMALLINT", "TINYINT", "MEDIUMINT"):
        return int_type()
    if kind.startswith("U") and kind.endswith("INT"):
        return int_type(unsigned=True)
    if kind in ("DECIMAL", "BIGDECIMAL"):
        return decimal_type(first if first > 0 else 10, sizes[1] if len(sizes) > 1 else 0)
    if kind in ("CHAR", "VARCHAR", "NCHAR", "NVARCHAR", "TEXT", "CHARACTER_SET"):
        return string_type(first)
    if kind in ("BINARY", "VARBINARY"):
        return string_type(first, 63)
    if kind == "DATE":
        return date_type()
    if kind in ("DATETIME", "TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMPNTZ"):
        return datetime_type(max(0, first))
    if kind in ("TIME", "TIMETZ"):
        return duration_type(max(0, first))
    if kind in ("DOUBLE", "FLOAT"):
        return real_type()
    if kind == "JSON":
        return FieldType(JSON, BINARY_FLAG, collation=46)
    if kind == "YEAR":
        return int_type()
    raise NotSupported(f"CAST to {kind} is not supported")


def _lower_cast(self: Lowering, node: Node) -> Expr:
    value, target = self(node.this), cast_type(node.args["to"])
    literal_text = value.value if isinstance(value, Constant) and isinstance(value.value, bytes) else None
    if literal_text is not None and target.eval_type in (t.TIME, t.DURATION) and not node.args["to"].expressions:
        text = literal_text.decode(errors="replace")
        fsp = min(6, len(text.partition(".")[2]))
        if target.eval_type is t.TIME and parse_time(text) is not None and target.tp != DATE:
            target = datetime_type(fsp if isinstance(node.this, exp.Literal) else 0)
        elif target.eval_type is t.DURATION and parse_duration(text) is not None:
            target = duration_type(fsp)
    return t.cast_to(value, target)


def _lower_binary_collate(self: Lowering, node: Node) -> Expr:
    value = t.to_string(self(node.this))
    name = str(node.expression.name or node.expression.this)
    if name.lower() not in IDS:
        raise UnknownCollation(f"Unknown collation: '{name}'")
    return func("StringAnyValue", replace(value.ft, collation=IDS[name.lower()]), value)


def _lower_trim(self: Lowering, node: Node) -> Expr:
    position = str(node.args.get("position") or "").upper()
    value, remove = self(node.this), node.args.get("expression")
    if remove is None:
        return self.named({"LEADING": "ltrim", "TRAILING": "rtrim"}.get(position, "trim"), [value])
    side = {"LEADING": 2, "TRAILING": 3}.get(position, 1)
    args = [t.to_string(value), t.to_string(self(remove))]
    return t.call("Trim3Args", string_type(), *args, Constant(side, int_type()))


def _lower_position(self: Lowering, node: Node) -> Expr:
    args = [self(node.args["substr"]), self(node.this)]
    if node.args.get("position") is not None:
        args.append(self(node.args["position"]))
    return self.named("locate", args)


def _lower_pad(self: Lowering, node: Node) -> Expr:
    name = "lpad" if node.args.get("is_left") else "rpad"
    args = [self(node.this), self(node.expression)]
    fill = node.args.get("fill_pattern")
    return self.named(name, [*args, self(fill)] if fill is not None else args)


def _lower_length(self: Lowering, node: Node) -> Expr:
    return self.named("length" if node.args.get("binary") else "char_length", [self(node.this)])


def _back_to_mysql(value: Expr) -> Expr:
    if not (isinstance(value, Constant) and isinstance(value.value, bytes)):
        return value
    text = value.value.decode()
    for theirs, ours in _STRFTIME_BACK:
        text = text.replace(theirs, ours)
    return replace(value, value=text.encode())


def _lower_date_format(self: Lowering, node: Node) -> Expr:
    return self.named("date_format", [self(node.this), _back_to_mysql(self(node.args["format"]))])


def _lower_str_to_date(self: Lowering, node: Node) -> Expr:
    return self.named("str_to_date", [self(node.this), _back_to_mysql(self(node.args["format"]))])


def _lower_same(self: Lowering, node: Node) -> Expr:
    return self(node.this)


def _lower_to_date(self: Lowering, node: Node) -> Expr:
    if isinstance(node.parent, (exp.Year, exp.Month, exp.Day, exp.Week, exp.TimeToStr, exp.DayOfMonth, exp.DateDiff)):
        return self(node.this)
    return self.named("date", [self(node.this)])


def _lower_extract(self: Lowering, node: Node) -> Expr:
    unit, value = str(node.this.name).upper(), self(node.expression)
    if "_" not in unit:
        return self.named(unit.lower(), [value])
    parts = {"YEAR": 0, "MONTH": 2, "DAY": 2, "HOUR": 2, "MINUTE": 2, "SECOND": 2, "MICROSECOND": 6}
    first, last = unit.split("_")
    names = list(parts)
    chosen = names[names.index(first) : names.index(last) + 1]
    whole: Expr = Constant(0, int_type())
    for name in chosen:
        scale = Constant(10 ** parts[name], int_type())
        whole = t.arithmetic("+", t.arithmetic("*", whole, scale), self.named(name.lower(), [value]))
    return whole


def _lower_date_add(self: Lowering, node: Node) -> Expr:
    verb = "Sub" if isinstance(node, exp.DateSub) else "Add"
    amount = node.expression
    if isinstance(amount, exp.Interval):
        return self._shift(verb, node.this, amount.this, _unit(amount))
    return self._shift(verb, node.this, amount, _unit(node))


def _lower_date_diff(self: Lowering, node: Node) -> Expr:
    return self.named("datediff", [self(node.this), self(node.expression)])


def _lower_timestamp_diff(self: Lowering, node: Node) -> Expr:
    return functions.timestamp_diff(_unit(node), self(node.expression), self(node.this))


def _lower_anonymous(self: Lowering, node: Node) -> Expr:
    name = str(node.this).lower()
    if name == "values" and self.on_values is not None:
        return self.on_values(node.expressions[0].name)
    if name in ("adddate", "subdate"):
        verb = "Add" if name == "adddate" else "Sub"
        amount = node.expressions[1]
        if isinstance(amount, exp.Interval):
            return self._shift(verb, node.expressions[0], amount.this, _unit(amount))
        return self._shift(verb, node.expressions[0], amount, "DAY")
    return self.named(name, [self(e) for e in node.expressions])


def _session_call(name: str) -> Callable[[Lowering, Node], Expr]:
    def lower(self: Lowering, node: Node) -> Expr:
        arg = node.args.get("this")
        return self.named(name, [self(arg)] if arg is not None and not isinstance(arg, str) else [])

    return lower


def _lower_system_variable(self: Lowering, node: Node) -> Expr:
    scope = str(node.args.get("kind") or "")
    return self.ctx.system_variable(str(node.name or node.this), scope.lower())


def _lower_user_variable(self: Lowering, node: Node) -> Expr:
    return self.ctx.user_variable(str(node.name))


def _lower_assignment(self: Lowering, node: Node) -> Expr:
    if self.ctx.assign_user_variable is None or not isinstance(node.this, exp.Parameter):
        raise NotSupported("':=' cannot be used here")
    return self.ctx.assign_user_variable(str(node.this.name), self(node.expression))


def _lower_hex(_self: Lowering, node: Node) -> Expr:
    digits = str(node.this)
    raw = bytes.fromhex("0" * (len(digits) % 2) + digits)
    return Constant(raw, FieldType(253, BINARY_FLAG, len(raw), collation=63))


def _lower_bits(_self: Lowering, node: Node) -> Expr:
    value = int(str(node.this) or "0", 2)
    raw = value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
    return Constant(raw, FieldType(253, BINARY_FLAG, len(raw), collation=63))


def _lower_json(self: Lowering, node: Node) -> Expr:
    path = node.expression
    text = path.sql("mysql").strip("'") if isinstance(path, exp.JSONPath) else None
    steps = self(path) if text is None else Constant(text.encode(), string_type())
    found = self.named("json_extract", [self(node.this), steps, *(self(e) for e in node.expressions)])
    return self.named("json_unquote", [found]) if isinstance(node, exp.JSONExtractScalar) else found


def _lower_json_object(self: Lowering, node: Node) -> Expr:
    pairs = [part for item in node.expressions for part in (item.this, item.expression)]
    return self.named("json_object", [self(p) for p in pairs])


def _lower_window(self: Lowering, node: Node) -> Expr:
    if self.on_window is None:
        raise NotSupported("window functions are not supported")
    return self.on_window(node)


_HANDLERS: dict[Any, Callable[[Lowering, Node], Expr]] = {
    exp.Column: _lower_column,
    exp.Literal: _lower_literal,
    exp.Null: lambda _s, _n: Constant(None, null_type()),
    exp.Boolean: lambda _s, n: Constant(1 if n.this else 0, int_type(flen=1, not_null=True)),
    exp.Paren: _lower_same,
    exp.Placeholder: _lower_placeholder,
    exp.Neg: _lower_neg,
    exp.Not: _lower_not,
    exp.Is: _lower_is,
    exp.Between: _lower_between,
    exp.In: _lower_in,
    exp.Like: _lower_like,
    exp.Escape: _lower_escape,
    exp.Case: _lower_case,
    exp.Cast: _lower_cast,
    exp.Collate: _lower_binary_collate,
    exp.Trim: _lower_trim,
    exp.StrPosition: _lower_position,
    exp.Pad: _lower_pad,
    exp.Length: _lower_length,
    exp.TimeToStr: _lower_date_format,
    exp.StrToDate: _lower_str_to_date,
    exp.TsOrDsToDate: _lower_to_date,
    exp.TsOrDsToTimestamp: _lower_same,
    exp.Extract: _lower_extract,
    exp.DateAdd: _lower_date_add,
    exp.DateSub: _lower_date_add,
    exp.TimestampAdd: _lower_date_add,
    exp.DateDiff: _lower_date_diff,
    exp.TimestampDiff: _lower_timestamp_diff,
    exp.Anonymous: _lower_anonymous,
    exp.BitwiseNot: lambda s, n: t.call("BitNegSig", int_type(unsigned=True), t.to_int(s(n.this))),
    exp.SessionParameter: _lower_system_variable,
    exp.Parameter: _lower_user_variable,
    exp.PropertyEQ: _lower_assignment,
    exp.HexString: _lower_hex,
    exp.BitString: _lower_bits,
    exp.National: lambda _s, n: Constant(str(n.this).encode(), string_type()),
    exp.Introducer: lambda s, n: s(n.expression),
    exp.Window: _lower_window,
    exp.JSONExtract: _lower_json,
    exp.JSONExtractScalar: _lower_json,
    exp.JSONObject: _lower_json_object,
    exp.CurrentTimestamp: _session_call("now"),
    exp.Localtime: _session_call("now"),
    exp.Localtimestamp: _session_call("now"),
    exp.CurrentDate: _session_call("curdate"),
    exp.CurrentTime: _session_call("curtime"),
    exp.UtcTimestamp: _session_call("utc_timestamp"),
    exp.UtcDate: _session_call("utc_date"),
    exp.UtcTime: _session_call("utc_time"),
    exp.CurrentSchema: lambda s, _n: s.named("database", []),
    exp.CurrentUser: lambda s, _n: s.named("current_user", []),
    exp.CurrentVersion: lambda s, _n: s.named("version", []),
}
