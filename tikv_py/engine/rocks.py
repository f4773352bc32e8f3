"""The engine on RocksDB. The only module that knows rocksdict; its traps are handled here and nowhere else.

- An iterator's upper bound is a pointer into a Python `bytes` that nothing owns: every user of bounds here keeps the bytes
  alive beside the ReadOptions until the iteration is over. The lower-bound setter writes the *upper* bound: never used.
- `write` holds the interpreter lock, also during an fsync: batches are written without sync, and `sync_wal`
  (`flush_wal(True)`, which releases the lock) runs in a thread.
- An iterator of a native snapshot shows the newest state, not the snapshot's (gets do not): iterators are made at snapshot time.
- Closing does not release the directory's lock while an iterator, snapshot or column family lives: all are tracked and dropped.
- A batch put needs its column family's handle every time.
- An iteration that meets a damaged block ends as if nothing followed: whoever comes to an end asks the iterator's status.
  What `items()` gives has no status, so a raw iterator goes to the same place and is asked.

Damage: block checksums are verified on every read and compaction (`paranoid_checks`); logs are looked over before they are
replayed (`tikv_py.engine.wal_check`). A database that fails once stays suspect: its owner hears of the first failure
through `on_fault` and is expected to stop the process, whoever got the error.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    IngestExternalFileOptions,
    Options,
    Rdict,
    ReadOptions,
    SstFileWriter,
)
from rocksdict import WriteBatch as RawBatch

from core_py.errors import DataCorruption, StorageError, invariant
from tikv_py.engine.port import KV_CFS, Cursor, Pair, Pressure, Range, Snapshot, SortedRun, WriteBatch
from tikv_py.engine.sst_stage import SstStage
from tikv_py.engine.wal_check import check_logs

DEFAULT_CACHE_BYTES = 64 << 20
DEFAULT_MEMTABLES_BYTES = 96 << 20  # of all column families together; the fullest is flushed beyond it
MAX_MEMTABLE_BYTES = 32 << 20
MAX_MEMTABLES = 8  # of a column family; beyond it the database stops writes
L0_SLOWDOWN_FILES, L0_STOP_FILES = 48, 64
SLOWDOWN_PENDING_BYTES = 1 << 40
PRESSURE_PROPERTIES = (
    "rocksdb.num-immutable-mem-table",
    "rocksdb.num-files-at-level0",
    "rocksdb.estimate-pending-compaction-bytes",
)
STREAM_PIECE = 256  # pairs that a stream reads ahead


def _options(cache: Cache, memtables_bytes: int, *, whole_database: bool) -> Options:
    options = Options(raw_mode=True)
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_bloom_filter(10, False)
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_format_version(5)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(min(MAX_MEMTABLE_BYTES, memtables_bytes // 2))
    # The database's own brakes stop the thread that writes, which is the loop: they are set beyond where flow control acts.
    options.set_max_write_buffer_number(MAX_MEMTABLES)
    options.set_level_zero_slowdown_writes_trigger(L0_SLOWDOWN_FILES)
    options.set_level_zero_stop_writes_trigger(L0_STOP_FILES)
    options.set_soft_pending_compaction_bytes_limit(SLOWDOWN_PENDING_BYTES)
    options.set_hard_pending_compaction_bytes_limit(2 * SLOWDOWN_PENDING_BYTES)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_level_compaction_dynamic_level_bytes(True)
    if whole_database:
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_max_background_jobs(2)
        options.set_max_open_files(1024)
        options.set_keep_log_file_num(2)
        options.set_max_total_wal_size(256 << 20)
        options.set_db_write_buffer_size(memtables_bytes)
        options.set_paranoid_checks(True)
        # Whatever a loss of power leaves of the logs, a prefix of the batches is what the rest of the store relies on.
        options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    return options


class _Faults:
    """Makes StorageErrors of what rocksdict raises, and tells the engine's owner of them; from any thread."""

    def __init__(self, path: str, on_fault: Callable[[StorageError], None] | None) -> None:
        self._path = path
        self._on_fault = on_fault

    def made(self, what: str, cause: object) -> StorageError:
        """The error to raise when doing `what` failed."""
        text = f"database {self._path}: {what} failed: {cause}"
        error = StorageError(text)
        if "Corruption" in str(cause):
            error = DataCorruption(
                f"{text}; look at it with `tikv-py ctl --data-dir ... bad-regions`, then replace this store"
                " (a new one gets its data from the others)"
            )
        if self._on_fault is not None:
            self._on_fault(error)
        return error

    def check_end(self, iterator: Any) -> None:
        """An iterator has no more keys: because there are none, or because one could not be read. Raises StorageError."""
        try:
            iterator.status()
        except Exception as error:
            raise self.made("reading on", error) from error


class RocksBatch:
    """A RocksDB write batch."""

    __slots__ = ("_handles", "raw")

    def __init__(self, handles: dict[str, Any]) -> None:
        self.raw = RawBatch(raw_mode=True)
        self._handles = handles

    def put(self, cf: str, key: bytes, value: bytes) -> None:
        """Set a key."""
        self.raw.put(key, value, self._handles[cf])

    def delete(self, cf: str, key: bytes) -> None:
        """Remove a key."""
        self.raw.delete(key, self._handles[cf])

    def delete_range(self, cf: str, start: bytes, end: bytes) -> None:
        """Remove all keys of [start, end)."""
        invariant(end, "delete_range needs an upper bound")
        self.raw.delete_range(start, end, self._handles[cf])

    def __len__(self) -> int:
        return int(self.raw.len())


class _RocksCursor:
    __slots__ = ("__weakref__", "_faults", "_iter", "key", "value")

    def __init__(self, iterator: Any, faults: _Faults) -> None:
        self._iter = iterator
        self._faults = faults
        self.key = iterator.key
        self.value = iterator.value

    def _valid(self) -> bool:
        if self._iter.valid():
            return True
        self._faults.check_end(self._iter)
        return False

    def seek(self, key: bytes) -> bool:
        self._iter.seek(key)
        return self._valid()

    def seek_for_prev(self, key: bytes) -> bool:
        self._iter.seek_for_prev(key)
        return self._valid()

    def next(self) -> bool:
        self._iter.next()
        return self._valid()

    def prev(self) -> bool:
        self._iter.prev()
        return self._valid()

    def seek_to_last(self) -> bool:
        """To the last key of all."""
        self._iter.seek_to_last()
        return self._valid()

    def drop(self) -> None:
        """Let go of the native iterator."""
        self._iter = self.key = self.value = None


class _RocksReader:
    """Reads over one object per column family: the database's, or a snapshot's."""

    _sources: dict[str, Any]
    _cursors: weakref.WeakSet[_RocksCursor]
    _faults: _Faults

    def get(self, cf: str, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        try:
            value: bytes | None = self._sources[cf].get(key)
        except Exception as error:
            raise self._faults.made(f"reading key {key.hex()}", error) from error
        return value

    def multi_get(self, cf: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of several keys."""
        get = self._sources[cf].get
        try:
            return [get(key) for key in keys]
        except Exception as error:
            raise self._faults.made(f"reading {len(keys)} keys", error) from error

    def scan(self, cf: str, start: bytes, end: bytes, limit: int = 0) -> list[Pair]:
        """Pairs of [start, end), ascending."""
        if end and end <= start:
            return []
        options = ReadOptions()
        if end:
            options.set_iterate_upper_bound(end)  # `end` outlives the iteration: it is this call's argument
        source = self._sources[cf]
        items = source.items(from_key=start, read_opt=options)
        out: list[Pair] = list(islice(items, limit)) if limit else list(items)
        if not limit or len(out) < limit:
            _check_stop(source.iter(options), out[-1][0] if out else None, start, self._faults)
        return out

    def scan_back(self, cf: str, start: bytes, end: bytes, limit: int = 0) -> list[Pair]:
        """Pairs of [start, end), descending."""
        options = ReadOptions()
        source = self._sources[cf]
        if end:
            options.set_iterate_upper_bound(end)
            items = source.items(backwards=True, from_key=end, read_opt=options)
        else:
            items = source.items(backwards=True, read_opt=options)
        out: list[Pair] = []
        for pair in items:
            if pair[0] < start or (limit and len(out) == limit):
                return out
            out.append(pair)
        behind = source.iter(options)
        if out:
            behind.seek_for_prev(out[-1][0])
            if behind.valid():
                behind.prev()
        elif end:
            behind.seek_for_prev(end)
        else:
            behind.seek_to_last()
        self._faults.check_end(behind)
        return out

    def cursor(self, cf: str) -> Cursor:
        """A new cursor."""
        cursor = _RocksCursor(self._sources[cf].iter(), self._faults)
        self._cursors.add(cursor)
        return cursor


def _check_stop(behind: Any, last: bytes | None, start: bytes, faults: _Faults) -> None:
    """Whether there was really nothing behind `last` (or from `start` on). Raises StorageError."""
    behind.seek(start if last is None else last)
    if last is not None and behind.valid():
        behind.next()
    faults.check_end(behind)


class _RocksSnapshot:
    """A frozen view. Its iterators are made with it, because an iterator made later from a native snapshot ignores the snapshot."""

    def __init__(self, sources: dict[str, Any], owner: RocksEngine, streams: Sequence[Range], faults: _Faults) -> None:
        self._natives = {cf: source.snapshot() for cf, source in sources.items()}
        self._positions = {cf: _RocksCursor(source.iter(), faults) for cf, source in sources.items()}
        self.streams: Sequence[Iterator[Pair]] = [_stream(sources[r.cf], r, faults) for r in streams]
        self._owner = owner
        self._faults = faults

    def get(self, cf: str, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        try:
            value: bytes = self._natives[cf][key]
        except Exception as error:  # a missing key is a bare Exception here
            if str(error) != "key not found":
                raise self._faults.made(f"reading key {key.hex()}", error) from error
            return None
        return value

    def multi_get(self, cf: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of several keys."""
        return [self.get(cf, key) for key in keys]

    def scan(self, cf: str, start: bytes, end: bytes, limit: int = 0) -> list[Pair]:
        """Pairs of [start, end), ascending."""
        cursor = self._positions[cf]
        out: list[Pair] = []
        more = cursor.seek(start)
        while more and (not end or cursor.key() < end) and not (limit and len(out) == limit):
            out.append((cursor.key(), cursor.value()))
            more = cursor.next()
        return out

    def scan_back(self, cf: str, start: bytes, end: bytes, limit: int = 0) -> list[Pair]:
        """Pairs of [start, end), descending."""
        cursor = self._positions[cf]
        out: list[Pair] = []
        more = cursor.seek_for_prev(end) if end else cursor.seek_to_last()
        if more and end and cursor.key() == end:
            more = cursor.prev()
        while more and cursor.key() >= start and not (limit and len(out) == limit):
            out.append((cursor.key(), cursor.value()))
            more = cursor.prev()
        return out

    def cursor(self, cf: str) -> Cursor:
        """The position of this column family."""
        return self._positions[cf]

    def release(self) -> None:
        """Give up the native snapshots and iterators."""
        for cursor in self._positions.values():
            cursor.drop()
        self._natives, self._positions, self.streams = {}, {}, []
        self._owner.forget(self)


def _stream(source: Any, bounds: Range, faults: _Faults) -> Iterator[Pair]:
    """An iterator that starts now; the bound's bytes live in `bounds`, which the generator holds."""
    if bounds.end and bounds.end <= bounds.start:
        return iter(())
    options = ReadOptions()
    if bounds.end:
        options.set_iterate_upper_bound(bounds.end)
    return _pinned(source.items(from_key=bounds.start, read_opt=options), source.iter(options), bounds, faults)


def _pinned(items: Iterator[Pair], behind: Any, bounds: Range, faults: _Faults) -> Iterator[Pair]:
    last = None
    while piece := list(islice(items, STREAM_PIECE)):
        last = piece[-1][0]
        yield from piece
    _check_stop(behind, last, bounds.start, faults)
    del bounds  # kept until here: the native iterators point into its bytes


class _SstWriter:
    """`tikv_py.engine.sst_stage.FileWriter`. RocksDB itself refuses keys that do not ascend, and empty files."""

    def __init__(self, path: str, options: Options) -> None:
        self._path = path
        self._raw = SstFileWriter(options)
        try:
            self._raw.open(path)
        except Exception as error:
            raise StorageError(f"file {path} cannot be written: {error}") from error

    def add(self, pairs: Sequence[Pair]) -> None:
        """Append pairs."""
        raw = self._raw
        try:
            for key, value in pairs:
                raw[key] = value
        except Exception as error:
            raise StorageError(f"file {self._path}: {error}") from error

    def finish(self) -> None:
        """Complete the file."""
        try:
            self._raw.finish()
        except Exception as error:
            raise StorageError(f"file {self._path} cannot be finished: {error}") from error


def _check_replay(path: str, cfs: Sequence[str]) -> None:
    """Refuse logs with damage before their end, which the recovery that follows would cut off. Raises DataCorruption.

    The checksums of their records are verified by replaying them in memory, in the mode that takes a torn end only.
    """
    if check_logs(Path(path)) == 0:
        return
    options = Options(raw_mode=True)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    others = {cf: Options(raw_mode=True) for cf in cfs if cf != "default"}
    try:
        Rdict(path, options, column_families=others, access_type=AccessType.read_only(False)).close()
    except Exception as error:
        raise _cannot_open(path, error) from error


def _cannot_open(path: str, cause: Exception) -> StorageError:
    text = f"data directory {path} cannot be opened: {cause}"
    if "Corruption" not in str(cause):
        return StorageError(text)
    return DataCorruption(f"{text}; replace this store (a new one gets its data from the others), or restore its files")


class RocksEngine(_RocksReader):
    """`tikv_py.engine.port.Engine` on RocksDB. Raises StorageError when the directory cannot be opened."""

    def __init__(
        self,
        path: str,
        cfs: Sequence[str] = KV_CFS,
        *,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        memtables_bytes: int = DEFAULT_MEMTABLES_BYTES,
        on_fault: Callable[[StorageError], None] | None = None,
    ) -> None:
        self._path = path
        self._faults = _Faults(path, on_fault)
        self._cursors = weakref.WeakSet()
        self._snapshots: weakref.WeakSet[_RocksSnapshot] = weakref.WeakSet()
        cache = Cache(cache_bytes)
        Path(path).mkdir(parents=True, exist_ok=True, mode=0o700)
        others = {cf: _options(cache, memtables_bytes, whole_database=False) for cf in cfs if cf != "default"}
        whole = _options(cache, memtables_bytes, whole_database=True)
        _check_replay(path, cfs)
        try:
            self._db: Any = Rdict(path, whole, column_families=others)
        except Exception as error:  # rocksdict raises bare Exception
            raise _cannot_open(path, error) from error
        self._sources = {cf: self._db if cf == "default" else self._db.get_column_family(cf) for cf in cfs}
        self._handles = {cf: self._db.get_column_family_handle(cf) for cf in cfs}
        run_options = _options(cache, memtables_bytes, whole_database=False)
        self._stage = SstStage(Path(path) / "snap", lambda file: _SstWriter(file, run_options))

    def batch(self) -> RocksBatch:
        """A new, empty batch."""
        return RocksBatch(self._handles)

    def write(self, batch: WriteBatch) -> None:
        """Apply a batch without sync."""
        assert isinstance(batch, RocksBatch)
        if len(batch):
            try:
                self._db.write(batch.raw)
            except Exception as error:
                raise self._faults.made("writing", error) from error
        batch.raw = RawBatch(raw_mode=True)

    def sync_wal(self) -> None:
        """fsync the write-ahead log; releases the interpreter lock meanwhile."""
        try:
            self._db.flush_wal(True)
        except Exception as error:
            raise self._faults.made("syncing the write-ahead log", error) from error

    def snapshot(self, streams: Sequence[Range] = ()) -> Snapshot:
        """A frozen view of all column families."""
        snapshot = _RocksSnapshot(self._sources, self, streams, self._faults)
        self._snapshots.add(snapshot)
        return snapshot

    def forget(self, snapshot: _RocksSnapshot) -> None:
        """A snapshot was released."""
        self._snapshots.discard(snapshot)

    def stage(self, name: str) -> SortedRun:
        """Begin a run in a file of its own."""
        return self._stage.begin(name)

    def staged(self) -> list[str]:
        """The names of all finished runs."""
        return self._stage.names()

    def ingest_staged(self, runs: Sequence[tuple[str, str]]) -> None:
        """Ingest a hard link of each file; the memtable is flushed first, or ingesting would do it under the interpreter lock."""
        for name, cf in runs:
            options = IngestExternalFileOptions()
            options.set_move_files(True)
            try:
                self._sources[cf].flush(True)
                self._sources[cf].ingest_external_file([self._stage.link(name)], options)
            except Exception as error:  # rocksdict raises bare Exception
                raise StorageError(f"staged run {name} cannot be ingested: {error}") from error

    def drop_staged(self, name: str) -> None:
        """Remove a finished run's file."""
        self._stage.drop(name)

    def compact(self, cf: str, start: bytes, end: bytes) -> None:
        """Rewrite the range; releases the interpreter lock meanwhile. A failure shows in the next write."""
        self._sources[cf].compact_range(start or None, end or None)

    def approximate_size(self) -> int:
        """Bytes of live SST files and memtables."""
        total = 0
        for source in self._sources.values():
            for name in ("rocksdb.live-sst-files-size", "rocksdb.cur-size-all-mem-tables"):
                total += int(source.property_int_value(name) or 0)
        return total

    def pressure(self) -> dict[str, Pressure]:
        """Of the database's own counters. A closed one has none: a thread may ask late."""
        found = {}
        for cf, source in list(self._sources.items()):
            memtables, l0_files, pending = (int(source.property_int_value(name) or 0) for name in PRESSURE_PROPERTIES)
            found[cf] = Pressure(memtables, l0_files, pending)
        return found

    def close(self) -> None:
        """Drop everything native, then close, so that the directory can be opened again at once."""
        if self._db is None:
            return
        for snapshot in list(self._snapshots):
            snapshot.release()
        for cursor in list(self._cursors):
            cursor.drop()
        self._sources, self._handles = {}, {}
        try:
            self._db.close()
        except Exception as error:  # noqa: BLE001 rocksdict raises bare Exception
            self._faults.made("closing", error)  # what was synced is on disk; whoever closes can do no more
        self._db = None
