"""One snapshot on its way in, as sorted runs of the kv database that grow chunk by chunk.

Memory holds one chunk. Every chunk is checked (checksum, order of families and keys, the region's bounds) before any of it is
written, and the whole against the sizes and checksums in the last chunk; only then it is complete, and its runs are durable.

A lock, because a stream can be cancelled while a thread still writes its last chunk: `abandon` must come after that, and
nothing may be written behind it.
"""

from __future__ import annotations

import threading
import zlib

from core_py.errors import CodecError
from protos.kvproto import metapb_pb2
from tikv_py.engine.port import DATA_CFS, Engine, SortedRun
from tikv_py.raftstore import keys, snapshot


class StagedSnapshot:
    """The runs are named after `name`, which must not be in use. Calls block and are meant for a thread."""

    def __init__(self, engine: Engine, name: str, region: metapb_pb2.Region, index: int, term: int) -> None:
        self.region = region
        self.index = index
        self.term = term
        self.complete = False
        self.received_bytes = 0
        self._engine = engine
        self._name = name
        self._start, self._end = keys.data_range(region.start_key, region.end_key)
        self._family = -1
        self._last_key = b""
        self._runs: list[tuple[str, str, SortedRun]] = []
        self._lock = threading.Lock()
        self._abandoned = False
        self._files: dict[str, tuple[int, int]] = {}

    @property
    def runs(self) -> tuple[tuple[str, str], ...]:
        """(name, column family) of every run."""
        return tuple((name, cf) for name, cf, _ in self._runs)

    def add(self, chunk: bytes) -> None:
        """Check a chunk and write what it holds. Raises CodecError, and StorageError when it cannot be written."""
        with self._lock:
            self._add(chunk)

    def _add(self, chunk: bytes) -> None:
        family, body = snapshot.decode_chunk(chunk)
        if self._abandoned:
            raise CodecError(f"snapshot of region {self.region.id} was given up")
        if self.complete:
            raise CodecError(f"snapshot of region {self.region.id} goes on after its end")
        if family == snapshot.END_FAMILY:
            self._finish(body)
            return
        if not self._family <= family < len(DATA_CFS):
            raise CodecError(f"snapshot family {family} is unknown or comes after {self._family}")
        if family != self._family:
            self._begin_family(family)
        pairs = snapshot.parse_pairs(body)
        if not pairs:
            raise CodecError(f"snapshot of region {self.region.id} has an empty chunk")
        first, last = pairs[0][0], pairs[-1][0]
        if first <= self._last_key:
            raise CodecError(f"snapshot key {first.hex()} is not above the one before")
        if first < self._start or last >= self._end:
            raise CodecError(f"snapshot of region {self.region.id} has keys outside of the region")
        self._runs[-1][2].add(pairs)
        self._last_key = last
        size, checksum = self._files.get(DATA_CFS[family], (0, 0))
        self._files[DATA_CFS[family]] = size + len(body), zlib.crc32(body, checksum)
        self.received_bytes += len(body)

    def _begin_family(self, family: int) -> None:
        if self._runs:
            self._runs[-1][2].finish()
        cf = DATA_CFS[family]
        name = f"{self._name}-{cf}"
        self._runs.append((name, cf, self._engine.stage(name)))
        self._family, self._last_key = family, b""

    def _finish(self, body: bytes) -> None:
        announced = snapshot.parse_end(body)
        if announced != self._files:
            raise CodecError(
                f"snapshot of region {self.region.id} is not whole: {self._files} came of {announced} (bytes, checksum)"
            )
        if self._runs:
            self._runs[-1][2].finish()
        self.complete = True

    def abandon(self) -> None:
        """Remove everything that was written, complete or not. Idempotent."""
        with self._lock:
            self._abandoned = True
            for _, _, run in self._runs:
                run.abandon()
