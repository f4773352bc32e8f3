"""What a session measures of its statements and transactions: their type, time to parse and plan, time a transaction lived.

A `StatementTimes` belongs to one session and is overwritten by each statement; the protocol loop reads it when the answer
is sent, because only then the rows are computed. `sql_type` is one of a closed list of names, for it labels metrics.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import expressions as exp

from tidb_py.parser import ast

OTHER = "Other"
_NODES: dict[type, str] = {
    exp.Insert: "Insert", exp.Update: "Update", exp.Delete: "Delete", exp.TruncateTable: "TruncateTable",
    exp.Alter: "AlterTable",
}  # fmt: skip
_OBJECTS = {"TABLE": "Table", "DATABASE": "Database", "SCHEMA": "Database", "INDEX": "Index", "VIEW": "View"}
_STATEMENTS: dict[type, str] = {
    ast.Begin: "Begin", ast.Commit: "Commit", ast.Rollback: "Rollback", ast.Savepoint: "Savepoint",
    ast.SetStatement: "Set", ast.Use: "Use", ast.Show: "Show", ast.Explain: "Explain", ast.Prepare: "Prepare",
    ast.Execute: "Execute", ast.LoadData: "LoadData", ast.BulkInsert: "Insert", ast.Analyze: "AnalyzeTable",
    ast.UserStatement: "User", ast.SetPassword: "User", ast.Kill: "Kill",
}  # fmt: skip


def sql_type_of(statement: ast.Statement) -> str:
    """The kind of a statement."""
    if not isinstance(statement, ast.SqlNode):
        return _STATEMENTS.get(type(statement), OTHER)
    node = statement.node
    if isinstance(node, exp.Query):
        return "Select"
    if isinstance(node, (exp.Create, exp.Drop)):
        made = _OBJECTS.get(str(node.args.get("kind") or "").upper())
        return f"{type(node).__name__}{made}" if made is not None else OTHER
    if statement.replace:
        return "Replace"
    return _NODES.get(type(node), OTHER)


class StatementTimes:
    """The measures of one session."""

    __slots__ = ("_began", "_transaction", "compile_s", "monotonic", "on_transaction", "parse_s", "sql_type")

    def __init__(self, monotonic: Callable[[], float], on_transaction: Callable[[float], None]) -> None:
        self.monotonic = monotonic
        self.on_transaction = on_transaction
        self.sql_type = OTHER
        self.parse_s: float | None = None  # None: not parsed, the text was known as a point read
        self.compile_s: float | None = None
        self._transaction: object = None
        self._began = 0.0

    def start(self, sql_type: str = OTHER) -> None:
        """A statement begins."""
        self.sql_type = sql_type
        self.parse_s = self.compile_s = None

    def transaction_is(self, transaction: object) -> None:
        """After a statement: which transaction is open now; one that was and is not has ended."""
        if transaction is self._transaction:
            return
        now = self.monotonic()
        if self._transaction is not None:
            self.on_transaction(now - self._began)
        self._transaction, self._began = transaction, now
