"""Access paths: which conditions of a table become key ranges of its record keys or of one of its indexes.

Ranges are built from conjuncts of the form column op constant. For an index, equalities (or IN lists) on its first columns
and then one range on the next. Conditions that a range covers exactly are not evaluated again; others stay.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from core_py.codec import tablecodec
from core_py.vector.expr import ColumnRef, Constant, Expr, ScalarFunc, Value
from core_py.vector.fieldtype import ENUM, SET, EvalType, FieldType
from tidb_py.catalog.model import ColumnInfo, IndexInfo, TableInfo
from tidb_py.expression.scope import PlanColumn
from tidb_py.types.encode import KeyEncoder

KeyRange = tuple[bytes, bytes]
I64_MIN, I64_MAX = -(1 << 63), (1 << 63) - 1
MAX_RANGES = 4096  # an IN list of several columns that would give more is used for its first columns only
_FLIP = {"LT": "GT", "LE": "GE", "GT": "LT", "GE": "LE", "EQ": "EQ"}


@dataclass(slots=True)
class Interval:
    """Allowed values of a column: points, or one interval."""

    points: list[Value] | None = None
    low: Value = None
    high: Value = None
    low_open: bool = False
    high_open: bool = False
    has_low: bool = False
    has_high: bool = False
    null: bool = False  # IS NULL
    used: list[Expr] = field(default_factory=list)
    exact: bool = True


@dataclass(slots=True)
class Path:
    """A way to read a table."""

    index: IndexInfo | None
    ranges: list[KeyRange]
    remaining: list[Expr]
    rank: tuple[int, ...]  # larger is better
    point_handles: list[int] | None = None  # all ranges are single rows by handle
    unique_points: bool = False  # all ranges are single entries of a unique index
    estimate: float = 0.0
    description: str = ""


def _comparison(expr: Expr) -> tuple[ColumnRef, str, list[Constant]] | None:
    """column op constants, with the column on the left."""
    if not isinstance(expr, ScalarFunc) or not expr.args:
        return None
    name = expr.name
    if name.startswith("In") and name[2:] in ("Int", "Real", "Decimal", "String", "Time", "Duration"):
        head, items = expr.args[0], expr.args[1:]
        if isinstance(head, ColumnRef) and all(isinstance(i, Constant) for i in items):
            return head, "IN", [i for i in items if isinstance(i, Constant)]
        return None
    if name.endswith("IsNull") and isinstance(expr.args[0], ColumnRef):
        return expr.args[0], "NULL", []
    op = name[:2]
    if (
        op not in _FLIP
        or len(expr.args) != 2
        or name[2:] not in ("Int", "Real", "Decimal", "String", "Time", "Duration")
    ):
        return None
    left, right = expr.args
    if isinstance(left, ColumnRef) and isinstance(right, Constant):
        return left, op, [right]
    if isinstance(right, ColumnRef) and isinstance(left, Constant):
        return right, _FLIP[op], [left]
    return None


def intervals(conditions: Sequence[Expr], columns: dict[int, PlanColumn]) -> dict[int, Interval]:
    """What the conditions allow, by column uid."""
    out: dict[int, Interval] = {}
    for condition in conditions:
        parsed = _comparison(condition)
        if parsed is None or parsed[0].offset not in columns:
            continue
        ref, op, constants = parsed
        ft = ref.ft
        if ft.tp in (ENUM, SET) or (ft.eval_type is EvalType.STRING and _collation_differs(condition, ft)):
            continue
        if ft.eval_type is EvalType.DECIMAL and any(c.ft.scale > ft.scale for c in constants):
            continue
        if any(not _same_family(c.ft, ft) for c in constants if c.value is not None):
            continue
        _narrow(out.setdefault(ref.offset, Interval()), op, [c.value for c in constants], condition)
    return out


def _collation_differs(condition: Expr, ft: FieldType) -> bool:
    return (
        isinstance(condition, ScalarFunc)
        and not condition.name.endswith("IsNull")
        and abs(condition.ft.collation) != abs(ft.collation)
    )


def _same_family(constant: FieldType, column: FieldType) -> bool:
    return constant.eval_type is column.eval_type


def _narrow(have: Interval, op: str, values: list[Value], condition: Expr) -> None:
    if op == "NULL":
        if have.points is None and not have.has_low and not have.has_high:
            have.null = True
            have.used.append(condition)
        return
    if have.null:
        return
    if op in ("EQ", "IN"):
        found = sorted({v for v in values if v is not None}, key=lambda v: v)
        if have.points is not None:
            found = [v for v in found if v in have.points]
        have.points = list(found)
        have.used.append(condition)
        return
    value = values[0]
    if value is None:
        have.points = []
    elif op in ("GT", "GE"):
        if not have.has_low or value >= have.low:  # type: ignore[operator]
            have.low, have.low_open, have.has_low = value, op == "GT", True
    elif not have.has_high or value <= have.high:  # type: ignore[operator]
        have.high, have.high_open, have.has_high = value, op == "LT", True
    have.used.append(condition)


def handle_path(
    table: TableInfo, column: PlanColumn | None, found: dict[int, Interval], conditions: list[Expr]
) -> Path:
    """Reading by record key, with ranges of the integer primary key where there is one."""
    table_id = table.id
    whole = (tablecodec.record_prefix(table_id), tablecodec.prefix_next(tablecodec.record_prefix(table_id)))
    interval = found.get(column.uid) if column is not None else None
    if column is None or interval is None or interval.null:
        return Path(None, [whole], conditions, (0,), estimate=10000.0, description="range:[-inf,+inf]")
    if interval.points is not None:
        handles = [h for v in interval.points if isinstance(v, int) and (h := _as_handle(v, column)) is not None]
        kept = [h for h in handles if _inside(h, interval, column)]
        remaining = [c for c in conditions if c not in interval.used]
        ranges = [_row_range(table_id, h) for h in sorted(kept)]
        return Path(None, ranges, remaining, (9, 9), sorted(kept), estimate=float(len(kept)))
    low = I64_MIN if not interval.has_low else interval.low
    high = I64_MAX if not interval.has_high else interval.high
    if not isinstance(low, int) or not isinstance(high, int) or column.ft.unsigned:
        return Path(None, [whole], conditions, (0,), estimate=10000.0, description="range:[-inf,+inf]")
    low += interval.low_open
    high -= interval.high_open
    remaining = [c for c in conditions if c not in interval.used]
    if low > high or low > I64_MAX or high < I64_MIN:
        return Path(None, [], remaining, (9, 9), [], estimate=0.0)
    start = tablecodec.record_key(table_id, max(low, I64_MIN))
    end = whole[1] if high >= I64_MAX else tablecodec.record_key(table_id, high + 1)
    estimate = 250.0 if interval.has_low and interval.has_high else 3333.0
    shown = f"range:{'(' if interval.low_open else '['}{interval.low if isinstance(interval.low, int) else '-inf'},"
    shown += f"{interval.high if isinstance(interval.high, int) else '+inf'}{')' if interval.high_open else ']'}"
    return Path(None, [(start, end)], remaining, (6, 1), estimate=estimate, description=shown)


def _as_handle(value: int, column: PlanColumn) -> int | None:
    if column.ft.unsigned:
        return (value if value < 1 << 63 else value - (1 << 64)) if 0 <= value < 1 << 64 else None
    return value if I64_MIN <= value <= I64_MAX else None


def _inside(handle: int, interval: Interval, column: PlanColumn) -> bool:
    value = handle if not column.ft.unsigned or handle >= 0 else handle + (1 << 64)
    low, high = interval.low, interval.high
    if interval.has_low and isinstance(low, int) and not (value > low or (value == low and not interval.low_open)):
        return False
    return not (
        interval.has_high and isinstance(high, int) and not (value < high or (value == high and not interval.high_open))
    )


def _row_range(table_id: int, handle: int) -> KeyRange:
    key = tablecodec.record_key(table_id, handle)
    return key, tablecodec.key_next(key)


def _text_of(value: object) -> str:
    """A key's value as EXPLAIN prints it."""
    return '"' + value.decode(errors="replace") + '"' if isinstance(value, bytes) else str(value)


def _shown(name: str, interval: Interval) -> str:
    """What is read of one index column, for EXPLAIN."""
    if interval.points is not None:
        values = [_text_of(v) for v in interval.points]
        return values[0] if len(values) == 1 else f"{name} in ({', '.join(values)})"
    low = _text_of(interval.low) if interval.has_low else "-inf"
    high = _text_of(interval.high) if interval.has_high else "+inf"
    return f"{name} {'(' if interval.low_open else '['}{low},{high}{')' if interval.high_open else ']'}"


def index_path(
    table: TableInfo, index: IndexInfo, columns: dict[str, PlanColumn], found: dict[int, Interval],
    conditions: list[Expr], keys: KeyEncoder,
) -> Path | None:  # fmt: skip
    """Reading by an index; None when no condition helps."""
    prefixes: list[bytes] = [tablecodec.index_prefix(table.id, index.id)]
    used: list[Expr] = []
    equal = 0
    estimate = 10000.0
    shown: list[str] = []
    tail: tuple[bytes, bytes] | None = None
    for part in index.columns:
        column = columns.get(part.name.lower())
        interval = found.get(column.uid) if column is not None else None
        if column is None or interval is None:
            break
        info = table.columns[part.offset]
        if interval.null:
            prefixes = [p + b"\x00" for p in prefixes]
        elif interval.points is not None:
            if len(prefixes) * len(interval.points) > MAX_RANGES:
                break
            datums = [keys.datum(v, info, part.length) for v in interval.points]
            prefixes = [p + d for p, d in itertools.product(prefixes, datums)]
            shown.append(_shown(column.name, interval))
        else:
            tail = _range_tail(interval, keys, info, part.length)
            shown.append(_shown(column.name, interval))
            if part.length < 0:
                used += interval.used
            estimate /= 40 if interval.has_low and interval.has_high else 3
            break
        equal += 1
        estimate = max(1.0, estimate / 100)
        if part.length < 0:
            used += interval.used
    if equal == 0 and tail is None:
        return None
    ranges = _to_ranges(prefixes, tail)
    remaining = [c for c in conditions if c not in used]
    complete = (
        index.unique
        and equal == len(index.columns)
        and not any((iv := found.get(columns[c.name.lower()].uid)) is not None and iv.null for c in index.columns)
    )
    rank = (8, equal) if complete else (5, equal, tail is not None)
    if complete:
        estimate = float(len(ranges))
    return Path(
        index,
        ranges,
        remaining,
        rank,
        unique_points=complete,
        estimate=estimate,
        description=f"range:[{' '.join(shown)}]",
    )


def _range_tail(interval: Interval, keys: KeyEncoder, column: ColumnInfo, length: int) -> tuple[bytes, bytes]:
    low = b"\x01"  # after NULL
    if interval.has_low:
        low = keys.datum(interval.low, column, length)
        if interval.low_open and length < 0:
            low = tablecodec.prefix_next(low)
    high = b"\xfa"
    if interval.has_high:
        high = keys.datum(interval.high, column, length)
        if not interval.high_open or length >= 0:
            high = tablecodec.prefix_next(high)
    return low, high


def _to_ranges(prefixes: list[bytes], tail: tuple[bytes, bytes] | None) -> list[KeyRange]:
    if tail is not None:
        ranges = [(p + tail[0], p + tail[1]) for p in prefixes]
        return sorted(r for r in ranges if r[0] < r[1])
    return sorted((p, tablecodec.prefix_next(p)) for p in prefixes)


def best_path(paths: Sequence[Path]) -> Path:
    """The path of the highest rank."""
    return max(paths, key=lambda p: p.rank)
