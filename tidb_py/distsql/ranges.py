"""Key ranges that can be cut without copying: a list and a window into it, with the two ends possibly trimmed.

A big IN list or an index look-up makes tens of thousands of ranges; every region error and every page cuts them again, so a cut
must cost the same however many there are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

KeyRange = tuple[bytes, bytes]


class KeyRanges:
    """Sorted, non-overlapping ranges [start, end)."""

    __slots__ = ("_high", "_low", "_ranges", "_start", "_stop")

    def __init__(self, ranges: Sequence[KeyRange], start: int = 0, stop: int | None = None) -> None:
        self._ranges = ranges
        self._start = start
        self._stop = len(ranges) if stop is None else stop
        self._low: bytes | None = None  # the first range begins here instead
        self._high: bytes | None = None  # the last range ends here instead

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[KeyRange]:
        for i in range(self._start, self._stop):
            yield self._at(i)

    def _at(self, i: int) -> KeyRange:
        start, end = self._ranges[i]
        if i == self._start and self._low is not None:
            start = self._low
        if i == self._stop - 1 and self._high is not None:
            end = self._high
        return start, end

    def _window(self, start: int, stop: int, low: bytes | None, high: bytes | None) -> KeyRanges:
        out = KeyRanges(self._ranges, start, stop)
        out._low, out._high = low, high
        return out

    def after(self, key: bytes) -> KeyRanges:
        """What lies at or above a key."""
        at = bisect_right(self._ranges, key, self._start, self._stop, key=lambda r: r[0])
        if at > self._start:
            at -= 1
            start, end = self._at(at)
            if end and end <= key:
                return self._window(at + 1, self._stop, None, self._high)
            return self._window(at, self._stop, max(start, key), self._high)
        return self._window(at, self._stop, self._low, self._high)

    def before(self, key: bytes) -> KeyRanges:
        """What lies below a key."""
        at = bisect_left(self._ranges, key, self._start, self._stop, key=lambda r: r[0])
        if at == self._start:
            return self._window(at, at, None, None)
        start, end = self._at(at - 1)
        if start >= key:
            return self._window(self._start, at - 1, self._low, None)
        high = key if not end or end > key else self._high if at == self._stop else None
        return self._window(self._start, at, self._low, high)
