"""Raw key-value commands on single keys and batches: no versions, keys as they are, in any of the public families.

Raw and transactional data share the key space; applications use one or the other, as with TiKV's API V1. What a stored value
looks like is in `tikv_py.server.raw_values`, scans and checksums are in `tikv_py.server.raw_scan`. Writes of the batch commands go
into as few raft entries as fit. Compare-and-swap is latched like a transactional command. Every command looks at what it
was sent before it does anything: a refused one has changed nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core_py.region_errors import KeyNotInRegion, ServerIsBusy
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.mvcc.txn import Modify
from tikv_py.raftstore.apply import Applied
from tikv_py.raftstore.disk_space import FREES
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.region import check_key
from tikv_py.server.dispatch import Begun
from tikv_py.server.raw_values import RawValues, check_batch, family
from tikv_py.server.read_pool import SLICE_KEYS, ReadPool
from tikv_py.txn.context import RegionAccess
from tikv_py.txn.flow_control import FlowController
from tikv_py.txn.latches import Latches


class RawService:
    """Handlers of the raw commands but scans."""

    def __init__(
        self, access: RegionAccess, latches: Latches, values: RawValues, flow: FlowController, pool: ReadPool
    ) -> None:
        self._access = access
        self._store = access.store
        self._fail = access.store.fail
        self._engine = access.store.kv_db
        self._latches = latches
        self._values = values
        self._flow = flow
        self._pool = pool

    # ---- reads ----

    def get_now(self, request: pb.RawGetRequest) -> pb.RawGetResponse | None:
        """Answer at once when the leader's lease allows it."""
        peer = self._access.lease_peer(request.context)
        return None if peer is None else self._get(peer, request)

    async def get(self, request: pb.RawGetRequest) -> pb.RawGetResponse:
        """RawGet."""
        return self._get(await self._access.readable(request.context), request)

    def _get(self, peer: Peer, request: pb.RawGetRequest) -> pb.RawGetResponse:
        stored = self._read(peer, request, "raw_get")
        if self._values.ttl:
            stored = self._values.live(stored, self._values.now_s())
        return pb.RawGetResponse(not_found=True) if stored is None else pb.RawGetResponse(value=stored)

    def _read(self, peer: Peer, request: pb.RawGetRequest | pb.RawGetKeyTTLRequest, command: str) -> bytes | None:
        """What is stored under the request's key."""
        key = request.key
        if request.context.api_version:
            self._values.check_version(request.context, command)
        check_key(peer.region, key)
        stored = self._engine.get(family(request.cf), b"z" + key)
        peer.flow.read_keys += 1
        if peer.hot_reads is not None:
            peer.hot_reads.add(key, key)
        if stored is not None:
            peer.flow.read_bytes += len(stored)
        return stored

    def get_key_ttl_now(self, request: pb.RawGetKeyTTLRequest) -> pb.RawGetKeyTTLResponse | None:
        """Answer at once when the leader's lease allows it."""
        peer = self._access.lease_peer(request.context)
        return None if peer is None else self._get_key_ttl(peer, request)

    async def get_key_ttl(self, request: pb.RawGetKeyTTLRequest) -> pb.RawGetKeyTTLResponse:
        """RawGetKeyTTL: seconds left, 0 for a value that lives for ever."""
        return self._get_key_ttl(await self._access.readable(request.context), request)

    def _get_key_ttl(self, peer: Peer, request: pb.RawGetKeyTTLRequest) -> pb.RawGetKeyTTLResponse:
        stored = self._read(peer, request, "raw_get_key_ttl")
        left_s = self._values.ttl_left_s(stored, self._values.now_s())
        return pb.RawGetKeyTTLResponse(not_found=True) if left_s is None else pb.RawGetKeyTTLResponse(ttl=left_s)

    def batch_get_now(self, request: pb.RawBatchGetRequest) -> pb.RawBatchGetResponse | None:
        """Answer at once when it is few keys and the leader's lease allows it."""
        if len(request.keys) > SLICE_KEYS:
            return None
        peer = self._access.lease_peer(request.context)
        if peer is None:
            return None
        return pb.RawBatchGetResponse(pairs=self._batch_get(peer, request, request.keys, self._values.now_s()))

    async def batch_get(self, request: pb.RawBatchGetRequest) -> pb.RawBatchGetResponse:
        """RawBatchGet: found pairs only. Many keys are read in several turns, each part as it is in its turn."""
        check_batch(len(request.keys))
        now_s, began = self._values.now_s(), self._store.clock.monotonic()
        pairs: list[pb.KvPair] = []
        for at in range(0, max(1, len(request.keys)), SLICE_KEYS):
            if at:
                began = await self._pool.next_turn(request.context, began)
            peer = await self._access.readable(request.context)
            pairs += self._batch_get(peer, request, request.keys[at : at + SLICE_KEYS], now_s)
        return pb.RawBatchGetResponse(pairs=pairs)

    def _batch_get(
        self, peer: Peer, request: pb.RawBatchGetRequest, keys: Sequence[bytes], now_s: int
    ) -> list[pb.KvPair]:
        values = self._values
        values.check_version(request.context, "raw_batch_get")
        for key in keys:
            check_key(peer.region, key)
        found = self._engine.multi_get(family(request.cf), [b"z" + key for key in keys])
        peer.flow.read_keys += len(found)
        peer.flow.read_bytes += sum([len(stored) for stored in found if stored is not None])
        if peer.hot_reads is not None:
            for key in keys:
                peer.hot_reads.add(key, key)
        if values.ttl:
            found = [values.live(stored, now_s) for stored in found]
        return [pb.KvPair(key=key, value=value) for key, value in zip(keys, found, strict=True) if value is not None]

    # ---- the way of every write ----

    def write(self, context: pb.Context, modifies: list[Modify], disk_full_opt: int = 0) -> asyncio.Future[Applied]:
        """Propose raw changes; the future is done when they are applied. Raises region errors."""
        peer = self._access.leader(context)
        written_bytes = 0
        for _, key, value in modifies:
            check_key(peer.region, key[1:])
            written_bytes += len(key) + len(value or b"")
        if self._fail.armed and (reason := self._fail.hit("raw_write")) is not None:
            raise ServerIsBusy(f"failpoint: {reason}")
        future = peer.write(modifies, [], disk_full_opt=max(context.disk_full_opt, disk_full_opt))
        self._flow.seen_bytes += written_bytes
        if self._values.condemned:
            self._values.condemned.difference_update([modify.key for modify in modifies])
        self._store.activate(peer.region.id)
        return future

    async def _write(
        self, context: pb.Context, modifies: list[Modify], disk_full_opt: int = 0, *, latched: bool
    ) -> None:
        """Write when flow control lets it, and `latched` in turn with the compare-and-swaps of the keys (`for_cas`)."""
        await self._admit(context, modifies, disk_full_opt)
        if not latched:
            await self.write(context, modifies, disk_full_opt)
            return
        latch = await self._latches.acquire([modify.key[1:] for modify in modifies])
        try:
            written = self.write(context, modifies, disk_full_opt)
        except BaseException:
            self._latches.release(latch)
            raise
        self._latches.release_when_done(latch, written)
        await asyncio.shield(written)

    async def _admit(self, context: pb.Context, modifies: list[Modify], disk_full_opt: int) -> None:
        if self._flow.throttles and not (disk_full_opt or context.disk_full_opt):
            await self._flow.admit(sum([len(key) + len(value or b"") for _, key, value in modifies]), context)

    # ---- writes ----

    def begin_put(self, request: pb.RawPutRequest) -> Begun | None:
        """Propose a put that needs neither a latch nor leave of flow control."""
        if request.for_cas or self._flow.throttles:
            return None
        return Begun(pb.RawPutResponse(), self.write(request.context, self.put_modifies(request)))

    def begin_delete(self, request: pb.RawDeleteRequest) -> Begun | None:
        """Propose a deletion that needs no latch."""
        if request.for_cas:
            return None
        return Begun(pb.RawDeleteResponse(), self.write(request.context, self.delete_modifies(request), FREES))

    def put_modifies(self, request: pb.RawPutRequest) -> list[Modify]:
        """RawPut as changes. Raises Refused."""
        values, key = self._values, request.key
        values.check_version(request.context, "raw_put")
        values.check_keys((key,))
        stored = values.stored(request.value, request.ttl, values.now_s())
        return [Modify(family(request.cf), b"z" + key, stored)]

    def delete_modifies(self, request: pb.RawDeleteRequest) -> list[Modify]:
        """RawDelete as changes. Raises Refused."""
        self._values.check_version(request.context, "raw_delete")
        self._values.check_keys((request.key,))
        return [Modify(family(request.cf), b"z" + request.key, None)]

    async def put(self, request: pb.RawPutRequest) -> pb.RawPutResponse:
        """RawPut."""
        await self._write(request.context, self.put_modifies(request), latched=request.for_cas)
        return pb.RawPutResponse()

    async def delete(self, request: pb.RawDeleteRequest) -> pb.RawDeleteResponse:
        """RawDelete."""
        await self._write(request.context, self.delete_modifies(request), FREES, latched=request.for_cas)
        return pb.RawDeleteResponse()

    async def batch_put(self, request: pb.RawBatchPutRequest) -> pb.RawBatchPutResponse:
        """RawBatchPut. Clients from before `ttls` send one time to live for all in the field it replaced."""
        values, pairs, cf = self._values, request.pairs, family(request.cf)
        values.check_version(request.context, "raw_batch_put")
        check_batch(len(pairs))
        values.check_keys([pair.key for pair in pairs])
        ttls = values.ttls_of(request.ttls or ([request.ttl] if request.ttl else []), len(pairs))
        now_s = values.now_s()
        modifies = [
            Modify(cf, b"z" + pair.key, values.stored(pair.value, ttl_s, now_s))
            for pair, ttl_s in zip(pairs, ttls, strict=True)
        ]
        await self._write(request.context, modifies, latched=request.for_cas)
        return pb.RawBatchPutResponse()

    async def batch_delete(self, request: pb.RawBatchDeleteRequest) -> pb.RawBatchDeleteResponse:
        """RawBatchDelete."""
        cf = family(request.cf)
        self._values.check_version(request.context, "raw_batch_delete")
        check_batch(len(request.keys))
        self._values.check_keys(request.keys)
        modifies = [Modify(cf, b"z" + key, None) for key in request.keys]
        await self._write(request.context, modifies, FREES, latched=request.for_cas)
        return pb.RawBatchDeleteResponse()

    async def delete_range(self, request: pb.RawDeleteRangeRequest) -> pb.RawDeleteRangeResponse:
        """RawDeleteRange, inside the region."""
        self._values.check_version(request.context, "raw_delete_range")
        self._values.check_keys((request.start_key, request.end_key))
        peer = self._access.leader(request.context)
        check_key(peer.region, request.start_key)
        if not request.end_key or (peer.region.end_key and request.end_key > peer.region.end_key):
            raise KeyNotInRegion(request.end_key, peer.region)
        bounds = family(request.cf), b"z" + request.start_key, b"z" + request.end_key
        future = peer.write([], [bounds], disk_full_opt=FREES)
        self._store.activate(peer.region.id)
        await future
        return pb.RawDeleteRangeResponse()

    async def compare_and_swap(self, request: pb.RawCASRequest) -> pb.RawCASResponse:
        """RawCompareAndSwap. An expired value counts as none; with `delete` a match is removed instead of replaced."""
        values = self._values
        values.check_version(request.context, "raw_compare_and_swap")
        values.check_keys((request.key,))
        cf, key = family(request.cf), b"z" + request.key
        now_s = values.now_s()
        change = Modify(cf, key, None if request.delete else values.stored(request.value, request.ttl, now_s))
        allowed = FREES if request.delete else 0
        await self._admit(request.context, [change], allowed)
        latch = await self._latches.acquire([request.key])
        try:
            if self._fail.armed and (reason := await self._fail.reach("raw_cas_after_latch")) is not None:
                raise ServerIsBusy(f"failpoint: {reason}")
            peer = await self._access.readable(request.context)
            check_key(peer.region, request.key)
            current = values.live(self._engine.get(cf, key), now_s)
            expected = None if request.previous_not_exist else request.previous_value
            response = pb.RawCASResponse(
                succeed=current == expected, previous_not_exist=current is None, previous_value=current or b""
            )
            if not response.succeed or (request.delete and current is None):
                self._latches.release(latch)
                return response
            written = self.write(request.context, [change], allowed)
        except BaseException:
            self._latches.release(latch)
            raise
        self._latches.release_when_done(latch, written)
        await asyncio.shield(written)
        return response
