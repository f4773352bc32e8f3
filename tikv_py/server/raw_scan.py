"""Raw scans and checksums: reads of many keys, which must keep neither the loop nor other readers waiting.

A short scan is one read of the newest state, in one turn of the loop. A longer one, or one that met expired values, goes on over
a view that was frozen in that very turn, a few hundred keys per turn, so that it shows one moment however long it takes.
A checksum reads a whole frozen region in a thread of the pool.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from core_py.ports import Clock, Workers
from core_py.region_errors import KeyNotInRegion
from protos.kvproto import kvrpcpb_pb2 as pb
from tikv_py.engine.port import CF_DEFAULT, Engine, Pair, Range, Snapshot
from tikv_py.errors import Refused
from tikv_py.raftstore.keys import data_range
from tikv_py.raftstore.load_split import HotReads
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.region import check_key
from tikv_py.server.raw_values import RANGES_MAX, BatchTooLarge, RawValues, check_batch, family
from tikv_py.server.read_pool import SLICE_KEYS, ReadPool
from tikv_py.txn.context import RegionAccess
from tikv_py.txn.deadline import Deadline

SCAN_LIMIT_MAX = 10_240
BATCH_SCAN_KEYS_MAX = 1 << 18  # of all ranges together
CHECKSUM_RANGES_MAX = 256
SEEK_KEYS = 8  # reading on by so many keys costs as much as finding the first one


class InvalidRanges(Refused):
    """The ranges of a batch scan contradict their direction or each other."""

    code = "KV:Storage:InvalidReqRange"

    def __init__(self) -> None:
        super().__init__("Invalid KeyRanges")


class UnknownAlgorithm(Refused):
    """A checksum by an algorithm that there is not."""

    code = "KV:Storage:UnknownChecksumAlgorithm"


class NoPlugin(Refused):
    """A request for a coprocessor plugin: this store loads none."""

    code = "KV:Coprocessor:PluginDisabled"

    def __init__(self) -> None:
        super().__init__("Coprocessor plugin is disabled!")


@dataclass(slots=True)
class _Span:
    """What is left to read of one range of engine keys."""

    cf: str
    low: bytes
    high: bytes
    reverse: bool
    ended: bool = False

    def __post_init__(self) -> None:
        self.ended = bool(self.high) and self.low >= self.high

    def read(self, source: Engine | Snapshot, limit: int) -> list[Pair]:
        """The next pairs."""
        scan = source.scan_back if self.reverse else source.scan
        pairs = scan(self.cf, self.low, self.high, limit)
        self.passed(pairs, limit)
        return pairs

    def passed(self, pairs: list[Pair], limit: int) -> None:
        """Pairs were read: fewer than `limit` were all there were."""
        if len(pairs) < limit:
            self.ended = True
        elif self.reverse:
            self.high = pairs[-1][0]
        else:
            self.low = pairs[-1][0] + b"\x00"


class RawScanService:
    """Handlers of RawScan, RawBatchScan, RawChecksum and RawCoprocessor."""

    def __init__(self, access: RegionAccess, values: RawValues, pool: ReadPool, workers: Workers, clock: Clock) -> None:
        self._access = access
        self._engine = access.store.kv_db
        self._values = values
        self._pool = pool
        self._workers = workers
        self._clock = clock

    async def scan(self, request: pb.RawScanRequest) -> pb.RawScanResponse:
        """RawScan, clamped to the region; when reverse, start_key is the exclusive upper bound."""
        self._values.check_version(request.context, "raw_scan")
        cf = family(request.cf)
        peer = await self._access.readable(request.context)
        asked = (request.start_key, request.end_key)
        pairs = await self._scan(peer, request.context, cf, asked, request.limit, reverse=request.reverse)
        return pb.RawScanResponse(kvs=_kv_pairs(pairs, key_only=request.key_only))

    async def batch_scan(self, request: pb.RawBatchScanRequest) -> pb.RawBatchScanResponse:
        """RawBatchScan. A range without an end reaches to the next one's start. Each range shows a moment of its own."""
        self._values.check_version(request.context, "raw_batch_scan")
        check_batch(len(request.ranges), RANGES_MAX)
        cf, ranges = family(request.cf), _bounded(request)
        out: list[pb.KvPair] = []
        began, effort = self._clock.monotonic(), 0
        for asked in ranges:
            if effort >= SLICE_KEYS:
                began, effort = await self._pool.next_turn(request.context, began), 0
            peer = await self._access.readable(request.context)
            pairs = await self._scan(peer, request.context, cf, asked, request.each_limit, reverse=request.reverse)
            out += _kv_pairs(pairs, key_only=request.key_only)
            effort += SEEK_KEYS + len(pairs)
            if len(out) > BATCH_SCAN_KEYS_MAX:
                raise BatchTooLarge(f"more than {BATCH_SCAN_KEYS_MAX} keys in one answer; ask for fewer at once")
        return pb.RawBatchScanResponse(kvs=out)

    async def _scan(
        self, peer: Peer, context: pb.Context, cf: str, asked: tuple[bytes, bytes], limit: int, *, reverse: bool
    ) -> list[Pair]:
        low, high = data_range(peer.region.start_key, peer.region.end_key)
        lower, upper = (asked[1], asked[0]) if reverse else asked
        span = _Span(cf, max(low, b"z" + lower), min(high, b"z" + upper) if upper else high, reverse)
        limit = min(limit, SCAN_LIMIT_MAX)
        if span.ended or limit <= 0:
            return []
        began, now_s = self._clock.monotonic(), self._values.now_s()
        read = span.read(self._engine, min(limit, SLICE_KEYS))
        pairs, keys_read = self._values.live_pairs(read, now_s), len(read)
        if len(pairs) < limit and not span.ended:
            keys_read += await self._go_on(context, span, pairs, limit, now_s, began)
        flow = peer.flow
        flow.read_keys += keys_read
        flow.scan_surplus += keys_read - 1
        flow.read_bytes += sum([len(key) + len(value) for key, value in pairs])
        if peer.hot_reads is not None:
            _remember_scan(peer.hot_reads, (lower, upper), pairs, reverse=reverse)
        return pairs

    async def _go_on(
        self, context: pb.Context, span: _Span, pairs: list[Pair], limit: int, now_s: int, began: float
    ) -> int:
        """Read the rest of a span on a frozen view, turn by turn, adding to `pairs`; how many keys were looked at."""
        deadline = Deadline(context, self._clock)
        keys_read = 0
        view = self._engine.snapshot([] if span.reverse else [Range(span.cf, span.low, span.high)])
        try:
            stream: Iterator[Pair] = iter(()) if span.reverse else view.streams[0]
            while len(pairs) < limit and not span.ended:
                began = await self._pool.next_turn(context, began)
                deadline.check()
                wanted = SLICE_KEYS if self._values.ttl else min(SLICE_KEYS, limit - len(pairs))
                if span.reverse:
                    piece = span.read(view, wanted)
                else:
                    piece = list(islice(stream, wanted))
                    span.passed(piece, wanted)
                keys_read += len(piece)
                pairs += self._values.live_pairs(piece, now_s)[: limit - len(pairs)]
        finally:
            view.release()
        return keys_read

    async def checksum(self, request: pb.RawChecksumRequest) -> pb.RawChecksumResponse:
        """RawChecksum of ranges inside the region, of the default family, as a user sees it."""
        values = self._values
        values.check_version(request.context, "raw_checksum")
        if request.algorithm != pb.Crc64_Xor:
            raise UnknownAlgorithm(f"unknown checksum algorithm {request.algorithm}")
        check_batch(len(request.ranges), CHECKSUM_RANGES_MAX)
        deadline = Deadline(request.context, self._clock)
        execute: Any = importlib.import_module("tikv_py.server.raw_checksum")
        peer = await self._access.readable(request.context)
        async with self._pool.thread(request.context) as waited_s:
            if waited_s:
                peer = await self._access.readable(request.context)
            ranges = [_inside(peer, bounds) for bounds in request.ranges]
            now_s = values.now_s()
            view = self._engine.snapshot(ranges)
            checksum, pairs, size = await self._workers.run(
                execute.run, view, lambda piece: values.live_pairs(piece, now_s), deadline
            )
        peer.flow.read_keys += pairs
        peer.flow.scan_surplus += pairs - 1
        peer.flow.read_bytes += size
        return pb.RawChecksumResponse(checksum=checksum, total_kvs=pairs, total_bytes=size)

    async def coprocessor(self, _request: pb.RawCoprocessorRequest) -> pb.RawCoprocessorResponse:
        """RawCoprocessor: there are no plugins here."""
        raise NoPlugin


def _inside(peer: Peer, bounds: pb.KeyRange) -> Range:
    """A range that must lie in the region as a whole, or its checksum would be one of something else."""
    region = peer.region
    check_key(region, bounds.start_key)
    if region.end_key and (not bounds.end_key or bounds.end_key > region.end_key):
        raise KeyNotInRegion(bounds.end_key, region)
    low, high = data_range(region.start_key, region.end_key)
    end = b"z" + bounds.end_key if bounds.end_key else high
    return Range(CF_DEFAULT, max(low, b"z" + bounds.start_key), end)


def _bounded(request: pb.RawBatchScanRequest) -> list[tuple[bytes, bytes]]:
    """The ranges of a batch scan with their ends. Raises InvalidRanges."""
    ranges = request.ranges
    out = []
    for at, bounds in enumerate(ranges):
        start, end = bounds.start_key, bounds.end_key
        if not end and at + 1 < len(ranges):
            end = ranges[at + 1].start_key
        backwards = start and start <= end if request.reverse else start >= end
        if end and backwards:
            raise InvalidRanges
        out.append((start, end))
    return out


def _remember_scan(hot: HotReads, asked: tuple[bytes, bytes], pairs: list[Pair], *, reverse: bool) -> None:
    """What a scan read: not what lay beyond its limit, unless it found nothing."""
    if not pairs:
        hot.add(*asked)
    elif reverse:
        hot.add(pairs[-1][0][1:], asked[1])
    else:
        hot.add(asked[0], pairs[-1][0][1:] + b"\x00")


def _kv_pairs(pairs: list[Pair], *, key_only: bool) -> list[pb.KvPair]:
    if key_only:
        return [pb.KvPair(key=key[1:]) for key, _ in pairs]
    return [pb.KvPair(key=key[1:], value=value) for key, value in pairs]
