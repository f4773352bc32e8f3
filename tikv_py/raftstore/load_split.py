"""Splitting by load: a region that is read too much, whatever its size, is cut where its reads divide evenly.

A region is *hot* in a second in which its reads or read bytes exceed a threshold. From then on a few of its reads are remembered
per second, chosen evenly (a reservoir), and after enough hot seconds in a row the starts of remembered reads are tried as
split keys: the best has as many reads to its left as to its right and few that it would cut in two. If none is good (everybody
reads one key), recording starts over. A region that is not hot pays one attribute test per read.

Keys are in the encoding of region bounds. Pure: the randomness comes in, the seconds are the caller's.
"""

from __future__ import annotations

from core_py.ports import Random
from protos.kvproto import metapb_pb2
from tikv_py.raftstore.config import LoadSplitConfig

KeyRange = tuple[bytes, bytes]
"""[start, end) that was read, both the same for a single key; an empty end means plus infinity."""


def is_hot(config: LoadSplitConfig, queries: int, read_bytes: int, seconds: float) -> bool:
    """Whether what was read within `seconds` exceeds a threshold."""
    return queries >= config.qps_threshold * seconds or read_bytes >= config.byte_threshold * seconds


class HotReads:
    """The remembered reads of one region since it became hot."""

    __slots__ = ("_config", "_now", "_rng", "_seconds", "_seen")

    def __init__(self, config: LoadSplitConfig, rng: Random) -> None:
        self._config = config
        self._rng = rng
        self._seconds: list[list[KeyRange]] = []
        self._now: list[KeyRange] = []
        self._seen = 0

    def add(self, start: bytes, end: bytes) -> None:
        """A read; every read of the second is remembered with equal probability."""
        self._seen += 1
        if len(self._now) < self._config.sample_num:
            self._now.append((start, end))
            return
        at = int(self._rng.random() * self._seen)
        if at < len(self._now):
            self._now[at] = start, end

    def end_second(self) -> bool:
        """A hot second is over; whether there were enough to choose a split key."""
        self._seconds.append(self._now)
        self._now, self._seen = [], 0
        return len(self._seconds) >= self._config.detect_times

    def split_key(self, region: metapb_pb2.Region) -> bytes | None:
        """The key that divides the remembered reads best; None when none divides them well."""
        reads = [read for second in self._seconds for read in second]
        if len(reads) < self._config.sample_threshold:
            return None
        best: tuple[float, bytes] | None = None
        for key in self._candidates(reads, region):
            score = self._score(reads, key)
            if score is not None and (best is None or score < best[0]):
                best = score, key
        return None if best is None else best[1]

    def _candidates(self, reads: list[KeyRange], region: metapb_pb2.Region) -> list[bytes]:
        starts = [start for start, _ in reads]
        for at in range(min(self._config.sample_num, len(starts))):
            other = self._rng.randrange(at, len(starts))
            starts[at], starts[other] = starts[other], starts[at]
        tried = dict.fromkeys(starts[: self._config.sample_num])
        return [key for key in tried if key > region.start_key and (not region.end_key or key < region.end_key)]

    def _score(self, reads: list[KeyRange], key: bytes) -> float | None:
        """0 divides perfectly; None is not good enough."""
        right = sum([start >= key for start, _ in reads])
        contained = sum([start < key and (not end or end > key) for start, end in reads])
        left = len(reads) - right - contained
        if not left + right:
            return None
        balance, cut = abs(left - right) / (left + right), contained / len(reads)
        if balance > self._config.split_balance_score or cut >= self._config.split_contained_score:
            return None
        return balance + cut
