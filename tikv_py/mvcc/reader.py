"""Reading versions: locks, write records and values of single keys, over any engine reader.

A reader is made for one command in one turn of the loop, or over a snapshot.
Invariant: within one reader, all answers are of one state.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from core_py.codec.ts import TS_MAX
from core_py.errors import invariant
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE, Cursor, Reader
from tikv_py.mvcc import keys
from tikv_py.mvcc.errors import KeyIsLocked
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.write import Write, WriteType, committed_write

SEEK_BOUND = 8
"""As many records a reader steps over; a change that is farther down is fetched by its timestamp, where the record knows it."""


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """What became of a transaction on one key: `write` at `commit_ts`, or only an overlapped rollback mark there."""

    commit_ts: int
    write: Write
    is_overlapped_rollback: bool = False

    @property
    def committed(self) -> bool:
        """Whether the transaction committed here."""
        return not self.is_overlapped_rollback and self.write.write_type is not WriteType.ROLLBACK


@dataclass(frozen=True, slots=True)
class OverlappedWrite:
    """Another transaction's record whose commit_ts is the start_ts asked about; `gc_fence` is the next newer change, or 0."""

    write: Write
    gc_fence: int


class MvccReader:
    """Point reads of the three column families."""

    __slots__ = ("_cursor", "engine")

    def __init__(self, engine: Reader) -> None:
        self.engine = engine
        self._cursor: Cursor | None = None

    def load_lock(self, key: bytes) -> Lock | None:
        """The lock on a data key."""
        data = self.engine.get(CF_LOCK, key)
        return None if data is None else Lock.from_bytes(data)

    def seek_write(self, key: bytes, ts: int) -> tuple[int, Write] | None:
        """The newest write record of a data key with commit_ts <= ts, of any type."""
        cursor = self._cursor
        if cursor is None:
            cursor = self._cursor = self.engine.cursor(CF_WRITE)
        if not cursor.seek(keys.versioned(key, ts)):
            return None
        found, commit_ts = keys.split_version(cursor.key())
        return (commit_ts, Write.from_bytes(cursor.value())) if found == key else None

    def _next_write(self, key: bytes) -> tuple[int, Write] | None:
        """The record after the one just returned by `seek_write` or this."""
        cursor = self._cursor
        assert cursor is not None
        if not cursor.next():
            return None
        found, commit_ts = keys.split_version(cursor.key())
        return (commit_ts, Write.from_bytes(cursor.value())) if found == key else None

    def get_data_write(self, key: bytes, ts: int) -> tuple[int, Write] | None:
        """The newest PUT at or below ts, unless a DELETE is newer."""
        found = self.newest_change(key, ts)
        return found if found is not None and found[1].write_type is WriteType.PUT else None

    def newest_change(self, key: bytes, ts: int) -> tuple[int, Write] | None:
        """The newest PUT or DELETE at or below ts; None also when it is behind its GC fence."""
        found = self.seek_write(key, ts)
        while found is not None:
            write = found[1]
            if write.gc_fence and write.is_fenced_off(ts):
                return None
            if write.write_type is WriteType.PUT or write.write_type is WriteType.DELETE:
                return found
            if write.versions_to_last_change and (
                not write.last_change_ts or write.versions_to_last_change >= SEEK_BOUND
            ):
                return self._noted_change(key, write, ts)
            found = self._next_write(key)
        return None

    def _noted_change(self, key: bytes, write: Write, ts: int) -> tuple[int, Write] | None:
        """The change a LOCK record knows to be before it; gone when it was a DELETE that garbage collection has taken."""
        commit_ts = write.last_change_ts
        data = self.engine.get(CF_WRITE, keys.versioned(key, commit_ts)) if commit_ts else None
        if data is None:
            return None
        change = Write.from_bytes(data)
        invariant(
            change.write_type in (WriteType.PUT, WriteType.DELETE),
            f"key {key.hex()} has no change at {commit_ts}, where a LOCK record of {write.start_ts} says one is",
        )
        return None if change.is_fenced_off(ts) else (commit_ts, change)

    def value_of(self, key: bytes, write: Write) -> bytes:
        """The value a PUT record stands for."""
        if write.short_value is not None:
            return write.short_value
        value = self.engine.get(CF_DEFAULT, keys.versioned(key, write.start_ts))
        if value is None:
            invariant(
                condition=False,
                message=f"key {key.hex()} has a write record of {write.start_ts} but no value: data is lost",
            )
        assert value is not None
        return value

    def get(self, key: bytes, ts: int) -> bytes | None:
        """The value visible at ts; locks are not looked at."""
        found = self.get_data_write(key, ts)
        return None if found is None else self.value_of(key, found[1])

    def commit_record(self, key: bytes, start_ts: int) -> CommitRecord | None:
        """What the transaction `start_ts` left on a data key: a commit, a rollback, or None."""
        found = self.commit_record_or_overlap(key, start_ts)
        return found if isinstance(found, CommitRecord) else None

    def commit_record_or_overlap(self, key: bytes, start_ts: int) -> CommitRecord | OverlappedWrite | None:
        """Like `commit_record`, but where nothing was left, the record that a rollback would have to be a mark on, if any."""
        found = self.seek_write(key, TS_MAX)
        gc_fence = 0
        while found is not None:
            commit_ts, write = found
            if write.start_ts == start_ts:
                return CommitRecord(commit_ts, write)
            if commit_ts == start_ts:
                if write.has_overlapped_rollback:
                    return CommitRecord(commit_ts, write, is_overlapped_rollback=True)
                return OverlappedWrite(write, gc_fence)
            if commit_ts < start_ts:
                return None
            if write.write_type is WriteType.PUT or write.write_type is WriteType.DELETE:
                gc_fence = commit_ts
            found = self._next_write(key)
        return None


class EveryOwner(Container[int]):
    """Stands for the owners of all locks, for reads at a timestamp that nobody can commit at any more."""

    def __contains__(self, _start_ts: object) -> bool:
        return True


def check_read_lock(lock: Lock | None, user_key: bytes, read_ts: int, resolved: Container[int] = frozenset()) -> None:
    """Raise KeyIsLocked when a snapshot read at `read_ts` must wait for the lock (wire facts 3.3, SI lock check)."""
    if lock is None or lock.start_ts > read_ts or lock.lock_type in (LockType.LOCK, LockType.PESSIMISTIC):
        return
    if lock.min_commit_ts > read_ts or lock.start_ts in resolved:
        return
    if read_ts == TS_MAX and lock.primary == user_key and not lock.use_async_commit:
        return  # the latest committed value: the primary's own lock cannot have committed yet
    raise KeyIsLocked(user_key, lock)


def snapshot_get(
    reader: MvccReader,
    user_key: bytes,
    read_ts: int,
    resolved: Container[int] = frozenset(),
    committed: Container[int] = frozenset(),
) -> bytes | None:
    """A transactional point read. Raises KeyIsLocked.

    `committed` are transactions that the reader knows to have committed at or before `read_ts`: their locks are read through.
    """
    key = keys.data_key(user_key)
    lock = reader.load_lock(key)
    if lock is not None:
        if lock.start_ts in committed and lock.lock_type in (LockType.PUT, LockType.DELETE):
            return reader.value_of(key, committed_write(lock)) if lock.lock_type is LockType.PUT else None
        check_read_lock(lock, user_key, read_ts, resolved)
    return reader.get(key, read_ts)
