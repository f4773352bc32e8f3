"""Rows to packets, column by column: text rows and binary rows of a whole batch become one byte string.

A column comes as an Arrow binary array of cells: for text rows the text of each value, for binary rows the value as it
goes over the wire (`cells.py` makes both from typed arrays). NULL cells are Arrow nulls. Large batches are joined by
Arrow kernels, without a Python step per row; small ones, where calling a kernel costs more than the work, by hand.

Invariant: the bytes equal `PacketEncoder.many` over the rows encoded one at a time (the tests compare both ways).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core_py.vector.arrow import Vec, pa, pc
from tidb_py.mysql.constants import MAX_PAYLOAD
from tidb_py.mysql.packets import PacketEncoder
from tidb_py.mysql.wire import lenenc_bytes, lenenc_int

SMALL_BATCH = 12  # rows; under this the per-row path is faster
_PREFIXES = pa.array([bytes([i]) for i in range(251)], pa.large_binary())
_NULL_TEXT = pa.scalar(b"\xfb", pa.large_binary())
_EMPTY = pa.scalar(b"", pa.large_binary())

Cells = Vec  # a large_binary array


def encode_text_rows(columns: Sequence[Cells], encoder: PacketEncoder) -> bytes:
    """Frame the rows of one batch for the text protocol."""
    count = len(columns[0])
    if count <= SMALL_BATCH:
        lists = [[b"\xfb" if v is None else lenenc_bytes(v) for v in column.to_pylist()] for column in columns]
        return encoder.many([b"".join(row) for row in zip(*lists, strict=True)])
    parts: list[Cells] = []
    for column in columns:
        parts.append(_prefix(column))
        parts.append(pc.fill_null(column, _EMPTY) if column.null_count else column)
    return _frame_rows(parts, count, encoder)


def encode_binary_rows(columns: Sequence[Cells], prefixed: Sequence[bool], encoder: PacketEncoder) -> bytes:
    """Frame the rows of one batch for the binary protocol; `prefixed` marks the columns that need a length."""
    count = len(columns[0])
    if count <= SMALL_BATCH:
        return encoder.many(_binary_rows_by_hand(columns, prefixed, count))
    parts: list[Cells] = [_binary_head(columns, count)]
    for column, with_length in zip(columns, prefixed, strict=True):
        if with_length:
            prefix = _prefix(column)
            parts.append(pc.if_else(pc.is_null(column), _EMPTY, prefix) if column.null_count else prefix)
        parts.append(pc.fill_null(column, _EMPTY) if column.null_count else column)
    return _frame_rows(parts, count, encoder)


def _prefix(column: Cells) -> Cells:
    lengths = pc.binary_length(column)
    longest = pc.max(lengths).as_py() or 0
    if longest < 251:
        prefix = _PREFIXES.take(lengths)
    else:
        raw = [None if n is None else lenenc_int(n) for n in lengths.to_pylist()]
        prefix = pa.array(raw, pa.large_binary())
    return pc.fill_null(prefix, _NULL_TEXT) if column.null_count else prefix


def _binary_rows_by_hand(columns: Sequence[Cells], prefixed: Sequence[bool], count: int) -> list[bytes]:
    lists = [column.to_pylist() for column in columns]
    size = (len(columns) + 9) // 8
    out = []
    for i in range(count):
        bitmap = 0
        cells = []
        for c, values in enumerate(lists):
            value = values[i]
            if value is None:
                bitmap |= 1 << (c + 2)
            else:
                cells.append(lenenc_bytes(value) if prefixed[c] else value)
        out.append(b"\0" + bitmap.to_bytes(size, "little") + b"".join(cells))
    return out


def _binary_head(columns: Sequence[Cells], count: int) -> Cells:
    size = (len(columns) + 9) // 8
    bits = np.zeros((count, size * 8), dtype=np.uint8)
    for c, column in enumerate(columns):
        if column.null_count:
            bits[:, c + 2] = pc.is_null(column).to_numpy(zero_copy_only=False)
    head = np.zeros((count, size + 1), dtype=np.uint8)
    head[:, 1:] = np.packbits(bits, axis=1, bitorder="little")
    return fixed_cells(head)


def fixed_cells(matrix: Vec) -> Cells:
    """A byte matrix (rows x width) as an array of cells."""
    rows, width = matrix.shape
    data = pa.py_buffer(np.ascontiguousarray(matrix).tobytes())
    offsets = pa.py_buffer((np.arange(rows + 1, dtype=np.int64) * width).tobytes())
    return pa.Array.from_buffers(pa.large_binary(), rows, [None, offsets, data])


def _frame_rows(parts: list[Cells], count: int, encoder: PacketEncoder) -> bytes:
    rows: Cells = pc.binary_join_element_wise(*parts, _EMPTY)
    lengths = pc.binary_length(rows).to_numpy(zero_copy_only=False)
    if int(lengths.max()) >= MAX_PAYLOAD:
        return encoder.many(rows.to_pylist())
    sequence = (np.arange(count, dtype=np.uint32) + encoder.sequence) & 0xFF
    head = (lengths.astype(np.uint32) | sequence << np.uint32(24)).astype("<u4")
    encoder.sequence = (encoder.sequence + count) & 0xFF
    framed: Cells = pc.binary_join_element_wise(fixed_cells(head.view(np.uint8).reshape(count, 4)), rows, _EMPTY)
    if isinstance(framed, pa.ChunkedArray):
        return b"".join(_data_of(chunk) for chunk in framed.chunks)
    return _data_of(framed)


def _data_of(array: Cells) -> bytes:
    """The bytes of all cells, one after another."""
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    return bytes(memoryview(array.buffers()[2])[int(offsets[0]) : int(offsets[-1])])
