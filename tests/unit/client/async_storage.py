"""The MVCC storage of the client's tests with what newer stores can: async commit, 1PC, force locks, batched resolving.

`declines` makes it answer zeros, as a store does that wants two phases. `reads_through` honours `committed_locks` in point reads.
Invariant: a minimal commit timestamp is above every timestamp that was read at before (`max_ts`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core_py.codec.ts import TS_MAX
from protos.kvproto import kvrpcpb_pb2 as pb
from tests.unit.client.mvcc_storage import MvccStorage
from tikv_py.engine.port import CF_LOCK
from tikv_py.mvcc import keys
from tikv_py.mvcc.actions import commit, pessimistic_lock
from tikv_py.mvcc.errors import TxnError, WriteConflict
from tikv_py.mvcc.lock import LockType
from tikv_py.mvcc.reader import MvccReader
from tikv_py.server.key_errors import key_error


class AsyncStorage(MvccStorage):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__()
        self.max_ts = 0
        self.declines = False
        self.reads_through = True

    # ---- reads ----

    def _note_read(self, ts: int) -> None:
        if ts != TS_MAX:
            self.max_ts = max(self.max_ts, ts)

    def _KvGet(self, request: Any) -> Any:
        self._note_read(request.version)
        lock = self.locks().get(request.key)
        if self.reads_through and lock is not None and lock.start_ts in request.context.committed_locks:
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
        wants = request.use_async_commit or request.try_one_pc
        if wants and (committed_ts := self._own_commit(request)):
            if request.try_one_pc:
                return pb.PrewriteResponse(one_pc_commit_ts=committed_ts)
            return pb.PrewriteResponse(min_commit_ts=committed_ts)
        refused = self._check_constraints(request)
        if refused is not None:
            return refused
        response = super()._KvPrewrite(request)
        floor = max(self.max_ts + 1, request.start_version + 1, request.for_update_ts + 1, request.min_commit_ts)
        too_late = request.max_commit_ts and floor > request.max_commit_ts
        if response.errors or not wants or self.declines or too_late:
            return response
        if request.try_one_pc:
            return self._commit_at_once(request, floor)
        return self._make_async(request, floor)

    def _own_commit(self, request: Any) -> int:
        reader = MvccReader(self.engine)
        record = reader.commit_record(keys.data_key(request.mutations[0].key), request.start_version)
        return record.commit_ts if record is not None and record.committed else 0

    def _check_constraints(self, request: Any) -> Any:
        locks = self.locks()
        for constraint in request.for_update_ts_constraints:
            key = request.mutations[constraint.index].key
            lock = locks.get(key)
            held = lock is not None and lock.start_ts == request.start_version
            if not held or (lock.is_pessimistic and lock.for_update_ts != constraint.expected_for_update_ts):  # type: ignore[union-attr]
                response = pb.PrewriteResponse()
                response.errors.add(abort=f"the lock on key {key.hex()} is another one")
                return response
        return None

    def _commit_at_once(self, request: Any, commit_ts: int) -> Any:
        txn, reader = self._start(request.start_version)
        for mutation in request.mutations:
            if mutation.op != pb.CheckNotExists:
                commit.commit(txn, reader, mutation.key, commit_ts)
        self._write(txn)
        return pb.PrewriteResponse(one_pc_commit_ts=commit_ts)

    def _make_async(self, request: Any, floor: int) -> Any:
        response = pb.PrewriteResponse()
        batch = self.engine.batch()
        for mutation in request.mutations:
            lock = self.locks().get(mutation.key)
            if lock is None:
                continue
            if not lock.use_async_commit:
                secondaries = tuple(request.secondaries) if mutation.key == request.primary_lock else ()
                lowest = max(floor, lock.min_commit_ts)
                lock = replace(lock, use_async_commit=True, secondaries=secondaries, min_commit_ts=lowest)
                batch.put(CF_LOCK, keys.data_key(mutation.key), lock.to_bytes())
            response.min_commit_ts = max(response.min_commit_ts, lock.min_commit_ts)
        self.engine.write(batch)
        return response

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
        if request.wake_up_mode != pb.WakeUpModeForceLock and not request.lock_only_if_exists:
            return super()._KvPessimisticLock(request)
        response: Any = pb.PessimisticLockResponse()
        for mutation in request.mutations:
            txn, reader = self._start(request.start_version)
            forced_ts = 0
            absent = mutation.assertion == pb.NotExist
            try:
                try:
                    value = pessimistic_lock.acquire(
                        txn, reader, self._props(request, request.for_update_ts), mutation.key, should_not_exist=absent
                    ).value
                except WriteConflict as conflict:
                    if request.wake_up_mode != pb.WakeUpModeForceLock:
                        raise
                    forced_ts = conflict.conflict_commit_ts
                    props = self._props(request, forced_ts)
                    value = pessimistic_lock.acquire(txn, reader, props, mutation.key, should_not_exist=absent).value
            except TxnError as error:
                response.errors.append(key_error(error))
                if request.wake_up_mode == pb.WakeUpModeForceLock:
                    response.results.add(type=pb.LockResultFailed)
                return response
            self._write(txn)
            if request.wake_up_mode == pb.WakeUpModeForceLock:
                kind = pb.LockResultLockedWithConflict if forced_ts else pb.LockResultNormal
                response.results.add(
                    type=kind, value=value or b"", existence=value is not None, locked_with_conflict_ts=forced_ts
                )
            else:
                response.values.append(value or b"")
                response.not_founds.append(value is None)
        return response

    @staticmethod
    def _props(request: Any, for_update_ts: int) -> pessimistic_lock.LockProps:
        return pessimistic_lock.LockProps(
            request.primary_lock,
            request.start_version,
            for_update_ts,
            request.lock_ttl,
            max(request.min_commit_ts, for_update_ts + 1),
            lock_only_if_exists=request.lock_only_if_exists,
        )
