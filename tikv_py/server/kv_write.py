"""Transactional writes: prewrite, commit, rollbacks, status checks, lock resolving.

Handlers translate: protobuf in, a decision over `tikv_py.mvcc.actions`, protobuf out. Key errors are answers; region errors are
raised and put into the response by the dispatcher.

Whatever leaves a rollback record raises `max_ts` to it first, so that no calculated commit timestamp comes to lie on the record.
"""

from __future__ import annotations

from typing import Any

from core_py.region_errors import MaxTimestampNotSynced, ServerIsBusy
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.gc.late import check_not_collected
from tikv_py.mvcc.actions.check_secondary_locks import check_secondary_lock
from tikv_py.mvcc.actions.check_txn_status import TxnStatus, TxnStatusRequest, check_txn_status
from tikv_py.mvcc.actions.cleanup import cleanup
from tikv_py.mvcc.actions.commit import commit
from tikv_py.mvcc.actions.prewrite import (
    MUST_NOT_EXIST,
    Assertion,
    AssertionLevel,
    FastCommit,
    Mutation,
    MutationOp,
    PessimisticAction,
    PrewriteProps,
)
from tikv_py.mvcc.actions.prewrite_request import Prewritten, prewrite_all
from tikv_py.mvcc.errors import Committed, TxnError
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.raftstore.disk_space import FREES
from tikv_py.server.dispatch import Begun
from tikv_py.server.key_errors import key_error, lock_info
from tikv_py.server.max_ts_worker import MaxTsWorker
from tikv_py.server.region_locks import locks_of
from tikv_py.txn.context import RegionAccess
from tikv_py.txn.scheduler import Decision, Scheduler

RESOLVE_BATCH = 256

_OPS = {
    pb.Put: MutationOp.PUT,
    pb.Del: MutationOp.DELETE,
    pb.Lock: MutationOp.LOCK,
    pb.Insert: MutationOp.INSERT,
    pb.CheckNotExists: MutationOp.CHECK_NOT_EXISTS,
}


class KvWriteService:
    """Handlers of the write commands."""

    def __init__(self, access: RegionAccess, scheduler: Scheduler, max_ts: MaxTsWorker) -> None:
        self._access = access
        self._scheduler = scheduler
        self._max_ts = max_ts
        self._engine = access.store.kv_db
        self._fail = access.store.fail

    async def prewrite(self, request: pb.PrewriteRequest) -> pb.PrewriteResponse:
        """KvPrewrite, in two phases, in one, or with async commit."""
        fail = self._fail
        if fail.armed and (reason := await fail.reach("kv_prewrite")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")
        if _is_fast(request) and not self._max_ts.is_synced(peer := self._access.leader(request.context)):
            await self._max_ts.wait_until_synced(peer)
        user_keys, value_bytes, decide = self._prewrite_decision(request)
        made = await self._scheduler.run(
            request.context, user_keys, request.start_version, decide, value_bytes=value_bytes
        )
        return _prewrite_response(made)

    def begin_prewrite(self, request: pb.PrewriteRequest) -> Begun | None:
        """Decide a prewrite in this turn, unless it has to wait for something."""
        if self._fail.armed:
            return None
        if _is_fast(request) and not self._max_ts.is_synced(self._access.store.find(request.context.region_id)):
            return None
        user_keys, value_bytes, decide = self._prewrite_decision(request)
        begun = self._scheduler.run_now(
            request.context, user_keys, request.start_version, decide, value_bytes=value_bytes
        )
        return None if begun is None else Begun(_prewrite_response(begun[0]), begun[1])

    def _prewrite_decision(self, request: pb.PrewriteRequest) -> tuple[list[bytes], int, Decision[Prewritten]]:
        """(keys, bytes of their values, what to decide on them)."""
        mutations = [mutation_of(request, at) for at in range(len(request.mutations))]
        is_fast = _is_fast(request)
        must_not_exist = any(mutation.op in MUST_NOT_EXIST for mutation in mutations)
        store, concurrency = self._access.store, self._access.concurrency

        def decide(txn: MvccTxn, reader: MvccReader) -> Prewritten:
            check_not_collected(store, request.start_version)
            if must_not_exist:  # whoever commits a value later must do so above what was seen here
                concurrency.read_at(request.start_version)
            if not is_fast:
                return prewrite_all(txn, reader, prewrite_props(request), mutations)
            if not self._max_ts.is_synced(store.find(request.context.region_id)):
                raise MaxTimestampNotSynced(request.context.region_id)
            secondaries = tuple(request.secondaries) if request.use_async_commit else None
            fast = FastCommit(concurrency.max_ts, request.max_commit_ts, secondaries, request.try_one_pc)
            return prewrite_all(txn, reader, prewrite_props(request, fast), mutations)

        user_keys = [mutation.user_key for mutation in mutations]
        return user_keys, sum([len(mutation.value) for mutation in mutations]), decide

    async def commit(self, request: pb.CommitRequest) -> pb.CommitResponse:
        """KvCommit."""
        fail = self._fail
        if fail.armed and (reason := await fail.reach("kv_commit")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")

        try:
            await self._scheduler.run(
                request.context, request.keys, request.start_version, _commit_decision(request), disk_full_opt=FREES
            )
        except TxnError as error:
            return pb.CommitResponse(error=key_error(error))
        return pb.CommitResponse(commit_version=request.commit_version)

    def begin_commit(self, request: pb.CommitRequest) -> Begun | None:
        """Decide a commit in this turn, unless it has to wait for something."""
        if self._fail.armed:
            return None
        try:
            begun = self._scheduler.run_now(
                request.context, request.keys, request.start_version, _commit_decision(request), disk_full_opt=FREES
            )
        except TxnError as error:
            return Begun(pb.CommitResponse(error=key_error(error)), None)
        return None if begun is None else Begun(pb.CommitResponse(commit_version=request.commit_version), begun[1])

    async def batch_rollback(self, request: pb.BatchRollbackRequest) -> pb.BatchRollbackResponse:
        """KvBatchRollback."""
        fail = self._fail
        if fail.armed and (reason := await fail.reach("kv_batch_rollback")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")

        def decide(txn: MvccTxn, reader: MvccReader) -> None:
            self._access.concurrency.read_at(request.start_version)
            for key in request.keys:
                cleanup(txn, reader, key, 0, protect_rollback=False)

        try:
            await self._scheduler.run(request.context, request.keys, request.start_version, decide, disk_full_opt=FREES)
        except TxnError as error:
            return pb.BatchRollbackResponse(error=key_error(error))
        return pb.BatchRollbackResponse()

    async def cleanup(self, request: pb.CleanupRequest) -> pb.CleanupResponse:
        """KvCleanup: roll one key back, or say when it was committed."""
        fail = self._fail
        if fail.armed and (reason := await fail.reach("kv_cleanup")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")

        def decide(txn: MvccTxn, reader: MvccReader) -> None:
            self._access.concurrency.read_at(request.start_version)
            cleanup(txn, reader, request.key, request.current_ts, protect_rollback=True)

        try:
            await self._scheduler.run(
                request.context, [request.key], request.start_version, decide, disk_full_opt=FREES
            )
        except Committed as committed:
            return pb.CleanupResponse(commit_version=committed.commit_ts)
        except TxnError as error:
            return pb.CleanupResponse(error=key_error(error))
        return pb.CleanupResponse()

    async def check_txn_status(self, request: pb.CheckTxnStatusRequest) -> pb.CheckTxnStatusResponse:
        """KvCheckTxnStatus."""
        fail = self._fail
        if fail.armed and (reason := await fail.reach("kv_check_txn_status")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")
        question = TxnStatusRequest(
            request.primary_key,
            request.lock_ts,
            request.caller_start_ts,
            request.current_ts,
            rollback_if_not_exist=request.rollback_if_not_exist,
            force_sync_commit=request.force_sync_commit,
            resolving_pessimistic_lock=request.resolving_pessimistic_lock,
            verify_is_primary=request.verify_is_primary,
        )

        def decide(txn: MvccTxn, reader: MvccReader) -> TxnStatus:
            for ts in (request.lock_ts, request.caller_start_ts, request.current_ts):
                self._access.concurrency.read_at(ts)
            return check_txn_status(txn, reader, question)

        try:
            status = await self._scheduler.run(
                request.context, [request.primary_key], request.lock_ts, decide, disk_full_opt=FREES
            )
        except TxnError as error:
            return pb.CheckTxnStatusResponse(error=key_error(error))
        action: Any = status.action.value  # the enum has kvrpcpb's numbers
        response = pb.CheckTxnStatusResponse(commit_version=status.commit_ts, action=action)
        if status.lock is not None:
            response.lock_ttl = status.lock.ttl_ms
            response.lock_info.CopyFrom(lock_info(request.primary_key, status.lock))
        return response

    async def check_secondary_locks(self, request: pb.CheckSecondaryLocksRequest) -> pb.CheckSecondaryLocksResponse:
        """KvCheckSecondaryLocks: all locks, or the commit timestamp found first (0 = rolled back)."""

        def decide(txn: MvccTxn, reader: MvccReader) -> pb.CheckSecondaryLocksResponse:
            self._access.concurrency.read_at(request.start_version)
            locks = []
            for key in request.keys:
                status = check_secondary_lock(txn, reader, key)
                if status.lock is None:
                    return pb.CheckSecondaryLocksResponse(commit_ts=status.commit_ts)
                locks.append(lock_info(key, status.lock))
            return pb.CheckSecondaryLocksResponse(locks=locks)

        return await self._scheduler.run(
            request.context, request.keys, request.start_version, decide, disk_full_opt=FREES
        )

    async def resolve_lock(self, request: pb.ResolveLockRequest) -> pb.ResolveLockResponse:
        """KvResolveLock: of given keys, or of all locks of one or several transactions in the region."""
        outcomes = {info.txn: info.status for info in request.txn_infos} or {
            request.start_version: request.commit_version
        }
        try:
            if request.keys:
                start_ts = request.start_version
                await self._resolve(request.context, list(request.keys), start_ts, outcomes[start_ts])
                return pb.ResolveLockResponse()
            by_txn: dict[int, list[bytes]] = {}
            for key, lock in await locks_of(self._access, request.context, outcomes):
                by_txn.setdefault(lock.start_ts, []).append(key)
            for start_ts in sorted(by_txn):
                found = by_txn[start_ts]
                for at in range(0, len(found), RESOLVE_BATCH):
                    await self._resolve(request.context, found[at : at + RESOLVE_BATCH], start_ts, outcomes[start_ts])
        except TxnError as error:
            return pb.ResolveLockResponse(error=key_error(error))
        return pb.ResolveLockResponse()

    async def _resolve(self, context: pb.Context, user_keys: list[bytes], start_ts: int, commit_ts: int) -> None:
        fail = self._fail
        if fail.armed and (reason := await fail.reach("kv_resolve_lock_batch")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")

        def decide(txn: MvccTxn, reader: MvccReader) -> None:
            for key in user_keys:
                if commit_ts:
                    commit(txn, reader, key, commit_ts)
                else:
                    self._access.concurrency.read_at(start_ts)
                    cleanup(txn, reader, key, 0, protect_rollback=False)

        await self._scheduler.run(context, user_keys, start_ts, decide, disk_full_opt=FREES)


def _is_fast(request: pb.PrewriteRequest) -> bool:
    return request.try_one_pc or request.use_async_commit


def _prewrite_response(made: Prewritten) -> pb.PrewriteResponse:
    return pb.PrewriteResponse(
        errors=[key_error(error) for error in made.errors],
        min_commit_ts=made.min_commit_ts,
        one_pc_commit_ts=made.one_pc_commit_ts,
    )


def _commit_decision(request: pb.CommitRequest) -> Decision[None]:
    def decide(txn: MvccTxn, reader: MvccReader) -> None:
        for key in request.keys:
            commit(txn, reader, key, request.commit_version)

    return decide


def mutation_of(request: pb.PrewriteRequest, at: int) -> Mutation:
    """One key of the request. Raises TxnError for what a prewrite does not know."""
    mutation = request.mutations[at]
    action = PessimisticAction.SKIP
    if at < len(request.pessimistic_actions):
        action = PessimisticAction(int(request.pessimistic_actions[at]))
    op = _OPS.get(mutation.op)
    if op is None:
        raise TxnError(f"mutation {mutation.op} of key {mutation.key.hex()} is not one a prewrite knows")
    expected = next((one.expected_for_update_ts for one in request.for_update_ts_constraints if one.index == at), 0)
    return Mutation(op, mutation.key, mutation.value, Assertion(int(mutation.assertion)), action, expected)


def prewrite_props(request: pb.PrewriteRequest, fast: FastCommit | None = None) -> PrewriteProps:
    """What all keys of the request share."""
    return PrewriteProps(
        primary=request.primary_lock,
        start_ts=request.start_version,
        lock_ttl_ms=request.lock_ttl,
        txn_size=request.txn_size,
        min_commit_ts=request.min_commit_ts,
        for_update_ts=request.for_update_ts,
        is_pessimistic=request.for_update_ts > 0,
        skip_constraint_check=request.skip_constraint_check,
        assertion_level=AssertionLevel(int(request.assertion_level)),
        txn_source=request.context.txn_source,
        fast=fast,
    )
