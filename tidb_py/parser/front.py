"""SQL text to statements: a hand-written parser for the small statements, sqlglot for queries, DML and DDL.

sqlglot cannot read (or loses parts of) transactions, savepoints, SET, SHOW, PREPARE, LOAD DATA, accounts and ADMIN; those are
read here. Its errors become MySQL's 1064.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import sqlglot
from sqlglot import expressions as exp
from sqlglot.errors import SqlglotError

from tidb_py.errors import EmptyQuery, NotSupported, ParseError
from tidb_py.parser import ast
from tidb_py.parser.show import parse_describe, parse_show
from tidb_py.parser.tokens import Cursor, syntax_error, without_executable_comments

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # its warnings about unsupported syntax become our errors
_TREE = frozenset(
    {
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "REPLACE",
        "CREATE",
        "DROP",
        "ALTER",
        "TRUNCATE",
        "WITH",
        "(",
        "VALUES",
        "RENAME",
    }
)
_CLUSTERED = re.compile(r"\)\s*(?:NON)?CLUSTERED\b", re.IGNORECASE)
_KEYS_SWITCH = re.compile(r"TABLE\s.+\s(?:DISABLE|ENABLE)\s+KEYS\s*", re.IGNORECASE | re.DOTALL)  # in every dump
_NOTHING = frozenset({"GRANT", "REVOKE", "FLUSH", "LOCK", "UNLOCK", "OPTIMIZE", "CHECK", "HANDLER"})


def parse(sql: str) -> ast.Statement:
    """The statement of a text."""
    sql = without_executable_comments(sql).strip()
    cursor = Cursor(sql) if sql[:6].upper() not in ("SELECT", "INSERT", "UPDATE", "DELETE") else None
    if cursor is None:
        return tree(sql)
    token = cursor.peek
    if token is None:
        raise EmptyQuery("Query was empty")
    handler = _HANDLERS.get(token.text)
    if handler is not None:
        statement = handler(cursor)
        if statement is not None:
            return statement
    if token.text in _TREE:
        return tree(sql)
    if token.text in _NOTHING:
        return ast.Nothing(token.text)
    raise cursor.error()


def tree(sql: str) -> ast.SqlNode:
    """A query, DML or DDL statement."""
    replace = sql[:7].upper() == "REPLACE"
    text = "INSERT" + sql[7:] if replace else sql
    if replace and text[6:].lstrip()[:4].upper() != "INTO":
        text = "INSERT INTO" + text[6:]
    if text[:6].upper() == "CREATE":
        text = _CLUSTERED.sub(")", text)  # decided by the key's type here
    return ast.SqlNode(_parse_tree(text), sql, replace)


def _parse_tree(text: str) -> ast.Node:
    try:
        nodes = [n for n in sqlglot.parse(text, read="mysql") if n is not None]
    except SqlglotError as error:
        details = getattr(error, "errors", None) or [{}]
        near = str(details[0].get("highlight") or "") + str(details[0].get("end_context") or "")
        raise syntax_error(near[:80] or text[:80], int(details[0].get("line") or 1)) from error
    except RecursionError as error:
        raise ParseError("the statement is nested too deeply") from error
    if len(nodes) != 1:
        raise syntax_error(text[:80])
    if isinstance(nodes[0], exp.Command):
        raise NotSupported(f"this form of {str(nodes[0].this)[:40]} is not supported")
    return nodes[0]


def expression(text: str) -> ast.Node:
    """One expression."""
    return _parse_tree(f"SELECT {text}").expressions[0]


# -- transactions ---------------------------------------------------------------------------------------------------------


def _begin(c: Cursor) -> ast.Statement:
    c.take()
    mode = c.take().text.lower() if not c.at_end else ""
    return ast.Begin(mode if mode in ("pessimistic", "optimistic") else "")


def _start(c: Cursor) -> ast.Statement:
    c.expect("START", "TRANSACTION")
    return ast.Begin()


def _commit(c: Cursor) -> ast.Statement:
    c.take()
    return ast.Commit()


def _rollback(c: Cursor) -> ast.Statement:
    c.take()
    c.accept("WORK")
    if c.accept("TO"):
        c.accept("SAVEPOINT")
        return ast.Rollback(c.name())
    return ast.Rollback()


def _savepoint(c: Cursor) -> ast.Statement:
    c.take()
    return ast.Savepoint(c.name())


def _release(c: Cursor) -> ast.Statement:
    c.expect("RELEASE", "SAVEPOINT")
    return ast.ReleaseSavepoint(c.name())


# -- SET ------------------------------------------------------------------------------------------------------------------


def _set(c: Cursor) -> ast.Statement:
    c.take()
    if c.accept("PASSWORD"):
        user, host = _account(c) if c.accept("FOR") else ("", "")
        c.expect("=")
        if c.accept("PASSWORD", "("):
            password = c.string()
            c.expect(")")
            return ast.SetPassword(user, host, password)
        return ast.SetPassword(user, host, c.string())
    for scope in ("SESSION", "GLOBAL", "LOCAL", ""):
        words = (scope, "TRANSACTION") if scope else ("TRANSACTION",)
        if c.accept(*words):
            return _set_transaction(c, "global" if scope == "GLOBAL" else "session" if scope else "next")
    if c.accept("ROLE") or c.accept("DEFAULT", "ROLE") or c.accept("RESOURCE"):
        return ast.Nothing("SET ROLE")
    out = [_assignment(c)]
    while c.accept(","):
        out.append(_assignment(c))
    if not c.at_end:
        raise c.error()
    return ast.SetStatement(tuple(a for group in out for a in group))


def _set_transaction(c: Cursor, scope: str) -> ast.Statement:
    out = []
    while not c.at_end:
        if c.accept("ISOLATION", "LEVEL"):
            words = [c.take().text]
            while c.ahead(0) in ("READ", "COMMITTED", "UNCOMMITTED") and words[0] in ("REPEATABLE", "READ"):
                words.append(c.take().text)
            level = exp.Literal.string("-".join(words))
            name = "tx_isolation_one_shot" if scope == "next" else "transaction_isolation"
            out.append(ast.Assignment("global" if scope == "global" else "session", name, level))
        elif c.accept("READ", "ONLY") or c.accept("READ", "WRITE"):
            continue
        elif not c.accept(","):
            raise c.error()
    return ast.SetStatement(tuple(out))


def _assignment(c: Cursor) -> list[ast.Assignment]:
    if c.accept("NAMES") or c.accept("CHARACTER", "SET") or c.accept("CHARSET"):
        charset = c.take().raw
        collation = c.take().raw if c.accept("COLLATE") else ""
        names = exp.Literal.string(
            charset.strip("'\"") + (f" {collation.strip(chr(39) + chr(34))}" if collation else "")
        )
        return [ast.Assignment("names", "names", names)]
    scope = "session"
    for word in ("GLOBAL", "SESSION", "LOCAL", "PERSIST"):
        if c.accept(word):
            scope = "global" if word in ("GLOBAL", "PERSIST") else "session"
            break
    token = c.take()
    name = token.raw
    if name.startswith("@@"):
        name = name[2:]
        for prefix, where in (
            ("global.", "global"),
            ("session.", "session"),
            ("local.", "session"),
            ("persist.", "global"),
        ):
            if name.lower().startswith(prefix):
                name, scope = name[len(prefix) :], where
    elif name.startswith("@"):
        name, scope = name[1:].strip("`'\""), "user"
    elif token.kind not in ("word", "quoted"):
        raise c.error()
    if not (c.accept("=") or c.accept(":=")):
        raise c.error()
    value: ast.Node
    text = c.skip_to(",", ";")
    if not text:
        raise c.error()
    bare = text.strip()
    if scope != "user" and bare.replace("-", "_").replace("_", "a").isalnum() and not bare[0].isdigit():
        value = exp.Literal.string(bare)
    else:
        value = expression(text)
    return [ast.Assignment(scope, name.strip("`"), value)]


# -- accounts -------------------------------------------------------------------------------------------------------------


def _account(c: Cursor) -> tuple[str, str]:
    if c.accept("CURRENT_USER"):
        if c.accept("("):
            c.expect(")")
        return "", ""
    user = c.name()
    token = c.peek
    if token is not None and token.kind == "variable" and token.raw.startswith("@"):
        c.take()
        host = token.raw[1:].strip("'\"`")
        return user, host if host else c.name()
    return user, "%"


def _user_spec(c: Cursor) -> ast.UserSpec:
    user, host = _account(c)
    plugin, password = "", None
    if c.accept("IDENTIFIED"):
        if c.accept("WITH"):
            plugin = c.name()
        if c.accept("BY"):
            password = c.string()
    return ast.UserSpec(user, host, password, plugin)


def _users(c: Cursor) -> ast.Statement | None:
    verb = c.ahead(0)
    if c.ahead(1) != "USER":
        c.take()
        return ast.Nothing("ALTER KEYS") if verb == "ALTER" and _KEYS_SWITCH.fullmatch(c.rest()) else None
    c.take()
    c.take()
    tolerant = c.accept("IF", "NOT", "EXISTS") or c.accept("IF", "EXISTS")
    specs = [_user_spec(c)]
    while c.accept(","):
        specs.append(_user_spec(c))
    return ast.UserStatement(verb, tuple(specs), tolerant)


# -- prepared statements, LOAD DATA, others ---------------------------------------------------------------------------------


def _prepare(c: Cursor) -> ast.Statement:
    c.take()
    name = c.name()
    c.expect("FROM")
    token = c.take()
    if token.kind == "variable":
        return ast.Prepare(name, token.raw[1:], from_variable=True)
    c._at -= 1
    return ast.Prepare(name, c.string(), from_variable=False)


def _execute(c: Cursor) -> ast.Statement:
    c.take()
    name = c.name()
    variables = []
    if c.accept("USING"):
        variables.append(c.take().raw[1:])
        while c.accept(","):
            variables.append(c.take().raw[1:])
    return ast.Execute(name, tuple(variables))


def _deallocate(c: Cursor) -> ast.Statement | None:
    if c.ahead(0) == "DROP" and c.ahead(1) != "PREPARE":
        return _users(c)
    c.take()
    c.expect("PREPARE")
    return ast.Deallocate(c.name())


def _load_data(c: Cursor) -> ast.Statement:
    c.expect("LOAD", "DATA")
    c.accept("LOW_PRIORITY")
    if not c.accept("LOCAL"):
        raise NotSupported("only LOAD DATA LOCAL INFILE is supported")
    c.expect("INFILE")
    filename = c.string()
    replace = c.accept("REPLACE")
    c.accept("IGNORE")
    c.expect("INTO", "TABLE")
    database, table = c.table()
    if c.accept("CHARACTER", "SET"):
        c.take()
    options: dict[str, bytes] = {}
    if c.accept("FIELDS") or c.accept("COLUMNS"):
        _load_fields(c, options)
    if c.accept("LINES"):
        while c.ahead(0) in ("TERMINATED", "STARTING"):
            key = "lines_terminated" if c.take().text == "TERMINATED" else "lines_starting"
            c.expect("BY")
            options[key] = c.string().encode()
    skip = 0
    if c.accept("IGNORE"):
        skip = int(c.take().raw)
        c.take()
    columns = []
    if c.accept("("):
        while not c.accept(")"):
            token = c.take()
            columns.append(token.raw if token.kind == "variable" else token.raw.strip("`"))
            c.accept(",")
    assignments = []
    if c.accept("SET"):
        while True:
            name = c.name()
            c.expect("=")
            assignments.append((name, expression(c.skip_to(",", ";"))))
            if not c.accept(","):
                break
    return ast.LoadData(
        filename, database, table, tuple(columns), tuple(assignments), skip=skip, replace=replace,
        fields_terminated=options.get("fields_terminated", b"\t"), enclosed=options.get("enclosed", b""),
        escaped=options.get("escaped", b"\\"), lines_terminated=options.get("lines_terminated", b"\n"),
        lines_starting=options.get("lines_starting", b""),
    )  # fmt: skip


def _load_fields(c: Cursor, options: dict[str, bytes]) -> None:
    while True:
        if c.accept("TERMINATED", "BY"):
            options["fields_terminated"] = c.string().encode()
        elif c.accept("OPTIONALLY", "ENCLOSED", "BY") or c.accept("ENCLOSED", "BY"):
            options["enclosed"] = c.string().encode()
        elif c.accept("ESCAPED", "BY"):
            options["escaped"] = c.string().encode()
        else:
            return


def _use(c: Cursor) -> ast.Statement:
    c.take()
    return ast.Use(c.name())


def _explain(c: Cursor) -> ast.Statement:
    c.take()
    analyze = c.accept("ANALYZE")
    if c.accept("FORMAT"):
        c.expect("=")
        c.take()
    following = c.ahead(0)
    if following in ("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "("):
        return ast.Explain(parse(c.rest()), analyze)
    return parse_describe(c)


def _describe(c: Cursor) -> ast.Statement:
    return _explain(c)


def _analyze(c: Cursor) -> ast.Statement:
    c.take()
    c.expect("TABLE")
    tables = [c.table()[1]]
    while c.accept(","):
        tables.append(c.table()[1])
    return ast.Analyze(tuple(tables))


def _kill(c: Cursor) -> ast.Statement:
    c.take()
    for word in ("TIDB", "CONNECTION", "QUERY"):
        c.accept(word)
    return ast.Kill(int(c.take().raw))


def _admin(c: Cursor) -> ast.Statement:
    return ast.Admin(tuple(c.rest().upper().split()))


def _rename(c: Cursor) -> ast.Statement:
    c.expect("RENAME", "TABLE")
    pairs = []
    while True:
        old = c.table()
        c.expect("TO")
        pairs.append((old, c.table()))
        if not c.accept(","):
            break
    return ast.RenameTables(tuple(pairs))


def _do(c: Cursor) -> ast.Statement:
    c.take()
    return ast.Do(tree("SELECT " + c.rest()))


_HANDLERS: dict[str, Callable[[Cursor], ast.Statement | None]] = {
    "BEGIN": _begin, "START": _start, "COMMIT": _commit, "ROLLBACK": _rollback, "SAVEPOINT": _savepoint,
    "RELEASE": _release, "SET": _set, "CREATE": _users, "ALTER": _users, "DROP": _deallocate, "PREPARE": _prepare,
    "EXECUTE": _execute, "DEALLOCATE": _deallocate, "LOAD": _load_data, "USE": _use, "EXPLAIN": _explain,
    "DESCRIBE": _describe, "DESC": _describe, "ANALYZE": _analyze, "KILL": _kill, "ADMIN": _admin, "DO": _do,
    "SHOW": parse_show, "RENAME": _rename,
}  # fmt: skip
