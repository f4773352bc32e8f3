"""Aggregate functions: from sqlglot's nodes to descriptions with casts and result types."""

from __future__ import annotations

from typing import Any

from sqlglot import expressions as exp

from core_py.vector import expr as vx
from core_py.vector.expr import AggDesc, Constant, Expr, SortKey, int_const
from core_py.vector.fieldtype import EvalType, decimal_type, int_type, real_type, string_type
from tidb_py.errors import NotSupported
from tidb_py.expression import typing as t
from tidb_py.expression.lower import Lowering

Node = Any
_SIMPLE = {exp.Max: vx.MAX, exp.Min: vx.MIN, exp.AnyValue: vx.FIRST}
_REAL = {
    exp.StddevPop: vx.STDDEV_POP, exp.Stddev: vx.STDDEV_POP, exp.StddevSamp: vx.STDDEV_SAMP,
    exp.VariancePop: vx.VAR_POP, exp.Variance: vx.VAR_SAMP,
}  # fmt: skip
_BITS = {exp.BitwiseAndAgg: vx.BIT_AND, exp.BitwiseOrAgg: vx.BIT_OR, exp.BitwiseXorAgg: vx.BIT_XOR}


def make_aggregate(node: Node, lower: Lowering) -> AggDesc:
    """The description of an aggregate call."""
    kind = type(node)
    if kind is exp.GroupConcat:
        return _group_concat(node, lower)
    inner = node.this
    distinct = isinstance(inner, exp.Distinct)
    nodes = list(inner.expressions) if distinct else [inner, *(node.expressions or ())]
    if kind is exp.Count:
        if not nodes or isinstance(nodes[0], exp.Star):
            return AggDesc(vx.COUNT, (int_const(1),), int_type(flen=21, not_null=True))
        args = tuple(lower(n) for n in nodes)
        return AggDesc(vx.COUNT, args, int_type(flen=21, not_null=True), distinct)
    value = lower(nodes[0])
    if kind in _SIMPLE:
        return AggDesc(_SIMPLE[kind], (value,), value.ft.nullable(), distinct=False)
    if kind is exp.Sum:
        return _sum(value, distinct=distinct)
    if kind is exp.Avg:
        return _avg(value, lower.ctx.div_precision_increment, distinct=distinct)
    if kind in _REAL:
        return AggDesc(_REAL[kind], (t.to_real(value),), real_type(), distinct)
    if kind in _BITS:
        return AggDesc(_BITS[kind], (t.to_int(value),), int_type(unsigned=True, not_null=True))
    raise NotSupported(f"aggregate function {node.sql('mysql')[:40]} is not supported")


def _numeric(value: Expr) -> Expr:
    family = t.numeric_family(value)
    return t.to_real(value) if family is EvalType.REAL else t.to_decimal(value)


def _sum(value: Expr, *, distinct: bool) -> AggDesc:
    value = _numeric(value)
    if value.ft.eval_type is EvalType.REAL:
        return AggDesc(vx.SUM, (value,), real_type(), distinct)
    ft = decimal_type(min(65, value.ft.flen + 22), value.ft.scale)
    return AggDesc(vx.SUM, (value,), ft, distinct)


def _avg(value: Expr, increment: int, *, distinct: bool) -> AggDesc:
    value = _numeric(value)
    if value.ft.eval_type is EvalType.REAL:
        return AggDesc(vx.AVG, (value,), real_type(), distinct)
    ft = decimal_type(min(65, value.ft.flen + increment), min(30, value.ft.scale + increment))
    return AggDesc(vx.AVG, (value,), ft, distinct)


def _group_concat(node: Node, lower: Lowering) -> AggDesc:
    body, keys = node.this, []
    if isinstance(body, exp.Order):
        keys = [SortKey(lower(o.this), bool(o.args.get("desc"))) for o in body.expressions]
        body = body.this
    distinct = isinstance(body, exp.Distinct)
    nodes = list(body.expressions) if distinct else [body]
    separator = (
        lower(node.args["separator"]) if node.args.get("separator") is not None else Constant(b",", string_type())
    )
    raw = separator.value if isinstance(separator, Constant) and isinstance(separator.value, bytes) else b","
    args = tuple(t.to_string(lower(n)) for n in nodes)
    return AggDesc(vx.GROUP_CONCAT, args, string_type(), distinct, tuple(keys), raw)
