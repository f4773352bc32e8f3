"""Two-phase commit (Percolator): prewrite all keys, commit the primary, then the secondaries in the background.

The transaction is committed exactly when the primary's commit record is. Before that a failure rolls everything back (in the
background); after it nothing is undone. When the primary's commit was sent and no definite answer came, the outcome is
unknown and said to be so (`UndeterminedError`), never guessed.

A `before_commit` check of the caller runs between the two phases: after every lock is in place and the commit timestamp is
taken, and again with every other commit timestamp. What it raises rolls the transaction back. Its purpose: whoever changes what
the check looks at, and reads at a later timestamp, meets either the refusal or this transaction's locks or writes.

Invariants: the commit timestamp is taken after the last prewrite was answered; no key is committed before the primary; once a
primary commit may have been carried out no rollback is sent. 1PC and async commit are asked for only by flag; a store that
declines (answers 0) is followed with two phases.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from core_py.errors import DbError, RpcError
from core_py.region_errors import RegionError, UndeterminedResult
from core_py.runtime.log import get_logger
from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.concurrency import run_all
from tikv_py.client.errors import (
    BudgetExhausted,
    CommitTsExpired,
    KeyLocked,
    RegionStale,
    TxnAborted,
    TxnClientError,
    UndeterminedError,
    from_key_error,
    lock_of,
)
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.regions import Region
from tikv_py.client.region.sender import WRITE_TIMEOUT_S, with_region_retries
from tikv_py.client.txn.context import CLEANUP_BUDGET_MS, COMMIT_BUDGET_MS, PREWRITE_BUDGET_MS, ClientContext
from tikv_py.client.txn.heartbeat import HeartBeat
from tikv_py.client.txn.mutations import Batch, Mutation, cut, lock_ttl_ms

MAX_ASYNC_KEYS = 256
MAX_ASYNC_BYTES = 4096

log = get_logger()
_Action = Callable[[Batch, Backoffer], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """What to commit, decided by the transaction. `begun_at` is the clock's reading when it got its start_ts."""

    start_ts: int
    primary: bytes
    mutations: Sequence[Mutation]
    begun_at: float
    pessimistic: bool = False
    for_update_ts: int = 0
    try_one_pc: bool = False
    use_async_commit: bool = False
    before_commit: Callable[[], Awaitable[None]] | None = (
        None  # excludes 1PC and async commit, which have no second phase
    )


class TwoPhaseCommitter:
    """Commits one plan, once."""

    def __init__(self, context: ClientContext, plan: CommitPlan, heart_beat: HeartBeat) -> None:
        self._context, self._plan, self._heart_beat = context, plan, heart_beat
        self._writes = [mutation for mutation in plan.mutations if not mutation.is_only_check]
        self._size = sum(mutation.size for mutation in plan.mutations)
        self._async = plan.use_async_commit and plan.before_commit is None and self._is_small()
        self._one_pc = plan.try_one_pc and plan.before_commit is None
        self._min_commit_ts = 0
        self._one_pc_ts = 0
        self._floor_ts = 0
        self.prewrite_batches = 0

    def _is_small(self) -> bool:
        keys = self._writes
        return len(keys) <= MAX_ASYNC_KEYS and sum(len(m.key) for m in keys) <= MAX_ASYNC_BYTES

    async def execute(self) -> int:
        """Commit; returns the commit timestamp (0 when there were only checks). Raises TxnClientError, DbError."""
        decided_by_prewrite = self._async or self._one_pc
        committing = False
        try:
            await self._prewrite_all()
            if self._one_pc_ts:
                return self._one_pc_ts
            if not self._writes:
                return 0
            committing = True
            if self._async and self._min_commit_ts:
                commit_ts = self._min_commit_ts  # every key is prewritten: the transaction is committed from here on
                self._spawn_commit(self._writes, commit_ts)
            else:
                commit_ts = await self._commit_primary()
            return commit_ts
        except UndeterminedError:
            raise
        except BaseException as error:
            sure = isinstance(error, DbError)  # and not cancelled with a request on its way that may decide
            if sure or not (committing or decided_by_prewrite):
                self._spawn_rollback()
            raise
        finally:
            self._heart_beat.stop()

    # ---- first phase ----

    async def _prewrite_all(self) -> None:
        context = self._context
        backoffer = context.new_backoffer(PREWRITE_BUDGET_MS)
        batches = await self._batches(self._plan.mutations, backoffer, keys_only=False)
        one_pc = self._one_pc and len(batches) == 1
        if self._async or one_pc:  # whoever reads after this commit with a newer timestamp must see it
            self._floor_ts = await context.pd.timestamp()
        if len(batches) > 1 or self._plan.pessimistic:
            self._heart_beat.start(self._ttl_ms())
        await run_all([partial(self._prewrite, batch, backoffer.fork(), one_pc) for batch in batches])

    async def _batches(self, mutations: Sequence[Mutation], backoffer: Backoffer, *, keys_only: bool) -> list[Batch]:
        by_key = {mutation.key: mutation for mutation in mutations}
        groups: list[tuple[Region, list[Mutation]]] = [
            (region, [by_key[key] for key in keys])
            for region, keys in await self._context.region_cache.group_keys_by_region(list(by_key), backoffer)
        ]
        return cut(groups, self._plan.primary, keys_only=keys_only)

    def _ttl_ms(self) -> int:
        """From start_ts on, as stores count it: the time already gone plus what the commit may take."""
        gone = int((self._context.clock.monotonic() - self._plan.begun_at) * 1000)
        return gone + lock_ttl_ms(self._size)

    def _prewrite_request(self, batch: Batch, one_pc: bool) -> kvrpcpb_pb2.PrewriteRequest:
        plan = self._plan
        request = kvrpcpb_pb2.PrewriteRequest(
            primary_lock=plan.primary,
            start_version=plan.start_ts,
            lock_ttl=self._ttl_ms(),
            txn_size=batch.region_keys,
            for_update_ts=plan.for_update_ts,
            min_commit_ts=max(plan.start_ts, plan.for_update_ts, self._floor_ts) + 1,
            try_one_pc=one_pc,
        )
        for mutation in batch.mutations:
            request.mutations.add(op=mutation.op, key=mutation.key, value=mutation.value)
        if plan.pessimistic:
            check = kvrpcpb_pb2.PrewriteRequest.DO_PESSIMISTIC_CHECK
            skip = kvrpcpb_pb2.PrewriteRequest.SKIP_PESSIMISTIC_CHECK
            request.pessimistic_actions.extend(check if mutation.locked else skip for mutation in batch.mutations)
        if self._async:
            request.use_async_commit = True
            if batch.mutations[0].key == plan.primary:
                request.secondaries.extend(m.key for m in self._writes if m.key != plan.primary)
        return request

    async def _prewrite(self, batch: Batch, backoffer: Backoffer, one_pc: bool) -> None:
        try:
            await self._prewrite_batch(batch, backoffer, one_pc)
        except (BudgetExhausted, RegionError) as error:
            if (self._async or one_pc) and backoffer.rpc_error is not None:
                raise UndeterminedError(
                    f"the outcome of transaction {self._plan.start_ts} is unknown: {error}"
                ) from error
            raise

    async def _prewrite_batch(self, batch: Batch, backoffer: Backoffer, one_pc: bool) -> None:
        self.prewrite_batches += 1
        request = self._prewrite_request(batch, one_pc)
        while True:
            try:
                response = await self._context.sender.send(
                    batch.region, "KvPrewrite", request, backoffer=backoffer, timeout_s=WRITE_TIMEOUT_S
                )
            except (RegionStale, UndeterminedResult) as error:  # repeating a prewrite is harmless
                if isinstance(error, UndeterminedResult):
                    backoffer.rpc_error = RpcError(str(error))
                await backoffer.backoff(kinds.REGION_MISS, error)
                parts = await self._batches(batch.mutations, backoffer, keys_only=False)
                still_one = one_pc and len(parts) == 1
                await run_all([partial(self._prewrite, part, backoffer.fork(), still_one) for part in parts])
                return
            if not response.errors:
                self._note_prewritten(response, one_pc)
                return
            await self._settle_prewrite(list(response.errors), backoffer)

    def _note_prewritten(self, response: Any, one_pc: bool) -> None:
        if one_pc:
            self._one_pc_ts = response.one_pc_commit_ts
        if self._async:
            if response.min_commit_ts:
                self._min_commit_ts = max(self._min_commit_ts, response.min_commit_ts)
            else:
                self._async, self._min_commit_ts = False, 0  # the store declines

    async def _settle_prewrite(self, errors: Sequence[kvrpcpb_pb2.KeyError], backoffer: Backoffer) -> None:
        locks = [lock_of(error) for error in errors]
        wait_ms = await self._context.lock_resolver.resolve(locks, 0, backoffer)
        if wait_ms:
            await backoffer.backoff(
                kinds.TXN_LOCK,
                f"prewrite of transaction {self._plan.start_ts}: key {locks[0].key.hex()} is locked by live transaction"
                f" {locks[0].lock_version}",
                at_most_ms=wait_ms,
            )

    # ---- second phase ----

    async def _commit_primary(self) -> int:
        """Commit the batch with the primary; a single raft entry, so all of it or nothing."""
        backoffer = self._context.new_backoffer(COMMIT_BUDGET_MS)
        commit_ts = await self._take_commit_ts()
        done: set[bytes] = set()
        while True:
            try:
                batches = await self._batches(self._writes, backoffer, keys_only=True)
                primary_batch = batches[0]
                await self._commit(primary_batch.region, primary_batch.mutations, commit_ts, backoffer)
                done.update(mutation.key for mutation in primary_batch.mutations)
                break
            except CommitTsExpired as error:
                await backoffer.backoff(kinds.REGION_MISS, error)
                commit_ts = await self._take_commit_ts()
            except TxnClientError:
                raise  # a definite no: nothing was committed
            except RegionStale as error:
                await self._commit_pause(backoffer, error)
            except UndeterminedResult as error:
                backoffer.rpc_error = backoffer.rpc_error or RpcError(str(error))
                await self._commit_pause(backoffer, error)
            except DbError as error:
                self._raise_failed_commit(backoffer, error)
        rest = [mutation for mutation in self._writes if mutation.key not in done]
        if rest:
            self._spawn_commit(rest, commit_ts)
        return commit_ts

    async def _take_commit_ts(self) -> int:
        commit_ts = await self._context.pd.timestamp()
        if self._plan.before_commit is not None:
            await self._plan.before_commit()
        return commit_ts

    async def _commit_pause(self, backoffer: Backoffer, cause: DbError) -> None:
        try:
            await backoffer.backoff(kinds.REGION_MISS, cause)
        except DbError as error:
            self._raise_failed_commit(backoffer, error)

    def _raise_failed_commit(self, backoffer: Backoffer, error: DbError) -> None:
        """A commit that gave up: unknown when any attempt may have been carried out."""
        if backoffer.rpc_error is not None:
            raise UndeterminedError(
                f"the outcome of the commit of transaction {self._plan.start_ts} is unknown: {error}"
            ) from error
        raise error

    async def _commit(
        self, region: Region, mutations: Sequence[Mutation], commit_ts: int, backoffer: Backoffer
    ) -> None:
        plan = self._plan
        is_primary = mutations[0].key == plan.primary
        request = kvrpcpb_pb2.CommitRequest(
            start_version=plan.start_ts,
            keys=[mutation.key for mutation in mutations],
            commit_version=commit_ts,
            primary_key=plan.primary,
            commit_role=kvrpcpb_pb2.Primary if is_primary else kvrpcpb_pb2.Secondary,
            use_async_commit=self._async,
        )
        response = await self._context.sender.send(
            region, "KvCommit", request, backoffer=backoffer, timeout_s=WRITE_TIMEOUT_S
        )
        if response.HasField("error"):
            failure = from_key_error(response.error)
            if isinstance(failure, KeyLocked):
                failure = TxnAborted(f"the store answered a commit with a lock: {failure}")
            raise failure

    # ---- background ----

    def _spawn_commit(self, mutations: Sequence[Mutation], commit_ts: int) -> None:
        async def commit(batch: Batch, backoffer: Backoffer) -> None:
            await self._commit(batch.region, batch.mutations, commit_ts, backoffer)

        self._spawn(mutations, commit, "commit secondaries")

    def _spawn_rollback(self) -> None:
        async def roll_back(batch: Batch, backoffer: Backoffer) -> None:
            request = kvrpcpb_pb2.BatchRollbackRequest(
                start_version=self._plan.start_ts, keys=[mutation.key for mutation in batch.mutations]
            )
            response = await self._context.sender.send(batch.region, "KvBatchRollback", request, backoffer=backoffer)
            if response.HasField("error"):
                raise from_key_error(response.error)

        self._spawn(self._writes, roll_back, "roll back")

    def _spawn(self, mutations: Sequence[Mutation], action: _Action, what: str) -> None:
        """Run an action on all mutations in the background. What fails is left to the lock resolvers of readers."""

        async def attempt(backoffer: Backoffer) -> None:
            batches = await self._batches(mutations, backoffer, keys_only=True)
            await run_all([partial(action, batch, backoffer.fork()) for batch in batches])

        async def run() -> None:
            backoffer = self._context.new_backoffer(CLEANUP_BUDGET_MS)
            try:
                await with_region_retries(backoffer, partial(attempt, backoffer))
            except DbError as error:
                log.warning(
                    "background work of a transaction failed", what=what, start_ts=self._plan.start_ts, error=error
                )

        if mutations:
            self._context.scope.spawn(run(), name=what)
