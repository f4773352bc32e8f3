"""The data of a memory cluster: per user key at most one lock, committed versions newest first, and who was rolled back there.

Pure values: rules (`percolator`) return `Change`s, and a command applies all of its changes or none. Rollbacks are a plain set of
start timestamps: what TiKV does to keep their number small (collapsing, marks on other records) changes no answer a client acts on.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from core_py.codec.ts import TS_MAX
from protos.kvproto import kvrpcpb_pb2 as pb


@dataclass(frozen=True, slots=True)
class Lock:
    """A prewritten key (`kind` Put, Del, Lock of kvrpcpb.Op) or a reserved one (PessimisticLock)."""

    kind: int
    primary: bytes
    start_ts: int
    ttl_ms: int
    value: bytes = b""
    for_update_ts: int = 0
    txn_size: int = 0
    min_commit_ts: int = 0
    use_async_commit: bool = False
    secondaries: tuple[bytes, ...] = ()
    with_conflict: bool = False
    """A reservation made in spite of a newer commit."""

    @property
    def is_pessimistic(self) -> bool:
        """Whether it only reserves the key."""
        return self.kind == pb.PessimisticLock

    def info(self, key: bytes) -> pb.LockInfo:
        """The lock as clients see it."""
        return pb.LockInfo(
            primary_lock=self.primary,
            lock_version=self.start_ts,
            key=key,
            lock_ttl=self.ttl_ms,
            txn_size=self.txn_size,
            lock_type=cast("pb.Op", self.kind),
            lock_for_update_ts=self.for_update_ts,
            use_async_commit=self.use_async_commit,
            min_commit_ts=self.min_commit_ts,
            secondaries=self.secondaries,
        )


@dataclass(frozen=True, slots=True)
class Version:
    """What a transaction committed on a key: `kind` Put, Del, or Lock (no change of the value)."""

    commit_ts: int
    start_ts: int
    kind: int
    value: bytes = b""


@dataclass(slots=True)
class Row:
    """One key."""

    lock: Lock | None = None
    versions: list[Version] = field(default_factory=list)
    rolled_back: set[int] = field(default_factory=set)

    def committed_by(self, start_ts: int) -> Version | None:
        """The version a transaction left."""
        return next((version for version in self.versions if version.start_ts == start_ts), None)

    def newest_change(self, ts: int = TS_MAX) -> Version | None:
        """The newest Put or Del at or before `ts`."""
        return next((v for v in self.versions if v.commit_ts <= ts and v.kind != pb.Lock), None)

    def value_at(self, ts: int = TS_MAX) -> bytes | None:
        """The value visible at `ts`, whatever locks say."""
        found = self.newest_change(ts)
        return found.value if found is not None and found.kind == pb.Put else None


@dataclass(frozen=True, slots=True)
class Change:
    """What a rule does to a key: the lock it has from now on, a version more, a rollback more."""

    key: bytes
    lock: Lock | None
    version: Version | None = None
    rollback: int = 0


class Table:
    """Keys in order."""

    def __init__(self) -> None:
        self._rows: dict[bytes, Row] = {}
        self._keys: list[bytes] = []

    def row(self, key: bytes) -> Row:
        """The key's state, empty when nothing was ever written; not to be changed."""
        return self._rows.get(key) or Row()

    def keys(self, start: bytes, end: bytes) -> Sequence[bytes]:
        """Keys of [start, end), ascending; empty `end` = to the last."""
        return self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, end) if end else None]

    def locks(self) -> Iterator[tuple[bytes, Lock]]:
        """All locks, by key."""
        for key in self._keys:
            lock = self._rows[key].lock
            if lock is not None:
                yield key, lock

    def apply(self, changes: Sequence[Change]) -> None:
        """Make all changes."""
        for change in changes:
            row = self._rows.get(change.key)
            if row is None:
                row = self._rows[change.key] = Row()
                insort(self._keys, change.key)
            row.lock = change.lock
            if change.version is not None:
                at = next((i for i, v in enumerate(row.versions) if v.commit_ts < change.version.commit_ts), None)
                row.versions.insert(len(row.versions) if at is None else at, change.version)
            if change.rollback:
                row.rolled_back.add(change.rollback)

    def remove(self, start: bytes, end: bytes) -> None:
        """Forget all keys of [start, end)."""
        gone = self.keys(start, end)
        low = bisect_left(self._keys, start)
        del self._keys[low : low + len(gone)]
        for key in gone:
            del self._rows[key]
