"""The MVCC storage of the client's tests with what newer stores can: async commit, 1PC, force locks, batched resolving.

Invariant: a minimal commit timestamp is above every timestamp that was read at before (`max_ts`).
"""

from __future__ import annotations

from typing import Any

from core_py.codec.ts import TS_MAX
from protos.kvproto import kvrpcpb_pb2 as pb
from tests.unit.client.mvcc_storage import MvccStorage
from tikv_py.mvcc import keys
from tikv_py.mvcc.actions import pessimistic_lock
from tikv_py.mvcc.actions.prewrite import FastCommit
from tikv_py.mvcc.actions.prewrite_request import prewrite_all
from tikv_py.mvcc.errors import TxnError
from tikv_py.mvcc.lock import LockType
from tikv_py.mvcc.reader import MvccReader
from tikv_py.server.key_errors import key_error
from tikv_py.server.kv_write import mutation_of, prewrite_props


class AsyncStorage(MvccStorage):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__()
        self.max_ts = 0

    # ---- reads ----

    def _note_read(self, ts: int) -> None:
        if ts != TS_MAX:
            self.max_ts = max(self.max_ts, ts)

    def _KvGet(self, request: Any) -> Any:
        self._note_read(request.version)
        lock = MvccReader(self.engine).load_lock(keys.data_key(request.key))
        if lock is not None and lock.start_ts in request.context.committed_locks:
            reader = MvccReader(self.engine)
            if lock.lock_type is LockType.DELETE:
                return pb.GetResponse(not_found=True)
            if lock.lock_type is LockType.PUT:
                value = lock.short_value
                if value is None:
                    value = self.engine.get("default", keys.versioned(keys.data_key(request.key), lock.start_ts))
                return pb.GetResponse(value=value or b"")
            value = reader.get(keys.data_key(request.key), request.version)
            return pb.GetResponse(value=value or b"", not_found=value is None)
        response = super()._KvGet(request)
        if request.need_commit_ts and not response.not_found and not response.HasField("error"):
            found = MvccReader(self.engine).get_data_write(keys.data_key(request.key), request.version)
            response.commit_ts = found[0] if found is not None else 0
        return response

    def _KvScan(self, request: Any, bounds: tuple[bytes, bytes]) -> Any:
        self._note_read(request.version)
        return super()._KvScan(request, bounds)

    # ---- prewrite ----

    def _KvPrewrite(self, request: Any) -> Any:
        txn, reader = self._start(request.start_version)
        fast = None
        if request.try_one_pc or request.use_async_commit:
            secondaries = tuple(request.secondaries) if request.use_async_commit else None
            fast = FastCommit(self.max_ts, request.max_commit_ts, secondaries, request.try_one_pc)
        mutations = [mutation_of(request, at) for at in range(len(request.mutations))]
        made = prewrite_all(txn, reader, prewrite_props(request, fast), mutations)
        self._write(txn)
        errors = [key_error(error) for error in made.errors]
        return pb.PrewriteResponse(
            errors=errors, min_commit_ts=made.min_commit_ts, one_pc_commit_ts=made.one_pc_commit_ts
        )

    # ---- resolving ----

    def _KvResolveLock(self, request: Any, bounds: tuple[bytes, bytes]) -> Any:
        if not request.txn_infos:
            return super()._KvResolveLock(request, bounds)
        for info in request.txn_infos:
            one = pb.ResolveLockRequest(start_version=info.txn, commit_version=info.status)
            answer = super()._KvResolveLock(one, bounds)
            if answer.HasField("error"):
                return answer
        return pb.ResolveLockResponse()

    def _KvCheckTxnStatus(self, request: Any) -> Any:
        self._note_read(request.caller_start_ts)
        self._note_read(request.current_ts)
        return super()._KvCheckTxnStatus(request)

    def _KvCheckSecondaryLocks(self, request: Any) -> Any:
        self._note_read(request.start_version)
        return super()._KvCheckSecondaryLocks(request)

    # ---- pessimistic locks ----

    def _KvPessimisticLock(self, request: Any) -> Any:
        response: Any = pb.PessimisticLockResponse()
        force = request.wake_up_mode == pb.WakeUpModeForceLock
        props = pessimistic_lock.LockProps(
            request.primary_lock,
            request.start_version,
            request.for_update_ts,
            request.lock_ttl,
            request.min_commit_ts,
            need_value=request.return_values,
            lock_only_if_exists=request.lock_only_if_exists,
            allow_lock_with_conflict=force,
        )
        txn, reader = self._start(request.start_version)
        try:
            made = [
                pessimistic_lock.acquire(txn, reader, props, m.key, should_not_exist=m.assertion == pb.NotExist)
                for m in request.mutations
            ]
        except TxnError as error:
            response.errors.append(key_error(error))
            if force:
                response.results.add(type=pb.LockResultFailed)
            return response
        self._write(txn)
        for key in made:
            if force:
                kind = pb.LockResultLockedWithConflict if key.conflict_ts else pb.LockResultNormal
                response.results.add(
                    type=kind,
                    value=key.value or b"",
                    existence=bool(key.exists),
                    locked_with_conflict_ts=key.conflict_ts,
                )
            elif request.return_values:
                response.values.append(key.value or b"")
                response.not_founds.append(not key.exists)
        return response
