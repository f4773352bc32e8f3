"""A transaction: reads at its start timestamp, writes into a buffer, and both in one view; then commit or rollback.

    async with client.begin() as txn:          # commits at the end, rolls back on an exception
        value = await txn.get(b"k")
        txn.put(b"k", b"v")

Invariants: nothing reaches a store before `commit` but pessimistic locks; after `commit` or `rollback` every call raises TxnClosed.
Not for use by two tasks at once. Savepoints and failed statements: `checkpoint` and `rollback_to` take buffered writes back;
pessimistic locks stay until the end, as in MySQL.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from tikv_py.client.errors import GcTooEarly, TxnClosed, UndeterminedError
from tikv_py.client.txn.committer import CommitPlan, TwoPhaseCommitter
from tikv_py.client.txn.context import ClientContext
from tikv_py.client.txn.heartbeat import HeartBeat
from tikv_py.client.txn.membuffer import BufferedOp, MemBuffer
from tikv_py.client.txn.mutations import choose_primary, collect
from tikv_py.client.txn.pessimistic import DEFAULT_WAIT_MS, LockCall, PessimisticLocks
from tikv_py.client.txn.snapshot import SCAN_BATCH, Pair, Snapshot

SCAN_SLACK = 16  # rows read beyond a limit, because buffered deletions may hide some


@dataclass(frozen=True, slots=True)
class TxnOptions:
    """How a transaction behaves; 1PC and async commit are asked for only when set, and only if the store agrees."""

    pessimistic: bool = False
    try_one_pc: bool = False
    use_async_commit: bool = False


class Transaction:
    """See the module's text."""

    def __init__(self, context: ClientContext, start_ts: int, options: TxnOptions, begun_at: float) -> None:
        self._context, self.start_ts, self.options, self._begun_at = context, start_ts, options, begun_at
        self.snapshot = Snapshot(context, start_ts)
        self.buffer = MemBuffer()
        self._locks = PessimisticLocks(context, start_ts, begun_at)
        self._closed = False
        self.commit_ts = 0

    # ---- life ----

    async def __aenter__(self) -> Transaction:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if self._closed:
            return
        if kind is None:
            await self.commit()
        else:
            await self.rollback()

    @property
    def pessimistic(self) -> bool:
        """Whether `lock_keys` is allowed."""
        return self.options.pessimistic

    @property
    def is_closed(self) -> bool:
        """Whether it is committed or rolled back."""
        return self._closed

    @property
    def locked_keys(self) -> Collection[bytes]:
        """Keys with a pessimistic lock."""
        return self._locks.held.keys()

    @property
    def for_update_ts(self) -> int:
        """The newest timestamp keys were locked at; 0 before."""
        return self._locks.for_update_ts

    def _check_open(self) -> None:
        if self._closed:
            raise TxnClosed(f"transaction {self.start_ts} has ended")

    # ---- reading ----

    async def get(self, key: bytes) -> bytes | None:
        """The value this transaction sees."""
        self._check_open()
        entry = self.buffer.get(key)
        if entry is not None:
            return entry.value if entry.is_live else None
        return await self.snapshot.get(key)

    async def batch_get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that have one."""
        self._check_open()
        buffered = {key: self.buffer.get(key) for key in keys}
        found = await self.snapshot.batch_get([key for key, entry in buffered.items() if entry is None])
        for key, entry in buffered.items():
            if entry is not None and entry.is_live:
                found[key] = entry.value
        return found

    async def scan(
        self, start: bytes, end: bytes = b"", limit: int = 0, *, reverse: bool = False, batch_size: int = SCAN_BATCH
    ) -> AsyncIterator[Pair]:
        """The pairs of [start, end) this transaction sees, own writes included, in order."""
        self._check_open()
        if not len(self.buffer):
            stored = self.snapshot.scan(start, end, limit, reverse=reverse, batch_size=batch_size)
        else:
            size = min(batch_size, limit + SCAN_SLACK) if limit else batch_size
            stored = self.snapshot.scan(start, end, 0, reverse=reverse, batch_size=size)
        try:
            async for pair in self._merge(stored, start, end, limit, reverse):
                yield pair
        finally:
            await stored.aclose()

    async def _merge(
        self, stored: AsyncGenerator[Pair, None], low: bytes, high: bytes, limit: int, reverse: bool
    ) -> AsyncIterator[Pair]:
        """Two ordered sources in one; the buffer is looked at step by step, so writes made meanwhile ahead are seen."""
        left = limit or -1
        pair = await anext(stored, None)
        while left:
            own = self.buffer.first(low, high, reverse=reverse)
            if own is None and pair is None:
                return
            if own is not None and (pair is None or own[0] == pair[0] or (own[0] > pair[0]) is reverse):
                key, entry = own
                if pair is not None and pair[0] == key:
                    pair = await anext(stored, None)
                made = (key, entry.value) if entry.is_live else None
            else:
                assert pair is not None
                made, key = pair, pair[0]
                pair = await anext(stored, None)
            if made is not None:
                left -= 1
                yield made
            if reverse:
                if not key:
                    return
                high = key
            else:
                low = key + b"\0"

    # ---- writing ----

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        self._check_open()
        self.buffer.put(key, value)

    def insert(self, key: bytes, value: bytes) -> None:
        """Set a key that must not exist: checked when it is locked, else at commit. Raises KeyExistsError (buffered)."""
        self._check_open()
        self.buffer.insert(key, value)

    def delete(self, key: bytes) -> None:
        """Remove a key."""
        self._check_open()
        self.buffer.delete(key)

    def checkpoint(self) -> int:
        """A mark for `rollback_to`."""
        return self.buffer.checkpoint()

    def rollback_to(self, mark: int) -> None:
        """Take back all writes since the mark."""
        self._check_open()
        self.buffer.rollback_to(mark)

    async def lock_keys(
        self,
        keys: Sequence[bytes],
        *,
        for_update_ts: int | None = None,
        return_values: bool = False,
        wait_ms: int = DEFAULT_WAIT_MS,
        not_exists: Collection[bytes] = (),
    ) -> dict[bytes, bytes | None]:
        """Lock keys of a pessimistic transaction at `for_update_ts` (None = now); `wait_ms` 0 = NOWAIT.

        Returns the newest committed values when `return_values`. Keys in `not_exists` must have none. Raises WriteConflictError
        (run the statement again at a newer timestamp), KeyExistsError, DeadlockError, LockWaitTimeout, LockNotFree.
        """
        self._check_open()
        if not self.pessimistic:
            raise ValueError("lock_keys needs a pessimistic transaction")
        if for_update_ts is None:
            for_update_ts = await self._context.pd.timestamp()
        inserted = {key for key in keys if (entry := self.buffer.get(key)) and entry.op is BufferedOp.INSERT}
        not_exists = inserted.union(not_exists)
        return await self._locks.lock(keys, LockCall(for_update_ts, return_values, wait_ms, not_exists))

    # ---- ending ----

    async def commit(self, before_commit: Callable[[], Awaitable[None]] | None = None) -> int:
        """Commit; returns the commit timestamp, 0 when nothing was written.

        `before_commit` runs when all locks are in place and the commit timestamp is taken; what it raises is raised here after
        all was rolled back (see `committer`).

        Raises WriteConflictError, KeyExistsError, TxnAborted, UndeterminedError and others; the transaction is over either way.
        """
        self._check_open()
        self._closed = True
        held = self._locks.held
        mutations = collect(self.buffer, held.keys())
        if not mutations:
            return 0
        if not len(self.buffer):
            self._locks.release_all()
            return 0
        await self._check_safe_point()
        plan = CommitPlan(
            start_ts=self.start_ts,
            primary=choose_primary(mutations, self._locks.primary),
            mutations=mutations,
            begun_at=self._begun_at,
            pessimistic=self.pessimistic,
            for_update_ts=max(self._locks.for_update_ts, self.start_ts) if self.pessimistic else 0,
            try_one_pc=self.options.try_one_pc,
            use_async_commit=self.options.use_async_commit,
            before_commit=before_commit,
        )
        heart_beat = self._locks.heart_beat or HeartBeat(self._context, plan.primary, self.start_ts, self._begun_at)
        try:
            self.commit_ts = await TwoPhaseCommitter(self._context, plan, heart_beat).execute()
        except UndeterminedError:
            self._locks.stop()
            raise
        return self.commit_ts

    async def _check_safe_point(self) -> None:
        """Raise GcTooEarly, and give locks back, when the transaction has outlived the GC life time."""
        try:
            self._context.safe_point.check(self.start_ts)
        except GcTooEarly:
            await self.rollback()
            raise

    async def rollback(self) -> None:
        """Forget the writes and give locks back (in the background). Allowed after the end."""
        self._closed = True
        if self._locks.held:
            self._locks.release_all()
        self._locks.stop()
