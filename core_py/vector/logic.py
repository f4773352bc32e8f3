"""AND, OR, XOR, NOT, IS NULL/TRUE/FALSE, IF, IFNULL, CASE, COALESCE: control over values of one family.

All branches are computed for all rows; errors that only a branch not taken would raise are therefore possible for
overflow only (division by zero and bad casts give NULL or a warning in SELECT).
"""

from __future__ import annotations

from core_py.vector.arrow import FALSE, TRUE, Vec, pa, pc
from core_py.vector.eval import Call, conform, ints, kernel, truth
from core_py.vector.fieldtype import arrow_type

_ALL = ("Int", "Real", "Decimal", "String", "Time", "Duration", "Json")
_NUMERIC = ("Int", "Real", "Decimal")


@kernel("LogicalAnd")
def _and(_call: Call, left: Vec, right: Vec) -> Vec:
    return pc.and_kleene(truth(left), truth(right))


@kernel("LogicalOr")
def _or(_call: Call, left: Vec, right: Vec) -> Vec:
    return pc.or_kleene(truth(left), truth(right))


@kernel("LogicalXor")
def _xor(_call: Call, left: Vec, right: Vec) -> Vec:
    return pc.xor(truth(left), truth(right))


@kernel("UnaryNotInt", "UnaryNotReal", "UnaryNotDecimal")
def _not(_call: Call, value: Vec) -> Vec:
    return pc.invert(truth(value))


@kernel(*[f"{f}IsNull" for f in _ALL])
def _is_null(_call: Call, value: Vec) -> Vec:
    return pc.is_null(value)


@kernel(*[f"{f}IsTrue" for f in _NUMERIC])
def _is_true(_call: Call, value: Vec) -> Vec:
    return pc.fill_null(truth(value), FALSE)


@kernel(*[f"{f}IsFalse" for f in _NUMERIC])
def _is_false(_call: Call, value: Vec) -> Vec:
    return pc.fill_null(pc.invert(truth(value)), FALSE)


@kernel(*[f"{f}IsTrueWithNull" for f in _NUMERIC])
def _is_true_with_null(_call: Call, value: Vec) -> Vec:
    return truth(value)


@kernel(*[f"{f}IsFalseWithNull" for f in _NUMERIC])
def _is_false_with_null(_call: Call, value: Vec) -> Vec:
    return pc.invert(truth(value))


def _branch(call: Call, value: Vec) -> Vec:
    return conform(ints(value), arrow_type(call.ft))


@kernel(*[f"If{f}" for f in _ALL])
def _if(call: Call, condition: Vec, yes: Vec, no: Vec) -> Vec:
    taken = pc.fill_null(truth(condition), FALSE)
    return pc.if_else(taken, _branch(call, yes), _branch(call, no))


@kernel(*[f"IfNull{f}" for f in _ALL], *[f"Coalesce{f}" for f in _ALL])
def _coalesce(call: Call, *values: Vec) -> Vec:
    return pc.coalesce(*[_branch(call, value) for value in values])


@kernel(*[f"CaseWhen{f}" for f in _ALL])
def _case(call: Call, *args: Vec) -> Vec:
    """WHEN and THEN in turn, ELSE last when their number is odd."""
    pairs = len(args) // 2
    result = _branch(call, args[-1]) if len(args) % 2 else pa.scalar(None, arrow_type(call.ft))
    for i in reversed(range(pairs)):
        taken = pc.fill_null(truth(args[2 * i]), FALSE)
        result = pc.if_else(taken, _branch(call, args[2 * i + 1]), result)
    return result


@kernel("IntAnyValue", "RealAnyValue", "DecimalAnyValue", "StringAnyValue", "TimeAnyValue", "DurationAnyValue")
def _any_value(_call: Call, value: Vec) -> Vec:
    return value


def _interval(call: Call, needle: Vec, *bounds: Vec) -> Vec:
    needle = call.array(ints(needle))
    count: Vec = pa.scalar(0, pa.int64())
    for bound in bounds:
        reached = pc.greater_equal(needle, bound)
        count = pc.add(count, pc.fill_null(reached, TRUE).cast(pa.int64()))
    return pc.if_else(pc.is_null(needle), pa.scalar(-1, pa.int64()), count)


kernel("IntervalInt", "IntervalReal")(_interval)
