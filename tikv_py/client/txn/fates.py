"""What became of a transaction: its primary key says so (KvCheckTxnStatus). Final answers are remembered.

The primary decides (Percolator): committed there, the transaction is committed everywhere; rolled back or expired there, it is
undone everywhere. Asking an expired primary rolls it back.

Invariants: only a final fate is remembered, and it never changes; the memory holds at most CACHE_SIZE, the oldest is dropped first.
Callers that ask about the same expired transaction at the same time share one request.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any

from core_py.codec import ts as tso
from core_py.runtime.tasks import TaskScope
from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.errors import PrimaryMismatch, TxnNotFound, from_key_error
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.cache import RegionCache
from tikv_py.client.region.sender import RegionRequestSender, with_region_retries
from tikv_py.client.txn.single_flight import SingleFlight
from tikv_py.client.txn.timestamps import RecentTimestamp

CACHE_SIZE = 2048

LockInfo = kvrpcpb_pb2.LockInfo


@dataclass(frozen=True, slots=True)
class TxnFate:
    """What the primary says: alive for `ttl_ms`, or committed at `commit_ts`, or (both 0) rolled back.

    `async_primary` is the lock of an async-commit primary whose time is up: its secondaries decide.
    """

    ttl_ms: int = 0
    commit_ts: int = 0
    action: int = 0
    async_primary: LockInfo | None = None

    @property
    def alive(self) -> bool:
        """Whether its owner may still decide."""
        return self.ttl_ms > 0

    @property
    def pushed(self) -> bool:
        """Whether it can only commit behind the reader that asked."""
        return self.alive and self.action == kvrpcpb_pb2.MinCommitTSPushed

    @property
    def final(self) -> bool:
        """Whether the fate never changes."""
        undecided = (kvrpcpb_pb2.LockNotExistDoNothing, kvrpcpb_pb2.TTLExpirePessimisticRollback)
        return not self.alive and self.async_primary is None and self.action not in undecided


class TxnFates:
    """Asks primaries, and remembers what is final."""

    def __init__(
        self, timestamps: RecentTimestamp, cache: RegionCache, sender: RegionRequestSender, scope: TaskScope
    ) -> None:
        self._timestamps, self._cache, self._sender = timestamps, cache, sender
        self._known: OrderedDict[int, TxnFate] = OrderedDict()
        self._asking: SingleFlight[tuple[int, bytes, int, int], TxnFate] = SingleFlight(scope, "transaction status")

    def known(self, start_ts: int) -> TxnFate | None:
        """A final fate met before."""
        return self._known.get(start_ts)

    def remember(self, start_ts: int, fate: TxnFate) -> None:
        """Keep a fate if it is final."""
        if fate.final:
            self._known[start_ts] = fate
            if len(self._known) > CACHE_SIZE:
                self._known.popitem(last=False)

    async def fate_of(self, lock: LockInfo, caller_start_ts: int, backoffer: Backoffer) -> TxnFate:
        """The fate of a lock's transaction; it is ended when its time is up.

        `caller_start_ts` is the reader's timestamp, which a live owner's commit is pushed behind; 0 for writers.
        """
        known = self._known.get(lock.lock_version)
        if known is not None:
            return known
        expired = not lock.lock_ttl or await self._timestamps.left_ms(lock.lock_version, lock.lock_ttl) < 0
        if expired:  # who asks does not matter to a dead owner, so all ask together
            fate = await self._ask(lock, 0, backoffer)
            if not fate.alive or not caller_start_ts:
                return fate
        return await self._ask(lock, caller_start_ts, backoffer)

    async def _ask(self, lock: LockInfo, caller_start_ts: int, backoffer: Backoffer) -> TxnFate:
        unconditional = 0 if lock.lock_ttl else 1
        key = (lock.lock_version, lock.primary_lock, caller_start_ts, lock.lock_type * 2 + unconditional)
        return await self._asking.run(key, partial(self._find_out, lock, caller_start_ts, backoffer.fork()))

    async def _find_out(self, lock: LockInfo, caller_start_ts: int, backoffer: Backoffer) -> TxnFate:
        start_ts, ttl_ms = lock.lock_version, lock.lock_ttl
        pessimistic = lock.lock_type == kvrpcpb_pb2.PessimisticLock
        request = kvrpcpb_pb2.CheckTxnStatusRequest(
            primary_key=lock.primary_lock,
            lock_ts=start_ts,
            caller_start_ts=caller_start_ts,
            current_ts=await self._timestamps.for_check(start_ts, ttl_ms) if ttl_ms else int(tso.TS_MAX),
            resolving_pessimistic_lock=pessimistic,
            verify_is_primary=True,
        )
        while True:
            try:
                fate = await self.ask_primary(request, backoffer)
                if fate.alive and await self._timestamps.left_ms(start_ts, fate.ttl_ms) < 0:
                    # The primary outlives the lock met, and the recent timestamp was too old to end it.
                    request.current_ts = await self._timestamps.fresh()
                    fate = await self.ask_primary(request, backoffer)
                return fate
            except PrimaryMismatch:
                if not pessimistic:
                    raise
                return TxnFate(action=kvrpcpb_pb2.LockNotExistDoNothing)
            except TxnNotFound as error:
                # The primary may be on its way: only when the met lock is out of date, a rollback shuts the door.
                if ttl_ms and await self._timestamps.left_ms(start_ts, ttl_ms) >= 0:
                    if pessimistic:
                        return TxnFate(ttl_ms=ttl_ms)
                    await backoffer.backoff(kinds.TXN_NOT_FOUND, error)
                else:
                    request.rollback_if_not_exist = True
                if ttl_ms:
                    request.current_ts = await self._timestamps.for_check(start_ts, ttl_ms)

    async def end(self, primary: bytes, start_ts: int, backoffer: Backoffer) -> TxnFate:
        """The fate of a transaction whose owner has given up: what is not committed is rolled back, its time being up or not."""
        request = kvrpcpb_pb2.CheckTxnStatusRequest(
            primary_key=primary,
            lock_ts=start_ts,
            current_ts=int(tso.TS_MAX),
            rollback_if_not_exist=True,
            verify_is_primary=True,
        )
        return await self.ask_primary(request, backoffer)

    async def fate_without_async(self, primary: bytes, start_ts: int, current_ts: int, backoffer: Backoffer) -> TxnFate:
        """The fate of a transaction with an async-commit primary whose secondaries show that it fell back to two phases."""
        request = kvrpcpb_pb2.CheckTxnStatusRequest(
            primary_key=primary,
            lock_ts=start_ts,
            current_ts=current_ts,
            rollback_if_not_exist=True,
            force_sync_commit=True,
            verify_is_primary=True,
        )
        return await self.ask_primary(request, backoffer)

    async def ask_primary(self, request: kvrpcpb_pb2.CheckTxnStatusRequest, backoffer: Backoffer) -> TxnFate:
        """One question. Raises TxnNotFound, PrimaryMismatch."""

        async def attempt() -> Any:
            region = await self._cache.locate_key(request.primary_key, backoffer)
            return await self._sender.send(region, "KvCheckTxnStatus", request, backoffer=backoffer)

        response = await with_region_retries(backoffer, attempt)
        if response.HasField("error"):
            raise from_key_error(response.error)
        is_async = response.lock_info.use_async_commit and not request.force_sync_commit
        ttl_ms = response.lock_ttl
        if is_async and tso.physical_ms(request.lock_ts) + ttl_ms < tso.physical_ms(request.current_ts):
            ttl_ms = 0  # a store leaves an expired async-commit primary alone; the secondaries are asked
        fate = TxnFate(
            ttl_ms, response.commit_version, response.action, response.lock_info if is_async and not ttl_ms else None
        )
        self.remember(request.lock_ts, fate)
        return fate
