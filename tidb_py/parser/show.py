"""SHOW and DESCRIBE."""

from __future__ import annotations

from tidb_py.parser import ast
from tidb_py.parser.tokens import Cursor

_PLAIN = {
    "DATABASES": "databases", "SCHEMAS": "databases", "WARNINGS": "warnings", "ERRORS": "errors", "ENGINES": "engines",
    "PROCESSLIST": "processlist", "PRIVILEGES": "privileges", "PLUGINS": "plugins", "COLLATION": "collation",
    "VARIABLES": "variables", "STATUS": "status", "CHARSET": "charset", "TRIGGERS": "triggers", "EVENTS": "events",
    "GRANTS": "grants", "PROFILES": "profiles",
}  # fmt: skip


def parse_show(c: Cursor) -> ast.Statement:
    """SHOW ..."""
    c.take()
    full = c.accept("FULL") or c.accept("EXTENDED")
    scope = ""
    for word in ("GLOBAL", "SESSION", "LOCAL"):
        if c.accept(word):
            scope = "global" if word == "GLOBAL" else "session"
    if c.accept("CREATE"):
        return _show_create(c)
    if c.accept("TABLE", "STATUS"):
        return _tail(c, "table status")
    if c.accept("CHARACTER", "SET"):
        return _tail(c, "charset")
    if c.accept("MASTER", "STATUS") or c.accept("BINARY", "LOG", "STATUS"):
        return ast.Show("master status")
    if c.accept("COUNT", "(", "*", ")"):
        return ast.Show(f"count {c.take().text.lower()}")
    if c.ahead(0) in ("FUNCTION", "PROCEDURE") and c.ahead(1) == "STATUS":
        c.take()
        c.take()
        return _tail(c, "routines")
    if c.accept("TABLES"):
        return _tail(c, "tables", full=full)
    if c.accept("COLUMNS") or c.accept("FIELDS"):
        return _of_table(c, "columns", full=full)
    if c.accept("INDEX") or c.accept("INDEXES") or c.accept("KEYS"):
        return _of_table(c, "index", full=full)
    if c.accept("OPEN", "TABLES"):
        return _tail(c, "open tables")
    kind = _PLAIN.get(c.ahead(0))
    if kind is None:
        raise c.error()
    c.take()
    if kind == "grants":
        c.rest()
        return ast.Show("grants")
    return _tail(c, kind, scope=scope, full=full)


def parse_describe(c: Cursor) -> ast.Statement:
    """DESCRIBE table [column]."""
    database, table = c.table()
    pattern = c.name() if not c.at_end else None
    return ast.Show("columns", table, database, pattern)


def _show_create(c: Cursor) -> ast.Statement:
    if c.accept("DATABASE") or c.accept("SCHEMA"):
        tolerant = c.accept("IF", "NOT", "EXISTS")
        return ast.Show("create database", database=c.name(), full=tolerant)
    if c.accept("USER"):
        return ast.Show("create user", c.name())
    c.expect("TABLE")
    database, table = c.table()
    return ast.Show("create table", table, database)


def _of_table(c: Cursor, kind: str, *, full: bool) -> ast.Statement:
    if not (c.accept("FROM") or c.accept("IN")):
        raise c.error()
    database, table = c.table()
    if c.accept("FROM") or c.accept("IN"):
        database = c.name()
    return _tail(c, kind, table=table, database=database, full=full)


def _tail(
    c: Cursor, kind: str, *, table: str = "", database: str = "", full: bool = False, scope: str = ""
) -> ast.Statement:
    if kind in ("tables", "table status", "triggers", "open tables", "events") and (c.accept("FROM") or c.accept("IN")):
        database = c.name()
    pattern, where = None, None
    if c.accept("LIKE"):
        pattern = c.string()
    elif c.accept("WHERE"):
        where = c.rest()
        return ast.Show(kind, table, database, None, where, full, scope)
    if not c.at_end:
        raise c.error()
    return ast.Show(kind, table, database, pattern, where, full, scope)
