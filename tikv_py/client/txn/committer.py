"""Committing a transaction (Percolator): the first phase, the decision, and what its caller is told.

With two phases the transaction is committed exactly when the primary's commit record is there; with async commit when all keys are
prewritten; with 1PC when the one request is carried out. Before that a failure takes everything back, after it nothing is undone.

A request that may have decided and got no answer: the primary is asked, and a transaction that is not committed is ended there,
so that the late request cannot decide any more. So the caller hears "committed" or "rolled back" (TxnAborted). Only when the
primary cannot be asked either, the outcome is said to be unknown (`UndeterminedError`), never guessed.

A cancelled commit is settled in the background: taken back if nothing can have decided it, else found out as above.

A `before_commit` check of the caller runs between the two phases: after every lock is in place and the commit timestamp is
taken, and again with every other commit timestamp. What it raises rolls the transaction back. Its purpose: whoever changes what
the check looks at, and reads at a later timestamp, meets either the refusal or this transaction's locks or writes. It excludes
1PC and async commit, which have no moment for it, unless `max_commit_ts` says up to which timestamp the check's verdict
holds; then it runs before the first phase, and again if two phases are needed after all.

Invariants: the commit timestamp of two phases is taken after the last prewrite was answered; no key is committed before the
primary; once a commit may have been carried out no rollback is sent unless the primary has said that it was not.
"""

from __future__ import annotations

from core_py.errors import DbError, RpcError
from core_py.region_errors import UndeterminedResult
from tikv_py.client.errors import (
    CommitTsExpired,
    KeyLocked,
    RegionStale,
    TxnAborted,
    TxnClientError,
    UndeterminedError,
)
from tikv_py.client.region import backoff as kinds
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.txn.cleanup import Cleanup, send_commit
from tikv_py.client.txn.commit_plan import CommitPlan, CommitState
from tikv_py.client.txn.context import COMMIT_BUDGET_MS, ClientContext
from tikv_py.client.txn.heartbeat import HeartBeat
from tikv_py.client.txn.mutations import batches_of
from tikv_py.client.txn.prewrite import OutcomeUnknown, Prewriter

__all__ = ["CommitPlan", "TwoPhaseCommitter"]


class TwoPhaseCommitter:
    """Commits one plan, once."""

    def __init__(self, context: ClientContext, plan: CommitPlan, heart_beat: HeartBeat) -> None:
        self._context, self._plan, self._heart_beat = context, plan, heart_beat
        self.state = CommitState(plan)
        self._prewriter = Prewriter(context, self.state, heart_beat)
        self._cleanup = Cleanup(context, self.state)

    async def execute(self) -> int:
        """Commit; returns the commit timestamp (0 when there were only checks). Raises TxnClientError, DbError."""
        try:
            return await self._run()
        except OutcomeUnknown as unknown:
            return await self._find_out(unknown.cause)
        except DbError:
            self._cleanup.roll_back()  # a definite no
            raise
        except BaseException:
            self._abandon()
            raise
        finally:
            self._heart_beat.stop()

    async def _run(self) -> int:
        state = self.state
        await self._prewriter.run()
        if state.one_pc_ts:
            return state.one_pc_ts
        if not state.writes:
            return 0
        if not state.use_async:
            return await self._commit_primary()
        self._cleanup.commit(state.writes, state.min_commit_ts)  # every key is prewritten: that was the commit
        return state.min_commit_ts

    def _abandon(self) -> None:
        """The caller is gone: leave no lock behind that nobody cares for."""
        if self.state.may_be_committed:
            self._cleanup.end()
        else:
            self._cleanup.roll_back()

    async def _find_out(self, cause: DbError) -> int:
        """After requests without an answer. Raises the store's refusal if there was one, TxnAborted, UndeterminedError."""
        start_ts = self._plan.start_ts
        try:
            commit_ts = await self._cleanup.find_out()
        except DbError as error:
            raise UndeterminedError(
                f"the outcome of the commit of transaction {start_ts} is unknown: {cause}; its primary could not be asked: {error}"
            ) from cause
        except BaseException:
            self._cleanup.end()
            raise
        if not commit_ts and isinstance(cause, TxnClientError):
            raise cause
        if not commit_ts:
            raise TxnAborted(
                f"transaction {start_ts} is rolled back, because its commit got no answer and was not carried out: {cause}"
            ) from cause
        return commit_ts

    # ---- second phase ----

    async def _commit_primary(self) -> int:
        """Commit the batch with the primary; a single raft entry, so all of it or nothing."""
        state, plan = self.state, self._plan
        backoffer = self._context.new_backoffer(COMMIT_BUDGET_MS)
        commit_ts = await self._take_commit_ts()
        while True:
            try:
                batches = await batches_of(
                    state.writes, plan.primary, self._context.region_cache, backoffer, keys_only=True
                )
                state.commit_sent = True
                await send_commit(self._context, state, batches[0], commit_ts, backoffer)
                break
            except CommitTsExpired as error:
                if error.key != plan.primary:  # only a primary is pushed by readers
                    raise TxnAborted(f"a secondary key refused its commit timestamp: {error}") from error
                await backoffer.backoff(kinds.REGION_MISS, error)
                commit_ts = await self._take_commit_ts()
            except KeyLocked as error:
                raise TxnAborted(f"the store answered a commit with a lock: {error}") from error
            except TxnClientError:
                raise  # a definite no: nothing was committed
            except (RegionStale, UndeterminedResult) as error:
                if isinstance(error, UndeterminedResult):
                    backoffer.rpc_error = RpcError(str(error))
                await self._pause(backoffer, error)
            except DbError as error:
                raise self._failed(backoffer, error) from error
        done = {mutation.key for mutation in batches[0].mutations}
        self._cleanup.commit([mutation for mutation in state.writes if mutation.key not in done], commit_ts)
        return commit_ts

    async def _take_commit_ts(self) -> int:
        commit_ts = await self._context.pd.timestamp()
        if self._plan.before_commit is not None:
            await self._plan.before_commit()
        return commit_ts

    async def _pause(self, backoffer: Backoffer, cause: DbError) -> None:
        try:
            await backoffer.backoff(kinds.REGION_MISS, cause)
        except DbError as error:
            raise self._failed(backoffer, error) from error

    @staticmethod
    def _failed(backoffer: Backoffer, error: DbError) -> Exception:
        """A commit that gave up: unknown when any attempt may have been carried out."""
        return OutcomeUnknown(error) if backoffer.rpc_error is not None else error
