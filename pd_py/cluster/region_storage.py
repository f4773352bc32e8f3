"""The regions a member knew before it was restarted, on its own disk.

A cache: heartbeats and the leader are right, and whatever is missing or stale here they correct. So changes are appended in
batches every few seconds, damage ends the file with a warning, and a failing disk switches the cache off instead of the
server. The file is a row of checksummed records (`pd_py.metastore.journal`); when the changes in it outweigh the regions,
it is written anew.

Encoding and disk calls happen on worker threads, on values that do not change. Invariant: what is pending is newer than
what is in the file.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from google.protobuf.message import DecodeError

from core_py.errors import PdError, StorageError
from core_py.ports import Disk, Workers
from core_py.runtime.log import get_logger
from pd_py.cluster.convert import region_pb, region_view
from pd_py.cluster.long_lived import no_collection
from pd_py.metastore import journal
from pd_py.schedule.view import RegionView
from protos.private import region_cache_pb2

FILE = "regions.cache"
FLUSH_INTERVAL_S = 3.0
BATCH = 1000
COMPACT_BYTES = 16 << 20
"""The file may grow to twice its compact size and this much more."""

_HEAD = struct.Struct(">II")


class RegionStorage:
    """The cache of one member. `regions` gives all regions for writing the file anew."""

    def __init__(self, disk: Disk, workers: Workers, regions: Callable[[], Sequence[RegionView]]) -> None:
        self._disk = disk
        self._workers = workers
        self._regions = regions
        self._pending: dict[int, RegionView | None] = {}
        self._bytes = 0
        self._compact_bytes = 0
        self._flushing = asyncio.Lock()
        self.is_working = True

    def put(self, region: RegionView) -> None:
        """A region is new or its meta changed."""
        if self.is_working:
            self._pending[region.region_id] = region

    def gone(self, region: RegionView) -> None:
        """A region was displaced."""
        if self.is_working:
            self._pending[region.region_id] = None

    async def load(self) -> list[RegionView]:
        """What was kept, in key order; it may overlap where the last changes were lost. Leaders are unknown."""
        try:
            data = await self._workers.run(self._disk.read, FILE) or b""
        except OSError as error:
            self._failed(error)
            return []
        with no_collection():
            found, self._bytes = await self._workers.run(_decode, data)
        if self._bytes < len(data):
            get_logger().warn("region cache is damaged; its rest is dropped", at=self._bytes, size=len(data))
            self._compact_bytes = (
                -COMPACT_BYTES
            )  # the next flush writes it anew, for nothing may be appended behind damage
        else:
            self._compact_bytes = self._bytes
        return sorted(found.values(), key=lambda region: region.start_key)

    async def flush(self) -> None:
        """Write what is pending."""
        async with self._flushing:
            if not self.is_working or not (self._pending or self._compact_bytes < 0):
                return
            try:
                if self._bytes > 2 * self._compact_bytes + COMPACT_BYTES:
                    await self._compact()
                else:
                    pending, self._pending = self._pending, {}
                    self._bytes += await self._workers.run(self._append, pending)
            except (OSError, StorageError) as error:
                self._failed(error)

    async def _compact(self) -> None:
        regions = self._regions()
        self._pending = {}
        self._bytes = self._compact_bytes = await self._workers.run(self._replace, regions)

    def _append(self, pending: dict[int, RegionView | None]) -> int:
        data = b"".join(_encode(list(pending.items())))
        self._disk.append(FILE, data)
        return len(data)

    def _replace(self, regions: Sequence[RegionView]) -> int:
        data = b"".join(_encode([(region.region_id, region) for region in regions]))
        self._disk.replace(FILE, data)
        return len(data)

    def _failed(self, error: Exception) -> None:
        self.is_working = False
        self._pending = {}
        get_logger().warn("region cache cannot be used; a restart will wait for heartbeats", error=str(error))

    async def run(self) -> None:
        """Flush again and again."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            await self.flush()

    async def close(self) -> None:
        """Write the last changes."""
        await self.flush()


def _encode(changes: Sequence[tuple[int, RegionView | None]]) -> Iterator[bytes]:
    """Records of a batch each."""
    for at in range(0, len(changes), BATCH):
        batch = region_cache_pb2.Batch()
        for region_id, region in changes[at : at + BATCH]:
            if region is None:
                batch.gone.append(region_id)
            else:
                batch.regions.add(region=region_pb(region), size_bytes=region.size_bytes, keys=region.keys)
        yield journal.encode(batch.SerializeToString())


def _decode(data: bytes) -> tuple[dict[int, RegionView], int]:
    """(regions by id, length of the part that is sound)."""
    found: dict[int, RegionView] = {}
    end = 0
    for payload, after in _records(data):
        try:
            batch = region_cache_pb2.Batch.FromString(payload)
            views = [_view(record) for record in batch.regions]
        except (DecodeError, PdError):
            break
        found.update((view.region_id, view) for view in views)
        for region_id in batch.gone:
            found.pop(region_id, None)
        end = after
    return found, end


def _view(record: region_cache_pb2.Record) -> RegionView:
    view = region_view(record.region)
    return RegionView(
        view.region_id,
        view.start_key,
        view.end_key,
        view.conf_ver,
        view.version,
        view.peers,
        size_bytes=record.size_bytes,
        keys=record.keys,
    )


def _records(data: bytes) -> Iterable[tuple[bytes, int]]:
    """(payload, where the next record begins), up to the first that is not whole."""
    at = 0
    while at + _HEAD.size <= len(data):
        size, checksum = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + size]
        if not 0 < size <= journal.MAX_RECORD or len(payload) < size or zlib.crc32(payload) != checksum:
            return
        at += _HEAD.size + size
        yield payload, at
