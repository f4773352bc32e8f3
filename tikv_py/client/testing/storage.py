"""The storage of a memory cluster: runs TiKV's raw and transactional commands with their real meaning.

One command at a time, all of it or nothing. A pessimistic lock on a taken key answers `LockWait`; stores run the command
again when locks were released. `max_ts` is the largest timestamp anything was read at: async-commit and one-phase
transactions commit above it.

Not there: the coprocessor, garbage collection of versions, pipelined transactions, API V2. Those methods answer UNIMPLEMENTED.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from core_py.codec.ts import TS_MAX
from core_py.ports import Clock, StatusError
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.client.region.regions import TXN_KEYS
from tikv_py.client.testing import percolator
from tikv_py.client.testing.lock_waits import LockWaits
from tikv_py.client.testing.raw import RawStorage, clamped
from tikv_py.client.testing.refusals import Refused
from tikv_py.client.testing.store import LockWait
from tikv_py.client.testing.table import Change, Lock, Row, Table, Version

MAX_WAIT_S = 1.0  # a store's wait-for-lock-timeout; clients that want to wait longer ask again

Bounds = tuple[bytes, bytes]


class MemoryStorage:
    """See the module's text."""

    def __init__(self, clock: Clock) -> None:
        self.table = Table()
        self.raw = RawStorage(clock)
        self.max_ts = 0
        self.declines = False
        """Answer every wish for async commit or one phase with "two phases"."""
        self._waits = LockWaits()
        self._commands: dict[str, Callable[[Any, Bounds], Any]] = {
            "KvGet": self._get,
            "KvBatchGet": self._batch_get,
            "KvScan": self._scan,
            "KvPrewrite": self._prewrite,
            "KvCommit": self._commit,
            "KvBatchRollback": self._batch_rollback,
            "KvCleanup": self._cleanup,
            "KvCheckTxnStatus": self._check_txn_status,
            "KvCheckSecondaryLocks": self._check_secondary_locks,
            "KvTxnHeartBeat": self._heart_beat,
            "KvResolveLock": self._resolve_lock,
            "KvScanLock": self._scan_lock,
            "KvPessimisticLock": self._pessimistic_lock,
            "KVPessimisticRollback": self._pessimistic_rollback,
            "KvDeleteRange": self._delete_range,
            "RawGet": self.raw.raw_get,
            "RawBatchGet": self.raw.raw_batch_get,
            "RawPut": self.raw.raw_put,
            "RawBatchPut": self.raw.raw_batch_put,
            "RawDelete": self.raw.raw_delete,
            "RawBatchDelete": self.raw.raw_batch_delete,
            "RawDeleteRange": self.raw.raw_delete_range,
            "RawScan": self.raw.raw_scan,
            "RawBatchScan": self.raw.raw_batch_scan,
            "RawCompareAndSwap": self.raw.raw_compare_and_swap,
            "RawGetKeyTTL": self.raw.raw_get_key_ttl,
            "RawChecksum": self.raw.raw_checksum,
        }

    def run(self, name: str, request: Any, bounds: Bounds) -> Any:
        """The response, or a `LockWait`. Raises StatusError for a command that is not there."""
        command = self._commands.get(name)
        if command is None:
            raise StatusError("UNIMPLEMENTED", f"the memory cluster does not serve {name}")
        return command(request, bounds)

    def locks(self) -> dict[bytes, Lock]:
        """All transactional locks by user key."""
        return dict(self.table.locks())

    def place_lock(self, key: bytes, lock: Lock) -> None:
        """Put a lock there as it is, as a client that died would leave it."""
        self.table.apply([Change(key, lock)])

    # ---- reads ----

    def _value(self, row: Row, key: bytes, request: Any) -> bytes | None:
        """The value at the request's timestamp. Raises Refused when a lock hides it."""
        context = request.context
        if request.version != TS_MAX:
            self.max_ts = max(self.max_ts, request.version)
        if context.isolation_level == pb.SI:
            if row.lock is not None and row.lock.start_ts in context.committed_locks:
                return row.lock.value if row.lock.kind == pb.Put else None
            percolator.check_read(row, key, request.version, context.resolved_locks)
        return row.value_at(request.version)

    def _get(self, request: Any, _bounds: Bounds) -> Any:
        try:
            value = self._value(self.table.row(request.key), request.key, request)
        except Refused as refused:
            return pb.GetResponse(error=refused.error)
        return pb.GetResponse(value=value or b"", not_found=value is None)

    def _batch_get(self, request: Any, _bounds: Bounds) -> Any:
        response = pb.BatchGetResponse()
        for key in request.keys:
            try:
                value = self._value(self.table.row(key), key, request)
            except Refused as refused:
                response.pairs.add(key=key, error=refused.error)
                continue
            if value is not None:
                response.pairs.add(key=key, value=value)
        return response

    def _scan(self, request: Any, bounds: Bounds) -> Any:
        low, high = (request.end_key, request.start_key) if request.reverse else (request.start_key, request.end_key)
        keys = self.table.keys(*_inside(low, high, bounds))
        response = pb.ScanResponse()
        for key in reversed(keys) if request.reverse else keys:
            if len(response.pairs) >= request.limit:
                break
            try:
                value = self._value(self.table.row(key), key, request)
            except Refused as refused:
                response.pairs.add(error=refused.error)
                continue
            if value is not None:
                response.pairs.add(key=key, value=b"" if request.key_only else value)
        return response

    # ---- writes ----

    def _for_keys(self, response: Any, keys: Any, rule: Callable[[Row, bytes], Change | None]) -> Any:
        """Apply a rule to all keys, or to none when it refuses one."""
        changes = []
        try:
            for key in keys:
                change = rule(self.table.row(key), key)
                if change is not None:
                    changes.append(change)
        except Refused as refused:
            several = "errors" in response.DESCRIPTOR.fields_by_name
            (response.errors.add() if several else response.error).CopyFrom(refused.error)
            return response
        self.table.apply(changes)
        return response

    def _prewrite(self, request: Any, _bounds: Bounds) -> Any:
        floor = max(self.max_ts, request.start_version, request.for_update_ts) + 1
        if self.declines or (request.max_commit_ts and floor > request.max_commit_ts):
            request.use_async_commit = request.try_one_pc = False  # the client is told to use two phases
        if request.use_async_commit or request.try_one_pc:
            request.min_commit_ts = max(request.min_commit_ts, floor)
        actions = list(request.pessimistic_actions) or [0] * len(request.mutations)
        expected = {c.index: c.expected_for_update_ts for c in request.for_update_ts_constraints}
        changes: list[Change] = []
        locked: list[Any] = []
        wrong: list[Any] = []
        for at, (mutation, action) in enumerate(zip(request.mutations, actions, strict=True)):
            row = self.table.row(mutation.key)
            try:
                change = percolator.prewrite(row, request, mutation, action, expected.get(at, 0))
            except Refused as refused:
                done = row.committed_by(request.start_version)
                if refused.may_be_repeated and done is not None:
                    return self._decided(request, done.commit_ts)
                if refused.lock is None and not refused.error.HasField("assertion_failed"):
                    return pb.PrewriteResponse(errors=[refused.error])
                (wrong if refused.lock is None else locked).append(refused.error)
            else:
                changes += [change] if change is not None else []
        if locked or wrong:
            return pb.PrewriteResponse(errors=locked or wrong[:1])
        return self._apply_prewrite(request, changes)

    @staticmethod
    def _decided(request: Any, commit_ts: int) -> Any:
        if request.try_one_pc:
            return pb.PrewriteResponse(one_pc_commit_ts=commit_ts)
        return pb.PrewriteResponse(min_commit_ts=commit_ts if request.use_async_commit else 0)

    def _apply_prewrite(self, request: Any, changes: list[Change]) -> Any:
        """Write the locks, or in one phase the versions; in two phases when a key was prewritten so before."""
        touched = {change.key for change in changes}
        before = [self.table.row(m.key).lock for m in request.mutations if m.key not in touched]
        found = [lock for lock in before if lock is not None and lock.start_ts == request.start_version]
        if (found and request.try_one_pc) or not all(lock.use_async_commit for lock in found):
            request.try_one_pc = request.use_async_commit = False
            changes = [
                replace(one, lock=replace(one.lock, use_async_commit=False, secondaries=())) if one.lock else one
                for one in changes
            ]
        commit_ts = max([request.min_commit_ts, *(lock.min_commit_ts for lock in found)])
        commit_ts = max([commit_ts, *(one.lock.min_commit_ts for one in changes if one.lock)])
        if request.try_one_pc:
            start_ts = request.start_version
            changes = [
                Change(one.key, None, Version(commit_ts, start_ts, one.lock.kind, one.lock.value))
                for one in changes
                if one.lock is not None
            ]
        self.table.apply(changes)
        return self._decided(request, commit_ts)

    def _commit(self, request: Any, _bounds: Bounds) -> Any:
        response = pb.CommitResponse(commit_version=request.commit_version)
        start_ts, commit_ts = request.start_version, request.commit_version
        return self._for_keys(response, request.keys, lambda row, key: percolator.commit(row, key, start_ts, commit_ts))

    def _batch_rollback(self, request: Any, _bounds: Bounds) -> Any:
        start_ts = request.start_version
        return self._for_keys(
            pb.BatchRollbackResponse(), request.keys, lambda row, key: percolator.roll_back(row, key, start_ts)
        )

    def _cleanup(self, request: Any, _bounds: Bounds) -> Any:
        done = self.table.row(request.key).committed_by(request.start_version)
        if done is not None:
            return pb.CleanupResponse(commit_version=done.commit_ts)
        start_ts, now = request.start_version, request.current_ts
        return self._for_keys(
            pb.CleanupResponse(), [request.key], lambda row, key: percolator.roll_back(row, key, start_ts, now)
        )

    def _delete_range(self, request: Any, bounds: Bounds) -> Any:
        self.table.remove(*_inside(request.start_key, request.end_key, bounds))
        return pb.DeleteRangeResponse()

    # ---- what became of transactions ----

    def _check_txn_status(self, request: Any, _bounds: Bounds) -> Any:
        response: Any = pb.CheckTxnStatusResponse()
        try:
            status = percolator.check_status(self.table.row(request.primary_key), request)
        except Refused as refused:
            response.error.CopyFrom(refused.error)
            return response
        self.table.apply([status.change] if status.change else [])
        response.action, response.commit_version = status.action, status.commit_ts
        if status.lock is not None:
            response.lock_ttl = status.lock.ttl_ms
            response.lock_info.CopyFrom(status.lock.info(request.primary_key))
        return response

    def _check_secondary_locks(self, request: Any, _bounds: Bounds) -> Any:
        self.max_ts = max(self.max_ts, request.start_version)
        response = pb.CheckSecondaryLocksResponse()
        for key in request.keys:
            status = percolator.check_secondary(self.table.row(key), key, request.start_version)
            self.table.apply([status.change] if status.change else [])
            if status.lock is None:
                del response.locks[:]
                response.commit_ts = status.commit_ts
                break
            response.locks.append(status.lock.info(key))
        return response

    def _heart_beat(self, request: Any, _bounds: Bounds) -> Any:
        rule = partial(percolator.heart_beat, start_ts=request.start_version, ttl_ms=request.advise_lock_ttl)
        response = self._for_keys(pb.TxnHeartBeatResponse(), [request.primary_lock], rule)
        lock = self.table.row(request.primary_lock).lock
        response.lock_ttl = lock.ttl_ms if lock is not None and not response.HasField("error") else 0
        return response

    def _resolve_lock(self, request: Any, bounds: Bounds) -> Any:
        fates = {info.txn: info.status for info in request.txn_infos} or {request.start_version: request.commit_version}
        inside = set(self.table.keys(*_inside(b"", b"", bounds)))
        keys = list(request.keys) or [
            key for key, lock in self.table.locks() if lock.start_ts in fates and key in inside
        ]

        def settle(row: Row, key: bytes) -> Change | None:
            start_ts = row.lock.start_ts if request.txn_infos and row.lock else request.start_version
            if fates[start_ts]:
                return percolator.commit(row, key, start_ts, fates[start_ts])
            return percolator.roll_back(row, key, start_ts)

        return self._for_keys(pb.ResolveLockResponse(), keys, settle)

    def _scan_lock(self, request: Any, bounds: Bounds) -> Any:
        self.max_ts = max(self.max_ts, request.max_version)
        inside = set(self.table.keys(*_inside(request.start_key, request.end_key, bounds)))
        found = [lock.info(key) for key, lock in self.table.locks() if key in inside]
        old = [lock for lock in found if lock.lock_version <= request.max_version]
        return pb.ScanLockResponse(locks=old[: request.limit] if request.limit else old)

    # ---- pessimistic locks ----

    def _pessimistic_lock(self, request: Any, _bounds: Bounds) -> Any:
        response: Any = pb.PessimisticLockResponse()
        changes = []
        try:
            for mutation in request.mutations:
                got = percolator.acquire(self.table.row(mutation.key), request, mutation)
                changes += [got.change] if got.change else []
                _report(response, request, got)
        except Refused as refused:
            return self._wait_or_refuse(request, refused)
        self.table.apply(changes)
        return response

    def _wait_or_refuse(self, request: Any, refused: Refused) -> Any:
        response = pb.PessimisticLockResponse(errors=[refused.error])
        if refused.lock is None or request.wait_timeout < 0:
            return response
        waiter, key = request.start_version, refused.key
        try:
            self._waits.begin(waiter, key, refused.lock.start_ts)
        except Refused as circle:
            return pb.PessimisticLockResponse(errors=[circle.error])
        seconds = min(request.wait_timeout / 1000, MAX_WAIT_S) or MAX_WAIT_S
        return LockWait(seconds, response, partial(self._waits.end, waiter, key))

    def _pessimistic_rollback(self, request: Any, _bounds: Bounds) -> Any:
        rule = partial(percolator.release, start_ts=request.start_version, for_update_ts=request.for_update_ts)
        return self._for_keys(pb.PessimisticRollbackResponse(), request.keys, rule)


def _report(response: Any, request: Any, got: percolator.Acquired) -> None:
    """Add what a pessimistic lock found to its response."""
    if request.wake_up_mode == pb.WakeUpModeForceLock:
        kind = pb.LockResultLockedWithConflict if got.conflict_ts else pb.LockResultNormal
        response.results.add(
            type=kind,
            value=got.value or b"",
            existence=got.value is not None,
            locked_with_conflict_ts=got.conflict_ts,
        )
    elif request.return_values or request.check_existence:
        if request.return_values:
            response.values.append(got.value or b"")
        response.not_founds.append(got.value is None)


def _inside(start: bytes, end: bytes, bounds: Bounds) -> Bounds:
    """The part of [start, end) of user keys inside a region."""
    return clamped(start, end, (TXN_KEYS.decode_bound(bounds[0]), TXN_KEYS.decode_bound(bounds[1])))
