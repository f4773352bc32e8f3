"""A key space cut at the ends of overlapping items, so that all keys of one piece are covered by the same items.

Built once per change; a look-up is one bisection. Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class RangeList(Generic[T]):
    """Pieces in key order: piece i reaches from `starts[i]` to `starts[i + 1]`, the last to the end of the key space."""

    def __init__(self, items: Iterable[tuple[bytes, bytes, T]]) -> None:
        items = list(items)
        points = {b""}
        for start, end, _ in items:
            points.add(start)
            if end:
                points.add(end)
        self.starts = sorted(points)
        self.pieces: list[list[T]] = [[] for _ in self.starts]
        for start, end, item in items:
            last = bisect_left(self.starts, end) if end else len(self.starts)
            for at in range(bisect_left(self.starts, start), last):
                self.pieces[at].append(item)

    def at(self, key: bytes) -> int:
        """The piece that holds a key."""
        return bisect_right(self.starts, key) - 1

    def over(self, start: bytes, end: bytes) -> int:
        """The piece that holds [start, end) as a whole; -1 when it is cut."""
        at = self.at(start)
        if at + 1 < len(self.starts) and (not end or end > self.starts[at + 1]):
            return -1
        return at

    def cuts(self, start: bytes, end: bytes) -> list[bytes]:
        """Where pieces begin inside of (start, end)."""
        first = bisect_right(self.starts, start)
        last = bisect_left(self.starts, end) if end else len(self.starts)
        return self.starts[first:last]
