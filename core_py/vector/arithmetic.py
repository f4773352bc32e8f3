"""Plus, minus, multiply, divide, modulo for the three numeric families.

Integers overflow with error 1690. Division by zero gives NULL and a warning. A decimal quotient has
div_precision_increment (4) more digits than its dividend, rounded half away from zero.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable
from typing import Any

import pyarrow as _pyarrow

from core_py.vector.arrow import Vec, pa, pc
from core_py.vector.eval import Call, conform, ints, kernel, map_rows
from core_py.vector.fieldtype import arrow_type, decimal_arrow

_OPS = {"Plus": pc.add_checked, "Minus": pc.subtract_checked, "Multiply": pc.multiply_checked}


def _int_op(op: Callable[..., Vec]) -> Callable[..., Vec]:
    def run(call: Call, left: Vec, right: Vec) -> Vec:
        left, right = ints(left), ints(right)
        target = arrow_type(call.ft)
        if left.type == right.type == target:
            return op(left, right)
        wide = pa.decimal128(20, 0) if op is not pc.multiply_checked else pa.decimal256(20, 0)
        return op(left.cast(wide), right.cast(wide)).cast(target)

    return run


def _real_op(op: Callable[..., Vec]) -> Callable[..., Vec]:
    def run(_call: Call, left: Vec, right: Vec) -> Vec:
        return op(left, right)

    return run


def shrink(value: Vec) -> Vec:
    """The decimal with no more precision than its values need."""
    bounds = value if isinstance(value, _pyarrow.Scalar) else pc.max(pc.abs(value))
    largest = bounds.as_py()
    digits = 1 if largest is None else max(len(abs(largest).as_tuple().digits), value.type.scale, 1)
    return value.cast(decimal_arrow(min(digits, 76), value.type.scale))


def _wide(value: Vec, precision: int) -> Vec:
    return value.cast(pa.decimal256(precision, value.type.scale))


def decimal_op(op: Callable[..., Vec], left: Vec, right: Vec) -> Vec:
    """Run a decimal kernel with room for its result."""
    p1, p2 = left.type.precision, right.type.precision
    needed = (
        p1 + p2 + 2
        if op in (pc.multiply_checked, pc.divide)
        else max(p1, p2) + abs(left.type.scale - right.type.scale) + 1
    )
    if needed > 38:
        if needed > 74:
            left, right = shrink(left), shrink(right)
        left, right = _wide(left, left.type.precision), _wide(right, right.type.precision)
    return op(left, right)


def _decimal_kernel(op: Callable[..., Vec]) -> Callable[..., Vec]:
    def run(call: Call, left: Vec, right: Vec) -> Vec:
        return conform(decimal_op(op, left, right), arrow_type(call.ft))

    return run


for _name, _op in _OPS.items():
    kernel(f"{_name}Int", *([f"{_name}IntUnsigned"] if _name == "Multiply" else []))(_int_op(_op))
    kernel(f"{_name}Real")(_real_op(_op))
    kernel(f"{_name}Decimal")(_decimal_kernel(_op))
for _signs in ("UnsignedUnsigned", "UnsignedSigned", "SignedUnsigned", "SignedSigned"):
    kernel(f"PlusInt{_signs}")(_int_op(pc.add_checked))
    kernel(f"MinusInt{_signs}")(_int_op(pc.subtract_checked))


def _nonzero(call: Call, divisor: Vec) -> Vec:
    """The divisor with zeros made NULL, noting a warning for them."""
    zero = pa.scalar(0, divisor.type)
    is_zero = pc.equal(divisor, zero)
    if not pc.any(is_zero if not isinstance(is_zero, _pyarrow.Scalar) else pa.array([is_zero.as_py()])).as_py():
        return divisor
    call.ctx.division_by_zero()
    if isinstance(divisor, _pyarrow.Scalar):
        return pa.scalar(None, divisor.type)
    return pc.if_else(is_zero, pa.scalar(None, divisor.type), divisor)


def decimal_divide(left: Vec, right: Vec, scale: int) -> Vec:
    """A quotient rounded to `scale`; the divisor has no zeros."""
    extra = scale + 1 - (left.type.scale + right.type.precision - right.type.scale + 1)
    if extra > 0:
        precision = left.type.precision + extra
        left = left.cast(decimal_arrow(precision, left.type.scale + extra))
    quotient = decimal_op(pc.divide, left, right)
    return pc.round(quotient, ndigits=scale, round_mode="half_towards_infinity")


@kernel("DivideReal")
def _divide_real(call: Call, left: Vec, right: Vec) -> Vec:
    return pc.divide(left, _nonzero(call, right))


@kernel("DivideDecimal")
def _divide_decimal(call: Call, left: Vec, right: Vec) -> Vec:
    target = arrow_type(call.ft)
    return conform(decimal_divide(left, _nonzero(call, right), target.scale), target)


@kernel(
    "IntDivideInt",
    *[f"IntDivideInt{s}" for s in ("UnsignedUnsigned", "UnsignedSigned", "SignedSigned", "SignedUnsigned")],
)
def _int_divide(call: Call, left: Vec, right: Vec) -> Vec:
    left, right = ints(left), _nonzero(call, ints(right))
    if left.type == right.type:
        return conform(pc.divide_checked(left, right), arrow_type(call.ft))
    return map_rows(call, _truncate_div, arrow_type(call.ft), left, right)


def _truncate_div(a: Any, b: Any) -> int:
    quotient = abs(a) // abs(b)
    return int(-quotient if (a < 0) != (b < 0) else quotient)


@kernel("IntDivideDecimal")
def _int_divide_decimal(call: Call, left: Vec, right: Vec) -> Vec:
    right = _nonzero(call, right)
    with decimal.localcontext(prec=90):
        return map_rows(call, lambda a, b: int(a / b), arrow_type(call.ft), left, right)


@kernel("ModInt", *[f"ModInt{s}" for s in ("UnsignedUnsigned", "UnsignedSigned", "SignedUnsigned", "SignedSigned")])
def _mod_int(call: Call, left: Vec, right: Vec) -> Vec:
    left, right = ints(left), _nonzero(call, ints(right))
    if left.type == right.type:
        return conform(pc.subtract(left, pc.multiply(right, pc.divide(left, right))), arrow_type(call.ft))
    return map_rows(call, lambda a, b: a - b * _truncate_div(a, b), arrow_type(call.ft), left, right)


@kernel("ModReal")
def _mod_real(call: Call, left: Vec, right: Vec) -> Vec:
    right = _nonzero(call, right)
    return pc.subtract(left, pc.multiply(right, pc.trunc(pc.divide(left, right))))


@kernel("ModDecimal")
def _mod_decimal(call: Call, left: Vec, right: Vec) -> Vec:
    right = _nonzero(call, right)
    with decimal.localcontext(prec=90):
        result = map_rows(
            call, lambda a, b: a % b, pa.decimal256(76, max(left.type.scale, right.type.scale)), left, right
        )
    return conform(result, arrow_type(call.ft))


@kernel("UnaryMinusInt")
def _negate_int(call: Call, value: Vec) -> Vec:
    value = ints(value)
    if value.type == pa.uint64():
        return pc.negate_checked(value.cast(pa.decimal128(20, 0))).cast(arrow_type(call.ft))
    return pc.negate_checked(value)


@kernel("UnaryMinusReal", "UnaryMinusDecimal")
def _negate(_call: Call, value: Vec) -> Vec:
    return pc.negate(value)


def _bits(value: Vec) -> Vec:
    value = ints(value)
    return value if value.type == pa.uint64() else value.cast(pa.uint64(), safe=False)


@kernel("BitAndSig")
def _bit_and(_call: Call, left: Vec, right: Vec) -> Vec:
    return pc.bit_wise_and(_bits(left), _bits(right))


@kernel("BitOrSig")
def _bit_or(_call: Call, left: Vec, right: Vec) -> Vec:
    return pc.bit_wise_or(_bits(left), _bits(right))


@kernel("BitXorSig")
def _bit_xor(_call: Call, left: Vec, right: Vec) -> Vec:
    return pc.bit_wise_xor(_bits(left), _bits(right))


@kernel("BitNegSig")
def _bit_neg(_call: Call, value: Vec) -> Vec:
    return pc.bit_wise_not(_bits(value))


@kernel("LeftShift")
def _left_shift(call: Call, value: Vec, by: Vec) -> Vec:
    mask = (1 << 64) - 1
    return map_rows(call, lambda v, n: (v << n) & mask if 0 <= n < 64 else 0, pa.uint64(), _bits(value), _bits(by))


@kernel("RightShift")
def _right_shift(call: Call, value: Vec, by: Vec) -> Vec:
    return map_rows(call, lambda v, n: v >> n if 0 <= n < 64 else 0, pa.uint64(), _bits(value), _bits(by))


@kernel("BitCount")
def _bit_count(call: Call, value: Vec) -> Vec:
    return map_rows(call, lambda v: v.bit_count(), pa.int64(), _bits(value))
