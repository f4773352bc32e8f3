"""The metadata store of a single PD member: everything in memory, every change in a synced journal.

Changes that arrive while a sync runs share the next one (group commit). When the journal has grown, the whole state is written
as one
record into a new journal that replaces the old one atomically.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from core_py.ports import Disk, Workers
from pd_py.metastore import journal
from protos.private import metastore_pb2

JOURNAL = "pd.journal"
COMPACT_BYTES = 8 << 20


class LocalMetaStore:
    """`pd_py.metastore.port.MetaStore` of one member."""

    def __init__(self, disk: Disk, workers: Workers) -> None:
        self._disk = disk
        self._workers = workers
        self._values: dict[str, bytes] = {}
        self._revision = 0
        self._lock = asyncio.Lock()
        self._pending: list[tuple[metastore_pb2.Batch, asyncio.Future[int]]] = []
        self._load()

    def _load(self) -> None:
        data = self._disk.read(JOURNAL) or b""
        payloads, valid = journal.decode(data)
        for payload in payloads:
            self._apply(metastore_pb2.Batch.FromString(payload))
        if valid < len(data) or valid > COMPACT_BYTES:
            self._disk.replace(JOURNAL, self._whole_state())
            self._size = len(self._whole_state())
        else:
            self._size = valid

    def _whole_state(self) -> bytes:
        changes = [metastore_pb2.Change(key=key, value=value) for key, value in sorted(self._values.items())]
        if not changes:
            return b""
        return journal.encode(metastore_pb2.Batch(revision=self._revision, changes=changes).SerializeToString())

    def _apply(self, batch: metastore_pb2.Batch) -> None:
        self._revision = batch.revision
        for change in batch.changes:
            if change.deleted:
                self._values.pop(change.key, None)
            else:
                self._values[change.key] = change.value

    def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        return self._values.get(key)

    def prefix(self, prefix: str) -> list[tuple[str, bytes]]:
        """All pairs with the prefix, in key order."""
        return sorted((key, value) for key, value in self._values.items() if key.startswith(prefix))

    async def write(self, changes: Mapping[str, bytes | None]) -> int:
        """Set or remove keys; durable and visible on return."""
        batch = metastore_pb2.Batch(
            changes=[
                metastore_pb2.Change(key=key, value=value or b"", deleted=value is None)
                for key, value in sorted(changes.items())
            ]
        )
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending.append((batch, future))
        async with self._lock:
            if not future.done():
                await self._flush()
        return await future

    async def _flush(self) -> None:
        """Write and sync everything pending, then apply and acknowledge it."""
        pending, self._pending = self._pending, []
        records = []
        for number, (batch, _) in enumerate(pending, start=self._revision + 1):
            batch.revision = number
            records.append(journal.encode(batch.SerializeToString()))
        data = b"".join(records)
        try:
            self._disk.append(JOURNAL, data)
            await self._workers.sync(lambda: self._disk.sync(JOURNAL))
        except BaseException as error:
            for _, future in pending:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            raise
        self._size += len(data)
        for batch, future in pending:
            self._apply(batch)
            if not future.done():
                future.set_result(batch.revision)
        if self._size > COMPACT_BYTES:
            state = self._whole_state()
            self._disk.replace(JOURNAL, state)
            self._size = len(state)

    async def close(self) -> None:
        """Wait for what is being written and close the disk."""
        async with self._lock:
            self._disk.close()
