"""A small SQL tokenizer for what does not need sqlglot: statement kinds, splitting, parameter markers, item texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tidb_py.errors import ParseError

_TOKEN = re.compile(
    r"(?P<space>\s+|--(?=\s|$)[^\n]*|\#[^\n]*|/\*.*?\*/)"
    r"|(?P<string>'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\")"
    r"|(?P<quoted>`(?:[^`]|``)*`)"
    r"|(?P<variable>@@?(?:[A-Za-z0-9_.$]+|`[^`]*`|'[^']*'|\"[^\"]*\")?)"
    r"|(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)"
    r"|(?P<word>[A-Za-z_$\u0080-\uffff][\w$\u0080-\uffff]*)"
    r"|(?P<op><=>|<=|>=|<>|!=|:=|\|\||&&|->>|->|<<|>>|.)",
    re.DOTALL,
)
_EXECUTABLE = re.compile(r"/\*!\d*(.*?)\*/", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "Z": "\x1a"}


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of SQL text; `text` is upper-case for words."""

    kind: str
    text: str
    raw: str
    start: int
    end: int


def without_executable_comments(sql: str) -> str:
    """`/*! ... */` is SQL to MySQL; keep what is inside."""
    return _EXECUTABLE.sub(r" \1 ", sql) if "/*!" in sql else sql


def tokens(sql: str) -> Iterator[Token]:
    """The tokens of a text, without space and comments."""
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup or "op"
        if kind == "space":
            continue
        raw = match.group()
        yield Token(kind, raw.upper() if kind == "word" else raw, raw, match.start(), match.end())


def unquote(raw: str) -> str:
    """The value of a quoted string or name."""
    if raw[:1] == "`":
        return raw[1:-1].replace("``", "`")
    if raw[:1] in ("'", '"') and len(raw) >= 2:
        quote = raw[0]
        body = raw[1:-1].replace(quote * 2, quote)
        return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m.group(1), m.group(1)), body, flags=re.DOTALL)
    return raw


def split_statements(sql: str) -> list[str]:
    """The statements of a text, without empty ones."""
    out, start = [], 0
    for token in tokens(sql):
        if token.kind == "op" and token.raw == ";":
            out.append(sql[start : token.start])
            start = token.end
    out.append(sql[start:])
    return [s for s in out if next(tokens(s), None) is not None]


def mark_parameters(sql: str) -> tuple[str, int]:
    """The text with `?` as named markers :v0, :v1 ..., and how many there are."""
    if "?" not in sql:
        return sql, 0
    out, start, count = [], 0, 0
    for token in tokens(sql):
        if token.kind == "op" and token.raw == "?":
            out.append(f"{sql[start : token.start]} :v{count} ")
            start = token.end
            count += 1
    out.append(sql[start:])
    return "".join(out), count


def select_items(sql: str) -> list[str]:
    """The source text of each item of the first select list: what MySQL names unnamed columns by."""
    stream = list(tokens(sql))
    at = next((i for i, t in enumerate(stream) if t.text == "SELECT" and t.kind == "word"), None)
    if at is None:
        return []
    items: list[str] = []
    depth, begin, last = 0, None, 0
    for token in stream[at + 1 :]:
        if begin is None and token.text in ("DISTINCT", "ALL", "SQL_NO_CACHE", "HIGH_PRIORITY", "SQL_CALC_FOUND_ROWS"):
            continue
        if token.raw == "(":
            depth += 1
        elif token.raw == ")":
            if depth == 0:
                break
            depth -= 1
        ends = (
            depth == 0
            and token.kind == "word"
            and token.text in ("FROM", "LIMIT", "UNION", "WHERE", "ORDER", "INTO", "FOR")
        )
        ends = ends or (depth == 0 and token.raw == ";")
        if ends or (depth == 0 and token.raw == ","):
            if begin is not None:
                items.append(sql[begin:last])
            begin = None
            if ends:
                return items
            continue
        if begin is None:
            begin = token.start
        last = token.end
    if begin is not None:
        items.append(sql[begin:last])
    return items


class Cursor:
    """Reads tokens one by one, for the hand-written parser."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self._tokens = list(tokens(sql))
        self._at = 0

    @property
    def peek(self) -> Token | None:
        """The next token."""
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def ahead(self, n: int) -> str:
        """The text of the token `n` places on."""
        at = self._at + n
        return self._tokens[at].text if at < len(self._tokens) else ""

    def take(self) -> Token:
        """The next token, which must be there."""
        token = self.peek
        if token is None:
            raise self.error()
        self._at += 1
        return token

    def accept(self, *words: str) -> bool:
        """Take these words if they come next."""
        if all(self.ahead(i) == word for i, word in enumerate(words)):
            self._at += len(words)
            return True
        return False

    def expect(self, *words: str) -> None:
        """These words must come next."""
        if not self.accept(*words):
            raise self.error()

    def name(self) -> str:
        """An identifier."""
        token = self.take()
        if token.kind not in ("word", "quoted", "string"):
            self._at -= 1
            raise self.error()
        return unquote(token.raw)

    def string(self) -> str:
        """A string literal."""
        token = self.take()
        if token.kind != "string":
            self._at -= 1
            raise self.error()
        return unquote(token.raw)

    def table(self) -> tuple[str, str]:
        """[database.]table."""
        first = self.name()
        return (first, self.name()) if self.accept(".") else ("", first)

    def rest(self) -> str:
        """The text not read yet."""
        token = self.peek
        return self.sql[token.start :].rstrip().rstrip(";") if token is not None else ""

    def skip_to(self, *stops: str) -> str:
        """The text up to a stop word at depth 0 (or the end), which is not taken."""
        depth, begin, last = 0, None, None
        while (token := self.peek) is not None:
            if depth == 0 and token.text in stops and token.kind != "string":
                break
            depth += {"(": 1, ")": -1}.get(token.raw, 0)
            begin = token.start if begin is None else begin
            last = token.end
            self._at += 1
        return self.sql[begin:last] if begin is not None else ""

    @property
    def at_end(self) -> bool:
        """Whether everything is read (a closing semicolon does not count)."""
        token = self.peek
        return token is None or token.raw == ";"

    def error(self) -> ParseError:
        """The syntax error at this place."""
        token = self.peek
        near = self.sql[token.start : token.start + 80] if token is not None else ""
        line = self.sql.count("\n", 0, token.start if token is not None else len(self.sql)) + 1
        return syntax_error(near, line)


def syntax_error(near: str, line: int = 1) -> ParseError:
    """MySQL's words for a syntax error."""
    return ParseError(
        "You have an error in your SQL syntax; check the manual that corresponds to your TiDB version for the right "
        f"syntax to use near '{near}' at line {line}"
    )
