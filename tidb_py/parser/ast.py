"""Statements as values. Queries, DML and DDL keep sqlglot's tree; everything else has a small class of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Node = Any  # a sqlglot expression


@dataclass(frozen=True, slots=True)
class SqlNode:
    """SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, TRUNCATE as sqlglot read it."""

    node: Node
    text: str
    replace: bool = False  # REPLACE instead of INSERT


@dataclass(frozen=True, slots=True)
class Begin:
    """BEGIN, START TRANSACTION."""

    mode: str = ""  # "pessimistic", "optimistic" or the session's


@dataclass(frozen=True, slots=True)
class Commit:
    """COMMIT."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """ROLLBACK, or ROLLBACK TO a savepoint."""

    savepoint: str = ""


@dataclass(frozen=True, slots=True)
class Savepoint:
    """SAVEPOINT."""

    name: str


@dataclass(frozen=True, slots=True)
class ReleaseSavepoint:
    """RELEASE SAVEPOINT."""

    name: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """One item of SET; `scope` is user, session, global or names."""

    scope: str
    name: str
    value: Node


@dataclass(frozen=True, slots=True)
class SetStatement:
    """SET of variables."""

    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class SetPassword:
    """SET PASSWORD."""

    user: str
    host: str
    password: str


@dataclass(frozen=True, slots=True)
class Use:
    """USE."""

    database: str


@dataclass(frozen=True, slots=True)
class Show:
    """SHOW and DESCRIBE."""

    kind: str
    table: str = ""
    database: str = ""
    pattern: str | None = None
    where: Node = None
    full: bool = False
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Explain:
    """EXPLAIN of a statement."""

    statement: Statement
    analyze: bool = False


@dataclass(frozen=True, slots=True)
class Prepare:
    """PREPARE from text or a user variable."""

    name: str
    text: str
    from_variable: bool


@dataclass(frozen=True, slots=True)
class Execute:
    """EXECUTE with user variables."""

    name: str
    variables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deallocate:
    """DEALLOCATE PREPARE."""

    name: str


@dataclass(frozen=True, slots=True)
class UserSpec:
    """An account in CREATE USER and the like; `password` None: unchanged."""

    user: str
    host: str
    password: str | None = None
    plugin: str = ""


@dataclass(frozen=True, slots=True)
class UserStatement:
    """CREATE, ALTER or DROP USER."""

    verb: str
    users: tuple[UserSpec, ...]
    tolerant: bool = False  # IF [NOT] EXISTS


@dataclass(frozen=True, slots=True)
class LoadData:
    """LOAD DATA LOCAL INFILE."""

    filename: str
    database: str
    table: str
    columns: tuple[str, ...]
    assignments: tuple[tuple[str, Node], ...] = ()
    fields_terminated: bytes = b"\t"
    enclosed: bytes = b""
    escaped: bytes = b"\\"
    lines_terminated: bytes = b"\n"
    lines_starting: bytes = b""
    skip: int = 0
    replace: bool = False
    ignore: bool = True


@dataclass(frozen=True, slots=True)
class Analyze:
    """ANALYZE TABLE."""

    tables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BulkInsert:
    """INSERT or REPLACE of literal rows; each cell is a value and None, or the mark for DEFAULT."""

    database: str
    table: str
    columns: tuple[str, ...] | None
    rows: list[list[tuple[object, Any]]]
    mode: str = "error"  # of a duplicate: error, ignore, replace or update
    assignments: tuple[Any, ...] = ()  # of ON DUPLICATE KEY UPDATE


@dataclass(frozen=True, slots=True)
class RenameTables:
    """RENAME TABLE; pairs of (database, table)."""

    pairs: tuple[tuple[tuple[str, str], tuple[str, str]], ...]


@dataclass(frozen=True, slots=True)
class Kill:
    """KILL."""

    connection_id: int


@dataclass(frozen=True, slots=True)
class Admin:
    """ADMIN CHECK TABLE, ADMIN SHOW DDL ..."""

    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Do:
    """DO: expressions are computed and their values dropped."""

    select: SqlNode


@dataclass(frozen=True, slots=True)
class Nothing:
    """A statement that is accepted and does nothing here (GRANT, FLUSH, LOCK TABLES ...)."""

    what: str = field(default="")


Statement = (
    SqlNode | Begin | Commit | Rollback | Savepoint | ReleaseSavepoint | SetStatement | SetPassword | Use | Show | Explain
    | Prepare | Execute | Deallocate | UserStatement | LoadData | Analyze | Kill | RenameTables | BulkInsert | Admin | Do
    | Nothing
)  # fmt: skip
