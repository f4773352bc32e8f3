"""Removing the locks of transactions whose fate is known: few requests, however many locks.

Locks are sorted into regions. In a region, few locks of small transactions are named in the request; else all locks of a
transaction in the region go at once, and those of several transactions together, in one request (KvResolveLock). Dead
reservations of pessimistic transactions carry no data and are given back by KVPessimisticRollback.

Invariants: nothing is removed whose transaction's fate is not final, reservations excepted; callers that want the same removed
at the same time share the request. Removing twice is harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from core_py.codec.ts import TS_MAX
from core_py.runtime.tasks import TaskScope
from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.concurrency import run_all
from tikv_py.client.errors import from_key_error
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.cache import RegionCache
from tikv_py.client.region.regions import Region
from tikv_py.client.region.sender import RegionRequestSender, with_region_retries
from tikv_py.client.txn.fates import LockInfo
from tikv_py.client.txn.single_flight import SingleFlight

LITE_TXN_SIZE = (
    16  # transactions with fewer keys in a region have only the locks met resolved, larger ones all in the region
)
MAX_TXNS_PER_REQUEST = 256


@dataclass(frozen=True, slots=True)
class Finished:
    """A lock of a transaction that is committed at `commit_ts` or (0) rolled back; `lite` = one of few in its region."""

    key: bytes
    start_ts: int
    commit_ts: int
    lite: bool


class LockRemoval:
    """Shared by all transactions of a client."""

    def __init__(self, cache: RegionCache, sender: RegionRequestSender, scope: TaskScope) -> None:
        self._cache, self._sender = cache, sender
        self._removing: SingleFlight[tuple[int, bytes], None] = SingleFlight(scope, "resolve locks")

    async def remove(self, locks: Iterable[Finished], backoffer: Backoffer) -> None:
        """Commit or undo locks, at most one request for each region where that suffices."""
        left = {(lock.key, lock.start_ts): lock for lock in locks}

        async def attempt() -> None:
            by_key: dict[bytes, list[Finished]] = {}
            for lock in left.values():
                by_key.setdefault(lock.key, []).append(lock)
            groups = await self._cache.group_keys_by_region(list(by_key), backoffer)
            await run_all(
                [partial(in_region, region, [lock for key in keys for lock in by_key[key]]) for region, keys in groups]
            )

        async def in_region(region: Region, part: list[Finished]) -> None:
            for request in requests_for(part):
                await self._send(region, request, backoffer.fork())
            for lock in part:
                left.pop((lock.key, lock.start_ts), None)

        if left:
            await with_region_retries(backoffer, attempt)

    async def _send(self, region: Region, request: kvrpcpb_pb2.ResolveLockRequest, backoffer: Backoffer) -> None:
        async def send() -> None:
            response = await self._sender.send(region, "KvResolveLock", request, backoffer=backoffer)
            if response.HasField("error"):
                raise from_key_error(response.error)

        await self._removing.run((region.id, request.SerializeToString(deterministic=True)), send)

    async def drop_reservations(self, locks: Sequence[LockInfo], backoffer: Backoffer) -> None:
        """Give back pessimistic locks of dead owners."""
        by_key = {lock.key: lock for lock in locks}

        async def attempt() -> None:
            groups = await self._cache.group_keys_by_region(list(by_key), backoffer)
            await run_all([partial(in_region, region, keys) for region, keys in groups])

        async def in_region(region: Region, keys: Sequence[bytes]) -> None:
            by_txn: dict[int, list[LockInfo]] = {}
            for key in keys:
                by_txn.setdefault(by_key[key].lock_version, []).append(by_key[key])
            for start_ts, part in by_txn.items():
                await self._give_back(region, start_ts, part, backoffer.fork())

        await with_region_retries(backoffer, attempt)

    async def _give_back(self, region: Region, start_ts: int, locks: Sequence[LockInfo], backoffer: Backoffer) -> None:
        request = kvrpcpb_pb2.PessimisticRollbackRequest(
            start_version=start_ts,
            for_update_ts=max(lock.lock_for_update_ts for lock in locks) or int(TS_MAX),
            keys=[lock.key for lock in locks],
        )
        response = await self._sender.send(region, "KVPessimisticRollback", request, backoffer=backoffer)
        if response.errors:
            raise from_key_error(response.errors[0])


def requests_for(locks: Sequence[Finished]) -> list[kvrpcpb_pb2.ResolveLockRequest]:
    """The requests that remove the locks of one region."""
    by_txn: dict[int, list[Finished]] = {}
    for lock in locks:
        by_txn.setdefault(lock.start_ts, []).append(lock)
    whole: list[tuple[int, int]] = []
    made: list[kvrpcpb_pb2.ResolveLockRequest] = []
    few = len(by_txn) == 1 and len(locks) < LITE_TXN_SIZE
    for start_ts, part in sorted(by_txn.items()):
        if few and all(lock.lite for lock in part):
            keys = sorted(lock.key for lock in part)
            made.append(
                kvrpcpb_pb2.ResolveLockRequest(start_version=start_ts, commit_version=part[0].commit_ts, keys=keys)
            )
        else:
            whole.append((start_ts, part[0].commit_ts))
    if len(whole) == 1:
        made.append(kvrpcpb_pb2.ResolveLockRequest(start_version=whole[0][0], commit_version=whole[0][1]))
        return made
    for at in range(0, len(whole), MAX_TXNS_PER_REQUEST):
        request = kvrpcpb_pb2.ResolveLockRequest()
        for start_ts, commit_ts in whole[at : at + MAX_TXNS_PER_REQUEST]:
            request.txn_infos.add(txn=start_ts, status=commit_ts)
        made.append(request)
    return made
