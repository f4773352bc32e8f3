"""Transactional writes: prewrite, commit, rollbacks, status checks, lock resolving.

Handlers translate: protobuf in, a decision over `tikv_py.mvcc.actions`, protobuf out. Key errors are answers; region errors are
raised and put into the response by the dispatcher.
"""

from __future__ import annotations

from typing import Any

from core_py.region_errors import ServerIsBusy
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.engine.port import DATA_CFS
from tikv_py.mvcc.actions.check_secondary_locks import check_secondary_lock
from tikv_py.mvcc.actions.check_txn_status import TxnStatus, TxnStatusRequest, check_txn_status
from tikv_py.mvcc.actions.cleanup import cleanup
from tikv_py.mvcc.actions.commit import commit
from tikv_py.mvcc.actions.prewrite import Assertion, Mutation, MutationOp, PessimisticAction, PrewriteProps, prewrite
from tikv_py.mvcc.errors import Committed, KeyIsLocked, TxnError
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.raftstore.disk_space import FREES
from tikv_py.server.key_errors import key_error, lock_info
from tikv_py.server.kv_read import clamp
from tikv_py.server.region_locks import locks_of
from tikv_py.txn.context import RegionAccess
from tikv_py.txn.scheduler import Scheduler

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

    def __init__(self, access: RegionAccess, scheduler: Scheduler) -> None:
        self._access = access
        self._scheduler = scheduler
        self._engine = access.store.kv_db
        self._fail = access.store.fail

    async def prewrite(self, request: pb.PrewriteRequest) -> pb.PrewriteResponse:
        """KvPrewrite. Async commit and one-phase commit are declined by answering zero timestamps."""
        fail = self._fail
        if fail.armed and (reason := await fail.reach("kv_prewrite")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")
        mutations = [_mutation(request, at) for at in range(len(request.mutations))]
        props = PrewriteProps(
            primary=request.primary_lock,
            start_ts=request.start_version,
            lock_ttl_ms=request.lock_ttl,
            txn_size=request.txn_size,
            min_commit_ts=request.min_commit_ts,
            for_update_ts=request.for_update_ts,
            is_pessimistic=request.for_update_ts > 0,
            skip_constraint_check=request.skip_constraint_check,
            check_assertions=request.assertion_level != pb.Off,
        )

        def decide(txn: MvccTxn, reader: MvccReader) -> list[TxnError]:
            errors: list[TxnError] = []
            for mutation in mutations:
                try:
                    prewrite(txn, reader, props, mutation)
                except KeyIsLocked as error:
                    errors.append(error)
                except TxnError as error:
                    txn.modifies.clear()
                    return [error]
            if errors:
                txn.modifies.clear()
            return errors

        user_keys = [mutation.user_key for mutation in mutations]
        value_bytes = sum([len(mutation.value) for mutation in mutations])
        errors = await self._scheduler.run(
            request.context, user_keys, request.start_version, decide, value_bytes=value_bytes
        )
        return pb.PrewriteResponse(errors=[key_error(error) for error in errors])

    async def commit(self, request: pb.CommitRequest) -> pb.CommitResponse:
        """KvCommit."""
        fail = self._fail
        if fail.armed and (reason := await fail.reach("kv_commit")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")

        def decide(txn: MvccTxn, reader: MvccReader) -> None:
            for key in request.keys:
                commit(txn, reader, key, request.commit_version)

        try:
            await self._scheduler.run(request.context, request.keys, request.start_version, decide, disk_full_opt=FREES)
        except TxnError as error:
            return pb.CommitResponse(error=key_error(error))
        return pb.CommitResponse(commit_version=request.commit_version)

    async def batch_rollback(self, request: pb.BatchRollbackRequest) -> pb.BatchRollbackResponse:
        """KvBatchRollback."""
        fail = self._fail
        if fail.armed and (reason := await fail.reach("kv_batch_rollback")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")

        def decide(txn: MvccTxn, reader: MvccReader) -> None:
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
                    cleanup(txn, reader, key, 0, protect_rollback=False)

        await self._scheduler.run(context, user_keys, start_ts, decide, disk_full_opt=FREES)

    async def delete_range(self, request: pb.DeleteRangeRequest) -> pb.DeleteRangeResponse:
        """KvDeleteRange: physical, for data that nothing reads any more."""
        peer = self._access.leader(request.context)
        if not request.notify_only:
            start, end = clamp(peer, request.start_key, request.end_key)
            if start < end:
                await self._scheduler.write_unlatched(request.context, [(cf, start, end) for cf in DATA_CFS], start[1:])
        return pb.DeleteRangeResponse()


def _mutation(request: pb.PrewriteRequest, at: int) -> Mutation:
    mutation = request.mutations[at]
    action = PessimisticAction.SKIP
    if at < len(request.pessimistic_actions):
        action = PessimisticAction(int(request.pessimistic_actions[at]))
    op = _OPS.get(mutation.op)
    if op is None:
        raise TxnError(f"mutation {mutation.op} of key {mutation.key.hex()} is not one a prewrite knows")
    return Mutation(op, mutation.key, mutation.value, Assertion(int(mutation.assertion)), action)
