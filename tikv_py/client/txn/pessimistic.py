"""Pessimistic locking: keys are reserved before they are written, so that the commit cannot meet a conflict on them.

Each statement locks at a `for_update_ts`; a newer commit makes the store answer WriteConflict (reason PessimisticRetry), and the
caller decides whether to run the statement again at a newer timestamp. Waiting happens in the store (bounded) and here, between
attempts, until the caller's own limit.

A single key may be locked by force: the store then hands the lock over in spite of a newer commit, says at which timestamp, and
returns the value of that moment, so that a queue of writers of a hot key is served one after the other, each with one request.

Invariants: the first locked key is the primary and stays it; keys of a failed call that were not locked before are released
in the background, and only up to that call's for_update_ts, so that a later success on them is not undone. A request of a
cancelled call may still be waiting in a store: its keys are released once more at the end of the transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from core_py.errors import DbError
from core_py.region_errors import UndeterminedResult
from core_py.runtime.log import get_logger
from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.concurrency import run_all
from tikv_py.client.errors import LockNotFree, LockWaitTimeout, RegionStale, from_key_error, lock_of
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.regions import Region
from tikv_py.client.region.sender import WRITE_TIMEOUT_S, with_region_retries
from tikv_py.client.txn.context import CLEANUP_BUDGET_MS, ClientContext
from tikv_py.client.txn.heartbeat import MANAGED_TTL_MS, HeartBeat

DEFAULT_WAIT_MS = 50_000  # innodb_lock_wait_timeout
MAX_KEYS_PER_REQUEST = 256
WAIT_ALWAYS_MS = (1 << 63) - 1  # stores cut it to their own limit
LOCK_BUDGET_MS = 20_000
FRESH_LOCK_MS = 300

log = get_logger()


@dataclass(slots=True)
class LockCall:
    """One statement's wish to lock.

    `wait_ms` 0 = do not wait, None = without limit; `not_exists` are keys that must have no value; `only_if_exists` leaves keys
    without a value unlocked; `force` asks for a lock in spite of newer commits (single keys only). Filled in by the call:
    `values`, `absent` (keys left unlocked) and `conflict_ts` (the commit in spite of which the lock was taken; 0 = none).
    """

    for_update_ts: int
    return_values: bool = False
    wait_ms: int | None = DEFAULT_WAIT_MS
    not_exists: Collection[bytes] = ()
    only_if_exists: bool = False
    force: bool = False
    begun_at: float = 0.0
    values: dict[bytes, bytes | None] = field(default_factory=dict)
    absent: set[bytes] = field(default_factory=set)
    conflict_ts: int = 0

    def begin_anew(self) -> None:
        """Forget what an attempt found before it failed."""
        self.values.clear()
        self.absent.clear()
        self.conflict_ts = 0

    def left_ms(self, now: float) -> int:
        """How much longer the caller wants to wait."""
        if self.wait_ms is None:
            return WAIT_ALWAYS_MS
        return self.wait_ms - int((now - self.begun_at) * 1000)


class PessimisticLocks:
    """The locks of one transaction. `held`: keys and their for_update_ts; `forced`: those of them taken in spite of a conflict."""

    def __init__(self, context: ClientContext, start_ts: int, begun_at: float) -> None:
        self._context, self._start_ts, self._begun_at = context, start_ts, begun_at
        self.primary: bytes | None = None
        self.held: dict[bytes, int] = {}
        self.forced: dict[bytes, int] = {}
        self.for_update_ts = 0
        self.heart_beat: HeartBeat | None = None
        self._doubtful: dict[bytes, None] = {}

    async def lock(self, keys: Sequence[bytes], call: LockCall) -> dict[bytes, bytes | None]:
        """Lock keys; returns their newest committed values when asked for.

        Raises WriteConflictError, KeyExistsError, DeadlockError, LockWaitTimeout, LockNotFree.
        """
        wanted = [
            key for key in sorted(set(keys)) if call.return_values or key not in self.held or key in call.not_exists
        ]
        if not wanted:
            return call.values
        call.force = call.force and len(wanted) == 1
        call.begun_at = call.begun_at or self._context.clock.monotonic()
        self.for_update_ts = max(self.for_update_ts, call.for_update_ts)
        first = self.primary is None
        try:
            await self._lock_all(wanted, call)
        except BaseException as error:
            self._undo([key for key in wanted if key not in self.held], call, error, first=first)
            raise
        self.for_update_ts = max(self.for_update_ts, call.conflict_ts)
        for key in wanted:
            if key not in call.absent:
                self.held[key] = max(self.held.get(key, 0), call.for_update_ts, call.conflict_ts)
                if call.conflict_ts:
                    self.forced[key] = call.conflict_ts
        return call.values

    def _undo(self, keys: list[bytes], call: LockCall, error: BaseException, *, first: bool) -> None:
        if not isinstance(error, DbError):
            self._doubtful.update(dict.fromkeys(keys))
        self._release(keys, max(call.for_update_ts, self._start_ts), what="undo")
        if first:
            self.stop()
            self.primary = self.heart_beat = None

    async def _lock_all(self, wanted: list[bytes], call: LockCall) -> None:
        """The primary's lock first: the others' owners would look for it there."""
        budget_ms = LOCK_BUDGET_MS + (call.wait_ms if call.wait_ms is not None else WAIT_ALWAYS_MS)
        backoffer = self._context.new_backoffer(budget_ms)
        rest = list(wanted)
        while rest and (self.primary is None or (self.primary in rest and self.primary not in self.held)):
            chosen = self.primary or rest[0]
            self.primary = chosen
            rest.remove(chosen)
            await self._lock_keys([chosen], call, backoffer)
            if chosen in call.absent:  # not locked, so another key has to be it
                self.primary = None
            elif self.heart_beat is None:  # now, because waiting for the others may outlast the lock
                self.heart_beat = HeartBeat(self._context, chosen, self._start_ts, self._begun_at)
                self.heart_beat.start(MANAGED_TTL_MS)
        if rest:
            await self._lock_keys(rest, call, backoffer)

    async def _lock_keys(self, keys: Sequence[bytes], call: LockCall, backoffer: Backoffer) -> None:
        groups = await self._context.region_cache.group_keys_by_region(keys, backoffer)
        jobs = [
            partial(self._lock_in_region, region, part[at : at + MAX_KEYS_PER_REQUEST], call, backoffer.fork())
            for region, part in groups
            for at in range(0, len(part), MAX_KEYS_PER_REQUEST)
        ]
        await run_all(jobs)

    def _request(self, keys: Sequence[bytes], call: LockCall) -> kvrpcpb_pb2.PessimisticLockRequest:
        request = kvrpcpb_pb2.PessimisticLockRequest(
            primary_lock=self.primary,
            start_version=self._start_ts,
            for_update_ts=call.for_update_ts,
            is_first_lock=not self.held,
            return_values=call.return_values or call.only_if_exists,
            min_commit_ts=call.for_update_ts + 1,
            lock_only_if_exists=call.only_if_exists,
            wake_up_mode=kvrpcpb_pb2.WakeUpModeForceLock if call.force else kvrpcpb_pb2.WakeUpModeNormal,
        )
        for key in keys:
            absent = key in call.not_exists
            request.mutations.add(
                op=kvrpcpb_pb2.PessimisticLock,
                key=key,
                assertion=kvrpcpb_pb2.NotExist if absent else kvrpcpb_pb2.Assertion.Value("None"),
            )
        return request

    async def _lock_in_region(self, region: Region, keys: list[bytes], call: LockCall, backoffer: Backoffer) -> None:
        request = self._request(keys, call)
        clock = self._context.clock
        while True:
            # Counted from the transaction's begin, which may be long ago when the lock is got at last.
            request.lock_ttl = int((clock.monotonic() - self._begun_at) * 1000) + MANAGED_TTL_MS
            request.wait_timeout = max(1, call.left_ms(clock.monotonic())) if call.wait_ms != 0 else -1
            try:
                response = await self._context.sender.send(
                    region, "KvPessimisticLock", request, backoffer=backoffer, timeout_s=WRITE_TIMEOUT_S
                )
            except (RegionStale, UndeterminedResult) as error:  # locking again is harmless
                await backoffer.backoff(kinds.REGION_MISS, error)
                await self._lock_keys(keys, call, backoffer)
                return
            if not response.errors:
                _take_answer(keys, response, call)
                return
            await self._settle(list(response.errors), call, backoffer)

    async def _settle(self, errors: Sequence[kvrpcpb_pb2.KeyError], call: LockCall, backoffer: Backoffer) -> None:
        """Resolve dead owners at once; wait for live ones as long as the caller wants.

        Locks that were taken while the request waited in the store have live owners: it goes back into line without more ado.
        """
        locks = [lock_of(error) for error in errors]
        fresh = all(0 < lock.duration_to_last_update_ms < FRESH_LOCK_MS for lock in locks)
        if fresh and call.left_ms(self._context.clock.monotonic()) > 0:
            return
        wait_ms = await self._context.lock_resolver.resolve(locks, 0, backoffer)
        if not wait_ms:
            return
        if call.wait_ms == 0:
            raise LockNotFree(locks[0].key)
        left = call.left_ms(self._context.clock.monotonic())
        if left <= 0:
            raise LockWaitTimeout(locks[0].key, call.wait_ms or 0)
        cause = f"key {locks[0].key.hex()} is locked by live transaction {locks[0].lock_version}"
        await backoffer.backoff(kinds.TXN_LOCK_FAST, cause, at_most_ms=min(wait_ms, left))

    # ---- giving back ----

    def release_all(self) -> None:
        """Give all locks back, in the background."""
        keys, self.held = list(self.held), {}
        self._release([*keys, *self._doubtful], max(self.for_update_ts, self._start_ts), what="release")
        self.stop()

    def release_doubtful(self) -> None:
        """Once more give back what cancelled calls may have locked after all; for the end of a commit."""
        keys = [key for key in self._doubtful if key not in self.held]
        self._release(keys, max(self.for_update_ts, self._start_ts), what="release")

    def stop(self) -> None:
        """End the heart beat."""
        if self.heart_beat is not None:
            self.heart_beat.stop()

    def _release(self, keys: Sequence[bytes], for_update_ts: int, *, what: str) -> None:
        if not keys:
            return
        context = self._context

        async def one(region: Region, part: list[bytes], backoffer: Backoffer) -> None:
            request = kvrpcpb_pb2.PessimisticRollbackRequest(
                start_version=self._start_ts, for_update_ts=for_update_ts, keys=part
            )
            response = await context.sender.send(region, "KVPessimisticRollback", request, backoffer=backoffer)
            if response.errors:
                raise from_key_error(response.errors[0])

        async def attempt(backoffer: Backoffer) -> None:
            groups = await context.region_cache.group_keys_by_region(keys, backoffer)
            await run_all([partial(one, region, part, backoffer.fork()) for region, part in groups])

        async def run() -> None:
            backoffer = context.new_backoffer(CLEANUP_BUDGET_MS)
            try:
                await with_region_retries(backoffer, partial(attempt, backoffer))
            except DbError as error:
                log.warning("pessimistic locks stay until they expire", what=what, start_ts=self._start_ts, error=error)

        context.scope.spawn(run(), name="pessimistic rollback")


def _take_answer(keys: Sequence[bytes], response: kvrpcpb_pb2.PessimisticLockResponse, call: LockCall) -> None:
    """The values that a successful answer carries, in the form of either wake-up mode."""
    values: list[bytes | None]
    if response.results:  # the form of forced locks: one result for the one key
        result = response.results[0]
        values = [result.value if result.existence else None]
        if result.type == kvrpcpb_pb2.LockResultLockedWithConflict:
            call.conflict_ts = result.locked_with_conflict_ts
    else:
        absent = list(response.not_founds) or [not value for value in response.values]
        values = [None if missing else value for value, missing in zip(response.values, absent, strict=False)]
    for key, value in zip(keys, values, strict=False):
        if call.return_values or call.conflict_ts:
            call.values[key] = value
        if call.only_if_exists and value is None:
            call.absent.add(key)
