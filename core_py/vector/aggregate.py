"""Hash aggregation over batches, in three modes.

    PARTIAL   rows -> states (what a store sends): AVG is count and sum, the others one column; then the group columns
    FINAL     states of many stores -> values
    COMPLETE  rows -> values, with DISTINCT, GROUP_CONCAT, variance and bit aggregates, which need all rows at once

Without GROUP BY there is exactly one group, even of no rows. Groups come out in the order of their first row. Strings
group by their collation's key and show the first row's spelling. Each batch is reduced at once by Arrow's group_by; the
reduced batches are reduced again when they have become many, so memory follows the number of groups, not of rows.
"""

from __future__ import annotations

import enum
import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core_py.vector.arithmetic import decimal_divide
from core_py.vector.arrow import Vec, pa, pc
from core_py.vector.collate import sort_keys
from core_py.vector.eval import EvalContext, conform, evaluate, ints
from core_py.vector.expr import (
    AVG,
    BIT_AND,
    BIT_OR,
    BIT_XOR,
    COUNT,
    FIRST,
    GROUP_CONCAT,
    MAX,
    MIN,
    STDDEV_POP,
    STDDEV_SAMP,
    SUM,
    VAR_POP,
    VAR_SAMP,
    AggDesc,
    ColumnRef,
    Expr,
)  # fmt: skip
from core_py.vector.fieldtype import EvalType, FieldType, arrow_type, int_type
from core_py.vector.ordering import concat_columns, sort_order, take
from core_py.vector.text import to_text

REDUCE_ROWS = 65536  # reduced batches are reduced again when they hold this many groups together
_WHOLE = frozenset({GROUP_CONCAT, BIT_AND, BIT_OR, BIT_XOR, STDDEV_POP, STDDEV_SAMP, VAR_POP, VAR_SAMP})
_VARIANCE = {STDDEV_POP: ("stddev", 0), STDDEV_SAMP: ("stddev", 1), VAR_POP: ("variance", 0), VAR_SAMP: ("variance", 1)}


class Mode(enum.Enum):
    """What goes in and what comes out."""

    PARTIAL = "partial"
    FINAL = "final"
    COMPLETE = "complete"


def state_types(agg: AggDesc) -> list[FieldType]:
    """The types of an aggregate's partial columns."""
    if agg.kind == AVG:
        return [int_type(flen=21), sum_type_of_avg(agg)]
    return [agg.ft]


def sum_type_of_avg(agg: AggDesc) -> FieldType:
    """The type of the sum inside an AVG: the argument's scale."""
    if agg.ft.eval_type is EvalType.REAL:
        return agg.ft
    scale = agg.args[0].ft.scale
    return FieldType(agg.ft.tp, agg.ft.flags, 38 if agg.ft.flen <= 38 else 65, scale)


def partial_types(group_by: Sequence[Expr], aggs: Sequence[AggDesc]) -> list[FieldType]:
    """The types of the output columns of a partial aggregation."""
    return [ft for agg in aggs for ft in state_types(agg)] + [g.ft for g in group_by]


@dataclass(frozen=True, slots=True)
class _State:
    """One column of states and how two of them become one."""

    merge: str  # sum, min, max or first
    ft: FieldType


def _states_of(agg: AggDesc) -> list[_State]:
    if agg.kind == COUNT:
        return [_State("sum", agg.ft)]
    if agg.kind == AVG:
        count, total = state_types(agg)
        return [_State("sum", count), _State("sum", total)]
    merge = {SUM: "sum", MIN: "min", MAX: "max", FIRST: "first"}[agg.kind]
    return [_State(merge, agg.ft)]


class Aggregation:
    """GROUP BY with aggregate functions."""

    def __init__(self, group_by: Sequence[Expr], aggs: Sequence[AggDesc], mode: Mode, ctx: EvalContext) -> None:
        self._group_by = tuple(group_by)
        self._aggs = tuple(aggs)
        self._mode = mode
        self._ctx = ctx
        self._whole = mode is Mode.COMPLETE and any(a.distinct or a.kind in _WHOLE for a in aggs)
        self._states = [] if self._whole else [s for agg in aggs for s in _states_of(agg)]
        self._reduced: list[list[Vec]] = []
        self._held = 0

    def add(self, columns: Sequence[Vec], rows: int) -> None:
        """Take a batch of rows (of states, in FINAL mode)."""
        if not rows:
            return
        groups = [evaluate(g, columns, rows, self._ctx) for g in self._group_by]
        if self._whole:
            values = [evaluate(a, columns, rows, self._ctx) for agg in self._aggs for a in _inputs(agg)]
            self._reduced.append([*values, *groups])
            return
        if self._mode is Mode.FINAL:
            states = list(columns[: len(self._states)])
        else:
            states = self._first_states(columns, rows)
        self._reduced.append(self._reduce(states, groups, rows))
        self._held += len(self._reduced[-1][0]) if self._reduced[-1] else 0
        if self._held > REDUCE_ROWS:
            self._merge()
            self._held = len(self._reduced[0][0]) // 2

    def _first_states(self, columns: Sequence[Vec], rows: int) -> list[Vec]:
        states: list[Vec] = []
        for agg in self._aggs:
            values = [evaluate(arg, columns, rows, self._ctx) for arg in agg.args]
            if agg.kind in (COUNT, AVG):
                valid = functools.reduce(operator.and_, [v.null_count == 0 for v in values])
                if valid:
                    states.append(pa.repeat(pa.scalar(1, pa.int64()), rows))
                else:
                    states.append(functools.reduce(pc.and_, [pc.is_valid(v) for v in values]).cast(pa.int64()))
            if agg.kind != COUNT:
                states.append(values[0])
        return states

    def _reduce(self, states: list[Vec], groups: list[Vec], rows: int) -> list[Vec]:
        """One row per group: the states, then the group columns."""
        if not groups:
            return [_reduce_all(s.merge, v, s.ft) for s, v in zip(self._states, states, strict=True)]
        keys = [_group_key(v, g.ft) for v, g in zip(groups, self._group_by, strict=True)]
        names = [f"k{i}" for i in range(len(keys))]
        data = dict(zip(names, keys, strict=True))
        data["row"] = pa.array(range(rows), pa.int32()) if rows < 64 else _row_numbers(rows)
        wanted = [("row", "min")]
        for i, (state, value) in enumerate(zip(self._states, states, strict=True)):
            if state.merge != "first":
                data[f"s{i}"] = _sort_form(value, state)
                wanted.append((f"s{i}", state.merge))
        table = pa.table(data).group_by(names, use_threads=False).aggregate(wanted)
        first = table.column("row_min").combine_chunks()
        out = []
        for i, (state, value) in enumerate(zip(self._states, states, strict=True)):
            if state.merge == "first":
                out.append(value.take(first))
            else:
                out.append(_unsort(table.column(f"s{i}_{state.merge}").combine_chunks(), value, state))
        return out + take(groups, first)

    def _merge(self) -> None:
        columns = concat_columns(self._reduced)
        n = len(self._states)
        rows = len(columns[0])
        self._reduced = [self._reduce(columns[:n], columns[n:], rows)]

    def result(self) -> list[Vec]:
        """Aggregates (or their states) and then the group columns, one row per group."""
        if not self._reduced:
            return self._empty()
        if self._whole:
            return _Whole(self._group_by, self._aggs, self._ctx).run(concat_columns(self._reduced))
        if len(self._reduced) > 1:
            self._merge()
        columns = self._reduced[0]
        n = len(self._states)
        states = [conform(v, arrow_type(s.ft)) for s, v in zip(self._states, columns, strict=False)]
        if self._mode is Mode.PARTIAL:
            return states + columns[n:]
        return self._values(states) + columns[n:]

    def _values(self, states: list[Vec]) -> list[Vec]:
        out, at = [], 0
        for agg in self._aggs:
            if agg.kind == AVG:
                out.append(average(states[at + 1], states[at], agg.ft))
                at += 2
            else:
                out.append(states[at])
                at += 1
        return out

    def _empty(self) -> list[Vec]:
        partial = self._mode is Mode.PARTIAL
        types = partial_types((), self._aggs) if partial else [a.ft for a in self._aggs]
        counts = [a.kind == COUNT or (partial and a.kind == AVG and i == 0)
                  for a in self._aggs for i in range(2 if partial and a.kind == AVG else 1)]  # fmt: skip
        if self._group_by:
            return [pa.nulls(0, arrow_type(ft)) for ft in [*types, *(g.ft for g in self._group_by)]]
        return [
            pa.array([0 if count else _empty_value(agg)], arrow_type(ft))
            for ft, count, agg in zip(types, counts, _repeat_aggs(self._aggs, partial=partial), strict=True)
        ]


def _repeat_aggs(aggs: Sequence[AggDesc], *, partial: bool) -> list[AggDesc]:
    return [a for a in aggs for _ in range(2 if partial and a.kind == AVG else 1)]


def _empty_value(agg: AggDesc) -> int | None:
    if agg.kind == BIT_AND:
        return (1 << 64) - 1
    return 0 if agg.kind in (BIT_OR, BIT_XOR) else None


def average(total: Vec, count: Vec, ft: FieldType) -> Vec:
    """sum / count in the type of the AVG; NULL for no values."""
    count = pc.if_else(pc.equal(count, 0), pa.scalar(None, count.type), count)
    if ft.eval_type is EvalType.REAL:
        return pc.divide(total, count.cast(pa.float64()))
    target = arrow_type(ft)
    return conform(decimal_divide(total, count.cast(pa.decimal128(20, 0)), target.scale), target)


def _inputs(agg: AggDesc) -> list[Expr]:
    return [*agg.args, *(key.expr for key in agg.order_by)]


def _group_key(values: Vec, ft: FieldType) -> Vec:
    return sort_keys(values, ft.collation) if ft.eval_type is EvalType.STRING else values


def _row_numbers(rows: int) -> Vec:
    return pc.subtract(pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int32()), rows)), 1)


def _needs_sort_form(state: _State) -> bool:
    return state.merge in ("min", "max") and state.ft.eval_type is EvalType.STRING


def _sort_form(value: Vec, state: _State) -> Vec:
    """Strings under MIN and MAX become their rank in the collation's order."""
    if not _needs_sort_form(state):
        return value
    keys = sort_keys(value, state.ft.collation)
    ranks = pc.rank(keys, tiebreaker="first").cast(pa.int64())
    return pc.if_else(pc.is_valid(value), ranks, pa.scalar(None, pa.int64()))


def _unsort(result: Vec, value: Vec, state: _State) -> Vec:
    if not _needs_sort_form(state):
        return result
    order = pc.sort_indices(sort_keys(value, state.ft.collation))
    return value.take(order.take(pc.subtract(result, 1)))


def _reduce_all(merge: str, values: Vec, ft: FieldType) -> Vec:
    if merge == "first":
        return values.slice(0, 1)
    if merge == "sum":
        return _as_array(pc.sum(values), values.type)
    state = _State(merge, ft)
    form = _sort_form(values, state)
    best = (pc.min if merge == "min" else pc.max)(form)
    return _unsort(pa.array([best.as_py()], form.type), values, state)


def _as_array(scalar: Vec, fallback: Vec) -> Vec:
    return pa.array([scalar.as_py()], scalar.type if scalar.is_valid else _sum_type(fallback))


def _sum_type(source: Vec) -> Vec:
    return pa.decimal128(38, source.scale) if pa.types.is_decimal128(source) else source


class _Whole:
    """Aggregates that need all rows of a group at once."""

    def __init__(self, group_by: Sequence[Expr], aggs: Sequence[AggDesc], ctx: EvalContext) -> None:
        self._group_by, self._aggs, self._ctx = group_by, aggs, ctx

    def run(self, columns: list[Vec]) -> list[Vec]:
        rows = len(columns[0]) if columns else 0
        width = sum(len(_inputs(agg)) for agg in self._aggs)
        groups = columns[width:]
        ids, first = self._group_ids(groups, rows)
        out, at = [], 0
        for agg in self._aggs:
            inputs = columns[at : at + len(_inputs(agg))]
            at += len(inputs)
            out.append(self._one(agg, inputs, ids, len(first)))
        return out + take(groups, first)

    def _group_ids(self, groups: list[Vec], rows: int) -> tuple[Vec, Vec]:
        numbers = _row_numbers(rows)
        if not groups:
            return pa.repeat(pa.scalar(0, pa.int32()), rows), numbers.slice(0, 1)
        keys = [_group_key(v, g.ft) for v, g in zip(groups, self._group_by, strict=True)]
        combined = pa.repeat(pa.scalar(0, pa.int64()), rows)
        for key in keys:
            codes = key.dictionary_encode(null_encoding="encode").indices.cast(pa.int64())
            size = (pc.max(codes).as_py() or 0) + 1
            packed = pc.add(pc.multiply(combined, size), codes)
            combined = packed.dictionary_encode().indices.cast(pa.int64())
        table = pa.table({"id": combined, "row": numbers}).group_by(["id"], use_threads=False)
        first = table.aggregate([("row", "min")]).column("row_min").combine_chunks()
        return combined.cast(pa.int32()), first

    def _one(self, agg: AggDesc, inputs: list[Vec], ids: Vec, groups: int) -> Vec:
        args = inputs[: len(agg.args)]
        keep = functools.reduce(pc.and_, [pc.is_valid(a) for a in args])
        if agg.kind != FIRST:
            inputs, ids = [c.filter(keep) for c in inputs], ids.filter(keep)
        if agg.distinct:
            inputs, ids = _distinct(agg, inputs, ids)
        if agg.kind == GROUP_CONCAT:
            return self._group_concat(agg, inputs, ids, groups)
        if agg.kind in (BIT_AND, BIT_OR, BIT_XOR):
            return _bits(agg, inputs[0], ids, groups)
        names = {COUNT: "count", SUM: "sum", AVG: "sum", MIN: "min", MAX: "max", FIRST: "min"}
        state = _State(names.get(agg.kind, ""), agg.ft)
        value = _row_numbers(len(ids)) if agg.kind == FIRST else _sort_form(inputs[0], state)
        table = pa.table({"id": ids, "v": value, "w": value}).group_by(["id"], use_threads=False)
        if agg.kind in _VARIANCE:
            name, ddof = _VARIANCE[agg.kind]
            made = table.aggregate([("v", name, pc.VarianceOptions(ddof=ddof))])
            return _place(made.column("id"), made.column(f"v_{name}"), groups, None)
        made = table.aggregate([("v", names[agg.kind]), ("w", "count")])
        result = made.column(f"v_{names[agg.kind]}").combine_chunks()
        if agg.kind == FIRST:
            result = inputs[0].take(result)
        elif agg.kind == AVG:
            result = average(result, made.column("w_count").combine_chunks(), agg.ft)
        else:
            result = conform(_unsort(result, inputs[0], state), arrow_type(agg.ft))
        return _place(made.column("id"), result, groups, 0 if agg.kind == COUNT else None)

    def _group_concat(self, agg: AggDesc, inputs: list[Vec], ids: Vec, groups: int) -> Vec:
        texts = [to_text(v, a.ft) for v, a in zip(inputs, agg.args, strict=False)]
        joined = texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, pa.scalar(b"", pa.large_binary()))
        if agg.order_by:
            at = len(agg.args)
            keys = [type(k)(ColumnRef(at + i, k.expr.ft), k.desc) for i, k in enumerate(agg.order_by)]
            order = sort_order(keys, inputs, len(ids), self._ctx)
            joined, ids = joined.take(order), ids.take(order)
        parts: list[list[bytes]] = [[] for _ in range(groups)]
        for group, text in zip(ids.to_pylist(), joined.to_pylist(), strict=True):
            parts[group].append(text)
        limit = 1 << 20
        return pa.array([agg.separator.join(p)[:limit] if p else None for p in parts], pa.large_binary())


def _distinct(agg: AggDesc, inputs: list[Vec], ids: Vec) -> tuple[list[Vec], Vec]:
    if not len(ids):
        return inputs, ids
    keys = {f"a{i}": _group_key(v, a.ft) for i, (v, a) in enumerate(zip(inputs, agg.args, strict=False))}
    table = pa.table({"id": ids, "row": _row_numbers(len(ids))} | keys)
    made = table.group_by(["id", *keys], use_threads=False).aggregate([("row", "min")])
    rows = made.column("row_min").combine_chunks()
    return take(inputs, rows), ids.take(rows)


def _place(ids: Vec, values: Vec, groups: int, missing: int | None) -> Vec:
    """Results by group number, with the value of no rows for groups that have none."""
    ids, values = (v.combine_chunks() if isinstance(v, pa.ChunkedArray) else v for v in (ids, values))
    positions = pc.index_in(pa.array(range(groups), pa.int32()), value_set=ids)
    placed = values.take(positions)
    return placed if missing is None else pc.fill_null(placed, missing)


def _bits(agg: AggDesc, values: Vec, ids: Vec, groups: int) -> Vec:
    op: Callable[[int, int], int] = {BIT_AND: operator.and_, BIT_OR: operator.or_, BIT_XOR: operator.xor}[agg.kind]
    mask = (1 << 64) - 1
    out = [mask if agg.kind == BIT_AND else 0] * groups
    for group, value in zip(ids.to_pylist(), ints(values).to_pylist(), strict=True):
        out[group] = op(out[group], value & mask)
    return pa.array(out, pa.uint64())
