"""Range reads at a timestamp, ascending or descending: one visible value per key, locked keys reported in place.

Write records are read in bulk and grouped by key; the lock family of the range is read once and merged in. The coprocessor
has its own vectorised scan; this one serves KvScan, whose answers are small.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from tikv_py.engine.port import CF_LOCK, CF_WRITE, Pair, Reader
from tikv_py.mvcc import keys
from tikv_py.mvcc.errors import KeyIsLocked
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.reader import MvccReader, check_read_lock
from tikv_py.mvcc.write import Write, WriteType, committed_write

CHUNK = 256


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """[start, end) of data keys at `read_ts`; at most `limit` results."""

    start: bytes
    end: bytes
    read_ts: int
    limit: int
    reverse: bool = False
    key_only: bool = False
    resolved: Container[int] = frozenset()
    committed: Container[int] = frozenset()
    """Transactions known to have committed at or before `read_ts`: their locks are read through."""


@dataclass(frozen=True, slots=True)
class ScanItem:
    """A visible pair, or the lock that hides a key."""

    user_key: bytes
    value: bytes
    error: KeyIsLocked | None = None


Blocking = KeyIsLocked | Write
"""What a lock does to a read of its key: hide it, or stand for the version that is about to be recorded."""


def scan(engine: Reader, request: ScanRequest) -> list[ScanItem]:
    """Run the scan. A locked key yields an item with `error` and the scan goes on."""
    reader = MvccReader(engine)
    locks = _blocking_locks(engine, request)
    out: list[ScanItem] = []
    for key, versions in _grouped(engine, request, locks):
        if len(out) >= request.limit:
            break
        met = locks.get(key)
        if isinstance(met, KeyIsLocked):
            out.append(ScanItem(met.user_key, b"", met))
            continue
        write = _visible(versions, request.read_ts) if met is None else met
        if write is not None and write.write_type is WriteType.PUT:
            value = b"" if request.key_only else reader.value_of(key, write)
            out.append(ScanItem(keys.user_key(key), value))
    return out


def _blocking_locks(engine: Reader, request: ScanRequest) -> dict[bytes, Blocking]:
    out: dict[bytes, Blocking] = {}
    for key, data in engine.scan(CF_LOCK, request.start, request.end):
        user_key, lock = keys.user_key(key), Lock.from_bytes(data)
        if lock.start_ts in request.committed and lock.lock_type in (LockType.PUT, LockType.DELETE):
            out[key] = committed_write(lock)
            continue
        try:
            check_read_lock(lock, user_key, request.read_ts, request.resolved)
        except KeyIsLocked as error:
            out[key] = error
    return out


def _visible(versions: list[Pair], read_ts: int) -> Write | None:
    """The PUT visible at read_ts among one key's records, newest first."""
    for key, data in versions:
        if keys.split_version(key)[1] > read_ts:
            continue
        write = Write.from_bytes(data)
        if write.gc_fence and write.is_fenced_off(read_ts):
            return None
        if write.write_type is WriteType.PUT:
            return write
        if write.write_type is WriteType.DELETE:
            return None
    return None


def _grouped(engine: Reader, request: ScanRequest, locks: dict[bytes, Blocking]) -> Iterator[tuple[bytes, list[Pair]]]:
    """(data key, its write records newest first) in scan order, with locked keys that have no record yet."""
    pending = sorted(locks, reverse=request.reverse)
    at = 0
    for key, versions in _groups(engine, request):
        while at < len(pending) and (pending[at] > key if request.reverse else pending[at] < key):
            yield pending[at], []
            at += 1
        if at < len(pending) and pending[at] == key:
            at += 1
        yield key, versions
    for key in pending[at:]:
        yield key, []


def _groups(engine: Reader, request: ScanRequest) -> Iterator[tuple[bytes, list[Pair]]]:
    start, end = request.start, request.end
    current: bytes | None = None
    versions: list[Pair] = []
    while True:
        read = engine.scan_back if request.reverse else engine.scan
        chunk = read(CF_WRITE, start, end, CHUNK)
        for pair in chunk:
            key = pair[0][: -keys.TS_SIZE]
            if key != current:
                if current is not None:
                    yield current, versions[::-1] if request.reverse else versions
                current, versions = key, []
            versions.append(pair)
        if len(chunk) < CHUNK:
            break
        if request.reverse:
            end = chunk[-1][0]
        else:
            start = chunk[-1][0] + b"\x00"
    if current is not None:
        yield current, versions[::-1] if request.reverse else versions
