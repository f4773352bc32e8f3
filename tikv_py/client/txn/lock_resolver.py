"""Settling locks in the way: find out what became of their owners, then finish or undo what the locks stand for.

Live owners are waited for; a finished owner's locks are removed (`fates`, `async_recovery` and `lock_removal` do the parts).
All locks that one answer of a store names are settled together.

A writer waits until the locks are gone. A reader need not: once an owner's fate is known, the reader tells it to the store with
its next request and passes over the lock, or reads through it, while the removal goes on in the background.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from functools import partial

from core_py.errors import DbError
from core_py.ports import Clock
from core_py.runtime.log import get_logger
from core_py.runtime.tasks import TaskScope
from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.concurrency import run_all
from tikv_py.client.pd.client import PdClient
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.cache import RegionCache
from tikv_py.client.region.sender import RegionRequestSender
from tikv_py.client.txn.async_recovery import OWNER_GAVE_UP_TS, AsyncRecovery
from tikv_py.client.txn.fates import LockInfo, TxnFate, TxnFates
from tikv_py.client.txn.lock_removal import LITE_TXN_SIZE, Finished, LockRemoval
from tikv_py.client.txn.timestamps import RecentTimestamp

log = get_logger()


@dataclass(frozen=True, slots=True)
class ResolveResult:
    """What became of the owners of locks met by a read.

    `wait_ms`: how long to wait for live ones, 0 = read again at once. `ignorable`: owners (start_ts) whose locks hide nothing from
    the reader (rolled back, or committed behind it). `committed`: owners whose locks stand for values that the reader must see.
    """

    wait_ms: int = 0
    ignorable: tuple[int, ...] = ()
    committed: tuple[int, ...] = ()


@dataclass(slots=True)
class _Settled:
    """The sorted outcome of one round."""

    wait_ms: int = 0
    pushed: list[int] = field(default_factory=list)
    finished: list[tuple[int, TxnFate, list[Finished]]] = field(default_factory=list)
    reservations: list[LockInfo] = field(default_factory=list)

    def note_alive(self, left_ms: int) -> None:
        """Wait for the owner that is done first."""
        left_ms = max(1, left_ms)
        self.wait_ms = min(self.wait_ms, left_ms) if self.wait_ms else left_ms


class LockResolver:
    """Shared by all transactions of a client. `scope` runs what is shared between callers and what goes on after them."""

    def __init__(
        self, pd: PdClient, cache: RegionCache, sender: RegionRequestSender, clock: Clock, scope: TaskScope
    ) -> None:
        self.timestamps = RecentTimestamp(pd, clock)
        self._scope = scope
        self._fates = TxnFates(self.timestamps, cache, sender, scope)
        self._recovery = AsyncRecovery(self._fates, cache, sender, scope)
        self._removal = LockRemoval(cache, sender, scope)

    async def resolve(self, locks: Sequence[LockInfo], caller_start_ts: int, backoffer: Backoffer) -> int:
        """Settle locks for a writer; returns milliseconds to wait for live owners (0 = try again at once)."""
        settled = await self._settle(locks, caller_start_ts, backoffer)
        await self._remove(settled.finished, settled.reservations, backoffer)
        return settled.wait_ms

    async def resolve_for_read(
        self,
        locks: Sequence[LockInfo],
        caller_start_ts: int,
        backoffer: Backoffer,
        told: Container[int] | None = None,
    ) -> ResolveResult:
        """Settle locks for a read at `caller_start_ts`.

        `told` are the owners that the caller has told its store already (`ResolveResult.ignorable` and `committed`): a lock of
        one of them that stands in the way still is removed before this returns. None = the caller tells nothing, all are removed.
        """
        settled = await self._settle(locks, caller_start_ts, backoffer)
        ignorable, committed = list(settled.pushed), list[int]()
        wanted, later = [], []
        for owner in settled.finished:
            start_ts, fate, _ = owner
            if told is None or start_ts in told:
                wanted.append(owner)
                continue
            visible = 0 < fate.commit_ts <= caller_start_ts
            (committed if visible else ignorable).append(start_ts)
            later.append(owner)
        if later:
            self._scope.spawn(self._remove_later(later, backoffer.fork()), name="resolve locks")
        await self._remove(wanted, settled.reservations, backoffer)
        return ResolveResult(settled.wait_ms, tuple(ignorable), tuple(committed))

    async def fate_of(self, lock: LockInfo, caller_start_ts: int, backoffer: Backoffer) -> TxnFate:
        """The fate of a lock's transaction, which is ended when its time is up."""
        return await self._fates.fate_of(lock, caller_start_ts, backoffer)

    def note_committed(self, start_ts: int, commit_ts: int) -> None:
        """A transaction of this client is committed: whoever meets its locks here need not ask."""
        self._fates.remember(start_ts, TxnFate(commit_ts=commit_ts))

    async def end(self, primary: bytes, start_ts: int, backoffer: Backoffer) -> TxnFate:
        """The final fate of a transaction of this client that lost track of its commit: what is not committed is rolled back."""
        fate = await self._fates.end(primary, start_ts, backoffer)
        if fate.async_primary is not None:
            fate = await self._recovery.decide(fate.async_primary, OWNER_GAVE_UP_TS, backoffer)
        return fate

    # ---- the parts ----

    async def _settle(self, locks: Sequence[LockInfo], caller_start_ts: int, backoffer: Backoffer) -> _Settled:
        owners: dict[tuple[int, bytes, bool], list[LockInfo]] = {}
        for lock in locks:
            reserved = lock.lock_type == kvrpcpb_pb2.PessimisticLock
            owners.setdefault((lock.lock_version, lock.primary_lock, reserved), []).append(lock)
        settled = _Settled()
        jobs = [partial(self._settle_owner, part, caller_start_ts, settled, backoffer) for part in owners.values()]
        await run_all(jobs)
        return settled

    async def _settle_owner(
        self, locks: list[LockInfo], caller_start_ts: int, settled: _Settled, backoffer: Backoffer
    ) -> None:
        """One owner's locks, all of one primary."""
        first = min(locks, key=lambda lock: lock.lock_ttl)
        start_ts = first.lock_version
        fate = await self._fates.fate_of(first, caller_start_ts, backoffer)
        if fate.alive:
            if fate.pushed:
                settled.pushed.append(start_ts)
            else:
                settled.note_alive(await self.timestamps.left_ms(start_ts, fate.ttl_ms))
            return
        if first.lock_type == kvrpcpb_pb2.PessimisticLock:
            settled.reservations += locks
            return
        keys = [lock.key for lock in locks]
        if fate.async_primary is not None:
            primary = fate.async_primary
            fate = await self._recovery.decide(primary, await self.timestamps.fresh(), backoffer)
            if fate.alive:  # it fell back to two phases and is not out of time
                settled.note_alive(await self.timestamps.left_ms(start_ts, fate.ttl_ms))
                return
            keys = list(dict.fromkeys((*keys, primary.primary_lock, *primary.secondaries)))
        lite = max(lock.txn_size for lock in locks) < LITE_TXN_SIZE
        settled.finished.append((start_ts, fate, [Finished(key, start_ts, fate.commit_ts, lite) for key in keys]))

    async def _remove(
        self,
        owners: Sequence[tuple[int, TxnFate, list[Finished]]],
        reservations: Sequence[LockInfo],
        backoffer: Backoffer,
    ) -> None:
        if reservations:
            await self._removal.drop_reservations(reservations, backoffer)
        if owners:
            await self._removal.remove([lock for _, _, part in owners for lock in part], backoffer)

    async def _remove_later(self, owners: Sequence[tuple[int, TxnFate, list[Finished]]], backoffer: Backoffer) -> None:
        try:
            await self._remove(owners, (), backoffer)
        except DbError as error:
            log.warning("locks could not be removed, the next reader tries again", error=str(error))
