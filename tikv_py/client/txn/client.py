"""The transactional client: one object per process, shared by all transactions.

    client = await TxnClient.connect(["127.0.0.1:2379"], transport=GrpcTransport(), clock=SystemClock())
    async with client.begin() as txn:
        txn.put(b"k", b"v")
    await client.close()

Keys are user keys everywhere; they are encoded only to find their region.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from core_py.codec import ts as tso
from core_py.errors import DbError, RetryClass
from core_py.ports import Clock, Random, Transport
from core_py.runtime.tasks import TaskScope
from protos.kvproto import coprocessor_pb2, kvrpcpb_pb2, metapb_pb2
from tikv_py.client.errors import GcTooEarly, RawError, from_key_error
from tikv_py.client.pd.client import PdClient
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.cache import RegionCache
from tikv_py.client.region.regions import TXN_KEYS, Region, least_end
from tikv_py.client.region.sender import READ_TIMEOUT_S, RegionRequestSender, with_region_retries
from tikv_py.client.region.store import StoreCache
from tikv_py.client.txn.context import ClientContext
from tikv_py.client.txn.gc import GarbageCollector
from tikv_py.client.txn.latches import LocalLatches
from tikv_py.client.txn.lock_resolver import LockResolver
from tikv_py.client.txn.safe_point import TxnSafePoint
from tikv_py.client.txn.snapshot import Snapshot, within
from tikv_py.client.txn.transaction import Transaction, TxnOptions

T = TypeVar("T")
CLOSE_GRACE_S = 5.0  # secondaries still being committed at `close` get so long; readers resolve the rest
SPLIT_BUDGET_MS = 20_000
DEFAULTS = TxnOptions()
GC_BUDGET_MS = 100_000


class Beginning:
    """A transaction about to start: await it, or enter it."""

    __slots__ = ("_start", "_txn")

    def __init__(self, start: Coroutine[Any, Any, Transaction]) -> None:
        self._start = start

    def __await__(self) -> Generator[Any, None, Transaction]:
        return self._start.__await__()

    async def __aenter__(self) -> Transaction:
        self._txn = await self._start
        return self._txn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._txn.__aexit__(kind, error, trace)


class TxnClient:
    """See the module's text."""

    def __init__(
        self,
        pd: PdClient,
        transport: Transport,
        clock: Clock,
        random: Random,
        *,
        streams_per_store: int = 1,
        defaults: TxnOptions = DEFAULTS,
        local_latches: int = 0,
    ) -> None:
        """`defaults` is how transactions begin; `local_latches` (0 = none) is the number of slots of `LocalLatches`."""
        self.pd, self._clock, self._random, self.defaults = pd, clock, random, defaults
        self._scope = TaskScope("txn client")  # connections and region loads
        self._background = TaskScope("txn client background")  # secondaries, rollbacks
        self._heart_beats = TaskScope("txn client heart beats")
        self.region_cache = RegionCache(pd, self._scope, TXN_KEYS)
        self.stores = StoreCache(pd, transport, clock, self._scope, streams_per_store=streams_per_store)
        self.sender = RegionRequestSender(self.region_cache, self.stores, random, pd.cluster_id)
        self.lock_resolver = LockResolver(pd, self.region_cache, self.sender, clock, self._background)
        self._safe_point = TxnSafePoint(pd, clock, self._scope)
        self._context = ClientContext(
            pd,
            self.region_cache,
            self.sender,
            self.lock_resolver,
            self._background,
            self._heart_beats,
            clock,
            random,
            self._safe_point,
            LocalLatches(local_latches) if local_latches else None,
        )

    @classmethod
    async def connect(
        cls,
        pd_endpoints: Sequence[str],
        *,
        transport: Transport,
        clock: Clock,
        random: Random | None = None,
        streams_per_store: int = 1,
        defaults: TxnOptions = DEFAULTS,
        local_latches: int = 0,
    ) -> TxnClient:
        """Find PD and make a client. Raises PdUnavailable."""
        pd = await PdClient.open(transport, pd_endpoints, clock)
        chosen = random or random_module.Random(pd.cluster_id)
        return cls(
            pd,
            transport,
            clock,
            chosen,
            streams_per_store=streams_per_store,
            defaults=defaults,
            local_latches=local_latches,
        )

    async def __aenter__(self) -> TxnClient:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let background commits finish, then close all connections."""
        await self._heart_beats.close()
        await self.drain(CLOSE_GRACE_S)
        await self._background.close()
        await self._scope.close()
        await self.stores.close()
        await self.pd.close()

    async def drain(self, timeout_s: float) -> None:
        """Wait until background commits and rollbacks are done, at most so long."""
        deadline = self._clock.monotonic() + timeout_s
        pause = 0.001
        while len(self._background) and self._clock.monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.05)

    # ---- transactions ----

    async def timestamp(self) -> int:
        """A new timestamp."""
        return await self.pd.timestamp()

    def begin(
        self,
        *,
        pessimistic: bool | None = None,
        start_ts: int | None = None,
        try_one_pc: bool | None = None,
        use_async_commit: bool | None = None,
        causal_only: bool | None = None,
        trust_unlocked: bool | None = None,
    ) -> Beginning:
        """Start a transaction now, or at a given timestamp: `txn = await begin()` or `async with begin() as txn`.

        For the options see `TxnOptions`; None = as the client's `defaults` say.
        """
        chosen = {
            "pessimistic": pessimistic,
            "try_one_pc": try_one_pc,
            "use_async_commit": use_async_commit,
            "causal_only": causal_only,
            "trust_unlocked": trust_unlocked,
        }
        given = {name: value for name, value in chosen.items() if value is not None}
        return Beginning(self._begin(start_ts, replace(self.defaults, **given) if given else self.defaults))

    async def _begin(self, start_ts: int | None, options: TxnOptions) -> Transaction:
        begun_at = self._clock.monotonic()
        if start_ts is None:
            start_ts = await self.pd.timestamp()
        else:
            age_ms = self._clock.wall_ms() - tso.physical_ms(start_ts)
            begun_at -= max(0, age_ms) / 1000
        return Transaction(self._context, start_ts, options, begun_at)

    def snapshot(self, ts: int, *, replica_read: bool = False, stale_read: bool = False) -> Snapshot:
        """Reads at a timestamp; `core_py.codec.ts.TS_MAX` = the newest value, for single keys. For the options see `Snapshot`."""
        return Snapshot(self._context, ts, replica_read=replica_read, stale_read=stale_read)

    async def run_in_transaction(
        self,
        work: Callable[[Transaction], Awaitable[T]],
        *,
        retries: int = 10,
        pessimistic: bool | None = None,
        timeout_s: float | None = None,
    ) -> T:
        """Run `work` in a transaction and commit; again from the start after conflicts, at most `retries` times.

        `work` must be repeatable. What is repeated: failures of the class RESTART_TXN (WriteConflictError, DeadlockError,
        TxnAborted, TxnRetryable), after a pause that grows and varies. Anything else is raised, an undetermined commit too.
        `timeout_s` bounds the whole (OperationTimeout).
        """
        begin = partial(self.begin, pessimistic=pessimistic)
        return await within(timeout_s, "transaction", partial(self._run_in_transaction, work, retries, begin))

    async def write(
        self,
        puts: Mapping[bytes, bytes],
        deletes: Iterable[bytes] = (),
        *,
        retries: int = 10,
        timeout_s: float | None = None,
    ) -> int:
        """Set and remove keys in one transaction that reads nothing; returns its commit timestamp.

        Repeated as `run_in_transaction` does. It begins and commits within this call, so the timestamp it begins with is as good as
        the one that other commits take (`TxnOptions.causal_only`), and is the only one it needs where one phase is enough.
        """
        gone = list(deletes)

        async def work(txn: Transaction) -> Transaction:
            for key, value in puts.items():
                txn.put(key, value)
            for key in gone:
                txn.delete(key)
            return txn

        begin = partial(self.begin, pessimistic=False, causal_only=True)
        txn = await within(timeout_s, "write", partial(self._run_in_transaction, work, retries, begin))
        return txn.commit_ts

    async def _run_in_transaction(
        self, work: Callable[[Transaction], Awaitable[T]], retries: int, begin: Callable[[], Beginning]
    ) -> T:
        backoffer = self.restarts(retries)
        while True:
            txn = await begin()
            try:
                async with txn:
                    return await work(txn)
            except DbError as error:
                if error.retry is not RetryClass.RESTART_TXN or not retries:
                    raise
                retries -= 1
                await backoffer.backoff(kinds.TXN_RESTART, error)

    def restarts(self, retries: int) -> Backoffer:
        """The pauses between so many runs of a transaction; it is their number that ends them."""
        return self.new_backoffer(retries * kinds.TXN_RESTART.cap_ms)

    # ---- for the SQL front ----

    def new_backoffer(self, budget_ms: int) -> Backoffer:
        """A budget for one operation."""
        return Backoffer(budget_ms, self._random)

    async def send_coprocessor(
        self,
        region: Region,
        request: coprocessor_pb2.Request,
        backoffer: Backoffer,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> coprocessor_pb2.Response:
        """Run a plan on one region; `locked` and `other_error` are the caller's.

        Raises RegionStale (split the ranges again), GcTooEarly.
        """
        self._safe_point.check(request.start_ts)
        response: coprocessor_pb2.Response = await self.sender.send(
            region, "Coprocessor", request, backoffer=backoffer, timeout_s=timeout_s
        )
        if GcTooEarly.TEXT in response.other_error:
            raise GcTooEarly(response.other_error)
        return response

    async def gc(self, safe_point: int) -> int:
        """Have the stores drop versions that only reads before `safe_point`, a timestamp, need; returns how far PD lets them.

        Ends all transactions that began before it. Raises SafePointInFuture, LocksRemain, PdError for one behind the safe point in
        force, BudgetExhausted classes.
        """
        backoffer = self.new_backoffer(GC_BUDGET_MS)
        collector = GarbageCollector(self.pd, self.region_cache, self.sender, self.lock_resolver, backoffer)
        reached = await collector.run(safe_point)
        self._safe_point.note(reached)
        return reached

    async def split_region(self, keys: Sequence[bytes]) -> list[metapb_pb2.Region]:
        """Split regions at user keys; returns the regions that came of it."""
        backoffer = self.new_backoffer(SPLIT_BUDGET_MS)
        left, made = sorted(set(keys)), []
        while left:
            done, regions = await with_region_retries(backoffer, partial(self._split_first, left, backoffer))
            made += regions
            left = left[done:]
        return made

    async def _split_first(self, keys: list[bytes], backoffer: Backoffer) -> tuple[int, list[metapb_pb2.Region]]:
        """Split the region of the first keys; returns how many keys that settles."""
        region, part = (await self.region_cache.group_keys_by_region(keys, backoffer))[0]
        inside = [key for key in part if key != region.start]
        if not inside:
            return len(part), []
        request = kvrpcpb_pb2.SplitRegionRequest(split_keys=inside)
        response = await self.sender.send(region, "SplitRegion", request, backoffer=backoffer)
        for error in response.errors:
            raise from_key_error(error)
        self.region_cache.invalidate(region)
        for meta in response.regions:
            self.region_cache.insert(meta)
        return len(part), list(response.regions)

    async def delete_range(self, start: bytes, end: bytes) -> None:
        """Remove all versions of all keys of [start, end) at once, outside transactions: for dropped tables."""
        backoffer = self.new_backoffer(SPLIT_BUDGET_MS)
        cursor: bytes | None = start
        while cursor is not None:
            upper = await with_region_retries(backoffer, partial(self._delete_some, cursor, end, backoffer))
            cursor = None if upper == end or not upper else upper

    async def _delete_some(self, low: bytes, end: bytes, backoffer: Backoffer) -> bytes:
        region = await self.region_cache.locate_key(low, backoffer)
        upper = least_end(end, region.end)
        request = kvrpcpb_pb2.DeleteRangeRequest(start_key=low, end_key=upper)
        response = await self.sender.send(region, "KvDeleteRange", request, backoffer=backoffer)
        if response.error:
            raise RawError(f"KvDeleteRange: {response.error}")
        return upper
