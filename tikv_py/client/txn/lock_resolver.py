"""Settling locks in the way: ask the owner's primary what became of it, then finish or undo what the lock stands for.

The primary decides (Percolator): committed there, the transaction is committed everywhere; rolled back or expired there, it is
undone everywhere. Live owners are waited for. Async-commit owners have no commit record yet: their secondaries decide.

Invariants: a lock is only removed after its transaction's fate is final on the primary; a final fate is cached, a live one never.
`caller_start_ts` (0 for writers) lets a store push a live owner's commit behind the reader, which then may ignore the lock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from core_py.codec import ts as tso
from core_py.ids import Ts
from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.concurrency import run_all
from tikv_py.client.errors import PrimaryMismatch, TxnNotFound, from_key_error
from tikv_py.client.pd.client import PdClient
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.cache import RegionCache
from tikv_py.client.region.regions import Region
from tikv_py.client.region.sender import RegionRequestSender, with_region_retries

CACHE_SIZE = 2048  # final fates remembered; the oldest is dropped
LITE_TXN_SIZE = 16  # smaller transactions have only the lock met resolved, larger ones the whole region

LockInfo = kvrpcpb_pb2.LockInfo


@dataclass(frozen=True, slots=True)
class TxnFate:
    """What the primary says: alive for `ttl_ms`, or committed at `commit_ts`, or (both 0) rolled back."""

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


@dataclass(frozen=True, slots=True)
class ResolveResult:
    """How long to wait for live owners, and the owners (start_ts) a reader may ignore from now on."""

    wait_ms: int = 0
    ignorable: tuple[int, ...] = ()


class _NotAsync(Exception):
    """A secondary was prewritten without async commit: the primary decides as usual."""


class LockResolver:
    """Shared by all transactions of a client."""

    def __init__(self, pd: PdClient, cache: RegionCache, sender: RegionRequestSender) -> None:
        self._pd, self._cache, self._sender = pd, cache, sender
        self._fates: OrderedDict[int, TxnFate] = OrderedDict()

    async def resolve(self, locks: Sequence[LockInfo], caller_start_ts: int, backoffer: Backoffer) -> int:
        """Settle locks; returns milliseconds to wait for live owners (0 = try again at once)."""
        return (await self.resolve_for_read(locks, caller_start_ts, backoffer)).wait_ms

    async def resolve_for_read(
        self, locks: Sequence[LockInfo], caller_start_ts: int, backoffer: Backoffer
    ) -> ResolveResult:
        """As `resolve`; also says whose locks a read at `caller_start_ts` may pass over from now on."""
        wait_ms = 0
        ignorable: list[int] = []
        cleaned: set[tuple[int, int]] = set()
        for lock in locks:
            fate = await self.fate_of(lock, caller_start_ts, backoffer)
            if fate.pushed:
                ignorable.append(lock.lock_version)
            elif fate.alive:
                left = await self._left_ms(lock.lock_version, fate.ttl_ms)
                wait_ms = max(1, left) if not wait_ms else min(wait_ms, max(1, left))
            elif lock.lock_type == kvrpcpb_pb2.PessimisticLock:
                await self._drop_pessimistic(lock, backoffer)
            elif fate.async_primary is not None:
                await self._resolve_async(lock, fate, backoffer)
            else:
                await self._resolve(lock, fate, cleaned, backoffer)
        return ResolveResult(wait_ms, tuple(ignorable))

    async def _left_ms(self, start_ts: int, ttl_ms: int) -> int:
        now = tso.physical_ms(await self._pd.timestamp())
        return tso.physical_ms(start_ts) + ttl_ms - now

    # ---- the primary's word ----

    async def fate_of(self, lock: LockInfo, caller_start_ts: int, backoffer: Backoffer) -> TxnFate:
        """The fate of a lock's transaction, ended when its time is up."""
        known = self._fates.get(lock.lock_version)
        if known is not None:
            return known
        current_ts = int(tso.TS_MAX) if lock.lock_ttl == 0 else await self._pd.timestamp()
        pessimistic = lock.lock_type == kvrpcpb_pb2.PessimisticLock
        request = kvrpcpb_pb2.CheckTxnStatusRequest(
            primary_key=lock.primary_lock,
            lock_ts=lock.lock_version,
            caller_start_ts=caller_start_ts,
            current_ts=current_ts,
            resolving_pessimistic_lock=pessimistic,
            verify_is_primary=True,
        )
        while True:
            try:
                return await self._ask_primary(request, backoffer)
            except PrimaryMismatch:
                if not pessimistic:
                    raise
                return TxnFate(action=kvrpcpb_pb2.LockNotExistDoNothing)
            except TxnNotFound as error:
                # The primary may be on its way: only when the met lock is out of date, a rollback shuts the door.
                if lock.lock_ttl and await self._left_ms(lock.lock_version, lock.lock_ttl) >= 0:
                    if pessimistic:
                        return TxnFate(ttl_ms=lock.lock_ttl)
                    await backoffer.backoff(kinds.TXN_NOT_FOUND, error)
                else:
                    request.rollback_if_not_exist = True
                if lock.lock_ttl:
                    request.current_ts = await self._pd.timestamp()

    async def _ask_primary(self, request: kvrpcpb_pb2.CheckTxnStatusRequest, backoffer: Backoffer) -> TxnFate:
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
        self._remember(request.lock_ts, fate)
        return fate

    def _remember(self, start_ts: int, fate: TxnFate) -> None:
        if fate.final:
            self._fates[start_ts] = fate
            if len(self._fates) > CACHE_SIZE:
                self._fates.popitem(last=False)

    # ---- removing locks ----

    async def _resolve(
        self, lock: LockInfo, fate: TxnFate, cleaned: set[tuple[int, int]], backoffer: Backoffer
    ) -> None:
        lite = lock.txn_size < LITE_TXN_SIZE

        async def attempt() -> None:
            region = await self._cache.locate_key(lock.key, backoffer)
            if (lock.lock_version, region.id) in cleaned:
                return
            await self._send_resolve(region, lock.lock_version, fate, [lock.key] if lite else [], backoffer)
            if not lite:
                cleaned.add((lock.lock_version, region.id))

        await with_region_retries(backoffer, attempt)

    async def _send_resolve(
        self, region: Region, start_ts: int, fate: TxnFate, keys: Sequence[bytes], backoffer: Backoffer
    ) -> None:
        request = kvrpcpb_pb2.ResolveLockRequest(start_version=start_ts, commit_version=fate.commit_ts, keys=keys)
        response = await self._sender.send(region, "KvResolveLock", request, backoffer=backoffer)
        if response.HasField("error"):
            raise from_key_error(response.error)

    async def _drop_pessimistic(self, lock: LockInfo, backoffer: Backoffer) -> None:
        """A dead owner's reservation: it carries no data, so it is simply given back."""
        request = kvrpcpb_pb2.PessimisticRollbackRequest(
            start_version=lock.lock_version, for_update_ts=lock.lock_for_update_ts or int(tso.TS_MAX), keys=[lock.key]
        )

        async def attempt() -> None:
            region = await self._cache.locate_key(lock.key, backoffer)
            response = await self._sender.send(region, "KVPessimisticRollback", request, backoffer=backoffer)
            if response.errors:
                raise from_key_error(response.errors[0])

        await with_region_retries(backoffer, attempt)

    # ---- async commit ----

    async def _resolve_async(self, lock: LockInfo, fate: TxnFate, backoffer: Backoffer) -> None:
        """An expired async-commit transaction: committed if all secondaries are prewritten, else rolled back."""
        primary = fate.async_primary
        assert primary is not None
        start_ts = lock.lock_version
        try:
            commit_ts = await self._commit_ts_of(primary, start_ts, backoffer)
        except _NotAsync:
            request = kvrpcpb_pb2.CheckTxnStatusRequest(
                primary_key=lock.primary_lock,
                lock_ts=start_ts,
                current_ts=await self._pd.timestamp(),
                rollback_if_not_exist=True,
                force_sync_commit=True,
                verify_is_primary=True,
            )
            settled = await self._ask_primary(request, backoffer)
            if not settled.alive:
                await self._resolve(lock, settled, set(), backoffer)
            return
        settled = TxnFate(commit_ts=commit_ts)
        keys = list(dict.fromkeys((*primary.secondaries, lock.primary_lock, lock.key)))
        await self._resolve_keys(keys, start_ts, settled, backoffer)
        self._remember(start_ts, settled)

    async def _resolve_keys(self, keys: Sequence[bytes], start_ts: int, fate: TxnFate, backoffer: Backoffer) -> None:
        async def attempt() -> None:
            groups = await self._cache.group_keys_by_region(keys, backoffer)
            await run_all(
                [partial(self._send_resolve, region, start_ts, fate, part, backoffer.fork()) for region, part in groups]
            )

        await with_region_retries(backoffer, attempt)

    async def _commit_ts_of(self, primary: LockInfo, start_ts: int, backoffer: Backoffer) -> int:
        """The commit timestamp that follows from all secondaries; 0 = rolled back. Raises _NotAsync."""

        async def attempt() -> int:
            commit_ts, decided = primary.min_commit_ts, False
            for region, keys in await self._cache.group_keys_by_region(list(primary.secondaries), backoffer):
                request = kvrpcpb_pb2.CheckSecondaryLocksRequest(keys=keys, start_version=start_ts)
                response = await self._sender.send(region, "KvCheckSecondaryLocks", request, backoffer=backoffer)
                if response.HasField("error"):
                    raise from_key_error(response.error)
                if len(response.locks) < len(keys):
                    if not response.commit_ts:
                        return 0
                    commit_ts, decided = response.commit_ts, True
                elif not decided:
                    if not all(lock.use_async_commit for lock in response.locks):
                        raise _NotAsync
                    commit_ts = max(commit_ts, *(lock.min_commit_ts for lock in response.locks))
            return Ts(commit_ts)

        return await with_region_retries(backoffer, attempt)
