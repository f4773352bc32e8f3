"""Changing rows: one statement's writes to one table, collected and only then given to the transaction.

Uniqueness is checked with one batch read for all rows of a statement. `changes` is laid over what was read, so rows of one
statement see each other. A failed statement drops its `StatementWriter`; nothing was written.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from core_py.codec import tablecodec
from core_py.vector.expr import Value
from core_py.vector.plan import ScanColumn, TableScan
from core_py.vector.scan_decode import decode_table
from core_py.vector.text import value_text
from tidb_py.catalog.model import IndexInfo, TableInfo
from tidb_py.errors import DuplicateEntry, SqlError
from tidb_py.planner.defaults import origin_default_datum
from tidb_py.session.storage import Reader, Transaction
from tidb_py.types.encode import TableEncoder

Row = list[Value]


@dataclass(slots=True)
class WriteContext:
    """What writing needs of the statement and its session."""

    txn: Transaction
    reader: Reader  # at the timestamp at which the statement reads, with own writes
    zone: dt.tzinfo
    warn: Callable[[SqlError], None]
    changes: dict[bytes, bytes | None] = field(default_factory=dict)
    unread: set[bytes] = field(
        default_factory=set
    )  # keys of new rows that were not looked at: their ids were generated
    tables: dict[int, TableInfo] = field(default_factory=dict)  # written ones, as the statement knows them


@dataclass(slots=True)
class Conflict:
    """A row that is in the way of another."""

    handle: int
    key_name: str
    values: str


def full_scan(table: TableInfo, zone: dt.tzinfo) -> TableScan:
    """All columns of a table."""
    handle = table.handle_column
    return TableScan(
        table.id,
        tuple(ScanColumn(c.id, c.ft, c is handle, origin_default_datum(c, zone)) for c in table.columns),
    )


class StatementWriter:
    """Writes of one statement to one table."""

    def __init__(self, table: TableInfo, ctx: WriteContext) -> None:
        self.table = table
        self._ctx = ctx
        ctx.tables[table.id] = table
        self._encoder = TableEncoder(table, ctx.zone)
        self._scan = full_scan(table, ctx.zone)
        self._known: dict[bytes, bytes | None] = {}
        self._decoded: dict[bytes, tuple[bytes, Row]] = {}  # rows that were decoded together, by key, with their text

    def unique_keys(self, row: Row, handle: int, *, check_handle: bool) -> list[bytes]:
        """The keys that must be free for a row."""
        keys = [self._encoder.record_key(handle)] if check_handle else []
        for index in self.table.indexes:
            if index.unique:
                key, _, distinct = self._encoder.index_entry(index, row, handle)
                if distinct:
                    keys.append(key)
        return keys

    async def prefetch(self, keys: Iterable[bytes]) -> None:
        """Lock (in a pessimistic transaction) and read keys at once."""
        wanted = [k for k in dict.fromkeys(keys) if k not in self._known]
        if not wanted:
            return
        if self._ctx.txn.pessimistic:
            await self._ctx.txn.lock(wanted)
        found = await self._ctx.reader.batch_get(wanted)
        for key in wanted:
            self._known[key] = found.get(key)

    def _value(self, key: bytes) -> bytes | None:
        changes = self._ctx.changes
        return changes[key] if key in changes else self._known.get(key)

    def conflict(self, row: Row, handle: int, *, check_handle: bool, own: int | None = None) -> Conflict | None:
        """The first row in the way; `own` is the handle of the row being changed."""
        if check_handle and handle != own and self._value(self._encoder.record_key(handle)) is not None:
            return Conflict(handle, "PRIMARY", str(handle))
        for index in self.table.indexes:
            if not index.unique:
                continue
            key, _, distinct = self._encoder.index_entry(index, row, handle)
            entry = self._value(key) if distinct else None
            if entry is not None:
                other = int.from_bytes(entry[-8:], "big", signed=True)
                if other != own:
                    return Conflict(other, index.name, self._shown(index, row))
        return None

    def _shown(self, index: IndexInfo, row: Row) -> str:
        parts = []
        for column in index.columns:
            raw = value_text(row[column.offset], self.table.columns[column.offset].ft)
            parts.append(raw.decode(errors="replace"))
        return "-".join(parts)

    def duplicate(self, conflict: Conflict) -> DuplicateEntry:
        """Error 1062."""
        return DuplicateEntry(f"Duplicate entry '{conflict.values}' for key '{self.table.name}.{conflict.key_name}'")

    def put(self, row: Row, handle: int) -> None:
        """Write a row and its index entries."""
        changes = self._ctx.changes
        key = self._encoder.record_key(handle)
        if self.table.pk_is_handle and key not in changes and key not in self._known:
            self._ctx.unread.add(key)  # an explicit value of another server may be there
        changes[key] = self._encoder.row(row)
        for key, value, _, _ in self._encoder.entries(row, handle):
            changes[key] = value

    def remove(self, row: Row, handle: int) -> None:
        """Delete a row and its index entries."""
        changes = self._ctx.changes
        changes[self._encoder.record_key(handle)] = None
        for key, _, _, _ in self._encoder.entries(row, handle):
            changes[key] = None

    async def row(self, handle: int) -> Row | None:
        """A row by handle, as it is now within the statement."""
        key = self._encoder.record_key(handle)
        await self.prefetch([key])
        value = self._value(key)
        if value is None:
            return None
        known = self._decoded.get(key)
        return list(known[1]) if known is not None and known[0] is value else self.decode([key], [value])[0]

    async def prefetch_rows(self, handles: Iterable[int]) -> None:
        """Read and decode rows together, of which `row` would make one request and one decoding each."""
        keys = [self._encoder.record_key(handle) for handle in handles]
        await self.prefetch(keys)
        found = {key: value for key in keys if (value := self._value(key)) is not None}
        if found:
            rows = self.decode(list(found), list(found.values()))
            self._decoded |= {k: (v, r) for (k, v), r in zip(found.items(), rows, strict=True)}

    def decode(self, keys: Sequence[bytes], values: Sequence[bytes]) -> list[Row]:
        """Stored rows as values."""
        columns = decode_table(self._scan, keys, values, self._ctx.zone)
        return [list(row) for row in zip(*[c.to_pylist() for c in columns], strict=True)]

    def record_key(self, handle: int) -> bytes:
        """The key of a row."""
        return self._encoder.record_key(handle)


def table_range(table: TableInfo) -> tuple[bytes, bytes]:
    """All record keys of a table."""
    prefix = tablecodec.record_prefix(table.id)
    return prefix, tablecodec.prefix_next(prefix)
