"""What a commit leaves to do when its caller has the answer: commit the other keys, or take the locks back.

It runs in the client's background scope, which `TxnClient.close` lets drain. What fails is logged and left to the lock resolvers of
whoever meets the locks: the primary has said already what is to be done with them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from core_py.errors import DbError
from core_py.runtime.log import get_logger
from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.concurrency import run_all
from tikv_py.client.errors import from_key_error
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.sender import WRITE_TIMEOUT_S, with_region_retries
from tikv_py.client.txn.commit_plan import CommitState
from tikv_py.client.txn.context import CLEANUP_BUDGET_MS, ClientContext
from tikv_py.client.txn.mutations import Batch, Mutation, batches_of

log = get_logger()
_Action = Callable[[Batch, Backoffer], Coroutine[Any, Any, None]]


class Cleanup:
    """Background work of one commit."""

    def __init__(self, context: ClientContext, state: CommitState) -> None:
        self._context, self._state = context, state

    def commit(self, mutations: Sequence[Mutation], commit_ts: int) -> None:
        """Commit keys of a transaction that is committed."""
        self._context.lock_resolver.note_committed(self._state.plan.start_ts, commit_ts)
        if mutations:
            self._spawn(self._commit(mutations, commit_ts), "commit secondaries")

    def roll_back(self) -> None:
        """Take all keys back of a transaction that is not committed and never will be."""
        if self._state.writes:
            self._spawn(self._roll_back(), "roll back")

    def end(self) -> None:
        """Find out whether the transaction is committed, decide against it if nothing has decided, and clean up after it."""
        self._spawn(self.find_out(), "settle an abandoned commit")

    async def find_out(self) -> int:
        """As `end`, at once; returns the commit timestamp, 0 = rolled back for good. Raises DbError when it cannot be found out."""
        state, plan = self._state, self._state.plan
        backoffer = self._context.new_backoffer(CLEANUP_BUDGET_MS)
        fate = await self._context.lock_resolver.end(plan.primary, plan.start_ts, backoffer)
        if fate.commit_ts:
            self.commit(state.writes, fate.commit_ts)
        elif not fate.alive:
            self.roll_back()
        else:
            raise DbError(f"the primary of transaction {plan.start_ts} is alive although its time was ended")
        return fate.commit_ts

    # ---- work ----

    async def _commit(self, mutations: Sequence[Mutation], commit_ts: int) -> None:
        async def commit(batch: Batch, backoffer: Backoffer) -> None:
            await send_commit(self._context, self._state, batch, commit_ts, backoffer)

        await self._on_batches(mutations, commit)

    async def _roll_back(self) -> None:
        async def roll_back(batch: Batch, backoffer: Backoffer) -> None:
            request = kvrpcpb_pb2.BatchRollbackRequest(
                start_version=self._state.plan.start_ts, keys=[mutation.key for mutation in batch.mutations]
            )
            response = await self._context.sender.send(batch.region, "KvBatchRollback", request, backoffer=backoffer)
            if response.HasField("error"):
                raise from_key_error(response.error)

        await self._on_batches(self._state.writes, roll_back)

    async def _on_batches(self, mutations: Sequence[Mutation], action: _Action) -> None:
        backoffer = self._context.new_backoffer(CLEANUP_BUDGET_MS)

        async def attempt() -> None:
            cache, primary = self._context.region_cache, self._state.plan.primary
            batches = await batches_of(mutations, primary, cache, backoffer, keys_only=True)
            await run_all([partial(action, batch, backoffer.fork()) for batch in batches])

        await with_region_retries(backoffer, attempt)

    def _spawn(self, work: Coroutine[Any, Any, object], what: str) -> None:
        async def run() -> None:
            try:
                await work
            except DbError as error:
                log.warning(
                    "background work of a transaction failed",
                    what=what,
                    start_ts=self._state.plan.start_ts,
                    error=str(error),
                )

        self._context.scope.spawn(run(), name=what)


async def send_commit(
    context: ClientContext, state: CommitState, batch: Batch, commit_ts: int, backoffer: Backoffer
) -> None:
    """Commit the keys of one batch. Raises TxnClientError (nothing of it is committed then), RegionStale and others."""
    plan = state.plan
    is_primary = batch.mutations[0].key == plan.primary
    request = kvrpcpb_pb2.CommitRequest(
        start_version=plan.start_ts,
        keys=[mutation.key for mutation in batch.mutations],
        commit_version=commit_ts,
        primary_key=plan.primary,
        commit_role=kvrpcpb_pb2.Primary if is_primary else kvrpcpb_pb2.Secondary,
        use_async_commit=state.use_async,
    )
    response = await context.sender.send(
        batch.region, "KvCommit", request, backoffer=backoffer, timeout_s=WRITE_TIMEOUT_S
    )
    if response.HasField("error"):
        raise from_key_error(response.error)
