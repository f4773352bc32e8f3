"""One round of garbage collection, begun by a client: no version that only reads before the safe point need is kept.

    1 AdvanceTxnSafePoint    PD takes it as far as barriers and the oldest reported transactions let it
    2 locks of before it     are settled in all regions; owners are ended, alive or not
    3 AdvanceGCSafePoint     the stores learn it with their next poll, and collect

The stores do the same by themselves every `gc.run-interval` (`tikv_py.gc.driver`); this is for clusters that turned that off,
and for tools that want it now. Safe to repeat, and to run from several clients at once.
"""

from __future__ import annotations

from functools import partial

from core_py.errors import DbError
from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.errors import PrimaryMismatch, from_key_error
from tikv_py.client.pd.client import PdClient
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.cache import RegionCache
from tikv_py.client.region.regions import Region
from tikv_py.client.region.sender import RegionRequestSender, with_region_retries
from tikv_py.client.txn.lock_resolver import LockResolver

SCAN_LIMIT = 1024
SETTLE_ROUNDS = 16


class SafePointInFuture(DbError):
    """The safe point lies ahead of PD's time: transactions that have not begun yet would find their versions gone."""

    code = "KV:Client:SafePointInFuture"


class LocksRemain(DbError):
    """Locks of before the safe point could not be settled, so nothing was collected."""

    code = "KV:Client:LocksRemain"


class GarbageCollector:
    """See the module's text. One use."""

    def __init__(
        self,
        pd: PdClient,
        cache: RegionCache,
        sender: RegionRequestSender,
        resolver: LockResolver,
        backoffer: Backoffer,
    ) -> None:
        self._pd, self._cache, self._sender, self._resolver = pd, cache, sender, resolver
        self._backoffer = backoffer

    async def run(self, safe_point: int) -> int:
        """Collect up to `safe_point`, a timestamp; returns how far PD let it go.

        Raises SafePointInFuture, LocksRemain, PdError for one behind the txn safe point in force, BudgetExhausted classes.
        """
        now = await self._pd.timestamp()
        if safe_point > now:
            raise SafePointInFuture(f"safe point {safe_point} is ahead of PD's timestamp {now}")
        reached = await self._pd.advance_txn_safe_point(safe_point)
        await self._settle_all(reached)
        return await self._pd.advance_gc_safe_point(reached)

    async def _settle_all(self, safe_point: int) -> None:
        start = b""
        while True:
            end = await with_region_retries(self._backoffer, partial(self._settle_region, start, safe_point))
            if not end:
                return
            start = end

    async def _settle_region(self, start: bytes, safe_point: int) -> bytes:
        """Settle the region that holds `start`, from there on; returns its end."""
        region = await self._cache.locate_key(start, self._backoffer)
        for _ in range(SETTLE_ROUNDS):
            locks = await self._scan(region, start, safe_point)
            await self._settle(locks)
            if len(locks) == SCAN_LIMIT:
                start = locks[-1].key + b"\x00"
            elif not locks:
                return region.end
        raise LocksRemain(f"region {region.id} still has locks of before {safe_point} after {SETTLE_ROUNDS} rounds")

    async def _scan(self, region: Region, start: bytes, safe_point: int) -> list[kvrpcpb_pb2.LockInfo]:
        request = kvrpcpb_pb2.ScanLockRequest(start_key=start, max_version=safe_point, limit=SCAN_LIMIT)
        while True:
            response = await self._sender.send(region, "KvScanLock", request, backoffer=self._backoffer)
            if not response.HasField("error"):
                return list(response.locks)
            failure = from_key_error(response.error)  # a lock that is being written; it will be there in a moment
            await self._backoffer.backoff(kinds.TXN_LOCK_FAST, failure)

    async def _settle(self, locks: list[kvrpcpb_pb2.LockInfo]) -> None:
        """End the owners, then remove what their fate allows."""
        ended: set[int] = set()
        for lock in locks:
            if lock.lock_version not in ended:
                ended.add(lock.lock_version)
                try:
                    await self._resolver.end(lock.primary_lock, lock.lock_version, self._backoffer)
                except PrimaryMismatch:
                    if lock.lock_type != kvrpcpb_pb2.PessimisticLock:
                        raise
        if locks:
            await self._resolver.resolve(locks, 0, self._backoffer)
