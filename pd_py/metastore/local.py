"""The metadata store of a single PD member: everything in memory, every change in a synced journal.

Changes that arrive while a sync runs share the next one (group commit). When the journal has grown, the whole state is written
as one
record into a new journal that replaces the old one atomically.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from core_py.errors import StorageError
from core_py.ports import Disk, Workers
from core_py.runtime.tasks import TaskScope
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
        self._flushing = TaskScope("metadata journal")
        self._is_flushing = False
        self._broken: Exception | None = None
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
        """Set or remove keys; durable and visible on return. A caller that goes away meanwhile changes nothing."""
        if self._broken is not None:
            raise StorageError(f"the metadata journal failed before and takes no more changes: {self._broken}")
        batch = metastore_pb2.Batch(
            changes=[
                metastore_pb2.Change(key=key, value=value or b"", deleted=value is None)
                for key, value in sorted(changes.items())
            ]
        )
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending.append((batch, future))
        if not self._is_flushing:
            self._is_flushing = True
            self._flushing.spawn(self._flush(), name="metadata journal")
        return await future

    async def _flush(self) -> None:
        """Write and sync what is pending, group by group, then apply and acknowledge it.

        In a task of its own: a caller that is cancelled must not take the others' changes with it.
        """
        try:
            while self._pending:
                pending, self._pending = self._pending, []
                await self._flush_group(pending)
        except (OSError, StorageError) as error:
            self._fail(pending, error)
        finally:
            self._is_flushing = False

    async def _flush_group(self, pending: list[tuple[metastore_pb2.Batch, asyncio.Future[int]]]) -> None:
        records = []
        for number, (batch, _) in enumerate(pending, start=self._revision + 1):
            batch.revision = number
            records.append(journal.encode(batch.SerializeToString()))
        await self._append(b"".join(records))
        for batch, future in pending:
            self._apply(batch)
            if not future.done():
                future.set_result(batch.revision)
        if self._size > COMPACT_BYTES:
            state = self._whole_state()
            self._disk.replace(JOURNAL, state)
            self._size = len(state)

    async def _append(self, data: bytes) -> None:
        self._disk.append(JOURNAL, data)
        await self._workers.sync(lambda: self._disk.sync(JOURNAL))
        self._size += len(data)

    def _fail(self, pending: list[tuple[metastore_pb2.Batch, asyncio.Future[int]]], error: Exception) -> None:
        """The journal may end in half a record: what is written behind it could be lost, so nothing more is written."""
        self._broken = error
        waiting, self._pending = [*pending, *self._pending], []
        for _, future in waiting:
            if not future.done():
                future.set_exception(StorageError(f"the metadata journal cannot be written: {error}"))

    async def close(self) -> None:
        """Finish what is being written and close the disk."""
        await self._flushing.join()
        self._disk.close()
