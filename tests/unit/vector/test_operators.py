"""Aggregation, top-N, the chunk encoding and whole requests, each against plain Python."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_py.errors import CodecError
from core_py.vector import chunk_codec, kernels
from core_py.vector.aggregate import Aggregation, Mode, partial_types
from core_py.vector.arrow import pa
from core_py.vector.dag import DagRun, context_of, output_types
from core_py.vector.eval import EvalContext
from core_py.vector.expr import (
    AVG,
    COUNT,
    FIRST,
    GROUP_CONCAT,
    MAX,
    MIN,
    SUM,
    AggDesc,
    ColumnRef,
    SortKey,
    func,
    int_const,
)  # fmt: skip
from core_py.vector.fieldtype import (
    arrow_type,
    bool_type,
    date_type,
    datetime_type,
    decimal_type,
    duration_type,
    int_type,
    real_type,
    string_type,
)  # fmt: skip
from core_py.vector.ordering import TopN
from core_py.vector.plan import Aggregate, Dag, LimitNode, ScanColumn, Selection, TableScan, TopNNode
from core_py.vector.temporal import pack
from core_py.vector.tipb_codec import dag_from_pb, dag_to_pb

assert kernels.SUPPORTED
INT, STR, DEC = int_type(), string_type(), decimal_type(10, 2)
SUM_T, AVG_T = decimal_type(32, 2), decimal_type(14, 6)
K, V = ColumnRef(0, STR), ColumnRef(1, DEC)

rows_st = st.lists(
    st.tuples(st.none() | st.sampled_from([b"a", b"b", b"a ", b"c"]), st.none() | st.decimals(-999, 999, places=2)),
    max_size=30,
)
AGGS = [
    AggDesc(COUNT, (V,), int_type(flen=21)),
    AggDesc(SUM, (V,), SUM_T),
    AggDesc(AVG, (V,), AVG_T),
    AggDesc(MIN, (V,), DEC),
    AggDesc(MAX, (K,), STR),
    AggDesc(FIRST, (K,), STR),
]


def columns_of(rows: list[tuple[Any, Any]]) -> list[Any]:
    return [pa.array([r[0] for r in rows], arrow_type(STR)), pa.array([r[1] for r in rows], arrow_type(DEC))]


def expected(rows: list[tuple[Any, Any]]) -> list[tuple[Any, ...]]:
    groups: dict[Any, list[tuple[Any, Any]]] = defaultdict(list)
    for row in rows:
        groups[None if row[0] is None else row[0].rstrip(b" ")].append(row)
    out = []
    for key, members in groups.items():
        values = [v for _, v in members if v is not None]
        total = sum(values, Decimal(0)) if values else None
        mean = (total / len(values)).quantize(Decimal("0.000001"), "ROUND_HALF_UP") if total is not None else None
        out.append((len(values), total, mean, min(values, default=None), key, members[0][0], members[0][0]))
    return out


def as_rows(columns: list[Any]) -> list[tuple[Any, ...]]:
    return list(zip(*[c.to_pylist() for c in columns], strict=True))


@given(rows_st, st.integers(1, 7))
@settings(max_examples=80)
def test_partial_and_final_equal_complete(rows: list[tuple[Any, Any]], step: int) -> None:
    ctx = EvalContext()
    complete = Aggregation([K], AGGS, Mode.COMPLETE, ctx)
    final_group = [ColumnRef(len(partial_types([], AGGS)), STR)]
    final = Aggregation(final_group, AGGS, Mode.FINAL, ctx)
    for start in range(0, len(rows), step):
        batch = rows[start : start + step]
        complete.add(columns_of(batch), len(batch))
        partial = Aggregation([K], AGGS, Mode.PARTIAL, ctx)
        partial.add(columns_of(batch), len(batch))
        states = partial.result()
        types = partial_types([K], AGGS)
        states = chunk_codec.decode(chunk_codec.encode(states, types), types)
        final.add(states, len(states[0]))
    want = expected(rows)
    got = [(*r[:4], None if r[4] is None else r[4].rstrip(b" "), *r[5:]) for r in as_rows(complete.result())]
    assert got == want
    got = [(*r[:4], None if r[4] is None else r[4].rstrip(b" "), *r[5:]) for r in as_rows(final.result())]
    assert got == want


def test_no_rows_without_group_by_is_one_row() -> None:
    for mode, want in ((Mode.COMPLETE, (0, None, None)), (Mode.PARTIAL, (0, None, 0, None))):
        agg = Aggregation([], AGGS[:3], mode, EvalContext())
        assert as_rows(agg.result()) == [want]
    assert as_rows(Aggregation([K], AGGS[:1], Mode.COMPLETE, EvalContext()).result()) == []


def test_distinct_and_group_concat() -> None:
    rows = [(b"a", Decimal(1)), (b"a", Decimal(1)), (b"b", None), (b"a", Decimal(3)), (b"b", Decimal(2))]
    aggs = [
        AggDesc(COUNT, (V,), int_type(), distinct=True),
        AggDesc(SUM, (V,), SUM_T, distinct=True),
        AggDesc(GROUP_CONCAT, (V,), STR, order_by=(SortKey(V, desc=True),), separator=b"|"),
        AggDesc(COUNT, (int_const(1),), int_type()),
    ]
    agg = Aggregation([K], aggs, Mode.COMPLETE, EvalContext())
    agg.add(columns_of(rows), len(rows))
    assert as_rows(agg.result()) == [
        (2, Decimal("4.00"), b"3.00|1.00|1.00", 3, b"a"),
        (1, Decimal("2.00"), b"2.00", 2, b"b"),
    ]


@given(st.lists(st.tuples(st.none() | st.integers(-5, 5), st.integers(0, 9)), max_size=40), st.integers(0, 12))
def test_top_n(rows: list[tuple[int | None, int]], limit: int) -> None:
    top = TopN([SortKey(ColumnRef(0, INT), desc=True), SortKey(ColumnRef(1, INT))], limit, EvalContext())
    for row in rows:
        top.add([pa.array([row[0]], pa.int64()), pa.array([row[1]], pa.int64())], 1)
    got = top.result()
    want = sorted(rows, key=lambda r: (r[0] is None, -(r[0] or 0), r[1]))[:limit]
    assert (as_rows(got) if got else []) == want


TYPES = [INT, int_type(unsigned=True), real_type(), DEC, STR, date_type(), datetime_type(6), duration_type(),
         decimal_type(50, 10)]  # fmt: skip


def test_chunk_round_trip() -> None:
    rows: list[list[Any]] = [
        [1, None, -(1 << 63)],
        [None, 0, (1 << 64) - 1],
        [1.5, None, -0.25],
        [Decimal("-12345.67"), None, Decimal("0.05")],
        [b"", None, "é".encode()],
        [pack(2024, 2, 29), None, 0],
        [pack(2024, 2, 29, 23, 59, 58, 123456), None, 0],
        [-5, None, 10**15],
        [Decimal("-1234567890123456789012345.0123456789"), None, Decimal("1.5000000000")],
    ]
    arrays = [pa.array(v, arrow_type(t)) for v, t in zip(rows, TYPES, strict=True)]
    data = chunk_codec.encode(arrays, TYPES)
    again = chunk_codec.decode(data, TYPES)
    assert [a.to_pylist() for a in again] == rows
    sliced = chunk_codec.encode([a.slice(1, 2) for a in arrays], TYPES)
    assert [a.to_pylist() for a in chunk_codec.decode(sliced, TYPES)] == [r[1:] for r in rows]
    with pytest.raises(CodecError):
        chunk_codec.decode(data[:-1], TYPES)


def test_my_decimal_bytes() -> None:
    # 12345.67 as TiDB's MyDecimal: 5 and 2 digits, words 12345 and 670000000
    raw = chunk_codec.encode([pa.array([Decimal("12345.67")], pa.decimal128(10, 2))], [DEC])[8:]
    assert raw[:4] == bytes([5, 2, 2, 0])
    assert raw[4:12] == (12345).to_bytes(4, "little") + (670000000).to_bytes(4, "little")


def test_a_request_end_to_end() -> None:
    scan = TableScan(7, (ScanColumn(1, INT, pk_handle=True), ScanColumn(2, STR)))
    a, b = ColumnRef(0, INT), ColumnRef(1, STR)
    dag = Dag(scan, (Selection((func("GTInt", bool_type(), a, int_const(2)),)), LimitNode(3)), (1,))
    dag = dag_from_pb(dag_to_pb(dag))
    run = DagRun(dag, context_of(dag))
    out = run.push([pa.array([1, 2, 3, 4]), pa.array([b"a", b"b", b"c", b"d"], pa.large_binary())], 4)
    assert out is not None
    assert out[0].to_pylist() == [b"c", b"d"]
    assert not run.done
    out = run.push([pa.array([5, 6]), pa.array([b"e", b"f"], pa.large_binary())], 2)
    assert out is not None
    assert out[0].to_pylist() == [b"e"]
    assert run.done
    grouped = Dag(scan, (Aggregate((b,), (AggDesc(COUNT, (a,), INT),)), TopNNode((SortKey(a),), 1)), (0, 1))
    grouped = dag_from_pb(dag_to_pb(grouped))
    assert [t.eval_type for t in output_types(grouped)] == [INT.eval_type, STR.eval_type]
    run = DagRun(grouped, context_of(grouped))
    assert run.push([pa.array([1, 2, 3]), pa.array([b"a", b"b", b"a"], pa.large_binary())], 3) is None
    assert [[c.to_pylist() for c in batch] for batch in run.finish()] == [[[1], [b"b"]]]
