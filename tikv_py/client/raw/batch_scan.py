"""Scanning many ranges with few requests: what is left of them is asked for region by region.

A request holds the parts of several ranges that lie in one region. Its answer is one list without marks, so the parts of one
request never overlap: every pair belongs to the one part that its key lies in. Ranges that overlap go into different requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protos.kvproto import kvrpcpb_pb2
from tikv_py.client.raw.answers import Pair
from tikv_py.client.region.backoff import Backoffer
from tikv_py.client.region.cache import RegionCache
from tikv_py.client.region.regions import Region, least_end

PARTS_MAX = 256  # of one request
PAIRS_MAX = 1 << 16  # of one answer
LIMIT_MAX = 10_240  # of one part of a request; the stores give no more

Bounds = tuple[bytes, bytes]
"""[start, end); an empty end is plus infinity."""


@dataclass(slots=True)
class _Left:
    """What one range has still to read."""

    at: int
    start: bytes
    end: bytes
    count: int

    @property
    def is_done(self) -> bool:
        return self.count <= 0 or (bool(self.end) and self.start >= self.end)


@dataclass(frozen=True, slots=True)
class Part:
    """One request: parts of ranges in one region, in the order in which the store answers them."""

    region: Region
    limit: int
    bounds: list[kvrpcpb_pb2.KeyRange]
    """As the request wants them: with start and end exchanged when descending."""
    spans: list[tuple[_Left, bytes, bytes]]


class BatchScan:
    """Ask for `next_part`, send it, give the answer to `take`, until there is none. A part may be asked for again."""

    def __init__(self, ranges: Sequence[Bounds], each_limit: int, *, reverse: bool) -> None:
        self.results: list[list[Pair]] = [[] for _ in ranges]
        self._reverse = reverse
        self._left = [_Left(at, start, end, each_limit) for at, (start, end) in enumerate(ranges)]

    async def next_part(self, cache: RegionCache, backoffer: Backoffer) -> Part | None:
        """What to ask next, or None when all is read. Raises what looking for a region raises."""
        self._left = [one for one in self._left if not one.is_done]
        if not self._left:
            return None
        if self._reverse:
            first = max(self._left, key=lambda one: (not one.end, one.end))
            region = await cache.locate_end_key(first.end, backoffer)
        else:
            first = min(self._left, key=lambda one: one.start)
            region = await cache.locate_key(first.start, backoffer)
        spans = self._spans_in(region)
        limit = min(LIMIT_MAX, max(one.count for one, _, _ in spans))
        bounds = [
            kvrpcpb_pb2.KeyRange(start_key=high, end_key=low)
            if self._reverse
            else kvrpcpb_pb2.KeyRange(start_key=low, end_key=high)
            for _, low, high in spans
        ]
        return Part(region, limit, bounds, spans)

    def _spans_in(self, region: Region) -> list[tuple[_Left, bytes, bytes]]:
        """The next parts of ranges in a region that do not overlap, in order of reading.

        All have as much to read as the first, because a request has one limit for all.
        """
        inside = []
        for one in self._left:
            low, high = max(one.start, region.start), least_end(one.end, region.end)
            begins_here = (not self._reverse and low == one.start) or (self._reverse and high == one.end)
            if begins_here and (not high or low < high):
                inside.append((one, low, high))
        inside.sort(key=lambda span: span[1])
        apart = inside[:1]
        for span in inside[1:]:
            end = apart[-1][2]
            if end and span[1] >= end and span[0].count == apart[0][0].count:
                apart.append(span)
        apart = apart[: max(1, min(PARTS_MAX, PAIRS_MAX // max(1, apart[0][0].count)))]
        return apart[::-1] if self._reverse else apart

    def take(self, part: Part, pairs: list[Pair]) -> None:
        """Sort an answer's pairs to their ranges, and note how far each has come."""
        at = 0
        for one, low, high in part.spans:
            begin = at
            while at < len(pairs) and low <= pairs[at][0] and (not high or pairs[at][0] < high):
                at += 1
            found = pairs[begin:at]
            self.results[one.at] += found
            one.count -= len(found)
            self._advance(one, low, high, found, part.limit)

    def _advance(self, one: _Left, low: bytes, high: bytes, found: list[Pair], limit: int) -> None:
        if len(found) >= limit:
            if self._reverse:
                one.end = found[-1][0]
            else:
                one.start = found[-1][0] + b"\0"
        elif self._reverse:
            one.end = low
            one.count = one.count if low else 0  # an empty end would mean plus infinity
        else:
            one.start = high
            one.count = one.count if high else 0
