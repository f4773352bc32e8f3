"""The engine port: an ordered key-value store with column families, atomic batches, snapshots and an explicit sync.

Why explicit sync: many batches are written, then one `sync_wal` makes them all durable (group commit). A batch that was written
is visible at once and survives the end of the process, but survives the loss of power only after the next `sync_wal`. After a
crash a prefix of the un-synced batches remains, in order, never a part of one.

Reads on the engine itself see the newest state. They are consistent with each other as long as the caller does not give up
the event loop between them, because all writes happen on the loop's thread. Everything that outlives one turn of the loop,
or runs in a thread, takes a `Snapshot`.

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

    def ingest(self, files: Sequence[tuple[str, Sequence[Pair]]]) -> None:
        """Bring sorted runs of pairs in, one column family each, bypassing the write path. Durable on return."""
        ...

    def compact(self, cf: str, start: bytes, end: bytes) -> None:
        """Rewrite [start, end) without what was deleted or overwritten. Blocks, for long; meant for a thread."""
        ...

    def approximate_size(self) -> int:
        """Bytes on disk (or held), for statistics."""
        ...

    def close(self) -> None:
        """Close; no call may follow. Idempotent."""
        ...
