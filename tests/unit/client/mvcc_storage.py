"""What a memory store does with a command: the real MVCC actions over one engine that all stores share.

Sharing the engine stands for perfect replication; regions, epochs and leadership are checked by `tikv_py.client.testing.store`.
"""

from __future__ import annotations

from typing import Any

from core_py.codec import memcomparable
from core_py.codec.ts import TS_MAX
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.client.testing import table
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_LOCK
from tikv_py.mvcc import keys
from tikv_py.mvcc.actions import check_secondary_locks, check_txn_status, cleanup, commit, pessimistic_lock
from tikv_py.mvcc.actions.prewrite import FastCommit
from tikv_py.mvcc.actions.prewrite_request import prewrite_all
from tikv_py.mvcc.errors import KeyIsLocked, TxnError
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.reader import MvccReader, snapshot_get
from tikv_py.mvcc.scanner import ScanRequest, scan
from tikv_py.mvcc.txn import MvccTxn
from tikv_py.server.key_errors import key_error, lock_info
from tikv_py.server.kv_write import mutation_of, prewrite_props


class MvccStorage:
    """Commands by method name; `bounds` are the region's physical bounds."""

    def __init__(self, *, protect_rollbacks: bool = False) -> None:
        self._protect_rollbacks = protect_rollbacks
        self.engine = MemoryEngine()
        self.raw: dict[bytes, bytes] = {}
        self.max_ts = 0
        """The greatest timestamp that was read at: what is committed by a prewrite comes above it."""

    def run(self, name: str, request: Any, bounds: tuple[bytes, bytes]) -> Any:
        if name.startswith("Raw"):
            return getattr(self, f"_{name}")(request)
        if name == "KvScan":
            return self._KvScan(request, bounds)
        if name == "KvResolveLock":
            return self._KvResolveLock(request, bounds)
        return getattr(self, f"_{name}")(request)

    def _write(self, txn: MvccTxn) -> None:
        batch = self.engine.batch()
        for change in txn.modifies:
            if change.value is None:
                batch.delete(change.cf, change.key)
            else:
                batch.put(change.cf, change.key, change.value)
        self.engine.write(batch)

    def _start(self, start_ts: int) -> tuple[MvccTxn, MvccReader]:
        return MvccTxn(start_ts), MvccReader(self.engine)

    def locks(self) -> dict[bytes, Lock]:
        return {keys.user_key(key): Lock.from_bytes(data) for key, data in self.engine.scan(CF_LOCK, b"", b"")}

    def place_lock(self, user_key: bytes, lock: table.Lock) -> None:
        """Put a lock there as it is."""
        stored = Lock(
            LockType.PUT,
            lock.primary,
            lock.start_ts,
            lock.ttl_ms,
            lock.value,
            min_commit_ts=lock.min_commit_ts,
            use_async_commit=lock.use_async_commit,
            secondaries=lock.secondaries,
        )
        batch = self.engine.batch()
        batch.put(CF_LOCK, keys.data_key(user_key), stored.to_bytes())
        self.engine.write(batch)

    # ---- reads ----

    def _note_read(self, ts: int) -> None:
        if ts != TS_MAX:
            self.max_ts = max(self.max_ts, ts)

    def _KvGet(self, request: Any) -> Any:
        self._note_read(request.version)
        response: Any = pb.GetResponse()
        reader, context = MvccReader(self.engine), request.context
        committed = () if request.need_commit_ts else context.committed_locks
        try:
            value = snapshot_get(reader, request.key, request.version, context.resolved_locks, committed)
        except KeyIsLocked as error:
            response.error.CopyFrom(key_error(error))
            return response
        response.value, response.not_found = value or b"", value is None
        if request.need_commit_ts and (found := reader.get_data_write(keys.data_key(request.key), request.version)):
            response.commit_ts = found[0]
        return response

    def _KvBatchGet(self, request: Any) -> Any:
        response = pb.BatchGetResponse()
        for key in request.keys:
            one = self._KvGet(pb.GetRequest(key=key, version=request.version, context=request.context))
            if one.HasField("error"):
                response.pairs.add(key=key, error=one.error)
            elif not one.not_found:
                response.pairs.add(key=key, value=one.value)
        return response

    def _KvScan(self, request: Any, bounds: tuple[bytes, bytes]) -> Any:
        self._note_read(request.version)
        low, high = (request.end_key, request.start_key) if request.reverse else (request.start_key, request.end_key)
        start = max(memcomparable.encode(low) if low else b"", bounds[0])
        end = memcomparable.encode(high) if high else b""
        end = min(end, bounds[1]) if end and bounds[1] else end or bounds[1]
        found = scan(
            self.engine,
            ScanRequest(
                keys.DATA_PREFIX + start,
                keys.DATA_PREFIX + end if end else keys.DATA_END,
                request.version,
                request.limit,
                request.reverse,
                request.key_only,
                frozenset(request.context.resolved_locks),
                frozenset(request.context.committed_locks),
            ),
        )
        response: Any = pb.ScanResponse()
        for item in found:
            pair: Any = response.pairs.add(key=item.user_key, value=item.value)
            if item.error is not None:
                pair.ClearField("key")
                pair.error.CopyFrom(key_error(item.error))
        return response

    # ---- two phases ----

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

    def _for_keys(self, response: Any, start_ts: int, wanted: Any, action: Any) -> Any:
        txn, reader = self._start(start_ts)
        try:
            for key in wanted:
                action(txn, reader, key)
        except TxnError as error:
            target = response.errors.add() if "errors" in response.DESCRIPTOR.fields_by_name else response.error
            target.CopyFrom(key_error(error))
            return response
        self._write(txn)
        return response

    def _KvCommit(self, request: Any) -> Any:
        response = pb.CommitResponse(commit_version=request.commit_version)
        return self._for_keys(
            response,
            request.start_version,
            request.keys,
            lambda txn, reader, key: commit.commit(txn, reader, key, request.commit_version),
        )

    def _KvBatchRollback(self, request: Any) -> Any:
        return self._for_keys(
            pb.BatchRollbackResponse(),
            request.start_version,
            request.keys,
            lambda txn, reader, key: cleanup.cleanup(txn, reader, key, 0, protect_rollback=self._protect_rollbacks),
        )

    def _KvResolveLock(self, request: Any, bounds: tuple[bytes, bytes]) -> Any:
        if not request.txn_infos:
            return self._resolve_one(request, bounds)
        for info in request.txn_infos:
            one = pb.ResolveLockRequest(start_version=info.txn, commit_version=info.status)
            answer = self._resolve_one(one, bounds)
            if answer.HasField("error"):
                return answer
        return pb.ResolveLockResponse()

    def _resolve_one(self, request: Any, bounds: tuple[bytes, bytes]) -> Any:
        wanted = list(request.keys) or [
            key
            for key, lock in self.locks().items()
            if lock.start_ts == request.start_version
            and bounds[0] <= memcomparable.encode(key)
            and (not bounds[1] or memcomparable.encode(key) < bounds[1])
        ]

        def action(txn: MvccTxn, reader: MvccReader, key: bytes) -> None:
            if request.commit_version:
                commit.commit(txn, reader, key, request.commit_version)
            else:
                cleanup.cleanup(txn, reader, key, 0, protect_rollback=self._protect_rollbacks)

        return self._for_keys(pb.ResolveLockResponse(), request.start_version, wanted, action)

    def _KvCheckTxnStatus(self, request: Any) -> Any:
        self._note_read(request.caller_start_ts)
        self._note_read(request.current_ts)
        txn, reader = self._start(request.lock_ts)
        response: Any = pb.CheckTxnStatusResponse()
        try:
            status = check_txn_status.check_txn_status(
                txn,
                reader,
                check_txn_status.TxnStatusRequest(
                    request.primary_key,
                    request.lock_ts,
                    request.caller_start_ts,
                    request.current_ts,
                    request.rollback_if_not_exist,
                    request.force_sync_commit,
                    request.resolving_pessimistic_lock,
                    request.verify_is_primary,
                ),
            )
        except TxnError as error:
            response.error.CopyFrom(key_error(error))
            return response
        self._write(txn)
        response.action, response.commit_version = status.action.value, status.commit_ts
        if status.lock is not None:
            response.lock_ttl = status.lock.ttl_ms
            response.lock_info.CopyFrom(lock_info(request.primary_key, status.lock))
        return response

    def _KvCheckSecondaryLocks(self, request: Any) -> Any:
        self._note_read(request.start_version)
        txn, reader = self._start(request.start_version)
        response = pb.CheckSecondaryLocksResponse()
        for key in request.keys:
            status = check_secondary_locks.check_secondary_lock(txn, reader, key)
            if status.lock is None:
                del response.locks[:]
                response.commit_ts = status.commit_ts
                break
            response.locks.append(lock_info(key, status.lock))
        self._write(txn)
        return response

    def _KvTxnHeartBeat(self, request: Any) -> Any:
        txn, reader = self._start(request.start_version)
        response: Any = pb.TxnHeartBeatResponse()
        try:
            response.lock_ttl = pessimistic_lock.heart_beat(txn, reader, request.primary_lock, request.advise_lock_ttl)
        except TxnError as error:
            response.error.CopyFrom(key_error(error))
        self._write(txn)
        return response

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

    def _KVPessimisticRollback(self, request: Any) -> Any:
        return self._for_keys(
            pb.PessimisticRollbackResponse(),
            request.start_version,
            request.keys,
            lambda txn, reader, key: pessimistic_lock.rollback(txn, reader, key, request.for_update_ts),
        )

    # ---- raw ----

    def _RawGet(self, request: Any) -> Any:
        value = self.raw.get(request.key)
        return pb.RawGetResponse(value=value or b"", not_found=value is None)

    def _RawPut(self, request: Any) -> Any:
        self.raw[request.key] = request.value
        return pb.RawPutResponse()

    def _RawDelete(self, request: Any) -> Any:
        self.raw.pop(request.key, None)
        return pb.RawDeleteResponse()

    def _RawBatchGet(self, request: Any) -> Any:
        response = pb.RawBatchGetResponse()
        for key in request.keys:
            if key in self.raw:
                response.pairs.add(key=key, value=self.raw[key])
        return response

    def _RawBatchPut(self, request: Any) -> Any:
        self.raw.update((pair.key, pair.value) for pair in request.pairs)
        return pb.RawBatchPutResponse()

    def _RawBatchDelete(self, request: Any) -> Any:
        for key in request.keys:
            self.raw.pop(key, None)
        return pb.RawBatchDeleteResponse()

    def _RawDeleteRange(self, request: Any) -> Any:
        for key in list(self.raw):
            if request.start_key <= key and (not request.end_key or key < request.end_key):
                del self.raw[key]
        return pb.RawDeleteRangeResponse()

    def _RawScan(self, request: Any) -> Any:
        low, high = (request.end_key, request.start_key) if request.reverse else (request.start_key, request.end_key)
        found = [key for key in sorted(self.raw, reverse=request.reverse) if low <= key and (not high or key < high)]
        response = pb.RawScanResponse()
        for key in found[: request.limit]:
            response.kvs.add(key=key, value=b"" if request.key_only else self.raw[key])
        return response

    def _RawCompareAndSwap(self, request: Any) -> Any:
        now = self.raw.get(request.key)
        same = now is None if request.previous_not_exist else now == request.previous_value
        if same:
            self.raw[request.key] = request.value
        return pb.RawCASResponse(succeed=same, previous_not_exist=now is None, previous_value=now or b"")

    def _RawGetKeyTTL(self, request: Any) -> Any:
        return pb.RawGetKeyTTLResponse(not_found=request.key not in self.raw)
