"""The engine port: an ordered key-value store with column families, atomic batches, snapshots and an explicit sync.

Why explicit sync: many batches are written, then one `sync_wal` makes them all durable (group commit). A batch that was written
is visible at once and survives the end of the process, but survives the loss of power only after the next `sync_wal`. After a
crash a prefix of the un-synced batches remains, in order, never a part of one.

Reads on the engine itself see the newest state. They are consistent with each other as long as the caller does not give up
the event loop between them, because all writes happen on the loop's thread. Everything that outlives one turn of the loop,
or runs in a thread, takes a `Snapshot`.

Large sorted data comes in beside the write path: it is staged in named runs, one column family each, and ingested as a whole.
A finished run is durable and outlives crashes until it is dropped; an unfinished one is gone after a crash. Ingesting leaves
the staged runs where they are, so that it can be repeated when it is not known how far it got.

Bounds: `start` inclusive, `end` exclusive, an empty `end` means plus infinity.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

CF_DEFAULT = "default"
CF_LOCK = "lock"
CF_WRITE = "write"
CF_RAFT = "raft"
DATA_CFS = (CF_DEFAULT, CF_LOCK, CF_WRITE)
KV_CFS = (*DATA_CFS, CF_RAFT)

Pair = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Pressure:
    """How far one column family is behind with its upkeep."""

    memtables: int
    """Full ones that wait to be flushed."""
    l0_files: int
    pending_compaction_bytes: int


class Cursor(Protocol):
    """A position in one column family, on a snapshot taken when the cursor was made. Invalid once it leaves the keys."""

    def seek(self, key: bytes) -> bool:
        """To the first key >= `key`; whether there is one."""
        ...

    def seek_for_prev(self, key: bytes) -> bool:
        """To the last key <= `key`; whether there is one."""
        ...

    def next(self) -> bool:
        """To the next key; whether there is one. Only on a valid cursor."""
        ...

    def prev(self) -> bool:
        """To the previous key; whether there is one. Only on a valid cursor."""
        ...

    def key(self) -> bytes:
        """The key here. Only on a valid cursor."""
        ...

    def value(self) -> bytes:
        """The value here. Only on a valid cursor."""
        ...


class Reader(Protocol):
    """What can be read from: the engine itself or a snapshot of it."""

    def get(self, cf: str, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        ...

    def multi_get(self, cf: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of several keys, aligned with them."""
        ...

    def scan(self, cf: str, start: bytes, end: bytes, limit: int = 0) -> list[Pair]:
        """Pairs of [start, end) in ascending order, at most `limit` (0 = all)."""
        ...

    def scan_back(self, cf: str, start: bytes, end: bytes, limit: int = 0) -> list[Pair]:
        """Pairs of [start, end) in descending order, at most `limit` (0 = all)."""
        ...

    def cursor(self, cf: str) -> Cursor:
        """A new cursor."""
        ...


@dataclass(frozen=True, slots=True)
class Range:
    """[start, end) of one column family."""

    cf: str
    start: bytes
    end: bytes


class Snapshot(Reader, Protocol):
    """A frozen view of all column families. Must be released; holding one keeps old data on disk.

    It has one position per column family: a scan or a new cursor invalidates the cursor before it. One thread at a time.
    """

    streams: Sequence[Iterator[Pair]]
    """Fast ascending iterators over the ranges asked for when it was made, in their order; each can be read once."""

    def release(self) -> None:
        """Give it up; reading afterwards is an error."""
        ...


class WriteBatch(Protocol):
    """Changes applied all or none. Consumed by `Engine.write`."""

    def put(self, cf: str, key: bytes, value: bytes) -> None:
        """Set a key."""
        ...

    def delete(self, cf: str, key: bytes) -> None:
        """Remove a key."""
        ...

    def delete_range(self, cf: str, start: bytes, end: bytes) -> None:
        """Remove all keys of [start, end); `end` must not be empty."""
        ...

    def __len__(self) -> int:
        """How many changes it holds."""
        ...


class SortedRun(Protocol):
    """A staged run that is being written. Blocking calls, meant for a thread; one at a time."""

    def add(self, pairs: Sequence[Pair]) -> None:
        """Append pairs. Raises StorageError unless every key is above the one before, or when the run was abandoned."""
        ...

    def finish(self) -> None:
        """Complete the run, which must hold a pair, and make it durable. Raises StorageError."""
        ...

    def abandon(self) -> None:
        """Remove the run, finished or not. Idempotent."""
        ...


class Engine(Reader, Protocol):
    """One database."""

    def batch(self) -> WriteBatch:
        """A new, empty batch."""
        ...

    def write(self, batch: WriteBatch) -> None:
        """Apply a batch; visible at once, durable after the next `sync_wal`. Only on the loop's thread."""
        ...

    def sync_wal(self) -> None:
        """Make everything written before this call durable. Blocks; meant for a thread."""
        ...

    def snapshot(self, streams: Sequence[Range] = ()) -> Snapshot:
        """A frozen view. Only on the loop's thread, so that it is consistent across column families."""
        ...

    def stage(self, name: str) -> SortedRun:
        """Begin a run under a name that is not in use: letters, digits, `-` and `_`. Raises StorageError."""
        ...

    def staged(self) -> list[str]:
        """The names of all finished runs, sorted."""
        ...

    def ingest_staged(self, runs: Sequence[tuple[str, str]]) -> None:
        """Bring finished runs, as (name, column family), into the database over whatever is there. Blocks; meant for a thread.

        Durable on return, and newer than everything written before the call. The runs stay staged. Raises StorageError.
        """
        ...

    def drop_staged(self, name: str) -> None:
        """Remove a finished run; no error when there is none."""
        ...

    def compact(self, cf: str, start: bytes, end: bytes) -> None:
        """Rewrite [start, end) without what was deleted or overwritten. Blocks, for long; meant for a thread."""
        ...

    def approximate_size(self) -> int:
        """Bytes on disk (or held), for statistics."""
        ...

    def pressure(self) -> dict[str, Pressure]:
        """By column family. May wait for a lock of the database; meant for a thread."""
        ...

    def close(self) -> None:
        """Close; no call may follow. Idempotent."""
        ...
