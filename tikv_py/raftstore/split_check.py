"""Where a region that grew too large is cut: by bytes, by keys, or in the middle.

A scan sums up a region in *runs*, a few hundred consecutive pairs each, because looking at every pair in Python would cost
more than reading it. Split keys are chosen among the first keys of runs, so a part may miss its size by a run of each column
family, which is about one percent. The choice is pure; the scan reads a frozen view in slices that are meant for worker threads.

A region's keys are its versions in the `write` family; where that is empty the data is raw, and its entries in `default` count.
Rules, as in the public servers: nothing is split before the total exceeds the maximum; a part ends where the split size would
be exceeded; the last part stays attached to the one before it if together they are below the maximum.

Invariants: split keys ascend, lie strictly inside the region, and never part the versions of one user key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from itertools import chain, islice
from operator import attrgetter

from core_py.codec import memcomparable
from core_py.errors import CodecError
from protos.kvproto import metapb_pb2
from tikv_py.engine.port import CF_DEFAULT, CF_WRITE, DATA_CFS, Pair, Range, Snapshot
from tikv_py.mvcc.keys import TS_SIZE
from tikv_py.raftstore.keys import data_range

RUN_PAIRS_MAX = 256
RUNS_PER_PART = 64  # at least so many per split size, so that large values do not make runs coarse
SLICE_PAIRS = 16_384  # read in one go by a worker thread: some ten milliseconds


@dataclass(frozen=True, slots=True)
class SplitLimits:
    """How large regions may become (`[coprocessor]` of the configuration); sizes in bytes."""

    max_size: int
    split_size: int
    max_keys: int
    split_keys: int
    batch_limit: int
    """Split keys of one check at most."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive pairs of one column family, summed up."""

    first_key: bytes
    """As the engine holds it."""
    size: int
    keys: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A region at one moment: its runs by first key, and their sums."""

    runs: tuple[Run, ...]
    size: int
    keys: int


# ---- choosing ----


def split_bound(engine_key: bytes) -> bytes:
    """The region bound at or before an engine key that does not part the versions of a user key.

    A raw key that looks like an encoded one with a timestamp is taken for one; its bound is still a valid one.
    """
    key = engine_key[1:]
    try:
        end = memcomparable.decode(key)[1]
    except CodecError:
        return key
    return key[:end] if len(key) - end == TS_SIZE else key


def choose(measured: Measured, region: metapb_pb2.Region, limits: SplitLimits) -> list[bytes]:
    """Split keys by size, else by number of keys; none when the region may stay as it is."""
    runs = measured.runs
    if measured.size > limits.max_size:
        weights = [run.size for run in runs]
        found = _cut(runs, weights, region, (limits.max_size, limits.split_size, limits.batch_limit))
        if found:
            return found
    if measured.keys > limits.max_keys:
        weights = [run.keys for run in runs]
        return _cut(runs, weights, region, (limits.max_keys, limits.split_keys, limits.batch_limit))
    return []


def _cut(
    runs: Sequence[Run], weights: Sequence[int], region: metapb_pb2.Region, limits: tuple[int, int, int]
) -> list[bytes]:
    maximum, part, count = limits
    found: list[bytes] = []
    current = 0
    last = region.start_key
    for run, weight in zip(runs, weights, strict=True):
        if current and current + weight > part and len(found) < count:
            bound = split_bound(run.first_key)
            if _inside(bound, last, region.end_key):
                found.append(bound)
                last = bound
                current = 0
        current += weight
    if found and current + part < maximum:
        found.pop()
    return found


def half(measured: Measured, region: metapb_pb2.Region) -> bytes | None:
    """The split key nearest to the middle of the bytes; None when there is none inside the region."""
    best: tuple[int, bytes] | None = None
    before = 0
    for run in measured.runs:
        distance = abs(2 * before - measured.size)
        if best is None or distance < best[0]:
            bound = split_bound(run.first_key)
            if _inside(bound, region.start_key, region.end_key):
                best = distance, bound
        before += run.size
    return None if best is None else best[1]


def _inside(bound: bytes, above: bytes, end: bytes) -> bool:
    return bound > above and (not end or bound < end)


# ---- measuring ----


def region_ranges(region: metapb_pb2.Region) -> list[Range]:
    """What to freeze of the engine to measure a region."""
    start, end = data_range(region.start_key, region.end_key)
    return [Range(cf, start, end) for cf in DATA_CFS]


class RegionScan:
    """Sums up a frozen region; `view` has one stream per range of `region_ranges`. One thread at a time."""

    def __init__(self, view: Snapshot, split_size: int) -> None:
        self._run_bytes = max(1, split_size // RUNS_PER_PART)
        self._runs: dict[str, list[Run]] = {cf: [] for cf in DATA_CFS}
        self._left = list(zip(DATA_CFS, view.streams, strict=True))
        self._seen = 0
        self._length = 1

    def advance(self) -> bool:
        """Read a slice; whether there is more."""
        budget = SLICE_PAIRS
        while self._left and budget > 0:
            family, stream = self._left[0]
            read = self._read_run(self._runs[family], stream)
            budget -= read
            if not read:
                del self._left[0]
                self._seen, self._length = 0, 1
        return bool(self._left)

    def _read_run(self, runs: list[Run], stream: Iterator[Pair]) -> int:
        """Sum up the next pairs; how many they were. Runs are short at first, so that small regions are seen finely too."""
        pairs = list(islice(stream, self._length))
        if not pairs:
            return 0
        count = len(pairs)
        size = sum(map(len, chain.from_iterable(pairs)))
        runs.append(Run(pairs[0][0], size, count))
        self._seen += count
        fine = min(RUN_PAIRS_MAX, self._seen // RUNS_PER_PART)
        self._length = max(1, min(fine, self._run_bytes * count // max(1, size)))
        return count

    def result(self) -> Measured:
        """The sums, once `advance` said that there is no more."""
        counted = CF_WRITE if self._runs[CF_WRITE] else CF_DEFAULT
        families = [
            runs if family == counted else [replace(run, keys=0) for run in runs] for family, runs in self._runs.items()
        ]
        runs = tuple(merge(*families, key=attrgetter("first_key")))
        return Measured(runs, sum([run.size for run in runs]), sum([run.keys for run in runs]))
