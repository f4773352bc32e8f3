"""Mathematical functions. Arguments outside a function's domain give NULL, as in MySQL."""

from __future__ import annotations

import decimal
import math
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from core_py.vector.arrow import Vec, pa, pc
from core_py.vector.casts import map_numpy
from core_py.vector.errors import OutOfRange
from core_py.vector.eval import Call, conform, ints, kernel, map_rows, map_unique
from core_py.vector.fieldtype import arrow_type

F64 = pa.float64()


@kernel("AbsInt", "AbsUInt", "AbsReal", "AbsDecimal")
def _abs(_call: Call, value: Vec) -> Vec:
    value = ints(value)
    return value if value.type == pa.uint64() else pc.abs_checked(value)


@kernel("CeilIntToInt", "FloorIntToInt", "RoundInt")
def _same(_call: Call, value: Vec) -> Vec:
    return ints(value)


@kernel("CeilReal", "CeilDecToDec", "CeilDecToInt", "CeilIntToDec")
def _ceil(call: Call, value: Vec) -> Vec:
    return conform(pc.ceil(ints(value)), arrow_type(call.ft))


@kernel("FloorReal", "FloorDecToDec", "FloorDecToInt", "FloorIntToDec")
def _floor(call: Call, value: Vec) -> Vec:
    return conform(pc.floor(ints(value)), arrow_type(call.ft))


@kernel("RoundReal")
def _round_real(_call: Call, value: Vec) -> Vec:
    return pc.round(value, round_mode="half_to_even")


@kernel("RoundDec")
def _round_decimal(call: Call, value: Vec) -> Vec:
    return conform(pc.round(value, ndigits=0, round_mode="half_towards_infinity"), arrow_type(call.ft))


def _digits(value: Any, digits: int, rounding: str) -> Decimal:
    digits = max(-60, min(digits, 30))
    with decimal.localcontext(prec=120):
        return Decimal(str(value)).quantize(Decimal(1).scaleb(-digits), rounding)


def _to_digits(rounding: str, convert: Callable[[Decimal], Any]) -> Callable[..., Vec]:
    def run(call: Call, value: Vec, digits: Vec) -> Vec:
        target = arrow_type(call.ft)
        if pa.types.is_decimal(target):
            quantum = Decimal(1).scaleb(-target.scale)
            with decimal.localcontext(prec=120):
                return map_rows(
                    call, lambda v, n: _digits(v, n, rounding).quantize(quantum), target, value, ints(digits)
                )
        return map_rows(call, lambda v, n: convert(_digits(v, n, rounding)), target, ints(value), ints(digits))

    return run


for _family, _convert in (("Int", int), ("Real", float), ("Dec", lambda d: d)):
    kernel(f"RoundWithFrac{_family}")(_to_digits(decimal.ROUND_HALF_UP, _convert))
for _family, _convert in (("Int", int), ("Uint", int), ("Real", float), ("Decimal", lambda d: d)):
    kernel(f"Truncate{_family}")(_to_digits(decimal.ROUND_DOWN, _convert))


def _domain(function: Callable[[Any], Any], inside: Callable[[Any], Any] | None = None) -> Callable[..., Vec]:
    def run(_call: Call, value: Vec) -> Vec:
        if inside is not None:
            value = pc.if_else(inside(value), value, pa.scalar(None, F64))
        with np.errstate(all="ignore"):
            out = map_numpy(value, function)
        return pc.if_else(pc.is_finite(out), out, pa.scalar(None, F64))

    return run


def _positive(value: Vec) -> Vec:
    return pc.greater(value, 0.0)


def _unit(value: Vec) -> Vec:
    return pc.less_equal(pc.abs(value), 1.0)


kernel("Log1Arg")(_domain(np.log, _positive))
kernel("Log2")(_domain(np.log2, _positive))
kernel("Log10")(_domain(np.log10, _positive))
kernel("Sqrt")(_domain(np.sqrt, lambda v: pc.greater_equal(v, 0.0)))
kernel("Acos")(_domain(np.arccos, _unit))
kernel("Asin")(_domain(np.arcsin, _unit))
kernel("Atan1Arg")(_domain(np.arctan))
kernel("Cos")(_domain(np.cos))
kernel("Sin")(_domain(np.sin))
kernel("Tan")(_domain(np.tan))
kernel("Cot")(_domain(lambda v: 1.0 / np.tan(v)))
kernel("Degrees")(_domain(np.degrees))
kernel("Radians")(_domain(np.radians))


@kernel("Exp")
def _exp(_call: Call, value: Vec) -> Vec:
    with np.errstate(all="ignore"):
        out = map_numpy(value, np.exp)
    return _finite(out, "exp")


def _finite(out: Vec, name: str) -> Vec:
    infinite = pc.is_inf(out)
    if infinite.as_py() if isinstance(infinite, pa.Scalar) else pc.any(infinite).as_py():
        raise OutOfRange(f"DOUBLE value is out of range in '{name}'")
    return out


@kernel("Pow")
def _pow(_call: Call, base: Vec, exponent: Vec) -> Vec:
    return _finite(pc.power(base, exponent), "pow")


@kernel("Log2Args")
def _log2(call: Call, base: Vec, value: Vec) -> Vec:
    def log(b: float, v: float) -> float | None:
        return math.log(v) / math.log(b) if b > 0 and b != 1 and v > 0 else None

    return map_rows(call, log, F64, base, value)


@kernel("Atan2Args")
def _atan2(_call: Call, y: Vec, x: Vec) -> Vec:
    return pc.atan2(y, x)


@kernel("Sign")
def _sign(_call: Call, value: Vec) -> Vec:
    return pc.sign(value).cast(pa.int64())


@kernel("PI")
def _pi(_call: Call) -> Vec:
    return pa.scalar(math.pi, F64)


@kernel("Rand")
def _rand(call: Call) -> Vec:
    return pa.array(np.random.default_rng().random(call.rows))


@kernel("RandWithSeedFirstGen")
def _rand_seed(_call: Call, seed: Vec) -> Vec:
    return map_unique(ints(seed), lambda s: random.Random(s).random(), F64)


def _convert_base(value: bytes, source: int, target: int) -> bytes | None:
    if not (2 <= abs(source) <= 36 and 2 <= abs(target) <= 36):
        return None
    text = value.decode(errors="replace").strip().lower()
    sign = -1 if text.startswith("-") else 1
    number = 0
    for c in text.lstrip("+-"):
        digit = int(c, 36) if c.isalnum() and c.isascii() else 99
        if digit >= abs(source):
            break
        number = number * abs(source) + digit
    number = max(-(1 << 63), min(sign * number, (1 << 64) - 1))
    negative = number < 0 and target < 0
    number = abs(number) if target < 0 else number & (1 << 64) - 1
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    out = ""
    while number:
        number, rest = divmod(number, abs(target))
        out = digits[rest] + out
    return (("-" if negative else "") + (out or "0")).encode()


@kernel("Conv")
def _conv(call: Call, value: Vec, source: Vec, target: Vec) -> Vec:
    return map_rows(call, _convert_base, pa.large_binary(), value, ints(source), ints(target))
