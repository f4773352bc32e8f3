"""Raw keys and values: no transactions, no encoding (API V1). Each call is atomic for one key; batches are not atomic.

Every operation has its own budget; transport failures are retried because all commands but compare-and-swap give the same
result when repeated.

Every operation may raise RawError (the store refuses it; the text is the store's), one of the BudgetExhausted classes (no answer
within the budget) and PdUnavailable. Times to live are whole seconds, 0 is for ever; they need stores with
`storage.enable-ttl`, others refuse them. An expired value is not there for any command from that second on.

`atomic` makes puts and deletes wait for the compare-and-swaps of their keys that are under way. A client that mixes both on
the same keys must be made with it, or a swap may be lost.
"""

from __future__ import annotations

import random as random_module
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from core_py.errors import RpcError
from core_py.ports import Clock, Random, Transport
from core_py.region_errors import UndeterminedResult
from core_py.runtime.tasks import TaskScope
from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.concurrency import run_all
from tikv_py.client.errors import RawError, UndeterminedError
from tikv_py.client.pd.client import PdClient
from tikv_py.client.raw.answers import Pair, RawChecksum, check_response
from tikv_py.client.raw.batch_scan import BatchScan, Bounds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.cache import RegionCache
from tikv_py.client.region.regions import RAW_KEYS, Region, least_end
from tikv_py.client.region.sender import WRITE_TIMEOUT_S, RegionRequestSender, with_region_retries
from tikv_py.client.region.store import StoreCache

BUDGET_MS = 20_000
SCAN_BATCH = 256
MAX_BATCH_KEYS = 512
MAX_BATCH_BYTES = 256 * 1024
MAX_KEY_BYTES = 8 << 10  # the stores' default; they have the last word

CHECKSUM_TIMEOUT_S = 60.0  # a whole region is read


@dataclass(frozen=True, slots=True)
class CasResult:
    """Whether the swap happened, and the value found."""

    swapped: bool
    previous: bytes | None


class RawClient:
    """`async with await RawClient.connect(...) as client: await client.put(b"k", b"v")`."""

    def __init__(
        self,
        pd: PdClient,
        transport: Transport,
        clock: Clock,
        random: Random,
        cf: str = "",
        *,
        atomic: bool = False,
        max_key_bytes: int = MAX_KEY_BYTES,
    ) -> None:
        self.pd, self._random, self._cf = pd, random, cf
        self._atomic, self._max_key_bytes = atomic, max_key_bytes
        self._scope = TaskScope("raw client")
        self.region_cache = RegionCache(pd, self._scope, RAW_KEYS)
        self._stores = StoreCache(pd, transport, clock, self._scope)
        self.sender = RegionRequestSender(self.region_cache, self._stores, random, pd.cluster_id)

    @classmethod
    async def connect(
        cls,
        pd_endpoints: Sequence[str],
        *,
        transport: Transport,
        clock: Clock,
        random: Random | None = None,
        cf: str = "",
        atomic: bool = False,
        max_key_bytes: int = MAX_KEY_BYTES,
    ) -> RawClient:
        """Find PD and make a client of the column family `cf` (default, lock, write). Raises PdUnavailable.

        Longer keys than `max_key_bytes` are not sent in writes.
        """
        pd = await PdClient.open(transport, pd_endpoints, clock)
        rng = random or random_module.Random(pd.cluster_id)
        return cls(pd, transport, clock, rng, cf, atomic=atomic, max_key_bytes=max_key_bytes)

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._scope.close()
        await self._stores.close()
        await self.pd.close()

    def new_backoffer(self, budget_ms: int = BUDGET_MS) -> Backoffer:
        """A budget for one operation."""
        return Backoffer(budget_ms, self._random)

    async def _on_key(self, key: bytes, name: str, request: Any, *, idempotent: bool = True) -> Any:
        backoffer = self.new_backoffer()

        async def attempt() -> Any:
            region = await self.region_cache.locate_key(key, backoffer)
            return await self.sender.send(
                region, name, request, backoffer=backoffer, timeout_s=WRITE_TIMEOUT_S, idempotent=idempotent
            )

        response = await with_region_retries(backoffer, attempt, idempotent=idempotent)
        check_response(name, response)
        return response

    # ---- single keys ----

    async def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        response = await self._on_key(key, "RawGet", kvrpcpb_pb2.RawGetRequest(key=key, cf=self._cf))
        return None if response.not_found else response.value

    async def put(self, key: bytes, value: bytes, *, ttl_s: int = 0) -> None:
        """Set a value that lives `ttl_s` seconds."""
        self._check_keys((key,))
        request = kvrpcpb_pb2.RawPutRequest(key=key, value=value, cf=self._cf, ttl=ttl_s, for_cas=self._atomic)
        await self._on_key(key, "RawPut", request)

    async def delete(self, key: bytes) -> None:
        """Remove a key; no error when there is none."""
        request = kvrpcpb_pb2.RawDeleteRequest(key=key, cf=self._cf, for_cas=self._atomic)
        await self._on_key(key, "RawDelete", request)

    async def ttl(self, key: bytes) -> int | None:
        """Seconds left to live (0 = for ever), or None for a missing key."""
        response = await self._on_key(key, "RawGetKeyTTL", kvrpcpb_pb2.RawGetKeyTTLRequest(key=key, cf=self._cf))
        return None if response.not_found else response.ttl

    async def compare_and_swap(self, key: bytes, previous: bytes | None, value: bytes, *, ttl_s: int = 0) -> CasResult:
        """Set the value when the present one is `previous` (None = no value).

        Not repeated when it may have been carried out (the transport failed, or the store lost sight of the proposal): raises
        UndeterminedError then.
        """
        self._check_keys((key,))
        return await self._swap(kvrpcpb_pb2.RawCASRequest(key=key, value=value, cf=self._cf, ttl=ttl_s), previous)

    async def put_if_absent(self, key: bytes, value: bytes, *, ttl_s: int = 0) -> bytes | None:
        """Set a value if the key has none: None when it did, else the value that is there. Raises UndeterminedError."""
        return (await self.compare_and_swap(key, None, value, ttl_s=ttl_s)).previous

    async def compare_and_delete(self, key: bytes, previous: bytes) -> CasResult:
        """Remove the key when its present value is `previous`. Raises UndeterminedError, as `compare_and_swap`."""
        return await self._swap(kvrpcpb_pb2.RawCASRequest(key=key, cf=self._cf, delete=True), previous)

    async def _swap(self, request: kvrpcpb_pb2.RawCASRequest, previous: bytes | None) -> CasResult:
        key = request.key
        request.previous_not_exist = previous is None
        request.previous_value = previous or b""
        try:
            response = await self._on_key(key, "RawCompareAndSwap", request, idempotent=False)
        except (RpcError, UndeterminedResult) as error:
            raise UndeterminedError(f"compare-and-swap of key {key.hex()}: {error}") from error
        return CasResult(response.succeed, None if response.previous_not_exist else response.previous_value)

    def _check_keys(self, keys: Iterable[bytes]) -> None:
        longest = max(map(len, keys), default=0)
        if longest > self._max_key_bytes:
            raise RawError(f"a key of {longest} bytes, {self._max_key_bytes} are allowed")

    # ---- many keys ----

    async def _by_region(self, name: str, keys: Iterable[bytes], make: Any, backoffer: Backoffer) -> list[Any]:
        """Run `make(keys)` on every region of the keys; stale regions are sorted again."""
        groups = await self.region_cache.group_keys_by_region(list(dict.fromkeys(keys)), backoffer)
        batches = [
            (region, part[at : at + MAX_BATCH_KEYS])
            for region, part in groups
            for at in range(0, len(part), MAX_BATCH_KEYS)
        ]
        jobs = [partial(self._one_batch, name, region, part, make, backoffer.fork()) for region, part in batches]
        return [response for responses in await run_all(jobs) for response in responses] if jobs else []

    async def _one_batch(
        self, name: str, region: Region, keys: list[bytes], make: Any, backoffer: Backoffer
    ) -> list[Any]:
        first = True

        async def attempt() -> list[Any]:
            nonlocal first
            if first:
                first = False
                request = make(keys)
                return [await self.sender.send(region, name, request, backoffer=backoffer, timeout_s=WRITE_TIMEOUT_S)]
            return await self._by_region(name, keys, make, backoffer)

        responses = await with_region_retries(backoffer, attempt)
        for response in responses:
            check_response(name, response)
        return responses

    async def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that have one."""
        responses = await self._by_region(
            "RawBatchGet",
            keys,
            lambda part: kvrpcpb_pb2.RawBatchGetRequest(keys=part, cf=self._cf),
            self.new_backoffer(),
        )
        return {pair.key: pair.value for response in responses for pair in response.pairs}

    async def batch_put(self, pairs: Mapping[bytes, bytes], *, ttl_s: int | Mapping[bytes, int] = 0) -> None:
        """Set many values, which live `ttl_s` seconds: all of them, or each its own (0 for keys that are not named).

        Not atomic: after a failure some may be set.
        """
        self._check_keys(pairs)

        def make(part: list[bytes]) -> Any:
            request = kvrpcpb_pb2.RawBatchPutRequest(cf=self._cf, for_cas=self._atomic)
            for key in part:
                request.pairs.add(key=key, value=pairs[key])
            if isinstance(ttl_s, Mapping):
                request.ttls.extend(ttl_s.get(key, 0) for key in part)
            elif ttl_s:
                request.ttls.append(ttl_s)
            return request

        for part in _chunks(pairs):
            await self._by_region("RawBatchPut", part, make, self.new_backoffer())

    async def batch_delete(self, keys: Iterable[bytes]) -> None:
        """Remove many keys; not atomic."""
        await self._by_region(
            "RawBatchDelete",
            keys,
            lambda part: kvrpcpb_pb2.RawBatchDeleteRequest(keys=part, cf=self._cf, for_cas=self._atomic),
            self.new_backoffer(),
        )

    async def delete_range(self, start: bytes, end: bytes) -> None:
        """Remove all keys of [start, end), region by region; `end` empty = to the key that is the last one now."""
        backoffer = self.new_backoffer()
        if not end:  # stores want an end, and no key is above all others
            last = await self.scan(start, b"", 1, reverse=True, key_only=True)
            if not last:
                return
            end = last[0][0] + b"\0"
        at: bytes | None = start
        while at is not None:
            region = await self.region_cache.locate_key(at, backoffer)
            upper = least_end(end, region.end)
            request = kvrpcpb_pb2.RawDeleteRangeRequest(start_key=at, end_key=upper, cf=self._cf)
            response = await self._in_region(region, "RawDeleteRange", request, backoffer)
            if response is None:
                continue
            check_response("RawDeleteRange", response)
            at = None if upper == end else upper

    async def batch_scan(
        self, ranges: Sequence[Bounds], each_limit: int, *, reverse: bool = False, key_only: bool = False
    ) -> list[list[Pair]]:
        """The pairs of each [start, end), at most `each_limit` per range, in the order of `ranges`.

        `end` empty = to the last key. Descending with `reverse`. Without their values with `key_only`.
        """
        scan = BatchScan(ranges, each_limit, reverse=reverse)
        backoffer = self.new_backoffer()
        while (part := await scan.next_part(self.region_cache, backoffer)) is not None:
            request = kvrpcpb_pb2.RawBatchScanRequest(
                ranges=part.bounds, each_limit=part.limit, key_only=key_only, reverse=reverse, cf=self._cf
            )
            response = await self._in_region(part.region, "RawBatchScan", request, backoffer)
            if response is None:
                continue
            check_response("RawBatchScan", response)
            backoffer = self.new_backoffer()
            scan.take(part, [(pair.key, pair.value) for pair in response.kvs])
        return scan.results

    async def checksum(self, start: bytes, end: bytes = b"") -> RawChecksum:
        """Of all pairs of [start, end) of the default family; `end` empty = to the last key.

        Each region shows a moment of its own, so it says something about data that nobody writes meanwhile.
        """
        total = RawChecksum(0, 0, 0)
        backoffer = self.new_backoffer()
        at: bytes | None = start
        while at is not None and (not end or at < end):
            region = await self.region_cache.locate_key(at, backoffer)
            upper = least_end(end, region.end)
            request = kvrpcpb_pb2.RawChecksumRequest(ranges=[kvrpcpb_pb2.KeyRange(start_key=at, end_key=upper)])
            response = await self._in_region(region, "RawChecksum", request, backoffer, CHECKSUM_TIMEOUT_S)
            if response is None:
                continue
            check_response("RawChecksum", response)
            backoffer = self.new_backoffer()
            total = total.plus(response)
            at = upper or None
        return total

    async def _in_region(
        self, region: Region, name: str, request: Any, backoffer: Backoffer, timeout_s: float = WRITE_TIMEOUT_S
    ) -> Any:
        """Send, or None when the region turned out stale (after a pause)."""
        stale = False

        async def attempt() -> Any:
            nonlocal stale
            if stale:
                return None
            stale = True
            return await self.sender.send(region, name, request, backoffer=backoffer, timeout_s=timeout_s)

        return await with_region_retries(backoffer, attempt)

    async def scan(
        self, start: bytes, end: bytes = b"", limit: int = 0, *, reverse: bool = False, key_only: bool = False
    ) -> list[Pair]:
        """The pairs of [start, end) in order (descending with `reverse`), at most `limit` (0 = all).

        Without their values with `key_only`. Each region shows a moment of its own.
        """
        return [pair async for pair in self.iterate(start, end, limit, reverse=reverse, key_only=key_only)]

    async def iterate(
        self, start: bytes, end: bytes = b"", limit: int = 0, *, reverse: bool = False, key_only: bool = False
    ) -> AsyncIterator[Pair]:
        """The same, as they come."""
        cursor, left = (end if reverse else start), limit or -1
        backoffer = self.new_backoffer()
        while left:
            if reverse:
                region = await self.region_cache.locate_end_key(cursor, backoffer)
                near, far = least_end(cursor, region.end), max(start, region.start)
            else:
                region = await self.region_cache.locate_key(cursor, backoffer)
                near, far = cursor, least_end(end, region.end)
            batch = SCAN_BATCH if left < 0 else min(SCAN_BATCH, left)
            request = kvrpcpb_pb2.RawScanRequest(
                start_key=near, end_key=far, limit=batch, reverse=reverse, key_only=key_only, cf=self._cf
            )
            response = await self._in_region(region, "RawScan", request, backoffer)
            if response is None:
                continue
            check_response("RawScan", response)
            backoffer = self.new_backoffer()
            for pair in response.kvs:
                yield pair.key, pair.value
            left -= len(response.kvs) if left > 0 else 0
            if len(response.kvs) == batch:
                last = response.kvs[-1].key
                cursor = last if reverse else last + b"\0"
            elif (reverse and far == start) or (not reverse and far == end):
                return
            else:
                cursor = far


def _chunks(pairs: Mapping[bytes, bytes]) -> Iterable[list[bytes]]:
    """Keys in order, cut so that a part's values stay below the limit."""
    part: list[bytes] = []
    size = 0
    for key in sorted(pairs):
        part.append(key)
        size += len(key) + len(pairs[key])
        if size >= MAX_BATCH_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
