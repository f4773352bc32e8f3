"""Codecs against their laws: order preservation, round trip, refusal of truncated input, vectorised equals one by one."""

from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_py.codec import datum, memcomparable, number, row, tablecodec
from core_py.codec import decimal as decimal_codec
from core_py.codec.row_columns import ColumnSpec, Kind, RowBatch
from core_py.errors import CodecError

i64 = st.integers(-(1 << 63), (1 << 63) - 1)
u64 = st.integers(0, (1 << 64) - 1)
reals = st.floats(allow_nan=False)
decimals = st.decimals(min_value=-(10**12), max_value=10**12, places=4, allow_nan=False, allow_infinity=False)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_memcomparable_keeps_order_and_round_trips(a: bytes, b: bytes) -> None:
    assert (memcomparable.encode(a) < memcomparable.encode(b)) == (a < b)
    assert (memcomparable.encode_desc(a) > memcomparable.encode_desc(b)) == (a < b)
    assert memcomparable.decode(memcomparable.encode(a) + b) == (a, memcomparable.encoded_size(len(a)))


@given(st.binary(max_size=30))
def test_memcomparable_refuses_what_it_would_not_write(data: bytes) -> None:
    try:
        raw, end = memcomparable.decode(data)
    except CodecError:
        return
    assert memcomparable.encode(raw) == data[:end]


@given(i64, i64)
def test_integers_keep_order(a: int, b: int) -> None:
    assert (number.encode_i64(a) < number.encode_i64(b)) == (a < b)
    assert number.decode_i64(number.encode_i64(a)) == a
    assert number.decode_var_i64(number.encode_var_i64(a) + b"x") == (a, len(number.encode_var_i64(a)))
    assert row.decode_int(row.value_int(a)) == a


@given(u64, u64)
def test_unsigned_integers_keep_order(a: int, b: int) -> None:
    assert (number.encode_u64(a) < number.encode_u64(b)) == (a < b)
    assert (number.encode_u64_desc(a) > number.encode_u64_desc(b)) == (a < b)
    assert number.decode_u64_desc(number.encode_u64_desc(a)) == a
    assert number.decode_var_u64(number.encode_var_u64(a)) == (a, len(number.encode_var_u64(a)))


@given(reals, reals)
def test_reals_keep_order(a: float, b: float) -> None:
    assert number.decode_f64(number.encode_f64(a)) == a
    if a != b:
        assert (number.encode_f64(a) < number.encode_f64(b)) == (a < b)


@given(decimals, decimals)
def test_decimals_keep_order(a: Decimal, b: Decimal) -> None:
    left, right = decimal_codec.encode(a, 20, 4), decimal_codec.encode(b, 20, 4)
    assert decimal_codec.decode(left) == (a, len(left))
    assert (left < right) == (a < b)


@given(st.lists(st.one_of(st.none(), i64, st.binary(max_size=20)), max_size=4))
def test_datums_round_trip(values: list[int | bytes | None]) -> None:
    encoded = b"".join(
        datum.NULL_KEY if value is None else datum.key_int(value) if isinstance(value, int) else datum.key_bytes(value)
        for value in values
    )
    assert [item.value for item in datum.decode_all(encoded)] == values
    for cut in range(len(encoded)):
        with contextlib.suppress(CodecError):
            datum.decode_all(encoded[:cut])


@given(i64, i64, i64)
def test_record_keys_sort_by_table_then_handle(table: int, a: int, b: int) -> None:
    assert (tablecodec.record_key(table, a) < tablecodec.record_key(table, b)) == (a < b)
    assert tablecodec.decode_record_handle(tablecodec.record_key(table, a)) == a
    assert tablecodec.decode_table_id(tablecodec.record_key(table, a)) == table


@given(st.binary(min_size=1, max_size=6), st.binary(max_size=8))
def test_prefix_next_bounds_every_extension(prefix: bytes, rest: bytes) -> None:
    bound = tablecodec.prefix_next(prefix)
    assert bound == b"" or prefix + rest < bound


row_values = st.fixed_dictionaries(
    {},
    optional={
        1: st.one_of(st.none(), i64),
        2: st.one_of(st.none(), u64),
        3: st.one_of(st.none(), st.binary(max_size=12)),
        4: st.one_of(st.none(), decimals),
        5: st.one_of(st.none(), reals),
        300: st.one_of(st.none(), i64),
    },
)
ENCODERS = {
    1: row.value_int,
    2: row.value_uint,
    3: lambda value: value,
    4: lambda value: row.value_decimal(value, 20, 4),
    5: row.value_real,
    300: row.value_int,
}


@given(st.lists(row_values, max_size=8))
def test_columns_equal_rows_one_by_one(rows: list[dict[int, object]]) -> None:
    encoded = [row.encode([(i, None if v is None else ENCODERS[i](v)) for i, v in r.items()]) for r in rows]
    for one, source in zip(encoded, rows, strict=True):
        assert set(row.decode(one)) == set(source)
    batch = RowBatch(encoded)
    specs = {
        1: ColumnSpec(1, Kind.INT, default=row.value_int(-7)),
        2: ColumnSpec(2, Kind.UINT),
        3: ColumnSpec(3, Kind.BYTES, default=b"dflt"),
        4: ColumnSpec(4, Kind.DECIMAL, 20, 4),
        5: ColumnSpec(5, Kind.REAL),
        300: ColumnSpec(300, Kind.INT),
    }
    defaults = {1: -7, 3: b"dflt"}
    for column_id, spec in specs.items():
        assert batch.column(spec).to_pylist() == [source.get(column_id, defaults.get(column_id)) for source in rows]


@given(st.lists(st.binary(max_size=24), min_size=1, max_size=3))
def test_hostile_rows_raise_or_decode(values: list[bytes]) -> None:
    values = [b"\x80\x00" + value for value in values]
    try:
        for spec in (ColumnSpec(1, Kind.INT), ColumnSpec(2, Kind.BYTES), ColumnSpec(3, Kind.DECIMAL, 20, 4)):
            RowBatch(values).column(spec)
    except CodecError:
        pass


def test_vectors_derived_from_the_wire_facts() -> None:
    assert memcomparable.encode(b"k") == bytes.fromhex("6b00000000000000f8")
    assert memcomparable.encode(b"12345678") == b"12345678\xff" + bytes(8) + b"\xf7"
    assert tablecodec.record_key(1, -1).hex() == "7480000000000000015f727fffffffffffffff"
    assert number.encode_f64(1.0).hex() == "bff0000000000000"
    assert number.encode_f64(-1.0).hex() == "400fffffffffffff"
    # MySQL's manual: 1234567890.1234 as DECIMAL(14,4)
    assert decimal_codec.encode(Decimal("1234567890.1234"), 14, 4).hex() == "0e04810dfb38d204d2"
    assert decimal_codec.encode(Decimal("-1234567890.1234"), 14, 4).hex() == "0e047ef204c72dfb2d"
    assert row.encode([(1, row.value_int(2)), (2, None)]).hex() == "80000100010001020100" + "02"
    assert datum.key_int(5).hex() == "038000000000000005"


def test_decimal_wider_than_int64_decodes_vectorised() -> None:
    value = Decimal("-12345678901234567890123456.789")
    batch = RowBatch([row.encode([(1, row.value_decimal(value, 40, 3))])])
    assert batch.column(ColumnSpec(1, Kind.DECIMAL, 40, 3)).to_pylist() == [value]


def test_decimal_that_does_not_fit_is_refused() -> None:
    with pytest.raises(CodecError, match="does not fit"):
        decimal_codec.encode(Decimal("1000"), 3, 0)


@given(st.integers(1 << 50, (1 << 64) - 1))
def test_long_varints_equal_the_plain_loop(value: int) -> None:
    plain, rest = bytearray(), value
    while rest >= 0x80:
        plain.append(rest & 0x7F | 0x80)
        rest >>= 7
    plain.append(rest)
    assert number.encode_var_u64(value) == bytes(plain)
    assert number.decode_var_u64(b"\xff" + plain + b"\x80", 1) == (value, 1 + len(plain))
    for cut in range(len(plain)):
        with pytest.raises(CodecError):
            number.decode_var_u64(bytes(plain[:cut]))
