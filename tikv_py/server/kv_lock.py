"""Pessimistic locks: taking them, waiting for them, giving them back, keeping them alive; and who waits for whom.

Handlers translate: protobuf in, a decision over `tikv_py.mvcc.actions.pessimistic_lock`, protobuf out. A request that meets a
lock waits in `tikv_py.txn.waiting`. Key errors are answers; region errors are raised and put into the response by the dispatcher.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from core_py.region_errors import ServerIsBusy
from protos.kvproto import deadlock_pb2
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.deadlock.wait_for_graph import Wait
from tikv_py.deadlock.wire import entry_of
from tikv_py.gc.late import check_not_collected
from tikv_py.mvcc.actions import pessimistic_lock
from tikv_py.mvcc.actions.pessimistic_lock import LockedKey
from tikv_py.mvcc.errors import TxnError
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.raftstore.disk_space import FINISHES, FREES
from tikv_py.server.key_errors import key_error
from tikv_py.server.region_locks import locks_of
from tikv_py.txn.context import RegionAccess
from tikv_py.txn.scheduler import Scheduler
from tikv_py.txn.waiting.errors import DeadlockFound
from tikv_py.txn.waiting.key_queue import Claim
from tikv_py.txn.waiting.requests import LockRequests, WaitPolicy

HISTORY_MAX = 64  # deadlocks remembered


class InvalidLockRequest(TxnError):
    """A lock request asks for things that do not go together."""

    code = "KV:Storage:InvalidLockRequest"


class KvLockService:
    """Handlers of the commands about pessimistic locks."""

    def __init__(self, access: RegionAccess, scheduler: Scheduler) -> None:
        self._access = access
        self._scheduler = scheduler
        self._fail = access.store.fail
        self._requests = LockRequests(access, scheduler, access.store.clock)
        self._history: deque[tuple[Wait, ...]] = deque(maxlen=HISTORY_MAX)

    async def pessimistic_lock(self, request: pb.PessimisticLockRequest) -> pb.PessimisticLockResponse:
        """KvPessimisticLock, waiting for foreign locks within the request's limit."""
        fail = self._fail
        if fail.armed and (reason := await fail.reach("kv_pessimistic_lock")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")
        force = request.wake_up_mode == pb.WakeUpModeForceLock
        try:
            _check(request, force=force)
            locked = await self._lock(request)
        except TxnError as error:
            if isinstance(error, DeadlockFound):
                self._history.append(error.cycle.chain)
            response = pb.PessimisticLockResponse(errors=[key_error(error)])
            if force:
                response.results.add(type=pb.LockResultFailed)
            return response
        return _locked_response(request, locked, force=force)

    async def _lock(self, request: pb.PessimisticLockRequest) -> list[LockedKey]:
        props = pessimistic_lock.LockProps(
            request.primary_lock,
            request.start_version,
            request.for_update_ts or request.start_version,
            request.lock_ttl,
            request.min_commit_ts,
            need_value=request.return_values,
            need_existence=request.check_existence,
            lock_only_if_exists=request.lock_only_if_exists,
            allow_lock_with_conflict=request.wake_up_mode == pb.WakeUpModeForceLock,
        )

        def decide(txn: MvccTxn, reader: MvccReader) -> list[LockedKey]:
            check_not_collected(self._access.store, request.start_version)
            self._access.concurrency.read_at(props.for_update_ts)
            return [
                pessimistic_lock.acquire(
                    txn, reader, props, mutation.key, should_not_exist=mutation.assertion == pb.NotExist
                )
                for mutation in request.mutations
            ]

        user_keys = [mutation.key for mutation in request.mutations]
        context = request.context
        # The first lock of a transaction is its primary's; a client may call several requests of one statement the first.
        is_first = request.is_first_lock and user_keys == [request.primary_lock]
        claim = Claim(
            request.start_version,
            context.region_id,
            context.region_epoch.version,
            is_first_lock=is_first,
            resource_group_tag=context.resource_group_tag,
        )
        return await self._requests.run(context, user_keys, claim, decide, WaitPolicy(request.wait_timeout))

    async def pessimistic_rollback(self, request: pb.PessimisticRollbackRequest) -> pb.PessimisticRollbackResponse:
        """KVPessimisticRollback; without keys, of all the transaction's locks in the region."""
        fail = self._fail
        if fail.armed and (reason := await fail.reach("kv_pessimistic_rollback")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")
        user_keys = list(request.keys)
        if not user_keys:
            found = await locks_of(self._access, request.context, {request.start_version})
            user_keys = [key for key, lock in found if lock.is_pessimistic]

        def decide(txn: MvccTxn, reader: MvccReader) -> None:
            for key in user_keys:
                pessimistic_lock.rollback(txn, reader, key, request.for_update_ts)

        await self._scheduler.run(request.context, user_keys, request.start_version, decide, disk_full_opt=FREES)
        return pb.PessimisticRollbackResponse()

    async def heart_beat(self, request: pb.TxnHeartBeatRequest) -> pb.TxnHeartBeatResponse:
        """KvTxnHeartBeat."""
        fail = self._fail
        if fail.armed and (reason := await fail.reach("kv_txn_heart_beat")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")
        primary = request.primary_lock
        try:
            ttl_ms = await self._scheduler.run(
                request.context,
                [primary],
                request.start_version,
                lambda txn, reader: pessimistic_lock.heart_beat(
                    txn, reader, primary, request.advise_lock_ttl, request.min_commit_ts
                ),
                disk_full_opt=FINISHES,
            )
        except TxnError as error:
            return pb.TxnHeartBeatResponse(error=key_error(error))
        return pb.TxnHeartBeatResponse(lock_ttl=ttl_ms)

    async def lock_wait_info(self, _request: pb.GetLockWaitInfoRequest) -> pb.GetLockWaitInfoResponse:
        """GetLockWaitInfo: who waits on this store, now."""
        return pb.GetLockWaitInfoResponse(entries=self.wait_entries())

    def wait_entries(self) -> list[deadlock_pb2.WaitForEntry]:
        """The waits on this store with their ages."""
        return [entry_of(wait, wait_time_ms=int(age_s * 1000)) for wait, age_s in self._scheduler.waiting.waits()]

    async def lock_wait_history(self, _request: pb.GetLockWaitHistoryRequest) -> pb.GetLockWaitHistoryResponse:
        """GetLockWaitHistory: the waits that formed the last deadlocks told here, each deadlock's in order."""
        return pb.GetLockWaitHistoryResponse(entries=_entries(self._history))


def _entries(chains: Iterable[tuple[Wait, ...]]) -> list[deadlock_pb2.WaitForEntry]:
    return [entry_of(wait) for chain in chains for wait in chain]


def _check(request: pb.PessimisticLockRequest, *, force: bool) -> None:
    """Raise InvalidLockRequest for what the public servers refuse as well."""
    if force and len(request.mutations) > 1:
        raise InvalidLockRequest(
            f"transaction {request.start_version}: a request that is locked in spite of conflicts is of one key,"
            f" not {len(request.mutations)}"
        )


def _locked_response(
    request: pb.PessimisticLockRequest, locked: list[LockedKey], *, force: bool
) -> pb.PessimisticLockResponse:
    response = pb.PessimisticLockResponse()
    if force:
        for one in locked:
            conflict = pb.LockResultLockedWithConflict if one.conflict_ts else pb.LockResultNormal
            response.results.add(
                type=conflict,
                value=one.value or b"",
                existence=bool(one.exists),
                locked_with_conflict_ts=one.conflict_ts,
            )
        return response
    if request.return_values:
        response.values.extend(one.value or b"" for one in locked)
    if request.return_values or request.check_existence:
        response.not_founds.extend(not one.exists for one in locked)
    return response
