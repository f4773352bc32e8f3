"""Transactional reads: KvGet, KvBatchGet, KvScan, KvScanLock.

Reads of a leader in lease are answered in the same turn (`get_now`), without a task; that is the common case of a point read. Reads
of many keys take several turns. In each the region is looked at anew, and nothing that they may see at their timestamp can have
come in between: whoever commits later does so above the timestamp of a read that has begun.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from core_py.codec import memcomparable
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.engine.port import CF_LOCK
from tikv_py.mvcc import keys, scanner
from tikv_py.mvcc.errors import KeyIsLocked, TxnError
from tikv_py.mvcc.lock import Lock
from tikv_py.mvcc.reader import EveryOwner, MvccReader, snapshot_get
from tikv_py.raftstore.keys import data_range, region_bounds
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.region import check_key
from tikv_py.server.key_errors import key_error, lock_info
from tikv_py.server.read_pool import SLICE_KEYS, ReadPool
from tikv_py.txn.context import RegionAccess

SCAN_LIMIT_MAX = 10_240
SCAN_LOCK_LIMIT_MAX = 1 << 16
EVERY_OWNER = EveryOwner()


class KvReadService:
    """Handlers of the read commands."""

    def __init__(self, access: RegionAccess, pool: ReadPool) -> None:
        self._access = access
        self._pool = pool
        self._clock = access.store.clock
        self._engine = access.store.kv_db

    def get_now(self, request: pb.GetRequest) -> pb.GetResponse | None:
        """Answer at once when the leader's lease allows it."""
        peer = self._access.lease_peer(request.context, request.version)
        return None if peer is None else self._get(peer, request)

    async def get(self, request: pb.GetRequest) -> pb.GetResponse:
        """KvGet."""
        bounds = key_bounds([request.key])
        return self._get(await self._access.readable(request.context, request.version, bounds), request)

    def _get(self, peer: Peer, request: pb.GetRequest) -> pb.GetResponse:
        key = request.key
        bound = memcomparable.encode(key)
        check_key(peer.region, bound)
        try:
            resolved = passed_over(request.context)
            self._access.concurrency.check_key(keys.data_key(key), key, request.version, resolved)
            reader = MvccReader(self._engine)
            # A lock that is read through does not say at which timestamp it was committed.
            committed = () if request.need_commit_ts else request.context.committed_locks
            value = snapshot_get(reader, key, request.version, resolved, committed)
        except TxnError as error:
            return pb.GetResponse(error=key_error(error))
        peer.flow.read_keys += 1
        if peer.hot_reads is not None:
            peer.hot_reads.add(bound, bound)
        if value is None:
            return pb.GetResponse(not_found=True)
        peer.flow.read_bytes += len(value)
        commit_ts = 0
        if request.need_commit_ts and (found := reader.get_data_write(keys.data_key(key), request.version)):
            commit_ts = found[0]
        return pb.GetResponse(value=value, commit_ts=commit_ts)

    def batch_get_now(self, request: pb.BatchGetRequest) -> pb.BatchGetResponse | None:
        """Answer at once when it is few keys and the leader's lease allows it."""
        if len(request.keys) > SLICE_KEYS:
            return None
        peer = self._access.lease_peer(request.context, request.version)
        return None if peer is None else pb.BatchGetResponse(pairs=self._batch_get(peer, request, request.keys))

    async def batch_get(self, request: pb.BatchGetRequest) -> pb.BatchGetResponse:
        """KvBatchGet: found pairs, and pairs with an error for locked keys."""
        began, pairs = self._clock.monotonic(), []
        for at in range(0, max(1, len(request.keys)), SLICE_KEYS):
            if at:
                began = await self._pool.next_turn(request.context, began)
            part = request.keys[at : at + SLICE_KEYS]
            peer = await self._access.readable(request.context, request.version, key_bounds(part))
            pairs += self._batch_get(peer, request, part)
        return pb.BatchGetResponse(pairs=pairs)

    def _batch_get(self, peer: Peer, request: pb.BatchGetRequest, wanted: Sequence[bytes]) -> list[pb.KvPair]:
        reader = MvccReader(self._engine)
        resolved = passed_over(request.context)
        committed = frozenset(request.context.committed_locks)
        concurrency = self._access.concurrency
        pairs = []
        for key in wanted:
            bound = memcomparable.encode(key)
            check_key(peer.region, bound)
            if peer.hot_reads is not None:
                peer.hot_reads.add(bound, bound)
            try:
                concurrency.check_key(keys.data_key(key), key, request.version, resolved)
                value = snapshot_get(reader, key, request.version, resolved, committed)
            except TxnError as error:
                pairs.append(pb.KvPair(error=key_error(error), key=key))
                continue
            if value is not None:
                pairs.append(pb.KvPair(key=key, value=value))
                peer.flow.read_bytes += len(value)
        peer.flow.read_keys += len(wanted)
        return pairs

    async def scan(self, request: pb.ScanRequest) -> pb.ScanResponse:
        """KvScan, clamped to the region; when reverse, start_key is the exclusive upper bound."""
        low, high = (request.end_key, request.start_key) if request.reverse else (request.start_key, request.end_key)
        began, left = self._clock.monotonic(), min(request.limit, SCAN_LIMIT_MAX)
        pairs: list[pb.KvPair] = []
        while left > 0:
            peer = await self._access.readable(request.context, request.version)
            wanted = min(left, SLICE_KEYS)
            try:
                items = self._scan(peer, request, low, high, wanted)
            except TxnError as error:
                failure = key_error(error)
                return pb.ScanResponse(error=failure, pairs=[pb.KvPair(error=failure)])
            for item in items:
                if item.error is None:
                    pairs.append(pb.KvPair(key=item.user_key, value=item.value))
                else:
                    pairs.append(pb.KvPair(error=key_error(item.error), key=item.user_key))
            left -= wanted
            if len(items) < wanted:
                break
            if left > 0:
                last = items[-1].user_key
                low, high = (low, last) if request.reverse else (last + b"\x00", high)
                began = await self._pool.next_turn(request.context, began)
        return pb.ScanResponse(pairs=pairs)

    def _scan(self, peer: Peer, request: pb.ScanRequest, low: bytes, high: bytes, limit: int) -> list[scanner.ScanItem]:
        """One piece of a scan: at most `limit` items. Raises TxnError for a lock that is only in memory."""
        start, end = clamp(peer, low, high)
        resolved = passed_over(request.context)
        self._access.concurrency.check_range(start, end, request.version, resolved)
        items = scanner.scan(
            self._engine,
            scanner.ScanRequest(
                start,
                end,
                request.version,
                limit,
                reverse=request.reverse,
                key_only=request.key_only,
                resolved=resolved,
                committed=frozenset(request.context.committed_locks),
            ),
        )
        flow = peer.flow
        flow.read_keys += len(items)
        flow.scan_surplus += len(items) - 1
        flow.read_bytes += sum([len(item.user_key) + len(item.value) for item in items])
        if peer.hot_reads is not None:
            if items:  # not what lay beyond the limit
                last = keys.data_key(items[-1].user_key)
                start, end = (last, end) if request.reverse else (start, last + b"\x00")
            peer.hot_reads.add(*region_bounds(start, end))
        return items

    async def read_index(self, request: pb.ReadIndexRequest) -> pb.ReadIndexResponse:
        """ReadIndex: a log index from which any replica's state shows what had been answered before this call.

        `locked` is the lock in memory that a read of the ranges at `start_ts` has to wait for.
        """
        read_ts = request.start_ts or None
        peer = await self._access.readable(request.context, read_ts)
        if read_ts is not None:
            try:
                for bounds in request.ranges:
                    start, end = clamp(peer, bounds.start_key, bounds.end_key)
                    self._access.concurrency.check_range(start, end, read_ts)
            except KeyIsLocked as error:
                return pb.ReadIndexResponse(locked=lock_info(error.user_key, error.lock))
        return pb.ReadIndexResponse(read_index=peer.storage.apply_state.applied_index)

    async def scan_lock(self, request: pb.ScanLockRequest) -> pb.ScanLockResponse:
        """KvScanLock: locks with start_ts <= max_version, clamped to the region. One that is only in memory is an error."""
        peer = await self._access.readable(request.context)
        self._access.concurrency.read_at(request.max_version)
        start, end = clamp(peer, request.start_key, request.end_key)
        limit = min(request.limit or SCAN_LOCK_LIMIT_MAX, SCAN_LOCK_LIMIT_MAX)
        in_memory = self._access.concurrency.oldest_lock(start, end, request.max_version)
        if in_memory is not None:
            raise KeyIsLocked(*in_memory)
        locks = []
        for key, data in self._engine.scan(CF_LOCK, start, end):
            lock = Lock.from_bytes(data)
            if lock.start_ts <= request.max_version:
                locks.append(lock_info(keys.user_key(key), lock))
                if len(locks) == limit:
                    break
        return pb.ScanLockResponse(locks=locks)


def passed_over(context: pb.Context) -> Container[int]:
    """The transactions whose locks a read does not wait for.

    In a stale read none can commit where it looks; at isolation RC a read takes what is committed and waits for nobody.
    """
    if context.stale_read or context.isolation_level == pb.RC:
        return EVERY_OWNER
    return frozenset(context.resolved_locks)


def key_bounds(user_keys: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The range of data keys that holds all of these."""
    if not user_keys:
        return b"", b""
    return keys.data_key(min(user_keys)), keys.data_key(max(user_keys)) + b"\0"


def clamp(peer: Peer, start_user_key: bytes, end_user_key: bytes) -> tuple[bytes, bytes]:
    """The engine range of [start, end) of user keys inside the peer's region; an empty end means plus infinity."""
    low, high = data_range(peer.region.start_key, peer.region.end_key)
    start = max(low, keys.data_key(start_user_key)) if start_user_key else low
    end = min(high, keys.data_key(end_user_key)) if end_user_key else high
    return start, max(start, end)
