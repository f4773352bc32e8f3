"""The checksum of raw data: CRC-64/XZ of every key followed by its value, all of them combined by exclusive or.

A CRC is linear: the remainder of a message is the exclusive or of what each of its bytes contributes by its value and its distance
from the end. As the sum is an exclusive or over all pairs anyway, all bytes of a piece are looked up in one table at once by
numpy and folded together, whatever pair they belong to. What the initial value contributes depends on a pair's length only. Pairs
longer than the table are folded block by block.

numpy is imported with this module, so a store that is never asked for a checksum does without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from tikv_py.engine.port import Pair, Snapshot
from tikv_py.txn.deadline import Deadline

POLYNOMIAL = 0xC96C5795D7870F42  # of ECMA-182, reflected
ALL_ONES = (1 << 64) - 1
BLOCK = 1024  # longest distance from the end that the table knows
PIECE_PAIRS, PIECE_BYTES = 1024, 256 << 10

Words = npt.NDArray[np.uint64]


def _step(registers: Words, first: Words) -> Words:
    """One zero byte more behind messages that left these registers."""
    return first[(registers & np.uint64(0xFF)).astype(np.intp)] ^ (registers >> np.uint64(8))


def _tables() -> tuple[Words, Words]:
    """What a byte contributes, by distance from the end * 256 + byte; what the initial value does, by length."""
    first = np.arange(256, dtype=np.uint64)
    for _ in range(8):
        odd = (first & np.uint64(1)).astype(bool)
        first = (first >> np.uint64(1)) ^ np.where(odd, np.uint64(POLYNOMIAL), np.uint64(0))
    rows = [first]
    initial = [np.array([ALL_ONES], dtype=np.uint64)]
    for _ in range(BLOCK):
        rows.append(_step(rows[-1], first))
        initial.append(_step(initial[-1], first))
    return np.concatenate(rows[:BLOCK]), np.concatenate(initial)


_CONTRIBUTION, _INITIAL = _tables()


class PairsChecksum:
    """Adds up pairs."""

    def __init__(self) -> None:
        self._sum = 0
        self.pairs = 0
        self.bytes = 0

    @property
    def value(self) -> int:
        """The checksum of all pairs so far; 0 of none."""
        return self._sum

    def add(self, pairs: Sequence[Pair]) -> None:
        """More pairs, of user keys and user values."""
        rows = [key + value for key, value in pairs]
        self.pairs += len(rows)
        self.bytes += sum(map(len, rows))
        short = [row for row in rows if len(row) <= BLOCK]
        if short:
            self._sum ^= _short(short)
        for row in rows:
            if len(row) > BLOCK:
                self._sum ^= _long(row)


def _fold(words: Words) -> int:
    return int(np.bitwise_xor.reduce(words))


def _short(rows: list[bytes]) -> int:
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    data = np.frombuffer(b"".join(rows), dtype=np.uint8)
    ends = np.repeat(np.cumsum(lengths), lengths)
    distance = ends - 1 - np.arange(data.size)
    inverted = ALL_ONES if len(rows) % 2 else 0
    return _fold(_CONTRIBUTION[distance * 256 + data]) ^ _fold(_INITIAL[lengths]) ^ inverted


def _block(data: npt.NDArray[np.uint8]) -> int:
    distance = np.arange(data.size - 1, -1, -1)
    return _fold(_CONTRIBUTION[distance * 256 + data])


def _long(row: bytes) -> int:
    data = np.frombuffer(row, dtype=np.uint8).copy()
    data[:8] ^= np.uint8(0xFF)  # the initial value, which is all ones, goes into the first eight bytes
    at = data.size % BLOCK
    register = _block(data[:at])
    while at < data.size:
        block = data[at : at + BLOCK]
        carried = block.copy()
        carried[:8] ^= np.frombuffer(register.to_bytes(8, "little"), dtype=np.uint8)
        register = _block(carried)
        at += BLOCK
    return register ^ ALL_ONES


def run(view: Snapshot, live: Callable[[Sequence[Pair]], list[Pair]], deadline: Deadline) -> tuple[int, int, int]:
    """In a thread: (checksum, pairs, bytes) of all of a view's streams, and release it.

    `live` leaves out what is not there for a user, and unwraps values. Raises ServerIsBusy when the deadline passes.
    """
    total = PairsChecksum()
    try:
        for stream in view.streams:
            for piece in _pieces(stream):
                deadline.check()
                total.add([(key[1:], value) for key, value in live(piece)])
    finally:
        view.release()
    return total.value, total.pairs, total.bytes


def _pieces(stream: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Bounded in pairs and, but for one pair more, in bytes."""
    source, piece, size = iter(stream), [], 0
    while pair := next(islice(source, 1), None):
        piece.append(pair)
        size += len(pair[0]) + len(pair[1])
        if len(piece) == PIECE_PAIRS or size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
