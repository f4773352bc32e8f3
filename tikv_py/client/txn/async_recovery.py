"""Deciding an expired async-commit transaction: its secondaries, named by the primary's lock, hold the vote.

All of them prewritten: it is committed at the largest min_commit_ts. One of them missing: a store says what became of it, or makes
sure that it can never be prewritten any more, and the transaction is rolled back. One of them prewritten without async commit: its
owner fell back to two phases, and the primary decides as usual.

Everyone who asks gets the same answer, so several clients may do this at once; within one client they share a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from core_py.codec.ts import TS_MAX
from core_py.runtime.tasks import TaskScope
from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.concurrency import run_all
from tikv_py.client.errors import TxnClientError, from_key_error
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.cache import RegionCache
from tikv_py.client.region.regions import Region
from tikv_py.client.region.sender import RegionRequestSender, with_region_retries
from tikv_py.client.txn.fates import LockInfo, TxnFate, TxnFates
from tikv_py.client.txn.single_flight import SingleFlight

MAX_KEYS_PER_REQUEST = 256
OWNER_GAVE_UP_TS = int(TS_MAX)
"""A `current_ts` for `decide` by the owner itself: whatever is left of it has expired."""


class _NotAsync(Exception):
    """A secondary was prewritten without async commit: the primary decides as usual."""


class AsyncRecovery:
    """Shared by all transactions of a client."""

    def __init__(self, fates: TxnFates, cache: RegionCache, sender: RegionRequestSender, scope: TaskScope) -> None:
        self._fates, self._cache, self._sender = fates, cache, sender
        self._deciding: SingleFlight[tuple[int, bool], TxnFate] = SingleFlight(scope, "async commit recovery")

    async def decide(self, primary: LockInfo, current_ts: int, backoffer: Backoffer) -> TxnFate:
        """The fate of the transaction of an expired async-commit primary; `current_ts` judges it if it turns out to be none."""
        key = (primary.lock_version, current_ts == OWNER_GAVE_UP_TS)
        return await self._deciding.run(key, partial(self._decide, primary, current_ts, backoffer.fork()))

    async def _decide(self, primary: LockInfo, current_ts: int, backoffer: Backoffer) -> TxnFate:
        start_ts = primary.lock_version
        try:
            commit_ts = await with_region_retries(backoffer, partial(self._commit_ts, primary, backoffer))
        except _NotAsync:
            return await self._fates.fate_without_async(primary.primary_lock, start_ts, current_ts, backoffer)
        fate = TxnFate(commit_ts=commit_ts)
        self._fates.remember(start_ts, fate)
        return fate

    async def _commit_ts(self, primary: LockInfo, backoffer: Backoffer) -> int:
        """The commit timestamp that follows from all secondaries; 0 = rolled back. Raises _NotAsync."""
        groups = await self._cache.group_keys_by_region(list(primary.secondaries), backoffer)
        answers = await run_all(
            [
                partial(self._ask, primary, region, keys[at : at + MAX_KEYS_PER_REQUEST], backoffer.fork())
                for region, keys in groups
                for at in range(0, len(keys), MAX_KEYS_PER_REQUEST)
            ]
        )
        missing = {answer.commit_ts for answer, complete in answers if not complete}
        if len(missing) > 1 or any(0 < ts < primary.min_commit_ts for ts in missing):
            raise TxnClientError(
                f"secondaries of async-commit transaction {primary.lock_version} (minimal commit timestamp"
                f" {primary.min_commit_ts}) disagree about its outcome: {sorted(missing)}"
            )
        if missing:
            return missing.pop()
        locks = [lock for answer, _ in answers for lock in answer.locks]
        if not all(lock.use_async_commit for lock in locks):
            raise _NotAsync
        return max((primary.min_commit_ts, *(lock.min_commit_ts for lock in locks)))

    async def _ask(
        self, primary: LockInfo, region: Region, keys: Sequence[bytes], backoffer: Backoffer
    ) -> tuple[kvrpcpb_pb2.CheckSecondaryLocksResponse, bool]:
        request = kvrpcpb_pb2.CheckSecondaryLocksRequest(keys=keys, start_version=primary.lock_version)
        response = await self._sender.send(region, "KvCheckSecondaryLocks", request, backoffer=backoffer)
        if response.HasField("error"):
            raise from_key_error(response.error)
        return response, len(response.locks) == len(keys)
