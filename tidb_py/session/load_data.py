"""LOAD DATA LOCAL INFILE: the pieces of a file to rows, inserted in batches of transactions of their own size.

Fields are split with `bytes.split` when no enclosing quotes or escapes occur in a line, by a small state machine otherwise. In
autocommit mode every batch commits, as TiDB does; inside a transaction the rows belong to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from tidb_py.catalog.model import ColumnInfo
from tidb_py.executor.insert import DEFAULT, Cell
from tidb_py.parser.ast import LoadData
from tidb_py.server.handler import Done

BATCH_ROWS = 5000
_ESCAPES = {b"n"[0]: b"\n", b"t"[0]: b"\t", b"r"[0]: b"\r", b"0"[0]: b"\0", b"b"[0]: b"\b", b"Z"[0]: b"\x1a"}
InsertRows = Callable[[list[list[Cell]]], Awaitable[tuple[int, int]]]  # rows -> affected, duplicates


class LoadDataSink:
    """Takes the pieces of one file."""

    def __init__(self, spec: LoadData, columns: Sequence[ColumnInfo | None], insert: InsertRows) -> None:
        self._spec, self._columns, self._insert = spec, columns, insert
        self._buffer = b""
        self._rows: list[list[Cell]] = []
        self._skip = spec.skip
        self._records = self._affected = self._duplicates = 0

    async def feed(self, data: bytes) -> None:
        """A piece of the file."""
        self._buffer += data
        await self._lines(last=False)

    async def finish(self) -> Done:
        """The end of the file."""
        await self._lines(last=True)
        await self._flush()
        skipped = self._duplicates
        info = f"Records: {self._records}  Deleted: 0  Skipped: {skipped}  Warnings: {skipped}"
        return Done(self._affected, 0, skipped, info)

    async def _lines(self, *, last: bool) -> None:
        end = self._spec.lines_terminated
        enclosed, escaped = self._spec.enclosed, self._spec.escaped
        if (enclosed and enclosed in self._buffer) or (escaped and escaped in self._buffer):
            lines, self._buffer = _careful_lines(self._buffer, end, enclosed, escaped)
        else:
            *lines, self._buffer = self._buffer.split(end)
        if last and self._buffer:
            lines.append(self._buffer)
            self._buffer = b""
        for line in lines:
            if self._skip:
                self._skip -= 1
                continue
            self._rows.append(self._row(line))
            if len(self._rows) >= BATCH_ROWS:
                await self._flush()

    def _row(self, line: bytes) -> list[Cell]:
        spec = self._spec
        if spec.lines_starting:
            _, _, line = line.partition(spec.lines_starting)
        if line.endswith(b"\r") and spec.lines_terminated == b"\n" and spec.fields_terminated != b"\r":
            line = line[:-1]
        fields: list[bytes | None]
        if (spec.enclosed and spec.enclosed in line) or (spec.escaped and spec.escaped in line):
            fields = _careful_fields(line, spec.fields_terminated, spec.enclosed, spec.escaped)
        else:
            fields = list(line.split(spec.fields_terminated))
        cells: list[Cell] = []
        for i, column in enumerate(self._columns):
            if column is not None:
                cells.append((fields[i], None) if i < len(fields) else (DEFAULT, None))
        return cells

    async def _flush(self) -> None:
        if self._rows:
            rows, self._rows = self._rows, []
            affected, duplicates = await self._insert(rows)
            self._records += len(rows)
            self._affected += affected
            self._duplicates += duplicates


def _careful_lines(data: bytes, end: bytes, enclosed: bytes, escaped: bytes) -> tuple[list[bytes], bytes]:
    """Lines whose terminator is neither escaped nor inside quotes."""
    lines, start, at, quoted = [], 0, 0, False
    quote, escape = enclosed[:1], escaped[:1]
    while at < len(data):
        c = data[at : at + 1]
        if escape and c == escape:
            at += 2
        elif quote and c == quote:
            quoted = not quoted
            at += 1
        elif not quoted and data.startswith(end, at):
            lines.append(data[start:at])
            at += len(end)
            start = at
        else:
            at += 1
    return lines, data[start:]


def _careful_fields(line: bytes, end: bytes, enclosed: bytes, escaped: bytes) -> list[bytes | None]:
    fields: list[bytes | None] = []
    quote, escape = enclosed[:1], escaped[:1]
    out, at, quoted, null = bytearray(), 0, False, False
    while at < len(line):
        c = line[at : at + 1]
        if escape and c == escape and at + 1 < len(line):
            following = line[at + 1]
            if following == 78 and not out and not quoted:  # \N
                null = True
            else:
                out += _ESCAPES.get(following, bytes([following]))
            at += 2
        elif quote and c == quote and (quoted or not out):
            if quoted and line[at + 1 : at + 2] == quote:
                out += quote
                at += 2
                continue
            quoted = not quoted
            at += 1
        elif not quoted and line.startswith(end, at):
            fields.append(None if null else bytes(out))
            out, null = bytearray(), False
            at += len(end)
        else:
            out += c
            at += 1
    fields.append(None if null else bytes(out))
    return fields
