"""Rows of format v2 decoded a column at a time: numpy gathers instead of per-row Python.

All rows are joined into one byte array. Rows that share a header shape (width, number of values and nulls) are handled
together: their id lists and end offsets are matrices, a column's position is found by comparing the id matrix with its id, and
its values are gathered by offset, one pass per integer width. Real tables have one or a few shapes, so the cost per row is
a few array reads.

Result arrays: INT int64, UINT uint64 (also packed times), REAL float64, BYTES large_binary, DECIMAL decimal128 (decimal256
above 38 digits). Invariant: a malformed header or an extent outside its row raises `CodecError`; no gather reads
outside the joined bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core_py.codec import decimal as decimal_codec
from core_py.errors import CodecError

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

PAD = 16  # so that an eight-byte gather at the last value stays inside the buffer


class Kind(enum.Enum):
    """How a column's values are laid out in a row."""

    INT = "int"
    UINT = "uint"
    REAL = "real"
    BYTES = "bytes"
    DECIMAL = "decimal"


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """What to decode: `default` is the encoded value for rows written before the column existed, None for NULL."""

    column_id: int
    kind: Kind
    precision: int = 0
    scale: int = 0
    default: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Extents:
    """Where one column's value lies in every row: absolute begin, size, and whether it is NULL or absent."""

    begin: Int64s
    size: Int64s
    null: Bools
    absent: Bools


class RowBatch:
    """Many rows, joined; `column` decodes one column of all of them."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self.count = len(values)
        lengths = np.fromiter(map(len, values), dtype=np.int64, count=self.count)
        self._data: Bytes = np.frombuffer(b"".join(values) + bytes(PAD), dtype=np.uint8)
        self._setup(np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def from_buffer(cls, data: Bytes, starts: Int64s, lengths: Int64s) -> RowBatch:
        """Rows that already lie in one buffer, which must have `PAD` spare bytes at its end."""
        batch = cls.__new__(cls)
        batch.count = len(starts)
        batch._data = data
        batch._setup(starts, lengths)
        return batch

    def _setup(self, starts: Int64s, lengths: Int64s) -> None:
        self._starts, self._lengths = starts, lengths
        if self.count == 0:
            self._shapes: list[tuple[Int64s | slice, bool, int, int]] = []
            return
        if int(lengths.min()) < 6:
            raise CodecError("a row is shorter than its header")
        if (self._data[starts] != 0x80).any():
            raise CodecError("a row is not of format version 2")
        big = (self._data[starts + 1] & 1).astype(np.int64)
        not_null = self._u16(starts + 2)
        nulls = self._u16(starts + 4)
        header = 6 + (not_null + nulls) * (1 + 3 * big) + not_null * (2 + 2 * big)
        if (header > lengths).any():
            raise CodecError("a row header is truncated")
        shape = big << 32 | not_null << 16 | nulls
        self._shapes = []
        if (shape == shape[0]).all():
            self._shapes.append((slice(None), bool(big[0]), int(not_null[0]), int(nulls[0])))
            return
        for value in np.unique(shape):
            rows = np.nonzero(shape == value)[0]
            self._shapes.append((rows, bool(value >> 32), int(value >> 16) & 0xFFFF, int(value) & 0xFFFF))

    def _u16(self, at: Int64s) -> Int64s:
        return self._data[at].astype(np.int64) | self._data[at + 1].astype(np.int64) << 8

    def _matrix(self, at: Int64s, columns: int, width: int) -> Int64s:
        """`columns` little-endian integers of `width` bytes from each position in `at`."""
        raw = self._data[at[:, None] + np.arange(columns * width)]
        dtype = {1: "u1", 2: "<u2", 4: "<u4"}[width]
        return np.ascontiguousarray(raw).view(dtype).astype(np.int64)

    def _extents(self, column_id: int) -> _Extents:
        out = _Extents(
            np.zeros(self.count, np.int64),
            np.zeros(self.count, np.int64),
            np.zeros(self.count, bool),
            np.zeros(self.count, bool),
        )
        for rows, big, not_null, nulls in self._shapes:
            starts = self._starts[rows]
            lengths = self._lengths[rows]
            id_width, end_width = (4, 4) if big else (1, 2)
            head = starts + 6
            ids = self._matrix(head, not_null + nulls, id_width)
            match = ids == column_id
            found = match.any(axis=1) if match.size else np.zeros(len(starts), bool)
            position = match.argmax(axis=1) if match.size else np.zeros(len(starts), np.int64)
            present = found & (position < not_null)
            ends_at = head + (not_null + nulls) * id_width
            base = ends_at + not_null * end_width
            begin = np.zeros(len(starts), np.int64)
            end = np.zeros(len(starts), np.int64)
            if not_null:
                ends = self._matrix(ends_at, not_null, end_width)
                line = np.arange(len(starts))
                safe = np.where(present, position, 0)
                end = np.where(present, ends[line, safe], 0)
                begin = np.where(present & (safe > 0), ends[line, np.maximum(safe - 1, 0)], 0)
            if (end < begin).any() or (base - starts + end > lengths).any():
                raise CodecError(f"a value of column {column_id} lies outside its row")
            out.begin[rows] = base + begin
            out.size[rows] = end - begin
            out.null[rows] = ~present
            out.absent[rows] = ~found
        return out

    def column(self, spec: ColumnSpec) -> pa.Array:
        """Decode one column of all rows."""
        extents = self._extents(spec.column_id)
        if spec.default is not None and extents.absent.any():
            extents = self._with_default(extents, spec.default)
        null = extents.null
        if spec.kind is Kind.BYTES:
            return self._strings(extents)
        if spec.kind in (Kind.INT, Kind.UINT):
            return pa.array(self._integers(extents, signed=spec.kind is Kind.INT), mask=null if null.any() else None)
        if spec.kind is Kind.REAL:
            return pa.array(self._reals(extents), mask=null if null.any() else None)
        return self._decimals(extents, spec)

    def _with_default(self, extents: _Extents, default: bytes) -> _Extents:
        """Point absent values at a copy of the default that is put behind the data."""
        at = len(self._data) - PAD
        self._data = np.concatenate([self._data[:at], np.frombuffer(default + bytes(PAD), dtype=np.uint8)])
        return _Extents(
            np.where(extents.absent, at, extents.begin),
            np.where(extents.absent, len(default), extents.size),
            extents.null & ~extents.absent,
            np.zeros(self.count, bool),
        )

    def _integers(self, extents: _Extents, *, signed: bool) -> npt.NDArray[np.int64 | np.uint64]:
        sign = "i" if signed else "u"
        out: npt.NDArray[np.int64 | np.uint64] = np.zeros(self.count, f"{sign}8")
        left = self.count
        for width in (1, 2, 4, 8):
            rows = np.nonzero(extents.size == width)[0]
            if len(rows):
                raw = self._data[extents.begin[rows][:, None] + np.arange(width)]
                out[rows] = np.ascontiguousarray(raw).view(f"<{sign}{width}").ravel()
                left -= len(rows)
        if left != int(extents.null.sum()):
            raise CodecError("an integer column holds a value of another width")
        return out

    def _reals(self, extents: _Extents) -> npt.NDArray[np.float64]:
        if (extents.size[~extents.null] != 8).any():
            raise CodecError("a real column holds a value of another width")
        rows = np.nonzero(~extents.null)[0]
        out = np.zeros(self.count, np.float64)
        raw = (
            np.ascontiguousarray(self._data[extents.begin[rows][:, None] + np.arange(8)])
            .view(">u8")
            .ravel()
            .astype(np.uint64)
        )
        sign = np.uint64(1 << 63)
        out[rows] = np.where(raw & sign, raw & ~sign, ~raw).view(np.float64)
        return out

    def _strings(self, extents: _Extents) -> pa.Array:
        offsets = np.zeros(self.count + 1, np.int64)
        np.cumsum(extents.size, out=offsets[1:])
        index = np.repeat(extents.begin - offsets[:-1], extents.size) + np.arange(int(offsets[-1]))
        null_count = int(extents.null.sum())
        validity = pa.py_buffer(np.packbits(~extents.null, bitorder="little")) if null_count else None
        buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(self._data[index]))]
        return pa.Array.from_buffers(pa.large_binary(), self.count, buffers, null_count)

    def _decimals(self, extents: _Extents, spec: ColumnSpec) -> pa.Array:
        unscaled = np.zeros(self.count, np.int64 if spec.precision <= 18 else object)
        rows = np.nonzero(~extents.null)[0]
        if (extents.size[rows] < 3).any():
            raise CodecError("a decimal is truncated")
        shapes = self._u16(extents.begin[rows])
        for shape in np.unique(shapes):
            precision, scale = int(shape) & 0xFF, int(shape) >> 8
            chosen = rows[shapes == shape]
            self._check_decimal(precision, scale, extents.size[chosen], spec)
            width = decimal_codec.binary_size(precision, scale)
            raw = self._data[extents.begin[chosen][:, None] + 2 + np.arange(width)]
            unscaled[chosen] = decimal_codec.decode_matrix(raw, precision, scale) * 10 ** (spec.scale - scale)
        return decimal_array(unscaled, extents.null, spec.precision, spec.scale)

    @staticmethod
    def _check_decimal(precision: int, scale: int, sizes: Int64s, spec: ColumnSpec) -> None:
        if not 0 < precision <= decimal_codec.MAX_PRECISION or scale > min(precision, spec.scale):
            raise CodecError(f"decimal({precision},{scale}) in a column of decimal({spec.precision},{spec.scale})")
        if (sizes != 2 + decimal_codec.binary_size(precision, scale)).any():
            raise CodecError("a decimal has too few or too many digits")


def decimal_array(
    unscaled: npt.NDArray[np.int64] | npt.NDArray[np.object_], null: Bools, precision: int, scale: int
) -> pa.Array:
    """An Arrow decimal array from unscaled integers."""
    kind = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    null_count = int(null.sum())
    validity = pa.py_buffer(np.packbits(~null, bitorder="little")) if null_count else None
    if unscaled.dtype == np.int64:
        words = np.empty((len(unscaled), 2 if precision <= 38 else 4), np.int64)
        words[:, 0] = unscaled
        words[:, 1:] = (unscaled >> 63)[:, None]
        return pa.Array.from_buffers(kind, len(unscaled), [validity, pa.py_buffer(words)], null_count)
    width = kind.byte_width
    raw = b"".join(int(value).to_bytes(width, "little", signed=True) for value in unscaled)
    return pa.Array.from_buffers(kind, len(unscaled), [validity, pa.py_buffer(raw)], null_count)
