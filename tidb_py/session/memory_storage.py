"""An in-memory store that implements the storage port: multi-version, snapshot isolation, locks, and the coprocessor.

For tests and for trying SQL without a cluster. It keeps every version for ever, loses all on exit, and has one process
for everything; commit is atomic because nothing is awaited in it. The coprocessor runs the same `DagRun` as the stores.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence

from core_py.vector.arrow import Vec
from core_py.vector.dag import DagRun, context_of
from core_py.vector.plan import TableScan
from core_py.vector.scan_decode import decode_index, decode_table
from core_py.vector.tipb_codec import dag_from_pb, dag_to_pb
from tidb_py.errors import WriteConflict
from tidb_py.session.storage import DEFAULT_LOCK_WAIT_MS, Check, CopRequest, Transaction
from tikv_py.client.errors import LockWaitTimeout

BATCH_ROWS = 1024


class MemoryStorage:
    """All data of one process."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.versions: dict[bytes, list[tuple[int, bytes | None]]] = {}
        self.locks: dict[bytes, MemoryTransaction] = {}
        self.released = asyncio.Event()
        self._ts = 1 << 18

    def next_ts(self) -> int:
        """A new timestamp."""
        self._ts += 1
        return self._ts

    async def timestamp(self) -> int:
        """A new timestamp, as a store would give it."""
        return self.next_ts()

    async def begin(self, *, pessimistic: bool) -> Transaction:
        """Start a transaction."""
        return MemoryTransaction(self, self.next_ts(), pessimistic=pessimistic)

    def snapshot(self, ts: int) -> MemoryReader:
        """Read at a timestamp."""
        return MemoryReader(self, ts)

    def read(self, key: bytes, ts: int) -> bytes | None:
        """The newest version at or before `ts`."""
        for commit_ts, value in reversed(self.versions.get(key, ())):
            if commit_ts <= ts:
                return value
        return None

    def newest(self, key: bytes) -> int:
        """The newest commit timestamp of a key."""
        versions = self.versions.get(key)
        return versions[-1][0] if versions else 0

    def put(self, key: bytes, value: bytes | None, commit_ts: int) -> None:
        """Add a version."""
        versions = self.versions.get(key)
        if versions is None:
            versions = self.versions[key] = []
            if not self.keys or key > self.keys[-1]:
                self.keys.append(key)
            else:
                bisect.insort(self.keys, key)
        versions.append((commit_ts, value))

    def pairs(self, start: bytes, end: bytes, ts: int, *, reverse: bool = False) -> list[tuple[bytes, bytes]]:
        """All pairs of a range."""
        low, high = bisect.bisect_left(self.keys, start), bisect.bisect_left(self.keys, end)
        keys = self.keys[low:high]
        if reverse:
            keys = keys[::-1]
        return [(k, v) for k in keys if (v := self.read(k, ts)) is not None]

    async def coprocessor(self, request: CopRequest) -> AsyncGenerator[list[Vec], None]:
        """Run a request over the ranges in order."""
        dag = dag_from_pb(dag_to_pb(request.dag))
        ctx = context_of(dag)
        run = DagRun(dag, ctx)
        ranges = reversed(request.ranges) if request.desc else request.ranges
        for start, end in ranges:
            pairs = self.pairs(start, end, request.start_ts, reverse=request.desc)
            for at in range(0, len(pairs), BATCH_ROWS):
                part = pairs[at : at + BATCH_ROWS]
                keys, values = [k for k, _ in part], [v for _, v in part]
                if isinstance(dag.scan, TableScan):
                    columns = decode_table(dag.scan, keys, values, ctx.time_zone)
                else:
                    columns = decode_index(dag.scan, keys, values, ctx.time_zone)
                out = run.push(columns, len(part))
                if out is not None:
                    yield out
                if run.done:
                    return
                await asyncio.sleep(0)
        for out in run.finish():
            yield out
        if request.warn is not None:
            for code, message in ctx.warnings:
                request.warn(code, message)


class MemoryReader:
    """Reads at one timestamp."""

    def __init__(self, store: MemoryStorage, ts: int) -> None:
        self._store = store
        self.ts = ts

    async def get(self, key: bytes) -> bytes | None:
        """One value."""
        return self._store.read(key, self.ts)

    async def batch_get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Many values."""
        return {k: v for k in keys if (v := self._store.read(k, self.ts)) is not None}

    async def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> AsyncIterator[tuple[bytes, bytes]]:
        """Pairs in order."""
        for pair in self._store.pairs(start, end, self.ts, reverse=reverse):
            yield pair


class MemoryTransaction:
    """A transaction over the in-memory store."""

    def __init__(self, store: MemoryStorage, start_ts: int, *, pessimistic: bool) -> None:
        self._store = store
        self.ts = start_ts
        self.for_update_ts = start_ts
        self.pessimistic = pessimistic
        self._writes: dict[bytes, bytes | None] = {}
        self._locked: set[bytes] = set()
        self._unread: set[bytes] = set()
        self.lock_wait_ms = DEFAULT_LOCK_WAIT_MS
        self.written_tables: dict[int, object] = {}

    @property
    def dirty(self) -> bool:
        """Whether anything was written."""
        return bool(self._writes)

    async def refresh_for_update_ts(self) -> int:
        """A newer timestamp for writing statements."""
        if self.pessimistic:
            self.for_update_ts = self._store.next_ts()
        return self.for_update_ts

    async def get(self, key: bytes) -> bytes | None:
        """One value, own writes first."""
        return self._writes[key] if key in self._writes else self._store.read(key, self.ts)

    async def batch_get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Many values, own writes first."""
        return {k: v for k in keys if (v := await self.get(k)) is not None}

    async def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> AsyncIterator[tuple[bytes, bytes]]:
        """Pairs in order, own writes included."""
        merged = dict(self._store.pairs(start, end, self.ts))
        for key, value in self.own_writes(start, end):
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = value
        for key in sorted(merged, reverse=reverse):
            yield key, merged[key]

    async def lock(self, keys: Sequence[bytes], *, wait_ms: int | None = None) -> None:
        """Lock keys, waiting for their owners; newer versions are conflicts. Raises LockWaitTimeout."""
        limit = self.lock_wait_ms if wait_ms is None else wait_ms
        for key in sorted(keys):
            while (owner := self._store.locks.get(key)) is not None and owner is not self:
                self._store.released.clear()
                try:
                    async with asyncio.timeout(limit / 1000):
                        await self._store.released.wait()
                except TimeoutError as error:
                    raise LockWaitTimeout(key, limit) from error
            if self._store.newest(key) > self.for_update_ts:
                raise WriteConflict(f"Write conflict, key {key.hex()}, txnStartTS={self.ts}")
            self._store.locks[key] = self
            self._locked.add(key)

    def write(self, changes: Mapping[bytes, bytes | None], unread: Collection[bytes] = ()) -> None:
        """Put and delete."""
        self._unread.update(key for key in unread if key not in self._writes)
        self._writes.update(changes)

    def own_writes(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes | None]]:
        """Own writes of a range."""
        return sorted((k, v) for k, v in self._writes.items() if start <= k < end)

    def has_writes(self, start: bytes, end: bytes) -> bool:
        """Whether there is an own write in a range."""
        return any(start <= key < end for key in self._writes)

    def savepoint(self) -> object:
        """A mark: the writes so far."""
        return dict(self._writes)

    def rollback_to(self, mark: object) -> None:
        """Back to a mark."""
        assert isinstance(mark, dict)
        self._writes = dict(mark)

    async def commit(self, check: Check | None = None) -> int:
        """Check for conflicts and make the writes visible at once."""
        store = self._store
        try:
            if not self._writes:
                return 0
            while any(store.locks.get(key, self) is not self for key in self._writes):
                store.released.clear()
                await store.released.wait()
            if check is not None:
                await check()  # over this very store, so nothing else runs between it and the writes
            for key, value in self._writes.items():
                if key in self._unread and value is not None and store.read(key, store.next_ts()) is not None:
                    raise WriteConflict(f"Write conflict: a generated id is in use, key {key.hex()}")
                if key not in self._locked and not self.pessimistic and store.newest(key) > self.ts:
                    raise WriteConflict(f"Write conflict, key {key.hex()}, txnStartTS={self.ts}")
            commit_ts = store.next_ts()
            for key, value in self._writes.items():
                store.put(key, value, commit_ts)
            return commit_ts
        finally:
            await self.rollback()

    async def rollback(self) -> None:
        """Release everything."""
        for key in self._locked:
            if self._store.locks.get(key) is self:
                del self._store.locks[key]
        self._locked.clear()
        self._writes.clear()
        self._store.released.set()
