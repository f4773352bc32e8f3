"""Bulk INSERT and REPLACE ... VALUES of plain literals, read by one regular expression instead of a syntax tree.

Loading sends statements of a thousand rows; a tree of their literals costs more than writing them. Anything but literals (an
expression, a parameter) makes `parse_bulk` give up, and the ordinary parser reads the text: None is always a right answer.
ON DUPLICATE KEY UPDATE is cut off and read by the ordinary parser behind a single row.
"""

from __future__ import annotations

import re
from decimal import Decimal

from sqlglot import expressions as exp

from tidb_py.executor.insert import DEFAULT, Cell
from tidb_py.expression.lower import number
from tidb_py.parser.ast import BulkInsert
from tidb_py.parser.front import tree
from tidb_py.parser.tokens import unquote

MIN_TEXT = 1024  # shorter texts are not worth a second look
_NAME = r"(`[^`]+`|[A-Za-z_$][\w$]*)"
_HEAD = re.compile(
    rf"\s*(INSERT|INSERT\s+IGNORE|REPLACE)\s+INTO\s+(?:{_NAME}\s*\.\s*)?{_NAME}\s*(?:\(([\w$`\s,]*)\)\s*)?VALUES\s*(?=\()",
    re.IGNORECASE,
)
_UPDATE = re.compile(r"\s*ON\s+DUPLICATE\s+KEY\s+UPDATE\s", re.IGNORECASE)
_PIECE = re.compile(
    r"\s*(?:('(?:[^'\\]|\\.|'')*')|(-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?![\w.])|(NULL|DEFAULT)\b|([(),;]))",
    re.IGNORECASE | re.DOTALL,
)


def parse_bulk(sql: str) -> BulkInsert | None:
    """The rows of a bulk INSERT, or None when the text is anything else."""
    if len(sql) < MIN_TEXT:
        return None
    head = _HEAD.match(sql)
    found = _rows(sql, head.end()) if head is not None else None
    if head is None or found is None:
        return None
    rows, end = found
    verb, database, table, names = head.groups()
    mode = {"R": "replace", "I": "error"}[verb[0].upper()] if len(verb) <= len("REPLACE") else "ignore"
    assignments: tuple[exp.Expression, ...] = ()
    if sql[end:].strip() not in ("", ";"):
        if mode != "error" or _UPDATE.match(sql, end) is None:
            return None
        conflict = tree("INSERT INTO t VALUES (1) " + sql[end:]).node.args.get("conflict")  # noqa: S608 - only parsed
        if conflict is None:
            return None
        mode, assignments = "update", tuple(conflict.expressions)
    columns = None if names is None else tuple(unquote(n.strip()) for n in names.split(",")) if names.strip() else ()
    return BulkInsert(unquote(database) if database else "", unquote(table), columns, rows, mode, assignments)


def _rows(sql: str, at: int) -> tuple[list[list[Cell]], int] | None:
    """The rows, and where the text goes on behind them."""
    rows: list[list[Cell]] = []
    row: list[Cell] | None = None
    expected = True  # a row when between rows, a value when inside one
    for match in _PIECE.finditer(sql, at):
        if match.start() != at or match[4] == ";":
            break  # something else begins, or the end
        at = match.end()
        string, digits, word, mark = match.groups()
        if mark is None:
            if row is None or not expected:
                return None
            row.append(_cell(string, digits, word))
            expected = False
        elif mark == "(":
            if row is not None or not expected:
                return None
            row = []
        elif mark == ")":
            if row is None or expected:
                return None
            rows.append(row)
            row = None
        else:
            if expected:
                return None
            expected = True
    return (rows, at) if row is None and not expected else None


def _cell(string: str | None, digits: str | None, word: str | None) -> Cell:
    if string is not None:
        body = string[1:-1]
        if "\\" in body or "'" in body:
            body = unquote(string)
        return body.encode("utf-8", "surrogateescape"), None
    if digits is None:
        return (DEFAULT if str(word).upper() == "DEFAULT" else None), None
    if digits.isdigit() or digits[1:].isdigit():
        return int(digits), None
    value = number(digits.removeprefix("-")).value
    assert isinstance(value, int | float | Decimal)
    return (value.copy_negate() if isinstance(value, Decimal) else -value) if digits[0] == "-" else value, None
