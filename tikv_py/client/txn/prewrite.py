"""The first phase of a commit: lock all keys, or (1PC) commit them at once.

Batches of a region are sent side by side, the primary's first in line. Foreign locks in the way are settled or waited for. A
region that splits meanwhile has its keys sorted again; 1PC is given up as soon as one request is not enough.

Invariants: repeating a prewrite is harmless; a request whose fate is unknown and that may commit the transaction ends in
`OutcomeUnknown`, never in a plain failure; with 1PC or async commit the commit timestamp is above `floor_ts`, so that everybody
who gets a timestamp after the commit sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from core_py.errors import DbError, RpcError
from core_py.region_errors import RegionError, UndeterminedResult
from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.concurrency import run_all
from tikv_py.client.errors import BudgetExhausted, RegionStale, TxnClientError, WriteConflictError, lock_of
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.sender import WRITE_TIMEOUT_S
from tikv_py.client.txn.commit_plan import CommitState
from tikv_py.client.txn.context import PREWRITE_BUDGET_MS, ClientContext
from tikv_py.client.txn.heartbeat import HeartBeat
from tikv_py.client.txn.mutations import Batch, Mutation, batches_of

_CHECK = kvrpcpb_pb2.PrewriteRequest.DO_PESSIMISTIC_CHECK
_CONSTRAINT = kvrpcpb_pb2.PrewriteRequest.DO_CONSTRAINT_CHECK
_SKIP = kvrpcpb_pb2.PrewriteRequest.SKIP_PESSIMISTIC_CHECK


class OutcomeUnknown(Exception):
    """Requests that may have committed the transaction got no answer; `cause` is why. Settled by the committer."""

    def __init__(self, cause: DbError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Prewriter:
    """Runs the first phase of one commit."""

    def __init__(self, context: ClientContext, state: CommitState, heart_beat: HeartBeat) -> None:
        self._context, self._state, self._heart_beat = context, state, heart_beat

    async def run(self) -> None:
        """Prewrite everything; `state` says afterwards what came of it. Raises TxnClientError, OutcomeUnknown and others."""
        state, plan = self._state, self._state.plan
        backoffer = self._context.new_backoffer(PREWRITE_BUDGET_MS)
        batches = await self._batches(plan.mutations, backoffer)
        if len(batches) > 1:
            state.one_pc = False
        if state.prewrite_decides:
            await self._prepare_decision()
        if len(batches) > 1 or plan.pessimistic:
            self._heart_beat.start(state.ttl_ms(self._context.clock.monotonic()))
        await run_all([partial(self._prewrite, batch, backoffer.fork()) for batch in batches])

    async def _prepare_decision(self) -> None:
        """What a second phase would do is done before the first: take a timestamp, and ask the caller's check."""
        state, plan = self._state, self._state.plan
        if not plan.causal_only or plan.max_commit_ts:
            state.floor_ts = await self._context.pd.timestamp()
        if plan.max_commit_ts and state.floor_ts >= plan.max_commit_ts:
            state.to_two_phases()
        elif plan.before_commit is not None:
            await plan.before_commit()

    async def _batches(self, mutations: Sequence[Mutation], backoffer: Backoffer) -> list[Batch]:
        plan = self._state.plan
        return await batches_of(mutations, plan.primary, self._context.region_cache, backoffer, keys_only=False)

    # ---- one batch ----

    def _request(self, batch: Batch) -> kvrpcpb_pb2.PrewriteRequest:
        state, plan = self._state, self._state.plan
        request = kvrpcpb_pb2.PrewriteRequest(
            primary_lock=plan.primary,
            start_version=plan.start_ts,
            lock_ttl=state.ttl_ms(self._context.clock.monotonic()),
            txn_size=batch.region_keys,
            for_update_ts=plan.for_update_ts,
            min_commit_ts=max(plan.start_ts, plan.for_update_ts, state.floor_ts) + 1,
            max_commit_ts=plan.max_commit_ts if state.prewrite_decides else 0,
            try_one_pc=state.one_pc,
        )
        asserted = False
        for at, mutation in enumerate(batch.mutations):
            request.mutations.add(
                op=mutation.op,
                key=mutation.key,
                value=mutation.value,
                assertion=mutation.assertion,
            )
            asserted = asserted or mutation.assertion != 0
            if mutation.forced_ts:
                request.for_update_ts_constraints.add(index=at, expected_for_update_ts=mutation.forced_ts)
        if asserted:
            request.assertion_level = kvrpcpb_pb2.Fast
        if plan.pessimistic:
            unlocked = _SKIP if plan.trust_unlocked else _CONSTRAINT
            request.pessimistic_actions.extend(_CHECK if m.locked else unlocked for m in batch.mutations)
        if state.use_async and not state.one_pc:
            request.use_async_commit = True
            if batch.mutations[0].key == plan.primary:
                request.secondaries.extend(m.key for m in state.writes if m.key != plan.primary)
        return request

    async def _prewrite(self, batch: Batch, backoffer: Backoffer) -> None:
        decides = self._state.prewrite_decides
        try:
            await self._prewrite_batch(batch, backoffer)
        except (TxnClientError, BudgetExhausted, RegionError) as error:
            # After an attempt without an answer a refusal may be the echo of that attempt, which committed the transaction.
            if decides and (backoffer.rpc_error is not None or self._meets_itself(error)):
                raise OutcomeUnknown(error) from error
            raise

    def _meets_itself(self, error: DbError) -> bool:
        """Whether a conflict is with the transaction's own commit or rollback, by whoever settled it."""
        return isinstance(error, WriteConflictError) and error.conflict_start_ts == self._state.plan.start_ts

    async def _prewrite_batch(self, batch: Batch, backoffer: Backoffer) -> None:
        while True:
            request = self._request(batch)
            try:
                response = await self._context.sender.send(
                    batch.region, "KvPrewrite", request, backoffer=backoffer, timeout_s=WRITE_TIMEOUT_S
                )
            except (RegionStale, UndeterminedResult) as error:
                if isinstance(error, UndeterminedResult):
                    backoffer.rpc_error = RpcError(str(error))
                await backoffer.backoff(kinds.REGION_MISS, error)
                await self._prewrite_again(batch, request.try_one_pc, error, backoffer)
                return
            if not response.errors:
                self._note_prewritten(response, request)
                return
            await self._settle(list(response.errors), backoffer)

    async def _prewrite_again(self, batch: Batch, was_one_pc: bool, cause: DbError, backoffer: Backoffer) -> None:
        """The region is another one now."""
        parts = await self._batches(batch.mutations, backoffer)
        if was_one_pc and len(parts) > 1:
            if backoffer.rpc_error is not None:  # the lost request may have committed everything at once
                raise OutcomeUnknown(cause)
            self._state.one_pc = False
        await run_all([partial(self._prewrite, part, backoffer.fork()) for part in parts])

    def _note_prewritten(self, response: kvrpcpb_pb2.PrewriteResponse, request: kvrpcpb_pb2.PrewriteRequest) -> None:
        state = self._state
        if request.try_one_pc:
            state.one_pc_ts = response.one_pc_commit_ts
            if not state.one_pc_ts:
                state.to_two_phases()
        elif state.use_async and request.use_async_commit:
            if response.min_commit_ts:
                state.min_commit_ts = max(state.min_commit_ts, response.min_commit_ts)
            elif any(mutation.op != kvrpcpb_pb2.CheckNotExists for mutation in request.mutations):
                state.to_two_phases()

    async def _settle(self, errors: Sequence[kvrpcpb_pb2.KeyError], backoffer: Backoffer) -> None:
        """Settle foreign locks, or wait for their owners. Raises any other refusal."""
        locks = [lock_of(error) for error in errors]
        if not self._state.plan.pessimistic:
            self._give_way(locks)
        wait_ms = await self._context.lock_resolver.resolve(locks, 0, backoffer)
        if wait_ms:
            await backoffer.backoff(
                kinds.TXN_LOCK,
                f"prewrite of transaction {self._state.plan.start_ts}: key {locks[0].key.hex()} is locked by live transaction"
                f" {locks[0].lock_version}",
                at_most_ms=wait_ms,
            )

    def _give_way(self, locks: Sequence[kvrpcpb_pb2.LockInfo]) -> None:
        """Raises WriteConflictError for a lock of a newer transaction.

        This one cannot commit any more, and waiting may close a circle: two transactions wait for each other's keys, until a lock
        expires. The store has looked whether this transaction is committed already, so the refusal is certain.
        """
        start_ts = self._state.plan.start_ts
        for lock in locks:
            if lock.lock_version > start_ts:
                conflict = kvrpcpb_pb2.WriteConflict(
                    start_ts=start_ts,
                    conflict_ts=lock.lock_version,
                    key=lock.key,
                    primary=lock.primary_lock,
                    reason=kvrpcpb_pb2.WriteConflict.Optimistic,
                )
                raise WriteConflictError(conflict)
