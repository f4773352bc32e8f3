"""Command packets as values: one frozen dataclass per command, and `parse_command` which makes them."""

from __future__ import annotations

from dataclasses import dataclass

from tidb_py.mysql.constants import Command
from tidb_py.mysql.errors import ProtocolError
from tidb_py.mysql.handshake import HandshakeResponse, parse_change_user
from tidb_py.mysql.wire import Reader


@dataclass(frozen=True, slots=True)
class Quit:
    """The client leaves."""


@dataclass(frozen=True, slots=True)
class InitDb:
    """Change the current database."""

    database: str


@dataclass(frozen=True, slots=True)
class Query:
    """Run SQL text."""

    sql: bytes


@dataclass(frozen=True, slots=True)
class FieldList:
    """Describe the columns of a table."""

    table: str
    wildcard: str


@dataclass(frozen=True, slots=True)
class Statistics:
    """One line about the server."""


@dataclass(frozen=True, slots=True)
class ProcessKill:
    """Stop another connection."""

    connection_id: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there."""


@dataclass(frozen=True, slots=True)
class ChangeUser:
    """Authenticate again as someone else, with a fresh session."""

    response: HandshakeResponse


@dataclass(frozen=True, slots=True)
class ResetConnection:
    """A fresh session for the same user."""


@dataclass(frozen=True, slots=True)
class SetOption:
    """Switch multi-statements on or off."""

    multi_statements: bool


@dataclass(frozen=True, slots=True)
class StmtPrepare:
    """Prepare a statement."""

    sql: bytes


@dataclass(frozen=True, slots=True)
class StmtExecute:
    """Run a prepared statement; the parameters stay raw until the statement is known."""

    statement_id: int
    cursor_flags: int
    body: bytes


@dataclass(frozen=True, slots=True)
class StmtSendLongData:
    """A piece of one parameter; there is no answer."""

    statement_id: int
    parameter: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StmtClose:
    """Forget a prepared statement; there is no answer."""

    statement_id: int


@dataclass(frozen=True, slots=True)
class StmtReset:
    """Drop long data and the cursor of a statement."""

    statement_id: int


@dataclass(frozen=True, slots=True)
class StmtFetch:
    """More rows of a cursor."""

    statement_id: int
    rows: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """A command this server does not have (answered with 1047; the connection stays)."""

    number: int


AnyCommand = (
    Quit | InitDb | Query | FieldList | Statistics | ProcessKill | Ping | ChangeUser | ResetConnection | SetOption
    | StmtPrepare | StmtExecute | StmtSendLongData | StmtClose | StmtReset | StmtFetch | Unknown
)  # fmt: skip

_BARE: dict[int, AnyCommand] = {
    Command.QUIT: Quit(),
    Command.STATISTICS: Statistics(),
    Command.PING: Ping(),
    Command.RESET_CONNECTION: ResetConnection(),
}


def parse_command(payload: bytes, capabilities: int) -> AnyCommand:
    """Decode one command packet."""
    if not payload:
        raise ProtocolError("an empty packet is no command")
    number = payload[0]
    if number == Command.QUERY:
        return Query(payload[1:])
    if number in _BARE:
        return _BARE[number]
    if number >= Command.STMT_PREPARE:
        return _parse_statement(number, payload)
    reader = Reader(payload, 1)
    if number == Command.INIT_DB:
        return InitDb(reader.text(reader.rest().rstrip(b"\0")))
    if number == Command.FIELD_LIST:
        return FieldList(reader.text(reader.nul_bytes()), reader.text(reader.rest()))
    if number == Command.PROCESS_KILL:
        return ProcessKill(reader.uint(4))
    if number == Command.CHANGE_USER:
        return ChangeUser(parse_change_user(payload, capabilities))
    return Unknown(number)


def _parse_statement(number: int, payload: bytes) -> AnyCommand:
    reader = Reader(payload, 1)
    if number == Command.STMT_PREPARE:
        return StmtPrepare(payload[1:])
    if number == Command.SET_OPTION:
        return SetOption(reader.uint(2) == 0)
    if number == Command.STMT_EXECUTE:
        statement_id = reader.uint(4)
        cursor_flags = reader.uint(1)
        reader.take(4)  # iteration count, always 1
        return StmtExecute(statement_id, cursor_flags, reader.rest())
    if number == Command.STMT_SEND_LONG_DATA:
        return StmtSendLongData(reader.uint(4), reader.uint(2), reader.rest())
    if number == Command.STMT_CLOSE:
        return StmtClose(reader.uint(4))
    if number == Command.STMT_RESET:
        return StmtReset(reader.uint(4))
    if number == Command.STMT_FETCH:
        return StmtFetch(reader.uint(4), reader.uint(4))
    return Unknown(number)
