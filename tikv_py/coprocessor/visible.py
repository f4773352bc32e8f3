"""MVCC visibility of many write records at once: which row each key shows at a timestamp, by array operations.

Input are pairs of the write family in key order, all versions of a key together, newest first. Per key the first PUT
or DELETE with commit_ts <= read_ts decides; LOCK and ROLLBACK records are looked through. Only long values, which
live in the default family, are fetched one by one. The same rule one key at a time is
`tikv_py.mvcc.reader.MvccReader.get`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from core_py.codec import memcomparable
from core_py.errors import CodecError
from tikv_py.engine.port import Pair
from tikv_py.mvcc.write import Write

TS_SIZE = 8
_PUT, _DELETE, _SHORT_VALUE = ord("P"), ord("D"), ord("v")
_VARINT_MAX = 10

FetchValue = Callable[[bytes, Write], bytes]


def visible(pairs: Sequence[Pair], read_ts: int, fetch: FetchValue) -> tuple[list[bytes], list[bytes]]:
    """(data keys, values) visible at `read_ts`, in the order of the input."""
    if not pairs:
        return [], []
    keys = [key for key, _ in pairs]
    chosen = _choose(keys, [value[0] if value else 0 for _, value in pairs], read_ts)
    out_keys = [keys[at][:-TS_SIZE] for at in chosen]
    records = [pairs[at][1] for at in chosen]
    return out_keys, _values(out_keys, records, fetch)


def _choose(keys: list[bytes], types: list[int], read_ts: int) -> list[int]:
    """Positions of the PUT records that their keys show."""
    count = len(keys)
    raw = np.frombuffer(b"".join([key[-TS_SIZE:] for key in keys]), dtype=">u8")
    if len(raw) != count:
        raise CodecError("a write record's key is too short to carry a version")
    commit_ts = ~raw.astype(np.uint64)
    kind = np.array(types, dtype=np.uint8)
    candidates = np.nonzero((commit_ts <= np.uint64(read_ts)) & ((kind == _PUT) | (kind == _DELETE)))[0]
    if not len(candidates):
        return []
    group = np.cumsum(_starts_group(keys))
    groups = group[candidates]
    first = np.ones(len(candidates), bool)
    first[1:] = groups[1:] != groups[:-1]
    shown = candidates[first]
    result: list[int] = shown[kind[shown] == _PUT].tolist()
    return result


def _starts_group(keys: list[bytes]) -> npt.NDArray[np.bool_]:
    """Where a new key begins."""
    size = len(keys[0])
    begins = np.ones(len(keys), bool)
    if all(len(key) == size for key in keys):
        matrix = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), size)[:, :-TS_SIZE]
        begins[1:] = (matrix[1:] != matrix[:-1]).any(axis=1)
    else:
        users = [key[:-TS_SIZE] for key in keys]
        begins[1:] = [users[at] != users[at - 1] for at in range(1, len(users))]
    return begins


def _values(keys: list[bytes], records: list[bytes], fetch: FetchValue) -> list[bytes]:
    """The value of each PUT record: cut out of it, or fetched."""
    if not records:
        return []
    # All start timestamps of one era have varints of one length: try that offset for all, parse what does not fit.
    offset = _value_offset(records[0])
    out: list[bytes] = []
    for key, record in zip(keys, records, strict=True):
        if (
            offset
            and len(record) > offset
            and record[offset - 2] == _SHORT_VALUE
            and record[offset - 3] < 0x80 <= record[offset - 4]
            and offset + record[offset - 1] == len(record)
        ):
            out.append(record[offset:])
            continue
        write = Write.from_bytes(record)
        out.append(write.short_value if write.short_value is not None else fetch(key, write))
    return out


def _value_offset(record: bytes) -> int:
    """Where the short value of a record begins, 0 if it has none."""
    for at in range(1, min(len(record), 1 + _VARINT_MAX)):
        if record[at] < 0x80:
            has_value = at + 2 < len(record) and record[at + 1] == _SHORT_VALUE
            return at + 3 if has_value and at > 1 else 0
    return 0


def user_keys(data_keys: list[bytes]) -> list[bytes]:
    """The user keys of data keys; keys of one shape are unpacked by columns."""
    if not data_keys:
        return []
    size = len(data_keys[0])
    marker = data_keys[0][-1]
    if (size - 1) % 9 == 0 and all(len(key) == size and key[-1] == marker for key in data_keys):
        groups = (size - 1) // 9
        columns = [1 + group * 9 + at for group in range(groups) for at in range(8)]
        kept = groups * 8 - (0xFF - marker)
        matrix = np.frombuffer(b"".join(data_keys), dtype=np.uint8).reshape(len(data_keys), size)
        raw = np.ascontiguousarray(matrix[:, columns[:kept]]).tobytes()
        return [raw[at : at + kept] for at in range(0, kept * len(data_keys), kept)] if kept else [b""] * len(data_keys)
    return [memcomparable.decode_whole(key[1:]) for key in data_keys]
