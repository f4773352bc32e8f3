"""Failures of computing an expression, with the MySQL numbers that clients know."""

from __future__ import annotations

from core_py.errors import DbError


class EvalError(DbError):
    """An expression cannot be computed."""

    code = "Sql:Eval:Failed"
    deterministic = True


class UnsupportedFunction(EvalError):
    """There is no kernel for a signature."""

    code = "Sql:Eval:Unsupported"
    mysql_code = 1305
    sqlstate = "42000"


class OutOfRange(EvalError):
    """A number does not fit its type."""

    code = "Sql:Eval:OutOfRange"
    mysql_code = 1690
    sqlstate = "22003"


class Truncated(EvalError):
    """A text is not wholly the number or time it should be."""

    code = "Sql:Eval:Truncated"
    mysql_code = 1292
    sqlstate = "22007"


class InvalidText(EvalError):
    """Bytes that are not UTF-8 where text is needed."""

    code = "Sql:Eval:InvalidText"
    mysql_code = 1300


class InvalidArgument(EvalError):
    """An argument no value of which makes sense (a bad regular expression, a negative LIMIT)."""

    code = "Sql:Eval:InvalidArgument"
    mysql_code = 1210
