"""Filling an index of a table that has rows: batches of transactions over a snapshot of the record keys.

The index is write-only meanwhile, so every later write keeps its own entry. Each batch reads its rows again in its own
transaction and writes them back unchanged, so that a concurrent change is a conflict and the batch is repeated with what is
there then. A duplicate is error 1062.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from core_py.vector.scan_decode import decode_table, handles_of
from core_py.vector.text import value_text
from tidb_py.catalog.model import IndexInfo, TableInfo
from tidb_py.ddl.transaction import run_in_transaction
from tidb_py.errors import DuplicateEntry
from tidb_py.executor.writer import full_scan, table_range
from tidb_py.session.storage import Storage, Transaction
from tidb_py.types.encode import TableEncoder

BACKFILL_BATCH = 1024


class Backfill:
    """Fills one index."""

    def __init__(self, storage: Storage, table: TableInfo, index: IndexInfo) -> None:
        self._storage, self._table, self._index = storage, table, index

    async def run(self) -> None:
        """Fill the index."""
        table = self._table
        encoder = TableEncoder(table, dt.UTC)
        start, end = table_range(table)
        snapshot = self._storage.snapshot(await self._storage.timestamp())
        keys: list[bytes] = []
        async for key, _ in snapshot.scan(start, end):
            keys.append(key)
            if len(keys) >= BACKFILL_BATCH:
                await self._batch(encoder, keys)
                keys = []
        if keys:
            await self._batch(encoder, keys)

    async def _batch(self, encoder: TableEncoder, keys: list[bytes]) -> None:
        scan = full_scan(self._table, dt.UTC)

        async def fill(txn: Transaction) -> None:
            found = await txn.batch_get(keys)
            live = [k for k in keys if k in found]
            if not live:
                return
            columns = decode_table(scan, live, [found[k] for k in live])
            rows = zip(*[c.to_pylist() for c in columns], strict=True)
            handles = handles_of(live).tolist()
            await self._write_entries(txn, encoder, list(rows), handles)
            txn.write({k: found[k] for k in live})  # a concurrent change of a row is then a conflict

        await run_in_transaction(self._storage, fill)

    async def _write_entries(
        self, txn: Transaction, encoder: TableEncoder, rows: list[tuple[Any, ...]], handles: list[int]
    ) -> None:
        table, index = self._table, self._index
        entries = [encoder.index_entry(index, row, handle) for row, handle in zip(rows, handles, strict=True)]
        present = await txn.batch_get([k for k, _, distinct in entries if distinct]) if index.unique else {}
        changes: dict[bytes, bytes | None] = {}
        for (key, value, distinct), row in zip(entries, rows, strict=True):
            other = changes.get(key, present.get(key)) if distinct else None
            if other is not None and other != value:
                shown = "-".join(
                    value_text(row[c.offset], table.columns[c.offset].ft).decode(errors="replace")
                    for c in index.columns
                )
                raise DuplicateEntry(f"Duplicate entry '{shown}' for key '{table.name}.{index.name}'")
            changes[key] = value
        txn.write(changes)
