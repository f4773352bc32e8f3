"""OK, ERR and EOF payloads, the column definition, the prepare answer and the LOCAL INFILE request."""

from __future__ import annotations

from dataclasses import dataclass

from tidb_py.mysql.constants import CHARSET_UTF8MB4
from tidb_py.mysql.errors import sqlstate_of
from tidb_py.mysql.wire import lenenc_bytes, lenenc_int


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDef:
    """What a client is told of one column of a result."""

    name: str
    type: int
    org_name: str = ""
    table: str = ""
    org_table: str = ""
    database: str = ""
    charset: int = CHARSET_UTF8MB4
    length: int = 0
    flags: int = 0
    decimals: int = 0


def _utf8(text: str) -> bytes:
    """Text that may quote what a client sent; a byte that was no UTF-8 becomes a question mark."""
    return text.encode(errors="replace")


def ok(status: int, affected: int = 0, last_insert_id: int = 0, warnings: int = 0, info: bytes = b"") -> bytes:
    """An OK payload."""
    return b"".join(
        (
            b"\x00",
            lenenc_int(affected),
            lenenc_int(last_insert_id),
            status.to_bytes(2, "little"),
            min(warnings, 65535).to_bytes(2, "little"),
            lenenc_bytes(info)
            if info
            else b"",  # the manual says "until the end", servers send a length and clients want it
        )
    )


def end_of_rows(status: int, warnings: int, *, deprecate_eof: bool) -> bytes:
    """What follows the last row: EOF, or an OK with header 0xFE for clients that deprecate EOF."""
    if deprecate_eof:
        return b"\xfe\0\0" + status.to_bytes(2, "little") + min(warnings, 65535).to_bytes(2, "little")
    return eof(status, warnings)


def eof(status: int, warnings: int = 0) -> bytes:
    """An EOF payload."""
    return b"\xfe" + min(warnings, 65535).to_bytes(2, "little") + status.to_bytes(2, "little")


def err(mysql_code: int, message: str, sqlstate: str | None = None) -> bytes:
    """An ERR payload."""
    state = sqlstate or sqlstate_of(mysql_code)
    return b"\xff" + mysql_code.to_bytes(2, "little") + b"#" + state.encode()[:5].ljust(5, b"0") + _utf8(message)


def column_definition(column: ColumnDef) -> bytes:
    """A ColumnDefinition41 payload."""
    return b"".join(
        (
            b"\x03def",
            lenenc_bytes(column.database.encode()),
            lenenc_bytes(column.table.encode()),
            lenenc_bytes(column.org_table.encode()),
            lenenc_bytes(column.name.encode()),
            lenenc_bytes(column.org_name.encode()),
            b"\x0c",
            column.charset.to_bytes(2, "little"),
            max(0, min(column.length, 0xFFFFFFFF)).to_bytes(4, "little"),
            bytes([column.type]),
            (column.flags & 0xFFFF).to_bytes(2, "little"),
            bytes([column.decimals & 0xFF]),
            b"\0\0",
        )
    )


def prepare_ok(statement_id: int, columns: int, params: int, warnings: int = 0) -> bytes:
    """The first payload of an answer to COM_STMT_PREPARE."""
    return b"".join(
        (
            b"\0",
            statement_id.to_bytes(4, "little"),
            columns.to_bytes(2, "little"),
            params.to_bytes(2, "little"),
            b"\0",
            min(warnings, 65535).to_bytes(2, "little"),
        )
    )


def local_infile_request(filename: str) -> bytes:
    """Ask the client to send a file."""
    return b"\xfb" + filename.encode()
