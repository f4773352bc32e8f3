"""Reading a region for garbage, a bounded piece at a time: what a worker thread does with a frozen view.

Each piece may be read from a newer view than the one before. That is right, because what makes a version garbage, a newer
one at or below the safe point, does not go away while only this collects, and because nobody adds versions below the safe
point that an earlier piece should have known: a transaction that old gets no lock any more (`tikv_py.gc.late`).

Records that are not a transaction's (raw clients can write into any family) are passed over: what a removal names must be a
well-formed key with a version.

Values without an owner: a value in `default` belongs to the lock or the PUT of its start_ts. One that has neither, below
the safe point, can never be read, so it is an orphan. Raw data lives in the same family; so orphans are only looked for in
regions whose `write` family is not empty, and raw and transactional data in one region are not supported.

Invariants: removals come out in the order they must be applied in; no call looks at more than `max_pairs` records and one
record per removal beyond.
"""

from __future__ import annotations

from dataclasses import dataclass

from core_py.codec import number
from core_py.errors import CodecError
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE, Reader
from tikv_py.mvcc import keys
from tikv_py.mvcc.actions.gc import VersionGc
from tikv_py.mvcc.lock import Lock
from tikv_py.mvcc.txn import Modify
from tikv_py.mvcc.write import Write

SLICE = 256
_LATEST = number.encode_u64_desc(0)


@dataclass(frozen=True, slots=True)
class Piece:
    """What one call found."""

    removals: list[Modify]
    records: int
    """How many were looked at."""
    is_last: bool


class VersionScan:
    """One pass over the write records of [start, end), engine keys."""

    def __init__(self, start: bytes, end: bytes, safe_point: int) -> None:
        self._position, self._end = start, end
        self._rule = VersionGc(safe_point)
        self._least_suffix = _LATEST
        self.records = 0

    @property
    def newest_ts(self) -> int:
        """The greatest timestamp of a record that was read, 0 for none."""
        return number.decode_u64_desc(self._least_suffix, 0)

    def read(self, view: Reader, max_pairs: int, max_removals: int) -> Piece:
        """Go on from where the last call ended."""
        removals: list[Modify] = []
        records = 0
        feed, least = self._rule.feed, self._least_suffix
        is_last = False
        while not is_last and records < max_pairs and len(removals) < max_removals:
            pairs = view.scan(CF_WRITE, self._position, self._end, SLICE)
            is_last = len(pairs) < SLICE
            for key, value in pairs:
                try:
                    removals += feed(key, value)
                except CodecError:
                    continue  # not a transaction's
                suffix = key[-keys.TS_SIZE :]
                if suffix < least:
                    least = suffix
            records += len(pairs)
            if pairs:
                self._position = pairs[-1][0] + b"\x00"
        if is_last:
            removals += self._rule.finish()
        self._least_suffix = least
        self.records += records
        return Piece([one for one in removals if _is_versioned(one.key)], records, is_last)


class OrphanScan:
    """One pass over the values of [start, end), engine keys, for those without an owner below the safe point."""

    def __init__(self, start: bytes, end: bytes, safe_point: int) -> None:
        self._position, self._end = start, end
        self._safe_point = safe_point

    def read(self, view: Reader, max_pairs: int) -> Piece:
        """Go on from where the last call ended. Keys only are kept of the values."""
        cursor = view.cursor(CF_DEFAULT)
        found = cursor.seek(self._position)
        candidates: list[bytes] = []
        while found and cursor.key() < self._end and len(candidates) < max_pairs:
            candidates.append(cursor.key())
            found = cursor.next()
        orphans = [Modify(CF_DEFAULT, key, None) for key in candidates if is_orphan(view, key, self._safe_point)]
        if candidates:
            self._position = candidates[-1] + b"\x00"
        return Piece(orphans, len(candidates), is_last=len(candidates) < max_pairs)


def is_orphan(view: Reader, key: bytes, safe_point: int) -> bool:
    """Whether the value at an engine key of the default family belongs to no lock and no PUT, and is older than the safe point."""
    if not _is_versioned(key):
        return False
    data_key, start_ts = keys.split_version(key)
    if not 0 < start_ts < safe_point:
        return False
    try:
        lock = view.get(CF_LOCK, data_key)
        if lock is not None and Lock.from_bytes(lock).start_ts == start_ts:
            return False
        # A commit is above its start_ts, so it sorts before the value's own version.
        start, end = data_key, keys.versioned(data_key, start_ts) + b"\x00"
        while pairs := view.scan(CF_WRITE, start, end, SLICE):
            if any(Write.from_bytes(value).start_ts == start_ts for _, value in pairs):
                return False
            start = pairs[-1][0] + b"\x00"
    except CodecError:
        return False  # not a transaction's
    return True


def _is_versioned(key: bytes) -> bool:
    """Whether it is a well-formed user key with a version behind it."""
    try:
        keys.user_key(keys.split_version(key)[0])
    except CodecError:
        return False
    return True
