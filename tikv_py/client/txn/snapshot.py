"""Reads at one timestamp: what was committed at or before it, and nothing else, however long the reading takes.

Locks met on the way are settled (`LockResolver`), all those of one answer together. Owners whose locks hide nothing from this
snapshot (rolled back, or committed behind it) and owners known to be committed before it are told to the stores with the next
request, so that a read waits neither for their locks' removal nor for them. With the largest timestamp a point read returns the
newest committed value without asking PD.

A call that is cancelled leaves nothing behind. `timeout_s` of a call bounds it as a whole (`OperationTimeout`).
"""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from core_py.codec.ts import TS_MAX
from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.concurrency import run_all
from tikv_py.client.errors import OperationTimeout, RegionStale, lock_of
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.regions import Region, least_end
from tikv_py.client.region.sender import with_region_retries
from tikv_py.client.txn.context import READ_BUDGET_MS, ClientContext

SCAN_BATCH = 256
MAX_BATCH_GET_KEYS = 5120  # keys in one request; more go into further requests
MAX_TOLD = 256  # owners that a request lists; the oldest are dropped and asked about again

Pair = tuple[bytes, bytes]
T = TypeVar("T")


class ValueAndTs(NamedTuple):
    """A value and the timestamp it was committed at (0 = the store does not tell)."""

    value: bytes
    commit_ts: int


async def within(timeout_s: float | None, what: str, call: Callable[[], Awaitable[T]]) -> T:
    """The call's result. Raises OperationTimeout when it takes longer; the call is cancelled then."""
    if timeout_s is None:
        return await call()
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            return await call()
    except TimeoutError:
        if not limit.expired():
            raise
        raise OperationTimeout(f"{what} took longer than {timeout_s} s") from None


class Snapshot:
    """A consistent view. Not changed by anything that commits later.

    With `replica_read` any replica answers, after it has asked its leader how far it must be; with `stale_read` any replica answers
    that is complete up to `ts` without asking, which takes a `ts` some seconds ago, and the leader where the replica is not.
    """

    def __init__(
        self, context: ClientContext, ts: int, *, replica_read: bool = False, stale_read: bool = False
    ) -> None:
        self._context, self.ts = context, ts
        self._send = partial(context.sender.send, replica_read=replica_read, stale_read=stale_read)
        self._ignored: dict[int, None] = {}
        self._committed: dict[int, None] = {}
        self._told: ChainMap[int, None] = ChainMap(self._ignored, self._committed)

    def _fill(self, request: Any) -> Any:
        self._context.safe_point.check(self.ts)
        if self._ignored or self._committed:
            context = request.context
            del context.resolved_locks[:]
            context.resolved_locks.extend(self._ignored)
            del context.committed_locks[:]
            context.committed_locks.extend(self._committed)
        return request

    async def _settle(self, locks: Sequence[kvrpcpb_pb2.LockInfo], backoffer: Backoffer) -> None:
        """Settle locks in the way; afterwards the read is to be tried again."""
        result = await self._context.lock_resolver.resolve_for_read(locks, int(self.ts), backoffer, self._told)
        pushed_only = self.ts == TS_MAX and result.ignorable  # nothing can be pushed behind the largest timestamp
        if not pushed_only:
            _keep(self._ignored, result.ignorable)
        _keep(self._committed, result.committed)
        if result.wait_ms or pushed_only:
            await backoffer.backoff(
                kinds.TXN_LOCK_FAST,
                f"key {locks[0].key.hex()} is locked by live transaction {locks[0].lock_version}",
                at_most_ms=result.wait_ms or None,
            )

    async def _settle_error(self, error: kvrpcpb_pb2.KeyError, backoffer: Backoffer) -> None:
        await self._settle([lock_of(error)], backoffer)

    # ---- single keys ----

    async def get(self, key: bytes, *, timeout_s: float | None = None) -> bytes | None:
        """The value of a user key, or None. Raises BudgetExhausted classes, OperationTimeout."""
        response = await within(timeout_s, "get", partial(self._get, key, need_commit_ts=False))
        return None if response.not_found else response.value

    async def get_with_commit_ts(self, key: bytes, *, timeout_s: float | None = None) -> ValueAndTs | None:
        """As `get`, with the timestamp the value was committed at, where the store tells it."""
        response = await within(timeout_s, "get", partial(self._get, key, need_commit_ts=True))
        return None if response.not_found else ValueAndTs(response.value, response.commit_ts)

    async def _get(self, key: bytes, *, need_commit_ts: bool) -> Any:
        context = self._context
        backoffer = context.new_backoffer(READ_BUDGET_MS)
        while True:
            region = await context.region_cache.locate_key(key, backoffer)
            request = self._fill(kvrpcpb_pb2.GetRequest(key=key, version=self.ts, need_commit_ts=need_commit_ts))
            try:
                response = await self._send(region, "KvGet", request, backoffer=backoffer)
            except RegionStale as error:
                await backoffer.backoff(kinds.REGION_MISS, error)
                continue
            if not response.HasField("error"):
                return response
            await self._settle_error(response.error, backoffer)

    # ---- many keys ----

    async def batch_get(self, keys: Sequence[bytes], *, timeout_s: float | None = None) -> dict[bytes, bytes]:
        """The values of those keys that have one; regions are asked in parallel."""
        backoffer = self._context.new_backoffer(READ_BUDGET_MS)
        return await within(timeout_s, "batch get", partial(self._batch_get, list(dict.fromkeys(keys)), backoffer))

    async def _batch_get(self, keys: Sequence[bytes], backoffer: Backoffer) -> dict[bytes, bytes]:
        if not keys:
            return {}
        groups = await self._context.region_cache.group_keys_by_region(keys, backoffer)
        jobs = [
            partial(self._get_in_region, region, part[at : at + MAX_BATCH_GET_KEYS], backoffer.fork())
            for region, part in groups
            for at in range(0, len(part), MAX_BATCH_GET_KEYS)
        ]
        merged: dict[bytes, bytes] = {}
        for found in await run_all(jobs):
            merged.update(found)
        return merged

    async def _get_in_region(self, region: Region, keys: list[bytes], backoffer: Backoffer) -> dict[bytes, bytes]:
        """One region's part; only locked keys are asked for again."""
        found: dict[bytes, bytes] = {}
        while keys:
            request = self._fill(kvrpcpb_pb2.BatchGetRequest(keys=keys, version=self.ts))
            try:
                response = await self._send(region, "KvBatchGet", request, backoffer=backoffer)
            except RegionStale as error:
                await backoffer.backoff(kinds.REGION_MISS, error)
                found.update(await self._batch_get(keys, backoffer))
                return found
            if response.HasField("error"):
                await self._settle_error(response.error, backoffer)
                continue
            locks = []
            for pair in response.pairs:
                if pair.HasField("error"):
                    locks.append(_lock_hiding(pair))
                else:
                    found[pair.key] = pair.value
            keys = [lock.key for lock in locks]
            if locks:
                await self._settle(locks, backoffer)
        return found

    async def scan(
        self,
        start: bytes,
        end: bytes = b"",
        limit: int = 0,
        *,
        reverse: bool = False,
        batch_size: int = SCAN_BATCH,
        key_only: bool = False,
        sample_step: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Pair, None]:
        """The pairs of [start, end) in order (descending with `reverse`), at most `limit` (0 = all).

        `key_only` leaves values empty; `sample_step` n > 1 asks for every n-th pair of a region (a store may return all);
        `timeout_s` bounds each request for the next pairs.
        """
        context = self._context
        cursor, left = (end if reverse else start), limit or -1
        while left:
            backoffer = context.new_backoffer(READ_BUDGET_MS)
            batch = batch_size if left < 0 else min(batch_size, left)
            request = kvrpcpb_pb2.ScanRequest(
                version=self.ts, limit=batch, reverse=reverse, key_only=key_only, sample_step=sample_step
            )
            attempt = partial(self._scan_once, request, cursor, start if reverse else end, backoffer)
            pairs, far = await within(timeout_s, "scan", partial(with_region_retries, backoffer, attempt))
            for pair in pairs:
                yield pair
            left -= len(pairs) if left > 0 else 0
            if len(pairs) == batch:
                cursor = pairs[-1][0] if reverse else pairs[-1][0] + b"\0"
            elif far == (start if reverse else end):
                return
            else:
                cursor = far

    async def _scan_once(
        self, request: kvrpcpb_pb2.ScanRequest, cursor: bytes, limit_key: bytes, backoffer: Backoffer
    ) -> tuple[list[Pair], bytes]:
        """One request, repeated until no lock hides a key; returns the pairs and the end of what was asked."""
        context = self._context
        while True:
            if request.reverse:
                region = await context.region_cache.locate_end_key(cursor, backoffer)
                upper = least_end(cursor, region.end)
                far = max(limit_key, region.start)
                request.start_key, request.end_key = upper, far
            else:
                region = await context.region_cache.locate_key(cursor, backoffer)
                far = least_end(limit_key, region.end)
                request.start_key, request.end_key = cursor, far
            response = await self._send(region, "KvScan", self._fill(request), backoffer=backoffer)
            if response.HasField("error"):
                await self._settle_error(response.error, backoffer)
                continue
            locks = [_lock_hiding(pair) for pair in response.pairs if pair.HasField("error")]
            if not locks:
                return [(pair.key, pair.value) for pair in response.pairs], far
            await self._settle(locks, backoffer)


def _keep(told: dict[int, None], more: Sequence[int]) -> None:
    for start_ts in more:
        told[start_ts] = None
    while len(told) > MAX_TOLD:
        del told[next(iter(told))]


def _lock_hiding(pair: kvrpcpb_pb2.KvPair) -> kvrpcpb_pb2.LockInfo:
    """The lock that hides a pair. Raises what else the store said about it."""
    lock = lock_of(pair.error)
    if not lock.key:
        lock.key = pair.key
    return lock
