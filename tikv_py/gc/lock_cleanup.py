"""Ending every transaction that began at or before a timestamp: what has to happen before versions go.

A lock stands for an outcome that only its transaction's primary knows. If the primary's commit record were collected first, the
lock would look like one of a transaction that never committed, and its value would be lost. So all regions are scanned for
locks up to the safe point, each owner's fate is settled on its primary, and the locks are committed or rolled back by it.

Owners are ended whether they are alive or not (`current_ts` of the largest value): a transaction older than the safe point has had
its time, and could not read any more anyway. The steps are those of the public clients:

    KvCheckTxnStatus         on the primary: committed at, or rolled back now
    KvCheckSecondaryLocks    when the primary's lock has async commit: its secondaries decide
    KvResolveLock            all locks of the ended transactions in a region, in one request
    KVPessimisticRollback    reservations of pessimistic transactions carry no data

Invariants: nothing is removed before its fate is final on the primary; everything may be repeated. A region that splits or moves
meanwhile is looked up again, from the key where the scan is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from core_py.codec import memcomparable
from core_py.codec.ts import TS_MAX
from core_py.errors import DbError
from protos.kvproto import kvrpcpb_pb2 as pb
from protos.kvproto import metapb_pb2
from tikv_py.gc.region_calls import RegionCalls
from tikv_py.raftstore.region import contains

SCAN_LIMIT = 1024


class LockNotSettled(DbError):
    """A store refused a step of settling a lock; garbage is not collected before that is done."""

    code = "KV:Gc:LockNotSettled"


class LockCleanup:
    """See the module's text."""

    def __init__(self, calls: RegionCalls) -> None:
        self._calls = calls
        self._fates: dict[int, int] = {}
        """Commit timestamps of ended transactions (0: rolled back), of one run."""

    async def run(self, safe_point: int) -> int:
        """End all transactions up to `safe_point`; returns how many locks were met. Raises DbError."""
        self._fates.clear()
        met = 0
        key, start = b"", b""
        while True:
            region, locks = await self._scan(key, start, safe_point)
            met += len(locks)
            if locks:
                await self._settle(locks)
            if len(locks) == SCAN_LIMIT:
                start = locks[-1].key + b"\x00"
                key = memcomparable.encode(start)
            elif region.end_key:
                key, start = region.end_key, b""
            else:
                return met

    async def _scan(self, key: bytes, start: bytes, safe_point: int) -> tuple[metapb_pb2.Region, list[pb.LockInfo]]:
        """The locks of the region that holds `key`, from the user key `start` on."""
        request = pb.ScanLockRequest(start_key=start, max_version=safe_point, limit=SCAN_LIMIT)
        region, response = await self._calls.call(key, "KvScanLock", lambda _: request)
        _check(response)
        return region, list(response.locks)

    async def _settle(self, locks: list[pb.LockInfo]) -> None:
        for lock in locks:
            if lock.lock_version not in self._fates:
                fate = await self._fate_of(lock)
                if fate is not None:
                    self._fates[lock.lock_version] = fate
        reservations = [lock for lock in locks if lock.lock_type == pb.PessimisticLock]
        for lock in reservations:
            await self._give_back(lock)
        await self._resolve([lock for lock in locks if lock.lock_type != pb.PessimisticLock])

    async def _fate_of(self, lock: pb.LockInfo) -> int | None:
        """When the lock's transaction committed, 0 for never; None when the key named is not its primary (any more)."""
        response: Any = await self._ask_primary(lock, force_sync_commit=False)
        if response.error.HasField("primary_mismatch") and lock.lock_type == pb.PessimisticLock:
            return None
        _check(response)
        if response.lock_info.use_async_commit:
            decided = await self._decide_by_secondaries(response.lock_info)
            if decided is not None:
                return decided
            response = await self._ask_primary(lock, force_sync_commit=True)
            _check(response)
        if response.lock_ttl:
            raise LockNotSettled(f"transaction {lock.lock_version} should have ended, its primary is still locked")
        return int(response.commit_version)

    async def _ask_primary(self, lock: pb.LockInfo, *, force_sync_commit: bool) -> pb.CheckTxnStatusResponse:
        request = pb.CheckTxnStatusRequest(
            primary_key=lock.primary_lock,
            lock_ts=lock.lock_version,
            current_ts=int(TS_MAX),
            rollback_if_not_exist=True,
            force_sync_commit=force_sync_commit,
            verify_is_primary=True,
        )
        key = memcomparable.encode(lock.primary_lock)
        response: pb.CheckTxnStatusResponse = (await self._calls.call(key, "KvCheckTxnStatus", lambda _: request))[1]
        return response

    async def _decide_by_secondaries(self, primary: pb.LockInfo) -> int | None:
        """The commit timestamp that follows from the secondaries, 0 for none; None when the primary decides after all."""
        commit_ts = primary.min_commit_ts
        left = sorted(memcomparable.encode(key) for key in primary.secondaries)
        while left:
            part: list[bytes] = []
            make = partial(_secondaries_request, primary.lock_version, left, part)
            _, response = await self._calls.call(left[0], "KvCheckSecondaryLocks", make)
            _check(response)
            if len(response.locks) < len(part):
                return int(response.commit_ts)
            if not all(lock.use_async_commit for lock in response.locks):
                return None
            commit_ts = max(commit_ts, *(lock.min_commit_ts for lock in response.locks))
            left = left[len(part) :]
        return int(commit_ts)

    async def _give_back(self, lock: pb.LockInfo) -> None:
        request = pb.PessimisticRollbackRequest(
            start_version=lock.lock_version, for_update_ts=lock.lock_for_update_ts or int(TS_MAX), keys=[lock.key]
        )
        key = memcomparable.encode(lock.key)
        response = (await self._calls.call(key, "KVPessimisticRollback", lambda _: request))[1]
        for error in response.errors:
            raise LockNotSettled(f"a reservation of transaction {lock.lock_version} was not given back: {error}")

    async def _resolve(self, locks: Iterable[pb.LockInfo]) -> None:
        """Remove locks, with one request for each region that they are in now."""
        left = {memcomparable.encode(lock.key): lock.lock_version for lock in locks}
        while left:
            part: list[bytes] = []
            make = partial(_resolve_request, self._fates, left, part)
            _, response = await self._calls.call(min(left), "KvResolveLock", make)
            _check(response)
            for key in part:
                del left[key]


def _secondaries_request(
    start_ts: int, left: list[bytes], part: list[bytes], region: metapb_pb2.Region
) -> pb.CheckSecondaryLocksRequest:
    """About those of `left` that are in the region; `part` is set to them."""
    part[:] = [key for key in left if contains(region, key)]
    return pb.CheckSecondaryLocksRequest(keys=[memcomparable.decode_whole(key) for key in part], start_version=start_ts)


def _resolve_request(
    fates: Mapping[int, int], left: Mapping[bytes, int], part: list[bytes], region: metapb_pb2.Region
) -> pb.ResolveLockRequest:
    """About the transactions of those of `left` that are in the region; `part` is set to them."""
    part[:] = [key for key in left if contains(region, key)]
    request = pb.ResolveLockRequest()
    for start_ts in sorted({left[key] for key in part}):
        request.txn_infos.add(txn=start_ts, status=fates[start_ts])
    return request


def _check(response: Any) -> None:
    """Raise LockNotSettled for a refusal."""
    if response.HasField("error"):
        raise LockNotSettled(f"a lock could not be settled: {str(response.error).strip()}")
