"""Garbage collection of versions: what may go once nobody reads below the safe point any more.

Of each key's records at or below the safe point only the newest PUT is still visible to a reader at or above it. So it stays;
LOCK and ROLLBACK records before it, and everything after it, go, with the values of the PUTs among them. When the newest is a
DELETE, it goes too, but last: as long as an older PUT is there, the DELETE hides it. A PUT whose GC fence names a version at or
below the safe point that is not there any more is no version for any reader (see `Write.is_fenced_off`), and goes as a DELETE does.

Records come in one at a time, in the order of the write family, and modifications come out. The only state between two calls is
about one key, so a caller reads in chunks of any size, keeps the object from chunk to chunk and bounds its work as it likes.

Invariants: modifications must be applied in the order they come out, or a crash in between could bring a deleted value back.
Locks at or below the safe point were resolved before; this looks at no lock.
"""

from __future__ import annotations

from collections.abc import Sequence

from core_py.codec import number
from tikv_py.engine.port import CF_DEFAULT, CF_WRITE
from tikv_py.mvcc import keys
from tikv_py.mvcc.txn import Modify
from tikv_py.mvcc.write import Write, WriteType

NOTHING: Sequence[Modify] = ()


class VersionGc:
    """Collects the versions of successive keys.

    `feed` every pair of a range of the write family in ascending order (the newest version of a key first), beginning at a key's
    first record; call `finish` only when the range is at its end. Given up before that, it is simply dropped: what it let
    through is right as it is, and a new one may begin at any key's first record.
    """

    __slots__ = ("_after_newest", "_dead_newest", "_key", "_safe_point", "_safe_suffix", "deleted_versions")

    def __init__(self, safe_point: int) -> None:
        self._safe_point = safe_point
        self._safe_suffix = number.encode_u64_desc(safe_point)
        self._key = b""
        self._after_newest = False
        """Whether the newest PUT or DELETE at or below the safe point has passed: the rest of the key is garbage."""
        self._dead_newest: Sequence[Modify] = NOTHING
        """The deletion of that newest record when it hides older ones, due behind theirs."""
        self.deleted_versions = 0
        """How many write records the modifications so far delete."""

    def feed(self, key: bytes, value: bytes) -> Sequence[Modify]:
        """Take the next write record (engine key with version, value); return what to delete now. Raises CodecError."""
        # Timestamps are inverted: what sorts before the safe point is newer.
        write = Write.from_bytes(value) if key[-keys.TS_SIZE :] >= self._safe_suffix else None
        data_key = key[: -keys.TS_SIZE]
        out = NOTHING
        if data_key != self._key:
            out = self._end_of_key()
            self._key = data_key
        if write is None:
            return out
        if self._after_newest or write.write_type in (WriteType.LOCK, WriteType.ROLLBACK):
            return [*out, *self._delete(key, data_key, write)]
        self._after_newest = True
        if write.write_type is WriteType.DELETE or write.is_fenced_off(self._safe_point):
            self._dead_newest = self._delete(key, data_key, write)
        return out

    def finish(self) -> Sequence[Modify]:
        """What is left to delete behind the last record of the range."""
        out = self._end_of_key()
        self._key = b""
        return out

    def _end_of_key(self) -> Sequence[Modify]:
        out, self._dead_newest, self._after_newest = self._dead_newest, NOTHING, False
        return out

    def _delete(self, key: bytes, data_key: bytes, write: Write) -> Sequence[Modify]:
        self.deleted_versions += 1
        if write.write_type is WriteType.PUT and write.short_value is None:
            return [
                Modify(CF_WRITE, key, None),
                Modify(CF_DEFAULT, keys.versioned(data_key, write.start_ts), None),
            ]
        return [Modify(CF_WRITE, key, None)]
