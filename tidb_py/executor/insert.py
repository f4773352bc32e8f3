"""INSERT, REPLACE, INSERT IGNORE, ON DUPLICATE KEY UPDATE, and the rows of LOAD DATA.

Rows come as lists of values with their source types; missing columns get their default. AUTO_INCREMENT values are taken
from the catalog's reserved ranges; the first one generated is LAST_INSERT_ID().
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from core_py.vector.expr import Value
from core_py.vector.fieldtype import NOT_NULL_FLAG, EvalType, FieldType
from tidb_py.catalog.infoschema import Catalog
from tidb_py.catalog.model import ColumnInfo, TableInfo
from tidb_py.errors import NoDefault, NotNullViolation, SqlError
from tidb_py.executor.writer import Row, StatementWriter, WriteContext
from tidb_py.types.convert import Converter, from_text

DEFAULT = object()  # stands for the keyword DEFAULT in a row
Cell = tuple[object, FieldType | None]  # a value (or DEFAULT) and the type of its expression
Updater = Callable[[Row, Row], Awaitable[Row]]  # old row, would-be row -> updated row


@dataclass(slots=True)
class InsertResult:
    """What an INSERT did."""

    affected: int = 0
    records: int = 0
    duplicates: int = 0
    last_insert_id: int = 0


class Inserter:
    """Inserts rows into one table."""

    def __init__(
        self, table: TableInfo, database_id: int, columns: Sequence[ColumnInfo], catalog: Catalog, ctx: WriteContext,
        *, now: Callable[[int], int], mode: str = "error", strict: bool = True,
    ) -> None:  # fmt: skip
        self._table, self._database_id, self._catalog, self._ctx = table, database_id, catalog, ctx
        self._writer = StatementWriter(table, ctx)
        self._mode = mode  # error, ignore, replace or update
        warn = None if strict and mode != "ignore" else ctx.warn
        self._converters = {c.offset: Converter(c, warn) for c in table.columns}
        self._given = [c.offset for c in columns]
        self._now = now
        self._lenient = warn is not None
        self._auto = table.auto_column
        self._handle = table.handle_column
        self._defaults = {c.offset: self._default(c) for c in table.columns}
        self.update: Updater | None = None
        self.result = InsertResult()

    def _default(self, column: ColumnInfo) -> Value | SqlError:
        if column.default_is_expr:
            return self._now(column.ft.fsp)
        if column.default is not None:
            return from_text(column.default, column)
        if column.has_default or not column.ft.flags & NOT_NULL_FLAG or column.auto_increment:
            return None
        return NoDefault(f"Field '{column.name}' doesn't have a default value")

    def _default_of(self, offset: int) -> Value:
        value = self._defaults[offset]
        if isinstance(value, SqlError):
            if not self._lenient:
                raise value
            self._ctx.warn(value)
            return zero_value(self._table.columns[offset].ft)
        return value

    def _row(self, cells: Sequence[Cell], number: int) -> Row:
        row: Row = [None] * len(self._table.columns)
        given = dict(zip(self._given, cells, strict=True))
        for column in self._table.columns:
            offset = column.offset
            cell = given.get(offset)
            if cell is None or cell[0] is DEFAULT:
                row[offset] = self._default_of(offset)
                continue
            value, source = cell
            converter = self._converters[offset]
            converter.row = number
            converted = converter(value, source)  # type: ignore[arg-type]
            if converted is None and column.not_null and not column.auto_increment:
                error = NotNullViolation(f"Column '{column.name}' cannot be null")
                if not self._lenient:
                    raise error
                self._ctx.warn(error)
                converted = zero_value(column.ft)
            row[offset] = converted
        return row

    async def insert(self, rows: Sequence[Sequence[Cell]]) -> None:
        """Insert rows."""
        made = [self._row(cells, self.result.records + i + 1) for i, cells in enumerate(rows)]
        handles, generated = await self._assign(made)
        check_handle = self._handle is not None and not generated
        writer = self._writer
        has_unique = check_handle or any(i.unique for i in self._table.indexes)
        if has_unique:
            keys: list[bytes] = []
            for row, handle in zip(made, handles, strict=True):
                keys += writer.unique_keys(row, handle, check_handle=check_handle)
            await writer.prefetch(keys)
            if self._mode in ("replace", "update") and len(made) > 1:
                pairs = zip(made, handles, strict=True)
                found_rows = [writer.conflict(row, handle, check_handle=check_handle) for row, handle in pairs]
                await writer.prefetch_rows({c.handle for c in found_rows if c is not None})
        result = self.result
        for row, handle in zip(made, handles, strict=True):
            result.records += 1
            if has_unique:
                found = writer.conflict(row, handle, check_handle=check_handle)
                if found is not None and not await self._resolve(row, handle, check_handle=check_handle):
                    continue
            writer.put(row, handle)
            result.affected += 1

    async def _resolve(self, row: Row, handle: int, *, check_handle: bool) -> bool:
        """Handle rows in the way; whether the new row is to be written."""
        writer = self._writer
        while (found := writer.conflict(row, handle, check_handle=check_handle)) is not None:
            if self._mode == "error":
                raise writer.duplicate(found)
            self.result.duplicates += 1
            if self._mode == "ignore":
                self._ctx.warn(writer.duplicate(found))
                return False
            old = await writer.row(found.handle)
            assert old is not None
            if self._mode == "update":
                await self._update(old, row, found.handle)
                return False
            writer.remove(old, found.handle)
            self.result.affected += 1
        return True

    async def _update(self, old: Row, row: Row, handle: int) -> None:
        assert self.update is not None
        new = await self.update(old, row)
        if new == old:
            return
        await change_row(self._writer, old, new, handle)
        self.result.affected += 2

    async def _assign(self, rows: list[Row]) -> tuple[list[int], bool]:
        """The handles of rows, and whether all were generated here (and so cannot be in use)."""
        auto, generated = self._auto, False
        if auto is not None:
            missing = [r for r in rows if r[auto.offset] is None or r[auto.offset] == 0]
            if missing:
                start = await self._catalog.take_ids(self._database_id, self._table, len(missing))
                for i, row in enumerate(missing):
                    row[auto.offset] = self._converters[auto.offset](start + i)
                if not self.result.last_insert_id:
                    self.result.last_insert_id = start
            explicit = [v for r in rows if isinstance(v := r[auto.offset], int)]
            generated = len(missing) == len(rows)
            if not generated:
                await self._catalog.rebase_ids(self._database_id, self._table, max(explicit))
        handle = self._handle
        if handle is None:
            start = await self._catalog.take_ids(self._database_id, self._table, len(rows))
            return list(range(start, start + len(rows))), True
        handles = [as_handle(r[handle.offset]) for r in rows]
        return handles, generated and handle is auto


def as_handle(value: Value) -> int:
    """A primary key value as a signed handle."""
    assert isinstance(value, int)
    return value - (1 << 64) if value >= 1 << 63 else value


def zero_value(ft: FieldType) -> Value:
    """What a NOT NULL column gets in a lenient statement."""
    family = ft.eval_type
    if family in (EvalType.STRING, EvalType.JSON):
        return b""
    return 0.0 if family is EvalType.REAL else 0


async def change_row(writer: StatementWriter, old: Row, new: Row, handle: int) -> None:
    """Replace a row by another; the new row's unique keys must be free."""
    table = writer.table
    pk = table.handle_column
    new_handle = as_handle(new[pk.offset]) if pk is not None else handle
    moved = new_handle != handle
    await writer.prefetch(writer.unique_keys(new, new_handle, check_handle=moved))
    found = writer.conflict(new, new_handle, check_handle=moved, own=handle)
    if found is not None:
        raise writer.duplicate(found)
    writer.remove(old, handle)
    writer.put(new, new_handle)
