"""MVCC visibility of many write records at once: which row each key shows at a timestamp, by array operations.

Input are pairs of the write family in key order, all versions of a key together, newest first. Per key the first PUT
or DELETE with commit_ts <= read_ts decides; LOCK and ROLLBACK records are looked through. The records are joined into
one buffer and values are cut out of it by offsets; only long values, which live in the default family, are fetched
one by one. The same rule one key at a time is `tikv_py.mvcc.reader.MvccReader.get`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from core_py.codec import memcomparable
from core_py.codec.row_columns import PAD, RowBatch
from core_py.errors import CodecError
from tikv_py.engine.port import Pair
from tikv_py.mvcc.write import Write

TS_SIZE = 8
_PUT, _DELETE, _SHORT_VALUE = ord("P"), ord("D"), ord("v")
_VARINT_MAX = 10

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]
FetchValue = Callable[[bytes, Write], bytes]


class VisibleRows:
    """Rows as extents of one buffer that has `PAD` spare bytes at its end; their keys are cut out only when asked for."""

    __slots__ = ("_chosen", "_keys", "_versioned", "data", "lengths", "starts")

    def __init__(
        self, versioned: Sequence[bytes], chosen: Int64s, data: Bytes, starts: Int64s, lengths: Int64s
    ) -> None:
        self._versioned, self._chosen = versioned, chosen
        self.data, self.starts, self.lengths = data, starts, lengths
        self._keys: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def select(self, mask: npt.NDArray[np.bool_]) -> VisibleRows:
        """Only some of the rows."""
        return VisibleRows(self._versioned, self._chosen[mask], self.data, self.starts[mask], self.lengths[mask])

    @property
    def keys(self) -> list[bytes]:
        """The data keys."""
        if self._keys is None:
            self._keys = [self._versioned[at][:-TS_SIZE] for at in self._chosen.tolist()]
        return self._keys

    def values(self) -> list[bytes]:
        """The values one by one, for scans that decode them so."""
        raw = self.data.tobytes()
        ends = (self.starts + self.lengths).tolist()
        return [raw[start:end] for start, end in zip(self.starts.tolist(), ends, strict=True)]

    def rows(self) -> RowBatch:
        """The values as rows to be decoded a column at a time. Raises CodecError."""
        return RowBatch.from_buffer(self.data, self.starts, self.lengths)

    def reverse(self) -> None:
        """Turn the order around."""
        self._chosen, self.starts, self.lengths = self._chosen[::-1], self.starts[::-1], self.lengths[::-1]
        self._keys = None


def visible(pairs: Sequence[Pair], read_ts: int, fetch: FetchValue) -> VisibleRows:
    """What `pairs` show at `read_ts`, in their order."""
    keys = [key for key, _ in pairs]
    records = [record for _, record in pairs]
    sizes = np.fromiter(map(len, records), np.int64, len(records))
    starts = np.cumsum(sizes) - sizes
    data = np.frombuffer(b"".join(records) + bytes(PAD), np.uint8)
    if not pairs:
        return VisibleRows(keys, starts, data, starts, sizes)
    if int(sizes.min()) < 2:
        raise CodecError("a write record is truncated")
    chosen = _choose(keys, data[starts], read_ts)
    return _cut_values(VisibleRows(keys, chosen, data, starts[chosen], sizes[chosen]), read_ts, fetch)


def _choose(keys: list[bytes], kinds: Bytes, read_ts: int) -> Int64s:
    """Positions of the PUT records that their keys show."""
    matrix = _matrix(keys)
    if matrix is not None and matrix.shape[1] > TS_SIZE:
        user = matrix[:, :-TS_SIZE]
        changes = (user[1:] != user[:-1]).any(axis=1)
        raw = np.ascontiguousarray(matrix[:, -TS_SIZE:]).view(">u8").ravel()
    else:
        users = [key[:-TS_SIZE] for key in keys]
        changes = np.array([users[at] != users[at - 1] for at in range(1, len(users))], bool)
        raw = np.frombuffer(b"".join([key[-TS_SIZE:] for key in keys]), dtype=">u8")
        if len(raw) != len(keys):
            raise CodecError("a write record's key is too short to carry a version")
    commit_ts = ~raw.astype(np.uint64)
    candidates = np.nonzero((commit_ts <= np.uint64(read_ts)) & ((kinds == _PUT) | (kinds == _DELETE)))[0]
    groups = np.concatenate([np.zeros(1, np.int64), np.cumsum(changes)])[candidates]
    first = np.ones(len(candidates), bool)
    first[1:] = groups[1:] != groups[:-1]
    shown: Int64s = candidates[first]
    puts: Int64s = shown[kinds[shown] == _PUT]
    return puts


def _matrix(keys: Sequence[bytes]) -> Bytes | None:
    """Keys of one length as the rows of a matrix."""
    size = len(keys[0])
    sizes = np.fromiter(map(len, keys), np.int64, len(keys))
    if not (sizes == size).all():
        return None
    return np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), size)


def _cut_values(rows: VisibleRows, read_ts: int, fetch: FetchValue) -> VisibleRows:
    """From whole PUT records to their values; long values are fetched and put behind the buffer.

    A record with more parts than these, which is rare, may turn out to be behind its GC fence and then is no row.
    """
    if not len(rows):
        return rows
    # A record is: type byte, varint start_ts, and perhaps `v`, a length byte and the short value.
    data, starts, ends = rows.data, rows.starts, rows.starts + rows.lengths
    last = len(data) - 1
    varints = data[np.minimum(starts[:, None] + 1 + np.arange(_VARINT_MAX), last)] < 0x80
    if not varints.any(axis=1).all():
        raise CodecError("a write record's start_ts is truncated")
    tag = starts + 2 + varints.argmax(axis=1)
    short = (tag + 1 < ends) & (data[np.minimum(tag, last)] == _SHORT_VALUE)
    lengths = np.where(short, data[np.minimum(tag + 1, last)].astype(np.int64), 0)
    record_ends = np.where(short, tag + 2 + lengths, tag)
    if (record_ends > ends).any():
        raise CodecError("a write record's short value is truncated")
    longer = np.nonzero(record_ends < ends)[0].tolist()
    if longer:
        mask = np.ones(len(rows), bool)
        for at in longer:
            mask[at] = not Write.from_bytes(data[starts[at] : ends[at]].tobytes()).is_fenced_off(read_ts)
        if not mask.all():
            return _cut_values(rows.select(mask), read_ts, fetch)
    rows.starts, rows.lengths = np.where(short, tag + 2, 0), lengths
    if short.all():
        return rows
    parts = [data[: len(data) - PAD].tobytes()]
    position = len(parts[0])
    for at in np.nonzero(~short)[0].tolist():
        record = Write.from_bytes(data[starts[at] : ends[at]].tobytes())
        value = fetch(rows.keys[at], record) if record.short_value is None else record.short_value
        rows.starts[at], rows.lengths[at] = position, len(value)
        parts.append(value)
        position += len(value)
    rows.data = np.frombuffer(b"".join(parts) + bytes(PAD), np.uint8)
    return rows


def user_keys(data_keys: list[bytes]) -> list[bytes]:
    """The user keys of data keys; keys of one shape are unpacked by columns."""
    if not data_keys:
        return []
    matrix = _matrix(data_keys)
    marker = data_keys[0][-1]
    if matrix is None or (matrix.shape[1] - 1) % 9 or not (matrix[:, -1] == marker).all():
        return [memcomparable.decode_whole(key[1:]) for key in data_keys]
    groups = (matrix.shape[1] - 1) // 9
    columns = [1 + group * 9 + at for group in range(groups) for at in range(8)]
    kept = groups * 8 - (0xFF - marker)
    if not kept:
        return [b""] * len(data_keys)
    raw = np.ascontiguousarray(matrix[:, columns[:kept]]).tobytes()
    return [raw[at : at + kept] for at in range(0, kept * len(data_keys), kept)]
