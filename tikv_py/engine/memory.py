"""The engine in memory: dictionaries with sorted key lists, copy-on-write snapshots, and a crash that loses what was not synced.

Used by embedded test clusters and by the simulator. `crash` returns the state a disk would hold after a loss of power: the
synced state plus a caller-chosen prefix of the batches written since, never part of a batch. What was ingested survives even
where batches before it do not, as files do beside a write-ahead log. Not meant for large data: inserting a key moves the
tail of a list.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence

from core_py.errors import StorageError, invariant
from tikv_py.engine.port import KV_CFS, Cursor, Pair, Pressure, Range, Snapshot, SortedRun, WriteBatch

_PUT, _DELETE, _DELETE_RANGE = range(3)


class _Family:
    """One column family: values by key and the sorted keys. `shared` families are copied before the next change.

    `size` is the bytes of all keys and values, kept up to date because stores report it every few seconds.
    """

    __slots__ = ("keys", "shared", "size", "values")

    def __init__(
        self, values: dict[bytes, bytes] | None = None, keys: list[bytes] | None = None, size: int = 0
    ) -> None:
        self.values: dict[bytes, bytes] = values if values is not None else {}
        self.keys: list[bytes] = keys if keys is not None else []
        self.size = size
        self.shared = False

    def copy(self) -> _Family:
        return _Family(dict(self.values), list(self.keys), self.size)

    def put(self, key: bytes, value: bytes) -> None:
        before = self.values.get(key)
        if before is None:
            if not self.keys or key > self.keys[-1]:
                self.keys.append(key)
            else:
                insort(self.keys, key)
            self.size += len(key) + len(value)
        else:
            self.size += len(value) - len(before)
        self.values[key] = value

    def delete(self, key: bytes) -> None:
        before = self.values.pop(key, None)
        if before is not None:
            self.size -= len(key) + len(before)
            del self.keys[bisect_left(self.keys, key)]

    def delete_range(self, start: bytes, end: bytes) -> None:
        low, high = bisect_left(self.keys, start), bisect_left(self.keys, end)
        for key in self.keys[low:high]:
            self.size -= len(key) + len(self.values.pop(key))
        del self.keys[low:high]

    def bounds(self, start: bytes, end: bytes) -> tuple[int, int]:
        low = bisect_left(self.keys, start)
        high = bisect_left(self.keys, end) if end else len(self.keys)
        return low, max(low, high)


class MemoryBatch:
    """A list of changes."""

    __slots__ = ("changes", "ingested")

    def __init__(self, *, ingested: bool = False) -> None:
        self.changes: list[tuple[int, str, bytes, bytes]] = []
        self.ingested = ingested
        """Came in as files: durable at once."""

    def put(self, cf: str, key: bytes, value: bytes) -> None:
        """Set a key."""
        self.changes.append((_PUT, cf, key, value))

    def delete(self, cf: str, key: bytes) -> None:
        """Remove a key."""
        self.changes.append((_DELETE, cf, key, b""))

    def delete_range(self, cf: str, start: bytes, end: bytes) -> None:
        """Remove all keys of [start, end)."""
        invariant(end, "delete_range needs an upper bound")
        self.changes.append((_DELETE_RANGE, cf, start, end))

    def __len__(self) -> int:
        return len(self.changes)


class _MemoryCursor:
    def __init__(self, family: _Family) -> None:
        self._family = family
        self._at = -1

    def _valid(self) -> bool:
        return 0 <= self._at < len(self._family.keys)

    def seek(self, key: bytes) -> bool:
        self._at = bisect_left(self._family.keys, key)
        return self._valid()

    def seek_for_prev(self, key: bytes) -> bool:
        self._at = bisect_right(self._family.keys, key) - 1
        return self._valid()

    def next(self) -> bool:
        self._at += 1
        return self._valid()

    def prev(self) -> bool:
        self._at -= 1
        return self._valid()

    def key(self) -> bytes:
        return self._family.keys[self._at]

    def value(self) -> bytes:
        return self._family.values[self._family.keys[self._at]]


class _MemoryReader:
    _families: dict[str, _Family]

    def get(self, cf: str, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        return self._families[cf].values.get(key)

    def multi_get(self, cf: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of several keys."""
        values = self._families[cf].values
        return [values.get(key) for key in keys]

    def scan(self, cf: str, start: bytes, end: bytes, limit: int = 0) -> list[Pair]:
        """Pairs of [start, end), ascending."""
        family = self._families[cf]
        low, high = family.bounds(start, end)
        if limit:
            high = min(high, low + limit)
        return [(key, family.values[key]) for key in family.keys[low:high]]

    def scan_back(self, cf: str, start: bytes, end: bytes, limit: int = 0) -> list[Pair]:
        """Pairs of [start, end), descending."""
        family = self._families[cf]
        low, high = family.bounds(start, end)
        if limit:
            low = max(low, high - limit)
        return [(key, family.values[key]) for key in reversed(family.keys[low:high])]

    def cursor(self, cf: str) -> Cursor:
        """A new cursor on the state of now."""
        family = self._families[cf]
        family.shared = True
        return _MemoryCursor(family)


class _MemorySnapshot(_MemoryReader):
    def __init__(self, families: dict[str, _Family], streams: Sequence[Range]) -> None:
        self._families = families
        self.streams: Sequence[Iterator[Pair]] = [iter(self.scan(r.cf, r.start, r.end)) for r in streams]

    def release(self) -> None:
        """Forget the view."""
        self._families = {}


class _MemoryRun:
    """`tikv_py.engine.port.SortedRun`: pairs that reach the disk when the run is finished."""

    def __init__(self, disk: dict[str, tuple[Pair, ...]], open_runs: set[str], name: str) -> None:
        self._disk = disk
        self._open = open_runs
        self._name = name
        self._pairs: list[Pair] = []
        self._abandoned = False
        open_runs.add(name)

    def add(self, pairs: Sequence[Pair]) -> None:
        """Append pairs."""
        self._check()
        for pair in pairs:
            if self._pairs and pair[0] <= self._pairs[-1][0]:
                raise StorageError(f"staged run {self._name}: key {pair[0].hex()} is not above the one before")
            self._pairs.append(pair)

    def finish(self) -> None:
        """Put the run on the disk."""
        self._check()
        if not self._pairs:
            raise StorageError(f"staged run {self._name} holds nothing")
        self._disk[self._name] = tuple(self._pairs)
        self._open.discard(self._name)

    def abandon(self) -> None:
        """Remove the run."""
        self._abandoned = True
        self._open.discard(self._name)
        self._disk.pop(self._name, None)

    def _check(self) -> None:
        if self._abandoned:
            raise StorageError(f"staged run {self._name} was abandoned")


class MemoryEngine(_MemoryReader):
    """`tikv_py.engine.port.Engine` in memory."""

    def __init__(self, cfs: Sequence[str] = KV_CFS) -> None:
        self._families = {cf: _Family() for cf in cfs}
        self._durable = {cf: _Family() for cf in cfs}
        self._unsynced: list[MemoryBatch] = []
        self._staged: dict[str, tuple[Pair, ...]] = {}
        self._staging: set[str] = set()
        self._closed = False

    def batch(self) -> MemoryBatch:
        """A new, empty batch."""
        return MemoryBatch()

    def write(self, batch: WriteBatch) -> None:
        """Apply a batch."""
        invariant(isinstance(batch, MemoryBatch) and not self._closed, "a batch of another engine, or a closed engine")
        assert isinstance(batch, MemoryBatch)
        taken = MemoryBatch()
        taken.changes, batch.changes = batch.changes, taken.changes
        _apply(self._families, taken)
        self._unsynced.append(taken)

    def sync_wal(self) -> None:
        """Make everything written so far durable."""
        unsynced, self._unsynced = self._unsynced, []
        for batch in unsynced:
            _apply(self._durable, batch)

    def snapshot(self, streams: Sequence[Range] = ()) -> Snapshot:
        """A frozen view; copies are made by the next change, one per column family."""
        for family in self._families.values():
            family.shared = True
        return _MemorySnapshot(dict(self._families), streams)

    def stage(self, name: str) -> SortedRun:
        """Begin a run."""
        if name in self._staged or name in self._staging:
            raise StorageError(f"a staged run {name} is there already")
        return _MemoryRun(self._staged, self._staging, name)

    def staged(self) -> list[str]:
        """The names of all finished runs."""
        return sorted(self._staged)

    def ingest_staged(self, runs: Sequence[tuple[str, str]]) -> None:
        """Bring finished runs in, durably, without syncing what was written before."""
        batch = MemoryBatch(ingested=True)
        for name, cf in runs:
            if name not in self._staged:
                raise StorageError(f"there is no staged run {name}")
            for key, value in self._staged[name]:
                batch.put(cf, key, value)
        _apply(self._families, batch)
        self._unsynced.append(batch)

    def drop_staged(self, name: str) -> None:
        """Remove a finished run."""
        self._staged.pop(name, None)

    def compact(self, cf: str, start: bytes, end: bytes) -> None:
        """Nothing to do: nothing deleted is held."""

    def approximate_size(self) -> int:
        """Bytes held."""
        return sum([family.size for family in self._families.values()])

    def pressure(self) -> dict[str, Pressure]:
        """Memory is never behind."""
        return dict.fromkeys(self._families, Pressure(0, 0, 0))

    def close(self) -> None:
        """Close; what was written stays for `crash` or a reopen by the owner."""
        self._closed = True

    def unsynced_batches(self) -> int:
        """How many batches a loss of power could still take."""
        return sum(not batch.ingested for batch in self._unsynced)

    def image(self, keep: int = 0) -> MemoryEngine:
        """The engine as it would be found after a loss of power now that kept the first `keep` un-synced batches."""
        survivor = MemoryEngine(tuple(self._families))
        survivor._families = {cf: family.copy() for cf, family in self._durable.items()}
        left = keep
        for batch in self._unsynced:
            if batch.ingested or left > 0:
                _apply(survivor._families, batch)
                left -= not batch.ingested
        survivor._staged = dict(self._staged)
        survivor._durable = {cf: family.copy() for cf, family in survivor._families.items()}
        return survivor

    def crash(self, keep: int = 0) -> MemoryEngine:
        """Like `image`, and this engine takes no more writes."""
        self._closed = True
        return self.image(keep)

    def items(self, cf: str) -> Iterator[Pair]:
        """All pairs of a column family, for checks in tests."""
        return iter(self.scan(cf, b"", b""))


def _apply(families: dict[str, _Family], batch: MemoryBatch) -> None:
    for kind, cf, key, value in batch.changes:
        family = families[cf]
        if family.shared:
            family = families[cf] = family.copy()
        if kind == _PUT:
            family.put(key, value)
        elif kind == _DELETE:
            family.delete(key)
        else:
            family.delete_range(key, value)
