"""A transaction: reads at its start timestamp, writes into a buffer, and both in one view; then commit or rollback.

    async with client.begin() as txn:          # commits at the end, rolls back on an exception
        value = await txn.get(b"k")
        txn.put(b"k", b"v")

Keys and values are bytes; a key is a user key, of at most 4 KiB or so, a value is whatever the application makes of it.
Timestamps are PD's (milliseconds << 18 | counter). Timeouts of calls are seconds (`timeout_s`), waits for locks milliseconds
(`wait_ms`).

Invariants: nothing reaches a store before `commit` but pessimistic locks; after `commit` or `rollback` every call raises
TxnClosed. A commit that is cancelled is settled in the background (see `committer`). Not for use by two tasks at once.
Savepoints and failed statements: `checkpoint` and `rollback_to` take buffered writes back; pessimistic locks stay until the
end, as in MySQL.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from tikv_py.client.errors import GcTooEarly, TxnClosed, WriteConflictError
from tikv_py.client.region import backoff as kinds
from tikv_py.client.txn.committer import CommitPlan, TwoPhaseCommitter
from tikv_py.client.txn.context import ClientContext
from tikv_py.client.txn.heartbeat import HeartBeat
from tikv_py.client.txn.membuffer import BufferedOp, MemBuffer
from tikv_py.client.txn.mutations import choose_primary, collect
from tikv_py.client.txn.pessimistic import DEFAULT_WAIT_MS, LockCall, PessimisticLocks
from tikv_py.client.txn.snapshot import SCAN_BATCH, Pair, Snapshot, within

SCAN_SLACK = 16  # rows read beyond a limit, because buffered deletions may hide some
LOCK_NOW_BUDGET_MS = 60_000  # pauses between attempts to lock keys that others commit all the time


@dataclass(frozen=True, slots=True)
class TxnOptions:
    """How a transaction behaves.

    `try_one_pc` and `use_async_commit` allow one-phase and async commit where the transaction is small enough and the stores agree.
    `causal_only` saves them a timestamp: who begins later and has not heard of this commit may then miss it for a moment.
    A pessimistic transaction may write keys that it has not locked. They are checked for conflicts at the commit, as in an
    optimistic one, unless `trust_unlocked`: then other locks must protect them, as rows protect the entries of their indexes.
    """

    pessimistic: bool = False
    try_one_pc: bool = True
    use_async_commit: bool = True
    causal_only: bool = False
    trust_unlocked: bool = False


@dataclass(frozen=True, slots=True)
class LockedValue:
    """What `lock_key` found: the newest committed value, and the commit (timestamp) that the statement did not know of, or 0."""

    value: bytes | None
    conflict_ts: int


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

    async def get(self, key: bytes, *, timeout_s: float | None = None) -> bytes | None:
        """The value this transaction sees, None when there is none. Raises BudgetExhausted classes, OperationTimeout."""
        self._check_open()
        entry = self.buffer.get(key)
        if entry is not None:
            return entry.value if entry.is_live else None
        return await self.snapshot.get(key, timeout_s=timeout_s)

    async def batch_get(self, keys: Sequence[bytes], *, timeout_s: float | None = None) -> dict[bytes, bytes]:
        """The values of those keys that have one. Raises as `get`."""
        self._check_open()
        buffered = {key: self.buffer.get(key) for key in keys}
        missing = [key for key, entry in buffered.items() if entry is None]
        found = await self.snapshot.batch_get(missing, timeout_s=timeout_s)
        for key, entry in buffered.items():
            if entry is not None and entry.is_live:
                found[key] = entry.value
        return found

    async def scan(
        self, start: bytes, end: bytes = b"", limit: int = 0, *, reverse: bool = False, batch_size: int = SCAN_BATCH
    ) -> AsyncGenerator[Pair, None]:
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

    def put(self, key: bytes, value: bytes, *, existed: bool | None = None) -> None:
        """Set a key. Raises EntryTooLarge, TxnTooLarge, TxnClosed.

        `existed` asserts whether the key has a committed value; stores refuse the commit (AssertionFailedError) where they see
        that it is otherwise. None asserts nothing.
        """
        self._check_open()
        self.buffer.put(key, value, existed)

    def insert(self, key: bytes, value: bytes) -> None:
        """Set a key that must not exist: checked when it is locked, else at commit. Raises KeyExistsError (buffered)."""
        self._check_open()
        self.buffer.insert(key, value)

    def delete(self, key: bytes, *, existed: bool | None = None) -> None:
        """Remove a key. For `existed` see `put`."""
        self._check_open()
        self.buffer.delete(key, existed)

    def checkpoint(self) -> int:
        """A mark for `rollback_to`."""
        return self.buffer.checkpoint()

    def rollback_to(self, mark: int) -> None:
        """Take back all writes since the mark."""
        self._check_open()
        self.buffer.rollback_to(mark)

    # ---- locking ----

    async def lock_keys(
        self,
        keys: Sequence[bytes],
        *,
        for_update_ts: int | None = None,
        return_values: bool = False,
        wait_ms: int | None = DEFAULT_WAIT_MS,
        not_exists: Collection[bytes] = (),
        only_if_exists: bool = False,
    ) -> dict[bytes, bytes | None]:
        """Lock keys of a pessimistic transaction; returns the newest committed values when `return_values`.

        With a `for_update_ts` a commit after it raises WriteConflictError: run the statement that read at it again, at a newer
        timestamp. Without one the keys are locked as they are now. `wait_ms`: 0 = NOWAIT (LockNotFree), None = no limit, else
        LockWaitTimeout. Keys in `not_exists` must have no value (KeyExistsError). `only_if_exists` locks only keys with a
        value. Raises DeadlockError too.
        """
        self._check_lockable()
        inserted = {key for key in keys if (entry := self.buffer.get(key)) and entry.op is BufferedOp.INSERT}
        call = LockCall(
            for_update_ts or 0,
            return_values or only_if_exists,
            wait_ms,
            inserted.union(not_exists),
            only_if_exists,
            force=for_update_ts is None and not only_if_exists and not inserted and not not_exists,
        )
        if for_update_ts is None:
            await self._lock_now(keys, call)
        else:
            await self._locks.lock(keys, call)
        return call.values if return_values or only_if_exists else {}

    async def lock_key(
        self, key: bytes, *, for_update_ts: int | None = None, wait_ms: int | None = DEFAULT_WAIT_MS
    ) -> LockedValue:
        """Lock one key in spite of commits after `for_update_ts` (None = now) and say which: for statements on single hot keys.

        With a `conflict_ts` in the answer, what the statement read at `for_update_ts` is out of date; `value` is not, and the
        key is locked already when the statement runs again. Raises as `lock_keys`.
        """
        self._check_lockable()
        call = LockCall(for_update_ts or 0, return_values=True, wait_ms=wait_ms, force=True)
        if for_update_ts is None:
            await self._lock_now([key], call)
            return LockedValue(call.values[key], call.conflict_ts)
        try:
            await self._locks.lock([key], call)
            return LockedValue(call.values[key], call.conflict_ts)
        except WriteConflictError as error:  # a store that does not force locks: lock again, after the commit
            await self._lock_now([key], call)
            return LockedValue(call.values[key], call.conflict_ts or error.conflict_commit_ts)

    def _check_lockable(self) -> None:
        self._check_open()
        if not self.pessimistic:
            raise ValueError("locking keys needs a pessimistic transaction")

    async def _lock_now(self, keys: Sequence[bytes], call: LockCall) -> None:
        """Lock at the present time, whenever that is: a commit that slips in between moves it."""
        backoffer = self._context.new_backoffer(LOCK_NOW_BUDGET_MS)
        clock = self._context.clock
        call.begun_at = clock.monotonic()
        while True:
            call.for_update_ts = await self._context.pd.timestamp()
            call.begin_anew()
            try:
                await self._locks.lock(keys, call)
                return
            except WriteConflictError as error:
                if call.wait_ms and call.left_ms(clock.monotonic()) <= 0:
                    raise
                await backoffer.backoff(kinds.TXN_LOCK_FAST, error)

    # ---- ending ----

    async def commit(
        self,
        before_commit: Callable[[], Awaitable[None]] | None = None,
        *,
        max_commit_ts: int = 0,
        timeout_s: float | None = None,
    ) -> int:
        """Commit; returns the commit timestamp, 0 when nothing was written.

        `before_commit` runs when all locks are in place and the commit timestamp is taken; what it raises is raised here after
        all was rolled back. With `max_commit_ts` (0 = none), up to which its verdict holds, it may run before, see `committer`.

        Raises WriteConflictError, KeyExistsError, TxnAborted, UndeterminedError and others; the transaction is over either way.
        After `timeout_s` seconds raises OperationTimeout: the outcome is then decided in the background, as after a cancellation.
        """
        self._check_open()
        self._closed = True
        held = self._locks.held
        mutations = collect(self.buffer, held.keys(), self._locks.forced)
        if not mutations:
            self._locks.release_doubtful()
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
            causal_only=self.options.causal_only,
            trust_unlocked=self.options.trust_unlocked,
            before_commit=before_commit,
            max_commit_ts=max_commit_ts,
        )
        self.commit_ts = await within(timeout_s, "commit", partial(self._execute, plan))
        return self.commit_ts

    async def _execute(self, plan: CommitPlan) -> int:
        latches = self._context.latches
        keys = [] if latches is None or plan.pessimistic else [mutation.key for mutation in plan.mutations]
        taken = await latches.acquire(keys, plan.start_ts) if latches is not None and keys else []
        commit_ts = 0
        try:
            heart_beat = self._locks.heart_beat or HeartBeat(self._context, plan.primary, self.start_ts, self._begun_at)
            commit_ts = await TwoPhaseCommitter(self._context, plan, heart_beat).execute()
        finally:
            if latches is not None:
                latches.release(taken, keys, commit_ts)
            self._locks.release_doubtful()
            self._locks.stop()
        return commit_ts

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
