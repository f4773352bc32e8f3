"""What a connection asks of a session, and what a session answers: the port between protocol and SQL.

The protocol loop knows only these types, so its tests run against a session of ten lines, and a session's tests need no
socket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from core_py.vector.arrow import Vec
from core_py.vector.fieldtype import FieldType
from tidb_py.mysql.responses import ColumnDef
from tidb_py.mysql.statement import ParamValue
from tidb_py.session.times import StatementTimes

Batch = Sequence[Vec]  # one Arrow array per column, all of one length


@dataclass(slots=True)
class ResultSet:
    """Rows: batches of typed columns, pulled one after another."""

    columns: list[ColumnDef]
    types: list[FieldType]
    batches: AsyncIterator[Batch]


@dataclass(frozen=True, slots=True)
class Done:
    """A statement without rows."""

    affected: int = 0
    last_insert_id: int = 0
    warnings: int = 0
    info: str = ""


class FileSink(Protocol):
    """Where the pieces of a LOCAL INFILE go."""

    async def feed(self, data: bytes) -> None:
        """Take a piece; an error makes the rest be read and dropped."""

    async def finish(self) -> Done:
        """The file is complete."""


@dataclass(frozen=True, slots=True)
class NeedFile:
    """LOAD DATA LOCAL: the client must send this file."""

    filename: str
    sink: FileSink


Result = ResultSet | Done | NeedFile


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared statement as the client is told of it."""

    statement_id: int
    params: int
    columns: list[ColumnDef] = field(default_factory=list)


class Session(Protocol):
    """One client's SQL session."""

    times: StatementTimes  # of the statement that ran last

    @property
    def status(self) -> int:
        """Status flags: AUTOCOMMIT, IN_TRANS."""

    @property
    def warning_count(self) -> int:
        """Warnings of the statement so far; complete when its rows are."""

    def split(self, sql: str) -> list[str]:
        """The statements of a multi-statement text."""

    async def execute(self, sql: str) -> Result:
        """Run one statement."""

    async def prepare(self, sql: str) -> Prepared:
        """Prepare one statement."""

    async def execute_prepared(self, statement_id: int, values: Sequence[ParamValue]) -> Result:
        """Run a prepared statement."""

    def close_prepared(self, statement_id: int) -> None:
        """Forget a prepared statement."""

    async def init_db(self, name: str) -> None:
        """Change the current database."""

    async def fields(self, table: str) -> list[ColumnDef]:
        """The columns of a table, for COM_FIELD_LIST."""

    async def reset(self) -> None:
        """Back to the state after login: transaction rolled back, variables and statements gone."""

    async def close(self) -> None:
        """The client is gone; roll back."""
