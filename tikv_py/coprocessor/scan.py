"""The scan under a coprocessor request: batches of visible rows from key ranges of a frozen view, in either direction.

Ranges are read in pieces of a bounded number of records. All versions of a key are judged together, so the records of a
piece's last key are held back until it is known that no more follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tikv_py.coprocessor.visible import VisibleRows, visible
from tikv_py.engine.port import CF_DEFAULT, CF_WRITE, Pair, Snapshot
from tikv_py.errors import LostValue
from tikv_py.mvcc import keys
from tikv_py.mvcc.write import Write

FIRST_PIECE = 1024
MAX_PIECE = 32_768


@dataclass(slots=True)
class Batch:
    """Visible rows, in scan order, and how far the scan has come: every key up to `last_key` has been judged."""

    rows: VisibleRows
    range_index: int
    last_key: bytes | None


class RowScan:
    """One scan of `ranges` (engine keys, ascending) at `read_ts`."""

    def __init__(self, view: Snapshot, ranges: Sequence[tuple[bytes, bytes]], read_ts: int, *, desc: bool) -> None:
        self._view = view
        self._ranges = ranges
        self._read_ts = read_ts
        self._desc = desc
        self.records = 0

    def batches(self, first_piece: int = FIRST_PIECE) -> Iterator[Batch]:
        """Rows of all ranges, piece by piece; pieces double up to a limit."""
        size = max(first_piece, 1)
        order = range(len(self._ranges))
        for at in reversed(order) if self._desc else order:
            pieces = self._pieces_back(at, size) if self._desc else self._pieces(at, size)
            for pairs, complete in pieces:
                self.records += len(pairs)
                last = pairs[0 if self._desc else -1][0][: -keys.TS_SIZE] if pairs else None
                rows = visible(pairs, self._read_ts, self._fetch)
                if self._desc:
                    rows.reverse()
                yield Batch(rows, at, None if complete else last)
                size = min(size * 2, MAX_PIECE)

    def _fetch(self, key: bytes, write: Write) -> bytes:
        value = self._view.get(CF_DEFAULT, keys.versioned(key, write.start_ts))
        if value is None:
            raise LostValue(key, write.start_ts)
        return value

    def _pieces(self, at: int, size: int) -> Iterator[tuple[list[Pair], bool]]:
        """Ascending: (records of whole keys, whether the range is finished)."""
        start, end = self._ranges[at]
        stream = self._view.streams[at] if self._view.streams else None
        carry: list[Pair] = []
        while True:
            if stream is not None:
                chunk = list(islice(stream, size))
            else:
                chunk = self._view.scan(CF_WRITE, start, end, size)
            if len(chunk) < size:
                yield carry + chunk, True
                return
            start = chunk[-1][0] + b"\x00"
            whole, carry = _split_last_key(carry + chunk)
            if whole:
                yield whole, False
            size = min(size * 2, MAX_PIECE)

    def _pieces_back(self, at: int, size: int) -> Iterator[tuple[list[Pair], bool]]:
        """Descending pieces, each given in ascending order."""
        start, end = self._ranges[at]
        carry: list[Pair] = []
        while True:
            chunk = self._view.scan_back(CF_WRITE, start, end, size)[::-1]
            if len(chunk) < size:
                yield chunk + carry, True
                return
            end = chunk[0][0]
            carry, whole = _split_first_key(chunk + carry)
            if whole:
                yield whole, False
            size = min(size * 2, MAX_PIECE)


def _split_last_key(pairs: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    last = pairs[-1][0][: -keys.TS_SIZE]
    cut = len(pairs)
    while cut and pairs[cut - 1][0][: -keys.TS_SIZE] == last:
        cut -= 1
    return pairs[:cut], pairs[cut:]


def _split_first_key(pairs: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    first = pairs[0][0][: -keys.TS_SIZE]
    cut = 0
    while cut < len(pairs) and pairs[cut][0][: -keys.TS_SIZE] == first:
        cut += 1
    return pairs[:cut], pairs[cut:]
