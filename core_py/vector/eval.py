"""Computing an expression over a batch: a table from ScalarFuncSig to kernel, and the rules around every kernel.

A kernel takes a `Call` and its arguments, already computed, and returns an Arrow array, or a scalar when all arguments
were scalars. NULL in, NULL out is the kernel's business (Arrow's kernels do it). Integer-valued kernels may return Arrow
booleans; `ints` turns them into numbers where a number is needed. The result of `evaluate` always has the Arrow type of
the expression's field type and the length of the batch.

It does not parse, infer types or add casts: a planner does. Arrow's own errors never leave: overflow is 1690.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as _pyarrow

from core_py.vector.arrow import FALSE, Vec, pa, pc
from core_py.vector.errors import OutOfRange, Truncated, UnsupportedFunction
from core_py.vector.expr import ColumnRef, Constant, Expr, ScalarFunc, sig
from core_py.vector.fieldtype import EvalType, FieldType, arrow_type, decimal_arrow

FLAG_IGNORE_TRUNCATE, FLAG_TRUNCATE_AS_WARNING, FLAG_OVERFLOW_AS_WARNING, FLAG_DIV0_AS_WARNING = 1, 2, 64, 256
FLAG_IN_INSERT, FLAG_IN_UPDATE_OR_DELETE, FLAG_IN_SELECT = 8, 16, 32


@dataclass(slots=True)
class EvalContext:
    """What expressions depend on besides the row: the session's settings; and where warnings go."""

    flags: int = FLAG_TRUNCATE_AS_WARNING | FLAG_IN_SELECT | FLAG_DIV0_AS_WARNING
    sql_mode: int = 0
    time_zone: dt.tzinfo = dt.UTC
    div_precision_increment: int = 4
    max_warnings: int = 64
    warnings: list[tuple[int, str]] = field(default_factory=list)
    warning_count: int = 0

    def warn(self, code: int, message: str) -> None:
        """Note a warning; beyond the limit they are only counted."""
        self.warning_count += 1
        if len(self.warnings) < self.max_warnings:
            self.warnings.append((code, message))

    def truncated(self, kind: str, value: object) -> None:
        """A text was cut to make a value of it: an error in strict DML, a warning elsewhere."""
        if self.flags & FLAG_IGNORE_TRUNCATE:
            return
        message = f"Truncated incorrect {kind} value: '{value}'"
        if not self.flags & FLAG_TRUNCATE_AS_WARNING:
            raise Truncated(message)
        self.warn(1292, message)

    def division_by_zero(self) -> None:
        """A divisor was zero; the result is NULL."""
        self.warn(1365, "Division by 0")


@dataclass(slots=True)
class Call:
    """One function call: everything a kernel may need besides the argument values."""

    ctx: EvalContext
    node: ScalarFunc
    rows: int

    @property
    def ft(self) -> FieldType:
        """The type of the result."""
        return self.node.ft

    @property
    def collation(self) -> int:
        """The collation to compare in."""
        return abs(self.node.ft.collation)

    def arg_type(self, i: int) -> FieldType:
        """The type of an argument."""
        return self.node.args[i].ft

    def array(self, value: Vec) -> Vec:
        """The value as an array as long as the batch."""
        return broadcast(value, self.rows)


Kernel = Callable[..., Vec]
KERNELS: dict[int, Kernel] = {}


def kernel(*names: str) -> Callable[[Kernel], Kernel]:
    """Register a kernel for signatures."""

    def register(function: Kernel) -> Kernel:
        for name in names:
            KERNELS[sig(name)] = function
        return function

    return register


def broadcast(value: Vec, rows: int) -> Vec:
    """A scalar as an array; arrays as they are."""
    if isinstance(value, _pyarrow.Scalar):
        return pa.repeat(value, rows) if value.is_valid else pa.nulls(rows, value.type)
    if isinstance(value, _pyarrow.ChunkedArray):
        return value.combine_chunks()
    return value


def ints(value: Vec) -> Vec:
    """Booleans as numbers."""
    return pc.cast(value, pa.int64()) if value.type == pa.bool_() else value


def conform(value: Vec, target: Any) -> Vec:
    """Cast to an Arrow type; a value that does not fit is error 1690."""
    if value.type == target:
        return value
    try:
        if pa.types.is_decimal(target) and pa.types.is_decimal(value.type) and value.type.scale > target.scale:
            value = pc.round(value, ndigits=target.scale, round_mode="half_towards_infinity")
        return value.cast(target)
    except (_pyarrow.ArrowInvalid, _pyarrow.ArrowNotImplementedError) as error:
        raise OutOfRange(f"value is out of range: {error}") from error


def constant_scalar(node: Constant) -> Vec:
    """A literal as an Arrow scalar; a decimal keeps its own digits, which may be more or fewer than its type's."""
    if isinstance(node.value, Decimal):
        _, digits, exponent = node.value.as_tuple()
        shift = exponent if isinstance(exponent, int) else 0
        scale = max(0, -shift)
        return pa.scalar(node.value, decimal_arrow(max(len(digits) + max(0, shift), scale), scale))
    return pa.scalar(node.value, arrow_type(node.ft))


def compute(expr: Expr, columns: Sequence[Vec], rows: int, ctx: EvalContext) -> Vec:
    """The value of an expression as kernels pass it on: maybe a scalar, maybe boolean."""
    if isinstance(expr, ColumnRef):
        return columns[expr.offset]
    if isinstance(expr, Constant):
        return constant_scalar(expr)
    function = KERNELS.get(expr.sig)
    if function is None:
        raise UnsupportedFunction(f"function signature {expr.name} is not supported")
    args = [compute(arg, columns, rows, ctx) for arg in expr.args]
    try:
        return function(Call(ctx, expr, rows), *args)
    except _pyarrow.ArrowInvalid as error:
        if "overflow" in str(error) or "fit" in str(error) or "bounds" in str(error):
            family = "DECIMAL" if expr.ft.eval_type is EvalType.DECIMAL else "BIGINT"
            kind = family + (" UNSIGNED" if expr.ft.unsigned else "")
            raise OutOfRange(f"{kind} value is out of range in '{expr.name}'") from error
        raise


def evaluate(expr: Expr, columns: Sequence[Vec], rows: int, ctx: EvalContext) -> Vec:
    """The value of an expression as an array of its own type."""
    value = compute(expr, columns, rows, ctx)
    return broadcast(conform(value, arrow_type(expr.ft)), rows)


def truth(value: Vec) -> Vec:
    """A value as Arrow boolean by MySQL's rule: non-zero is true, NULL stays NULL."""
    if value.type == pa.bool_():
        return value
    if pa.types.is_large_binary(value.type):
        value = pc.cast(value.cast(pa.large_string()), pa.float64())
    zero = pa.scalar(0, value.type)
    return pc.not_equal(value, zero)


def filter_mask(conditions: Sequence[Expr], columns: Sequence[Vec], rows: int, ctx: EvalContext) -> Vec | None:
    """Rows for which all conditions are true, as a boolean array without NULLs; None when there are no conditions."""
    mask: Vec = None
    for condition in conditions:
        value = truth(compute(condition, columns, rows, ctx))
        mask = value if mask is None else pc.and_(mask, value)
    if mask is None:
        return None
    mask = broadcast(mask, rows)
    return pc.fill_null(mask, FALSE) if mask.null_count else mask


def map_unique(value: Vec, function: Callable[[Any], Any], target: Any) -> Vec:
    """Apply a Python function once per different value; for kernels that Arrow lacks."""
    if isinstance(value, _pyarrow.Scalar):
        raw = value.as_py()
        return pa.scalar(None if raw is None else function(raw), target)
    if isinstance(value, _pyarrow.ChunkedArray):
        value = value.combine_chunks()
    if pa.types.is_boolean(value.type):
        value = ints(value)
    encoded = value.dictionary_encode()
    results = [None if v is None else function(v) for v in encoded.dictionary.to_pylist()]
    return pa.array(results, target).take(encoded.indices)


def map_rows(call: Call, function: Callable[..., Any], target: Any, *args: Vec) -> Vec:
    """Apply a Python function row by row, NULL when any argument is NULL; for rare functions of several columns."""
    if all(isinstance(arg, _pyarrow.Scalar) for arg in args):
        values = [arg.as_py() for arg in args]
        return pa.scalar(None if None in values else function(*values), target)
    varying = [i for i, arg in enumerate(args) if not isinstance(arg, _pyarrow.Scalar)]
    if len(varying) == 1:
        fixed = [arg.as_py() if isinstance(arg, _pyarrow.Scalar) else None for arg in args]
        at = varying[0]
        if any(v is None for i, v in enumerate(fixed) if i != at):
            return pa.scalar(None, target)
        return map_unique(args[at], lambda v: function(*fixed[:at], v, *fixed[at + 1 :]), target)
    lists = [call.array(arg).to_pylist() for arg in args]
    return pa.array([None if None in row else function(*row) for row in zip(*lists, strict=True)], target)
