"""Sorting rows: ORDER BY and top-N, with MySQL's place for NULL (first ascending, last descending) and collations.

The sort is stable. `TopN` keeps a bounded number of rows however many are added.
"""

from __future__ import annotations

from collections.abc import Sequence

from core_py.vector.arrow import Vec, pa, pc
from core_py.vector.collate import sort_keys
from core_py.vector.eval import EvalContext, evaluate
from core_py.vector.expr import SortKey
from core_py.vector.fieldtype import EvalType

KEEP_FACTOR = 4  # a TopN is cut back when it holds this many times its limit
MIN_KEEP = 8192


def sort_order(keys: Sequence[SortKey], columns: Sequence[Vec], rows: int, ctx: EvalContext) -> Vec:
    """The row numbers in order."""
    names: list[tuple[str, str]] = []
    arrays: list[Vec] = []
    for key in keys:
        values = evaluate(key.expr, columns, rows, ctx)
        if key.expr.ft.eval_type is EvalType.STRING:
            values = sort_keys(values, key.expr.ft.collation)
        direction = "descending" if key.desc else "ascending"
        if values.null_count:
            names.append((f"n{len(arrays)}", direction))
            arrays.append(pc.is_valid(values).cast(pa.int8()))
        names.append((f"n{len(arrays)}", direction))
        arrays.append(values)
    table = pa.table(arrays, names=[f"n{i}" for i in range(len(arrays))])
    return pc.sort_indices(table, sort_keys=names)


def concat_columns(batches: Sequence[Sequence[Vec]]) -> list[Vec]:
    """Batches put one under another."""
    if len(batches) == 1:
        return list(batches[0])
    return [concat_arrays(list(parts)) for parts in zip(*batches, strict=True)]


def concat_arrays(parts: list[Vec]) -> Vec:
    """Arrays of one logical column, whose decimal precisions may differ."""
    first = parts[0].type
    if any(part.type != first for part in parts) and pa.types.is_decimal(first):
        scale = max(part.type.scale for part in parts)
        digits = max(part.type.precision - part.type.scale for part in parts) + scale
        target = pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(min(digits, 76), scale)
        parts = [part.cast(target) for part in parts]
    return pa.concat_arrays(parts)


def take(columns: Sequence[Vec], indices: Vec) -> list[Vec]:
    """Rows by number."""
    return [column.take(indices) for column in columns]


class TopN:
    """The first rows in an order."""

    def __init__(self, keys: Sequence[SortKey], limit: int, ctx: EvalContext) -> None:
        self._keys = tuple(keys)
        self._limit = limit
        self._ctx = ctx
        self._batches: list[Sequence[Vec]] = []
        self._rows = 0

    def add(self, columns: Sequence[Vec], rows: int) -> None:
        """Take a batch."""
        if not rows or not self._limit:
            return
        self._batches.append(columns)
        self._rows += rows
        if self._rows > max(self._limit * KEEP_FACTOR, MIN_KEEP):
            self._batches = [self._cut()]
            self._rows = len(self._batches[0][0])

    def _cut(self) -> list[Vec]:
        columns = concat_columns(self._batches)
        order = sort_order(self._keys, columns, len(columns[0]), self._ctx)
        return take(columns, order.slice(0, self._limit))

    def result(self) -> list[Vec] | None:
        """The rows in order; None when there are none."""
        return self._cut() if self._batches else None
