"""Bulk INSERT ... VALUES of plain literals, read by one regular expression instead of a syntax tree.

Loading sends statements of a thousand rows; a tree of their literals costs more than writing them. Anything but literals (an
expression, a parameter, ON DUPLICATE KEY) makes `parse_bulk` give up, and the ordinary parser reads the text: None is always a
right answer.
"""

from __future__ import annotations

import re
from decimal import Decimal

from tidb_py.executor.insert import DEFAULT, Cell
from tidb_py.expression.lower import number
from tidb_py.parser.ast import BulkInsert
from tidb_py.parser.tokens import unquote

MIN_TEXT = 1024  # shorter texts are not worth a second look
_NAME = r"(`[^`]+`|[A-Za-z_$][\w$]*)"
_HEAD = re.compile(
    rf"\s*INSERT\s+INTO\s+(?:{_NAME}\s*\.\s*)?{_NAME}\s*(?:\(([\w$`\s,]*)\)\s*)?VALUES\s*(?=\()", re.IGNORECASE
)
_PIECE = re.compile(
    r"\s*(?:('(?:[^'\\]|\\.|'')*')|(-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?![\w.])|(NULL|DEFAULT)\b|([(),;]))",
    re.IGNORECASE | re.DOTALL,
)


def parse_bulk(sql: str) -> BulkInsert | None:
    """The rows of a bulk INSERT, or None when the text is anything else."""
    if len(sql) < MIN_TEXT:
        return None
    head = _HEAD.match(sql)
    rows = _rows(sql, head.end()) if head is not None else None
    if head is None or rows is None:
        return None
    database, table, names = head.groups()
    columns = None if names is None else tuple(unquote(n.strip()) for n in names.split(",")) if names.strip() else ()
    return BulkInsert(unquote(database) if database else "", unquote(table), columns, rows)


def _rows(sql: str, at: int) -> list[list[Cell]] | None:
    rows: list[list[Cell]] = []
    row: list[Cell] | None = None
    expected = True  # a row when between rows, a value when inside one
    for match in _PIECE.finditer(sql, at):
        if match.start() != at:
            return None
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
        elif mark == ",":
            if expected:
                return None
            expected = True
        else:
            break
    return rows if row is None and not expected and not sql[at:].strip() else None


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
