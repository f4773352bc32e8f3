"""Typed expression trees: frozen values that a planner rewrites, a codec ships and `eval.evaluate` computes.

A `ColumnRef` points at a position of the input (a planner may use any integers of its own while it plans and number
them by position at the end). `Constant` values are Python values in the physical form of their type: int, float,
Decimal, bytes, packed int for dates, nanoseconds for TIME; None is NULL. `ScalarFunc.sig` is a tipb ScalarFuncSig.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from core_py.vector.fieldtype import FieldType, int_type
from protos.tipb import expression_pb2

Value = int | float | Decimal | bytes | None
SIG_NAMES: dict[int, str] = {number: name for name, number in expression_pb2.ScalarFuncSig.items()}


@dataclass(frozen=True, slots=True)
class ColumnRef:
    """A column of the input."""

    offset: int
    ft: FieldType


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal."""

    value: Value
    ft: FieldType


@dataclass(frozen=True, slots=True)
class ScalarFunc:
    """A function of a row."""

    sig: int
    args: tuple[Expr, ...]
    ft: FieldType

    @property
    def name(self) -> str:
        """The name of the signature."""
        return SIG_NAMES.get(self.sig, str(self.sig))


Expr = ColumnRef | Constant | ScalarFunc

# ExprType numbers of tipb
COUNT, SUM, AVG, MIN, MAX, FIRST, GROUP_CONCAT, BIT_AND, BIT_OR, BIT_XOR = range(3001, 3011)
STDDEV_POP, STDDEV_SAMP, VAR_POP, VAR_SAMP = 3013, 3014, 3015, 3016


@dataclass(frozen=True, slots=True)
class AggDesc:
    """An aggregate function; `kind` is the ExprType number of tipb."""

    kind: int
    args: tuple[Expr, ...]
    ft: FieldType
    distinct: bool = False
    order_by: tuple[SortKey, ...] = ()  # GROUP_CONCAT only
    separator: bytes = b","  # GROUP_CONCAT only


@dataclass(frozen=True, slots=True)
class SortKey:
    """One ORDER BY item."""

    expr: Expr
    desc: bool = False


def sig(name: str) -> int:
    """The number of a signature."""
    return int(expression_pb2.ScalarFuncSig.Value(name))


def func(name: str, ft: FieldType, *args: Expr) -> ScalarFunc:
    """Make a function call by signature name."""
    return ScalarFunc(sig(name), args, ft)


def int_const(value: int) -> Constant:
    """An integer literal."""
    return Constant(value, int_type(unsigned=value >= 1 << 63, flen=len(str(value)), not_null=True))


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and everything below it."""
    stack = [expr]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, ScalarFunc):
            stack.extend(reversed(node.args))


def columns_of(expr: Expr) -> set[int]:
    """The offsets an expression reads."""
    return {node.offset for node in walk(expr) if isinstance(node, ColumnRef)}


def transform(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """Rebuild bottom-up, replacing every node by `change(node)`."""
    if isinstance(expr, ScalarFunc):
        args = tuple(transform(arg, change) for arg in expr.args)
        if args != expr.args:
            expr = replace(expr, args=args)
    return change(expr)


def remap(expr: Expr, positions: dict[int, int]) -> Expr:
    """Renumber column references."""
    return transform(expr, lambda e: replace(e, offset=positions[e.offset]) if isinstance(e, ColumnRef) else e)
