"""The client for programs without an event loop: scripts, notebooks, threads.

    with SyncTxnClient.connect(["127.0.0.1:2379"]) as client:
        with client.begin() as txn:          # commits at the end, rolls back on an exception
            txn.put(b"k", b"v")
        print(client.get(b"k"))

Each call runs the async client's method of the same name on one loop in a thread (`event_thread`) and waits for it, so types,
units, semantics and errors are those of `TxnClient`, `Transaction`, `Snapshot` and `RawClient`. A client may be used by many
threads, a transaction by one at a time. A call costs a change of threads, about 50 us: programs that want many requests on
their way at once use the async client. Inside a running loop every call raises SyncInsideLoop.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from itertools import count
from types import TracebackType
from typing import Any, TypeVar

from core_py.errors import DbError, RetryClass
from tikv_py.client.connect import Tls, connect_raw, connect_txn
from tikv_py.client.event_thread import EventThread, shared
from tikv_py.client.raw.client import CasResult, RawClient
from tikv_py.client.region import backoff as kinds
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.pessimistic import DEFAULT_WAIT_MS
from tikv_py.client.txn.snapshot import SCAN_BATCH, Pair, Snapshot, ValueAndTs
from tikv_py.client.txn.transaction import LockedValue, Transaction

T = TypeVar("T")


async def _next_of(source: AsyncIterator[Pair], most: int) -> list[Pair]:
    """The next pairs, at most so many; fewer at the end."""
    found: list[Pair] = []
    async for pair in source:
        found.append(pair)
        if len(found) == most:
            break
    return found


def _iterate(thread: EventThread, source: AsyncGenerator[Pair, None]) -> Iterator[Pair]:
    """An async iterator's pairs; the threads are changed once for many of them."""
    try:
        while True:
            found = thread.run(_next_of(source, SCAN_BATCH))
            yield from found
            if len(found) < SCAN_BATCH:
                return
    finally:
        thread.run(source.aclose())


class SyncSnapshot:
    """Reads at one timestamp; see `Snapshot`."""

    def __init__(self, thread: EventThread, snapshot: Snapshot) -> None:
        self._thread, self._snapshot = thread, snapshot

    @property
    def ts(self) -> int:
        """The timestamp."""
        return self._snapshot.ts

    def get(self, key: bytes, *, timeout_s: float | None = None) -> bytes | None:
        """The value of a key, or None."""
        return self._thread.run(self._snapshot.get(key, timeout_s=timeout_s))

    def get_with_commit_ts(self, key: bytes, *, timeout_s: float | None = None) -> ValueAndTs | None:
        """The value of a key with the timestamp it was committed at, or None."""
        return self._thread.run(self._snapshot.get_with_commit_ts(key, timeout_s=timeout_s))

    def batch_get(self, keys: Sequence[bytes], *, timeout_s: float | None = None) -> dict[bytes, bytes]:
        """The values of those keys that have one."""
        return self._thread.run(self._snapshot.batch_get(keys, timeout_s=timeout_s))

    def scan(
        self, start: bytes, end: bytes = b"", limit: int = 0, *, reverse: bool = False, key_only: bool = False
    ) -> Iterator[Pair]:
        """The pairs of [start, end) in order, at most `limit` (0 = all)."""
        return _iterate(self._thread, self._snapshot.scan(start, end, limit, reverse=reverse, key_only=key_only))


class SyncTransaction:
    """A transaction; see `Transaction`."""

    def __init__(self, thread: EventThread, txn: Transaction) -> None:
        self._thread, self._txn = thread, txn

    def __enter__(self) -> SyncTransaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.run(self._txn.__aexit__(kind, error, trace))

    @property
    def start_ts(self) -> int:
        """The timestamp it reads at."""
        return self._txn.start_ts

    @property
    def commit_ts(self) -> int:
        """The timestamp it was committed at; 0 before, and when nothing was written."""
        return self._txn.commit_ts

    @property
    def is_closed(self) -> bool:
        """Whether it is committed or rolled back."""
        return self._txn.is_closed

    def get(self, key: bytes, *, timeout_s: float | None = None) -> bytes | None:
        """The value this transaction sees, or None."""
        return self._thread.run(self._txn.get(key, timeout_s=timeout_s))

    def batch_get(self, keys: Sequence[bytes], *, timeout_s: float | None = None) -> dict[bytes, bytes]:
        """The values of those keys that have one."""
        return self._thread.run(self._txn.batch_get(keys, timeout_s=timeout_s))

    def scan(self, start: bytes, end: bytes = b"", limit: int = 0, *, reverse: bool = False) -> Iterator[Pair]:
        """The pairs of [start, end) this transaction sees, own writes included, in order."""
        return _iterate(self._thread, self._txn.scan(start, end, limit, reverse=reverse))

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        self._txn.put(key, value)

    def insert(self, key: bytes, value: bytes) -> None:
        """Set a key that must not exist."""
        self._txn.insert(key, value)

    def delete(self, key: bytes) -> None:
        """Remove a key."""
        self._txn.delete(key)

    def checkpoint(self) -> int:
        """A mark for `rollback_to`."""
        return self._txn.checkpoint()

    def rollback_to(self, mark: int) -> None:
        """Take back all writes since the mark."""
        self._txn.rollback_to(mark)

    def lock_keys(
        self,
        keys: Sequence[bytes],
        *,
        return_values: bool = False,
        wait_ms: int | None = DEFAULT_WAIT_MS,
        not_exists: Collection[bytes] = (),
    ) -> dict[bytes, bytes | None]:
        """Lock keys of a pessimistic transaction as they are now."""
        return self._thread.run(
            self._txn.lock_keys(keys, return_values=return_values, wait_ms=wait_ms, not_exists=not_exists)
        )

    def lock_key(self, key: bytes, *, wait_ms: int | None = DEFAULT_WAIT_MS) -> LockedValue:
        """Lock one key of a pessimistic transaction and read it."""
        return self._thread.run(self._txn.lock_key(key, wait_ms=wait_ms))

    def commit(self, *, timeout_s: float | None = None) -> int:
        """Commit; returns the commit timestamp, 0 when nothing was written."""
        return self._thread.run(self._txn.commit(timeout_s=timeout_s))

    def rollback(self) -> None:
        """Forget the writes and give locks back."""
        self._thread.run(self._txn.rollback())


class SyncTxnClient:
    """The transactional client; see `TxnClient`."""

    def __init__(self, client: TxnClient, thread: EventThread) -> None:
        """For a client that was made on the thread's loop; `connect` does both."""
        self._client, self._thread = client, thread

    @classmethod
    def connect(cls, pd_endpoints: Sequence[str], *, tls: Tls | None = None) -> SyncTxnClient:
        """Find PD and make a client. Raises PdUnavailable."""
        thread = shared()
        return cls(thread.run(connect_txn(pd_endpoints, tls=tls)), thread)

    def __enter__(self) -> SyncTxnClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let background commits finish, then close all connections."""
        self._thread.run(self._client.close())

    def timestamp(self) -> int:
        """A new timestamp."""
        return self._thread.run(self._client.timestamp())

    def begin(self, *, pessimistic: bool | None = None, start_ts: int | None = None) -> SyncTransaction:
        """Start a transaction now, or at a given timestamp."""

        async def begin() -> Transaction:
            return await self._client.begin(pessimistic=pessimistic, start_ts=start_ts)

        return SyncTransaction(self._thread, self._thread.run(begin()))

    def snapshot(self, ts: int | None = None) -> SyncSnapshot:
        """Reads at a timestamp; None = now."""
        return SyncSnapshot(self._thread, self._client.snapshot(self.timestamp() if ts is None else ts))

    def get(self, key: bytes) -> bytes | None:
        """The newest committed value of a key, or None."""
        return self.snapshot().get(key)

    def write(self, puts: Mapping[bytes, bytes], deletes: Iterable[bytes] = ()) -> int:
        """Set and remove keys in one transaction that reads nothing; returns its commit timestamp."""
        return self._thread.run(self._client.write(puts, deletes))

    def run_in_transaction(
        self, work: Callable[[SyncTransaction], T], *, retries: int = 10, pessimistic: bool | None = None
    ) -> T:
        """Run `work` in a transaction and commit; again from the start after conflicts, as `TxnClient.run_in_transaction`."""
        backoffer = self._client.restarts(retries)
        for attempt in count():
            try:
                with self.begin(pessimistic=pessimistic) as txn:
                    result = work(txn)
            except DbError as error:
                if error.retry is not RetryClass.RESTART_TXN or attempt >= retries:
                    raise
                self._thread.run(backoffer.backoff(kinds.TXN_RESTART, error))
            else:
                return result
        raise AssertionError("not reached: the loop has no end")


class SyncRawClient:
    """The raw client; see `RawClient`."""

    def __init__(self, client: RawClient, thread: EventThread) -> None:
        """For a client that was made on the thread's loop; `connect` does both."""
        self._client, self._thread = client, thread

    @classmethod
    def connect(cls, pd_endpoints: Sequence[str], *, tls: Tls | None = None, cf: str = "") -> SyncRawClient:
        """Find PD and make a client. Raises PdUnavailable."""
        thread = shared()
        return cls(thread.run(connect_raw(pd_endpoints, tls=tls, cf=cf)), thread)

    def __enter__(self) -> SyncRawClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._thread.run(work)

    def close(self) -> None:
        """Close all connections."""
        self._run(self._client.close())

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        return self._run(self._client.get(key))

    def put(self, key: bytes, value: bytes, *, ttl_s: int = 0) -> None:
        """Set a key; with `ttl_s` seconds to live (0 = for ever)."""
        self._run(self._client.put(key, value, ttl_s=ttl_s))

    def delete(self, key: bytes) -> None:
        """Remove a key."""
        self._run(self._client.delete(key))

    def ttl(self, key: bytes) -> int | None:
        """Seconds a key has left to live; see `RawClient.ttl`."""
        return self._run(self._client.ttl(key))

    def compare_and_swap(self, key: bytes, previous: bytes | None, value: bytes, *, ttl_s: int = 0) -> CasResult:
        """Set a key if it has the previous value (None = no value)."""
        return self._run(self._client.compare_and_swap(key, previous, value, ttl_s=ttl_s))

    def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that have one."""
        return self._run(self._client.batch_get(keys))

    def batch_put(self, pairs: Mapping[bytes, bytes], *, ttl_s: int = 0) -> None:
        """Set many keys."""
        self._run(self._client.batch_put(pairs, ttl_s=ttl_s))

    def batch_delete(self, keys: Iterable[bytes]) -> None:
        """Remove many keys."""
        self._run(self._client.batch_delete(keys))

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Remove the keys of [start, end)."""
        self._run(self._client.delete_range(start, end))

    def scan(
        self, start: bytes, end: bytes = b"", limit: int = 0, *, reverse: bool = False, key_only: bool = False
    ) -> list[Pair]:
        """The pairs of [start, end) in order, at most `limit` (0 = all)."""
        return self._run(self._client.scan(start, end, limit, reverse=reverse, key_only=key_only))
