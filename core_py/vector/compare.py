"""Comparisons, IN, BETWEEN's parts, GREATEST/LEAST; with MySQL's three-valued logic.

Strings compare by their collation's keys. Signed and unsigned integers compare by value.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import pyarrow as _pyarrow

from core_py.vector.arrow import FALSE, Vec, pa, pc
from core_py.vector.collate import sort_keys
from core_py.vector.eval import Call, conform, ints, kernel
from core_py.vector.fieldtype import arrow_type

_FAMILIES = ("Int", "Real", "Decimal", "String", "Time", "Duration", "Json")
_OPS = {
    "LT": pc.less,
    "LE": pc.less_equal,
    "GT": pc.greater,
    "GE": pc.greater_equal,
    "EQ": pc.equal,
    "NE": pc.not_equal,
}


def _same_ints(left: Vec, right: Vec) -> tuple[Vec, Vec]:
    left, right = ints(left), ints(right)
    if left.type == right.type:
        return left, right
    for scalar, other in ((left, right), (right, left)):
        if isinstance(scalar, _pyarrow.Scalar) and scalar.is_valid and _fits(scalar.as_py(), other):
            converted = pa.scalar(scalar.as_py(), other.type)
            return (converted, other) if scalar is left else (other, converted)
    wide = pa.decimal128(20, 0)
    return left.cast(wide), right.cast(wide)


def _fits(value: int, other: Vec) -> bool:
    return (0 <= value < 1 << 64) if other.type == pa.uint64() else (-(1 << 63) <= value < 1 << 63)


def align(family: str, collation: int, left: Vec, right: Vec) -> tuple[Vec, Vec]:
    """Both sides in a form Arrow compares rightly."""
    if family == "Int":
        return _same_ints(left, right)
    if family == "String":
        return sort_keys(left, collation), sort_keys(right, collation)
    if family == "Decimal" and left.type != right.type:
        scale = max(left.type.scale, right.type.scale)
        digits = max(left.type.precision - left.type.scale, right.type.precision - right.type.scale) + scale
        wide = pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(min(digits, 76), scale)
        return left.cast(wide), right.cast(wide)
    return left, right


def _compare(family: str, op: Callable[..., Vec]) -> Callable[..., Vec]:
    def run(call: Call, left: Vec, right: Vec) -> Vec:
        return op(*align(family, call.collation, left, right))

    return run


def _null_safe(family: str) -> Callable[..., Vec]:
    def run(call: Call, left: Vec, right: Vec) -> Vec:
        left, right = align(family, call.collation, left, right)
        equal = pc.fill_null(pc.equal(left, right), FALSE)
        return pc.or_(equal, pc.and_(pc.is_null(left), pc.is_null(right)))

    return run


def _in(family: str) -> Callable[..., Vec]:
    def run(call: Call, value: Vec, *items: Vec) -> Vec:
        if isinstance(value, _pyarrow.Scalar) or not all(isinstance(item, _pyarrow.Scalar) for item in items):
            equals = [pc.equal(*align(family, call.collation, value, item)) for item in items]
            return functools.reduce(pc.or_kleene, equals)
        pairs = [align(family, call.collation, value, item) for item in items if item.is_valid]
        by_type: dict[str, list[tuple[Vec, Vec]]] = {}
        for left, right in pairs:
            by_type.setdefault(str(left.type), []).append((left, right))
        found: Vec = None
        for group in by_type.values():
            left = group[0][0]
            hit = pc.is_in(left, value_set=pa.array([right.as_py() for _, right in group], left.type))
            found = hit if found is None else pc.or_(found, hit)
        if found is None:
            return pa.scalar(None, pa.bool_())
        unknown = pc.is_null(value)
        if len(pairs) < len(items):
            unknown = pc.or_(unknown, pc.invert(found))
        return pc.if_else(unknown, pa.scalar(None, pa.bool_()), found)

    return run


def _extreme(op: Callable[..., Vec]) -> Callable[..., Vec]:
    def run(call: Call, *args: Vec) -> Vec:
        target = arrow_type(call.ft)
        conformed = [conform(ints(arg), target) for arg in args]
        if target != pa.large_binary():
            return op(*conformed, skip_nulls=False)
        smaller = pc.less if op is pc.min_element_wise else pc.greater
        best = call.array(conformed[0])
        for value in conformed[1:]:
            value = call.array(value)
            wins = smaller(sort_keys(value, call.collation), sort_keys(best, call.collation))
            best = pc.if_else(wins, value, best)
        return best

    return run


for _family in _FAMILIES:
    _kind = "String" if _family == "Json" else _family
    for _name, _op in _OPS.items():
        kernel(f"{_name}{_family}")(_compare(_kind, _op))
    kernel(f"NullEQ{_family}")(_null_safe(_kind))
    kernel(f"In{_family}")(_in(_kind))
    if _family != "Json":
        kernel(f"Greatest{_family}")(_extreme(pc.max_element_wise))
        kernel(f"Least{_family}")(_extreme(pc.min_element_wise))
