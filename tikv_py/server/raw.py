"""Raw key-value commands: no versions, keys as they are, in any of the public families.

Raw and transactional data share the key space; applications use one or the other, as with TiKV's API V1. Writes of the batch
commands go into as few raft entries as fit. Compare-and-swap is latched like a transactional command.
"""

from __future__ import annotations

import asyncio

from core_py.errors import DbError
from core_py.region_errors import KeyNotInRegion, ServerIsBusy
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE, Pair
from tikv_py.mvcc.txn import Modify
from tikv_py.raftstore.apply import Applied
from tikv_py.raftstore.disk_space import FREES
from tikv_py.raftstore.keys import data_range
from tikv_py.raftstore.load_split import HotReads
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.region import check_key
from tikv_py.txn.context import RegionAccess
from tikv_py.txn.latches import Latch, Latches

SCAN_LIMIT_MAX = 10_240
_FAMILIES = {"": CF_DEFAULT, "default": CF_DEFAULT, "lock": CF_LOCK, "write": CF_WRITE}


class UnknownFamily(DbError):
    """A request names a column family that raw data cannot be in."""

    code = "KV:Storage:InvalidCf"


def family(name: str) -> str:
    """The engine's family for the wire's name. Raises UnknownFamily."""
    cf = _FAMILIES.get(name)
    if cf is None:
        raise UnknownFamily(f"column family {name!r} is none of default, lock, write")
    return cf


class RawService:
    """Handlers of the raw commands."""

    def __init__(self, access: RegionAccess, latches: Latches) -> None:
        self._access = access
        self._store = access.store
        self._fail = access.store.fail
        self._engine = access.store.kv_db
        self._latches = latches

    def get_now(self, request: pb.RawGetRequest) -> pb.RawGetResponse | None:
        """Answer at once when the leader's lease allows it."""
        peer = self._access.lease_peer(request.context)
        return None if peer is None else self._get(peer, request)

    async def get(self, request: pb.RawGetRequest) -> pb.RawGetResponse:
        """RawGet."""
        return self._get(await self._access.readable(request.context), request)

    def _get(self, peer: Peer, request: pb.RawGetRequest) -> pb.RawGetResponse:
        check_key(peer.region, request.key)
        value = self._engine.get(family(request.cf), b"z" + request.key)
        peer.flow.read_keys += 1
        if peer.hot_reads is not None:
            peer.hot_reads.add(request.key, request.key)
        if value is None:
            return pb.RawGetResponse(not_found=True)
        peer.flow.read_bytes += len(value)
        return pb.RawGetResponse(value=value)

    async def batch_get(self, request: pb.RawBatchGetRequest) -> pb.RawBatchGetResponse:
        """RawBatchGet: found pairs only."""
        peer = await self._access.readable(request.context)
        for key in request.keys:
            check_key(peer.region, key)
        values = self._engine.multi_get(family(request.cf), [b"z" + key for key in request.keys])
        pairs = [
            pb.KvPair(key=key, value=value)
            for key, value in zip(request.keys, values, strict=True)
            if value is not None
        ]
        peer.flow.read_keys += len(values)
        peer.flow.read_bytes += sum([len(pair.value) for pair in pairs])
        if peer.hot_reads is not None:
            for key in request.keys:
                peer.hot_reads.add(key, key)
        return pb.RawBatchGetResponse(pairs=pairs)

    def put_now(self, request: pb.RawPutRequest) -> asyncio.Future[Applied] | None:
        """Propose a put that needs no latch."""
        return None if request.for_cas else self.write(request.context, self.put_modifies(request))

    def delete_now(self, request: pb.RawDeleteRequest) -> asyncio.Future[Applied] | None:
        """Propose a deletion that needs no latch."""
        return None if request.for_cas else self.write(request.context, self.delete_modifies(request), FREES)

    def write(self, context: pb.Context, modifies: list[Modify], disk_full_opt: int = 0) -> asyncio.Future[Applied]:
        """Propose raw changes; the future is done when they are applied. Raises region errors."""
        peer = self._access.leader(context)
        for modify in modifies:
            check_key(peer.region, modify.key[1:])
        if self._fail.armed and (reason := self._fail.hit("raw_write")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")
        future = peer.write(modifies, [], disk_full_opt=max(context.disk_full_opt, disk_full_opt))
        self._store.activate(peer.region.id)
        return future

    async def write_latched(self, context: pb.Context, modifies: list[Modify], disk_full_opt: int = 0) -> None:
        """Like `write`, in turn with the compare-and-swaps of the keys: what `for_cas` asks for."""
        latch = await self._latches.acquire([modify.key[1:] for modify in modifies])
        try:
            written = self.write(context, modifies, disk_full_opt)
        except BaseException:
            self._latches.release(latch)
            raise
        written.add_done_callback(lambda done: self._release(latch, done))
        await asyncio.shield(written)

    def _release(self, latch: Latch, written: asyncio.Future[Applied]) -> None:
        self._latches.release(latch)
        if not written.cancelled():
            written.exception()  # taken, also when the caller is gone

    def put_modifies(self, request: pb.RawPutRequest) -> list[Modify]:
        """RawPut as changes."""
        return [Modify(family(request.cf), b"z" + request.key, request.value)]

    def delete_modifies(self, request: pb.RawDeleteRequest) -> list[Modify]:
        """RawDelete as changes."""
        return [Modify(family(request.cf), b"z" + request.key, None)]

    async def put(self, request: pb.RawPutRequest) -> pb.RawPutResponse:
        """RawPut."""
        if request.for_cas:
            await self.write_latched(request.context, self.put_modifies(request))
        else:
            await self.write(request.context, self.put_modifies(request))
        return pb.RawPutResponse()

    async def delete(self, request: pb.RawDeleteRequest) -> pb.RawDeleteResponse:
        """RawDelete."""
        if request.for_cas:
            await self.write_latched(request.context, self.delete_modifies(request), FREES)
        else:
            await self.write(request.context, self.delete_modifies(request), FREES)
        return pb.RawDeleteResponse()

    async def batch_put(self, request: pb.RawBatchPutRequest) -> pb.RawBatchPutResponse:
        """RawBatchPut."""
        cf = family(request.cf)
        modifies = [Modify(cf, b"z" + pair.key, pair.value) for pair in request.pairs]
        if request.for_cas:
            await self.write_latched(request.context, modifies)
        else:
            await self.write(request.context, modifies)
        return pb.RawBatchPutResponse()

    async def batch_delete(self, request: pb.RawBatchDeleteRequest) -> pb.RawBatchDeleteResponse:
        """RawBatchDelete."""
        cf = family(request.cf)
        modifies = [Modify(cf, b"z" + key, None) for key in request.keys]
        if request.for_cas:
            await self.write_latched(request.context, modifies, FREES)
        else:
            await self.write(request.context, modifies, FREES)
        return pb.RawBatchDeleteResponse()

    async def delete_range(self, request: pb.RawDeleteRangeRequest) -> pb.RawDeleteRangeResponse:
        """RawDeleteRange, inside the region."""
        peer = self._access.leader(request.context)
        check_key(peer.region, request.start_key)
        if not request.end_key or (peer.region.end_key and request.end_key > peer.region.end_key):
            raise KeyNotInRegion(request.end_key, peer.region)
        bounds = family(request.cf), b"z" + request.start_key, b"z" + request.end_key
        future = peer.write([], [bounds], disk_full_opt=FREES)
        self._store.activate(peer.region.id)
        await future
        return pb.RawDeleteRangeResponse()

    async def scan(self, request: pb.RawScanRequest) -> pb.RawScanResponse:
        """RawScan, clamped to the region; when reverse, start_key is the exclusive upper bound."""
        peer = await self._access.readable(request.context)
        bounds = (request.start_key, request.end_key, request.reverse)
        pairs = self._scan(peer, request.cf, bounds, request.limit)
        return pb.RawScanResponse(kvs=_kv_pairs(pairs, key_only=request.key_only))

    async def batch_scan(self, request: pb.RawBatchScanRequest) -> pb.RawBatchScanResponse:
        """RawBatchScan."""
        peer = await self._access.readable(request.context)
        out: list[pb.KvPair] = []
        for bounds in request.ranges:
            pairs = self._scan(
                peer, request.cf, (bounds.start_key, bounds.end_key, request.reverse), request.each_limit
            )
            out += _kv_pairs(pairs, key_only=request.key_only)
        return pb.RawBatchScanResponse(kvs=out)

    def _scan(self, peer: Peer, cf: str, bounds: tuple[bytes, bytes, bool], limit: int) -> list[Pair]:
        start, end, reverse = bounds
        low, high = data_range(peer.region.start_key, peer.region.end_key)
        lower, upper = (end, start) if reverse else (start, end)
        low = max(low, b"z" + lower)
        high = min(high, b"z" + upper) if upper else high
        if low >= high or limit <= 0:
            return []
        read = self._engine.scan_back if reverse else self._engine.scan
        pairs = read(family(cf), low, high, min(limit, SCAN_LIMIT_MAX))
        flow = peer.flow
        flow.read_keys += len(pairs)
        flow.scan_surplus += len(pairs) - 1
        flow.read_bytes += sum([len(key) + len(value) for key, value in pairs])
        if peer.hot_reads is not None:
            self._remember_scan(peer.hot_reads, (lower, upper), pairs, reverse=reverse)
        return pairs

    @staticmethod
    def _remember_scan(hot: HotReads, asked: tuple[bytes, bytes], pairs: list[Pair], *, reverse: bool) -> None:
        """What a scan read: not what lay beyond its limit, unless it found nothing."""
        if not pairs:
            hot.add(*asked)
        elif reverse:
            hot.add(pairs[-1][0][1:], asked[1])
        else:
            hot.add(asked[0], pairs[-1][0][1:] + b"\x00")

    async def compare_and_swap(self, request: pb.RawCASRequest) -> pb.RawCASResponse:
        """RawCompareAndSwap."""
        latch = await self._latches.acquire([request.key])
        try:
            if self._fail.armed and (reason := await self._fail.reach("raw_cas_after_latch")) is not None:
                raise ServerIsBusy(f"failpoint: {reason}")
            peer = await self._access.readable(request.context)
            check_key(peer.region, request.key)
            cf, key = family(request.cf), b"z" + request.key
            current = self._engine.get(cf, key)
            expected = None if request.previous_not_exist else request.previous_value
            response = pb.RawCASResponse(
                succeed=current == expected, previous_not_exist=current is None, previous_value=current or b""
            )
            if not response.succeed:
                self._latches.release(latch)
                return response
            change = Modify(cf, key, None if request.delete else request.value)
            written = self.write(request.context, [change], FREES if request.delete else 0)
        except BaseException:
            self._latches.release(latch)
            raise
        written.add_done_callback(lambda done: self._release(latch, done))
        await asyncio.shield(written)
        return response


def _kv_pairs(pairs: list[Pair], *, key_only: bool) -> list[pb.KvPair]:
    if key_only:
        return [pb.KvPair(key=key[1:]) for key, _ in pairs]
    return [pb.KvPair(key=key[1:], value=value) for key, value in pairs]
