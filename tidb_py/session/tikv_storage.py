"""The storage port over the TiKV client: transactions, snapshots, coprocessor requests against real stores.

Thin by design: it renames, and turns the client's conflict and deadlock errors into the SQL ones.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence

from core_py.vector.arrow import Vec
from tidb_py.distsql.copiterator import CopIterator
from tidb_py.errors import Deadlock, WriteConflict
from tidb_py.session.storage import DEFAULT_LOCK_WAIT_MS, Check, CopRequest, Reader, Transaction
from tikv_py.client.errors import DeadlockError, KeyExistsError, WriteConflictError
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.snapshot import Snapshot
from tikv_py.client.txn.transaction import Transaction as ClientTransaction


class TikvStorage:
    """A cluster behind the storage port. Owns nothing: the client is closed by whoever made it."""

    def __init__(self, client: TxnClient) -> None:
        self._client = client

    async def begin(self, *, pessimistic: bool) -> Transaction:
        """Start a transaction."""
        txn = await self._client.begin(pessimistic=pessimistic, trust_unlocked=True)
        return TikvTransaction(self._client, txn)

    async def timestamp(self) -> int:
        """A fresh timestamp."""
        return await self._client.timestamp()

    def snapshot(self, ts: int) -> Reader:
        """Reads at a timestamp."""
        return TikvReader(self._client.snapshot(ts))

    def coprocessor(self, request: CopRequest) -> AsyncGenerator[list[Vec], None]:
        """Run a request."""
        return CopIterator(self._client, request).run()


class TikvReader:
    """A snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    @property
    def ts(self) -> int:
        """The timestamp."""
        return self._snapshot.ts

    async def get(self, key: bytes) -> bytes | None:
        """One value."""
        return await self._snapshot.get(key)

    async def batch_get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Many values."""
        return await self._snapshot.batch_get(keys)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> AsyncIterator[tuple[bytes, bytes]]:
        """Pairs in order."""
        return self._snapshot.scan(start, end, 0, reverse=reverse)


class TikvTransaction:
    """A transaction of the client."""

    def __init__(self, client: TxnClient, txn: ClientTransaction) -> None:
        self._client, self._txn = client, txn
        self._for_update_ts = txn.start_ts
        self.lock_wait_ms = DEFAULT_LOCK_WAIT_MS
        self.written_tables: dict[int, object] = {}

    @property
    def ts(self) -> int:
        """The start timestamp."""
        return self._txn.start_ts

    @property
    def pessimistic(self) -> bool:
        """Whether statements lock what they write."""
        return self._txn.pessimistic

    @property
    def for_update_ts(self) -> int:
        """Where writing statements read."""
        return self._for_update_ts

    @property
    def dirty(self) -> bool:
        """Whether anything was written."""
        return len(self._txn.buffer) > 0

    async def refresh_for_update_ts(self) -> int:
        """A newer timestamp for writing statements."""
        if self.pessimistic:
            self._for_update_ts = await self._client.timestamp()
        return self._for_update_ts

    async def get(self, key: bytes) -> bytes | None:
        """One value, own writes first."""
        return await self._txn.get(key)

    async def batch_get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Many values, own writes first."""
        return await self._txn.batch_get(keys)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> AsyncIterator[tuple[bytes, bytes]]:
        """Pairs in order, own writes included."""
        return self._txn.scan(start, end, 0, reverse=reverse)

    async def lock(self, keys: Sequence[bytes], *, wait_ms: int | None = None) -> None:
        """Lock keys at `for_update_ts`."""
        limit = self.lock_wait_ms if wait_ms is None else wait_ms
        try:
            await self._txn.lock_keys(list(keys), for_update_ts=self._for_update_ts, wait_ms=limit)
        except WriteConflictError as error:
            raise WriteConflict(error.message) from error
        except DeadlockError as error:
            raise Deadlock("Deadlock found when trying to get lock; try restarting transaction") from error

    def write(self, changes: Mapping[bytes, bytes | None], unread: Collection[bytes] = ()) -> None:
        """Put and delete; the stores look whether `unread` keys are free."""
        for key, value in changes.items():
            if value is None:
                self._txn.delete(key)
            elif key in unread and key not in self._txn.buffer:
                self._txn.insert(key, value)
            else:
                self._txn.put(key, value)

    def own_writes(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes | None]]:
        """Own writes of a range."""
        out: list[tuple[bytes, bytes | None]] = []
        buffer = self._txn.buffer
        found = buffer.first(start, end, reverse=False)
        while found is not None:
            key, entry = found
            out.append((key, entry.value if entry.is_live else None))
            found = buffer.first(key + b"\0", end, reverse=False)
        return out

    def has_writes(self, start: bytes, end: bytes) -> bool:
        """Whether there is an own write in a range."""
        return self._txn.buffer.first(start, end, reverse=False) is not None

    def savepoint(self) -> object:
        """A mark to go back to."""
        return self._txn.checkpoint()

    def rollback_to(self, mark: object) -> None:
        """Forget writes since a mark."""
        assert isinstance(mark, int)
        self._txn.rollback_to(mark)

    async def commit(self, check: Check | None = None) -> int:
        """Make the writes visible."""
        try:
            return await self._txn.commit(check)
        except WriteConflictError as error:
            raise WriteConflict(error.message) from error
        except KeyExistsError as error:  # only keys of generated ids are written unread
            raise WriteConflict(
                f"Write conflict: a generated id is in use, {error.message} [try again later]"
            ) from error

    async def rollback(self) -> None:
        """Forget everything."""
        await self._txn.rollback()
