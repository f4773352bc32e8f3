"""Raw keys of a memory cluster: values with an optional end of life, per column family. What has expired is not there."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any

from core_py.ports import Clock
from protos.kvproto import kvrpcpb_pb2 as pb

_CRC64_XZ = 0xC96C5795D7870F42


def crc64(data: bytes) -> int:
    """CRC-64/XZ, as RawChecksum is defined."""
    crc = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_CRC64_XZ if crc & 1 else 0)
    return crc ^ 0xFFFFFFFFFFFFFFFF


class RawFamily:
    """Keys in order, each with a value and when it ends (seconds of the clock; 0 = never)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._items: dict[bytes, tuple[bytes, float]] = {}
        self._keys: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        """The value."""
        found = self._items.get(key)
        if found is None or (found[1] and found[1] <= self._clock.monotonic()):
            return None
        return found[0]

    def left_s(self, key: bytes) -> int:
        """Whole seconds to live; 0 = for ever."""
        ends = self._items[key][1]
        return max(1, round(ends - self._clock.monotonic())) if ends else 0

    def put(self, key: bytes, value: bytes, ttl_s: int = 0) -> None:
        """Set a value."""
        if key not in self._items:
            insort(self._keys, key)
        self._items[key] = value, self._clock.monotonic() + ttl_s if ttl_s else 0.0

    def delete(self, key: bytes) -> None:
        """Remove a key."""
        if self._items.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """The live pairs of [start, end); empty `end` = to the last."""
        found = self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, end) if end else None]
        for key in reversed(found) if reverse else found:
            value = self.get(key)
            if value is not None:
                yield key, value


class RawStorage:
    """The raw commands. `bounds` are the region's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._families: dict[str, RawFamily] = {}

    def family(self, name: str = "") -> RawFamily:
        """A column family; the nameless one is "default"."""
        return self._families.setdefault(name or "default", RawFamily(self._clock))

    def raw_get(self, request: Any, _bounds: Any) -> Any:
        """RawGet."""
        value = self.family(request.cf).get(request.key)
        return pb.RawGetResponse(value=value or b"", not_found=value is None)

    def raw_batch_get(self, request: Any, _bounds: Any) -> Any:
        """RawBatchGet: only pairs that are there."""
        family = self.family(request.cf)
        found = ((key, family.get(key)) for key in request.keys)
        return pb.RawBatchGetResponse(pairs=[pb.KvPair(key=k, value=v) for k, v in found if v is not None])

    def raw_put(self, request: Any, _bounds: Any) -> Any:
        """RawPut."""
        self.family(request.cf).put(request.key, request.value, request.ttl)
        return pb.RawPutResponse()

    def raw_batch_put(self, request: Any, _bounds: Any) -> Any:
        """RawBatchPut: one time to live for all pairs, or one for each."""
        ttls = list(request.ttls) or [request.ttl]
        if len(ttls) not in (1, len(request.pairs)):
            return pb.RawBatchPutResponse(error=f"{len(ttls)} TTLs for {len(request.pairs)} pairs")
        for number, pair in enumerate(request.pairs):
            self.family(request.cf).put(pair.key, pair.value, ttls[number] if len(ttls) > 1 else ttls[0])
        return pb.RawBatchPutResponse()

    def raw_delete(self, request: Any, _bounds: Any) -> Any:
        """RawDelete."""
        self.family(request.cf).delete(request.key)
        return pb.RawDeleteResponse()

    def raw_batch_delete(self, request: Any, _bounds: Any) -> Any:
        """RawBatchDelete."""
        for key in request.keys:
            self.family(request.cf).delete(key)
        return pb.RawBatchDeleteResponse()

    def raw_delete_range(self, request: Any, bounds: tuple[bytes, bytes]) -> Any:
        """RawDeleteRange, as far as the region goes."""
        family = self.family(request.cf)
        for key, _ in list(family.scan(*clamped(request.start_key, request.end_key, bounds))):
            family.delete(key)
        return pb.RawDeleteRangeResponse()

    def raw_scan(self, request: Any, bounds: tuple[bytes, bytes]) -> Any:
        """RawScan; descending ones start at the upper bound."""
        return pb.RawScanResponse(kvs=self._pairs(request, request, request.limit, bounds))

    def raw_batch_scan(self, request: Any, bounds: tuple[bytes, bytes]) -> Any:
        """RawBatchScan: one range after the other."""
        made = [self._pairs(one, request, request.each_limit, bounds) for one in request.ranges]
        return pb.RawBatchScanResponse(kvs=[pair for pairs in made for pair in pairs])

    def _pairs(self, span: Any, request: Any, limit: int, bounds: tuple[bytes, bytes]) -> list[pb.KvPair]:
        low, high = (span.end_key, span.start_key) if request.reverse else (span.start_key, span.end_key)
        found = self.family(request.cf).scan(*clamped(low, high, bounds), reverse=request.reverse)
        return [
            pb.KvPair(key=key, value=b"" if request.key_only else value)
            for (key, value), _ in zip(found, range(limit), strict=False)
        ]

    def raw_compare_and_swap(self, request: Any, _bounds: Any) -> Any:
        """RawCompareAndSwap."""
        family = self.family(request.cf)
        now = family.get(request.key)
        same = now is None if request.previous_not_exist else now == request.previous_value
        if same and request.delete:
            family.delete(request.key)
        elif same:
            family.put(request.key, request.value, request.ttl)
        return pb.RawCASResponse(succeed=same, previous_not_exist=now is None, previous_value=now or b"")

    def raw_get_key_ttl(self, request: Any, _bounds: Any) -> Any:
        """RawGetKeyTTL."""
        family = self.family(request.cf)
        if family.get(request.key) is None:
            return pb.RawGetKeyTTLResponse(not_found=True)
        return pb.RawGetKeyTTLResponse(ttl=family.left_s(request.key))

    def raw_checksum(self, request: Any, bounds: tuple[bytes, bytes]) -> Any:
        """RawChecksum: the XOR of the CRC-64 of every key with its value."""
        response = pb.RawChecksumResponse()
        for span in request.ranges:
            for key, value in self.family().scan(*clamped(span.start_key, span.end_key, bounds)):
                response.checksum ^= crc64(key + value)
                response.total_kvs += 1
                response.total_bytes += len(key) + len(value)
        return response


def clamped(start: bytes, end: bytes, bounds: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """The part of [start, end) inside the bounds; empty = no bound."""
    return max(start, bounds[0]), min(end, bounds[1]) if end and bounds[1] else end or bounds[1]
