"""Functions and variables of a session as constants of a statement: NOW(), USER(), @@x, @x, LAST_INSERT_ID() ..."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from core_py.vector.expr import Constant, Expr
from core_py.vector.fieldtype import date_type, datetime_type, duration_type, int_type, null_type, string_type
from core_py.vector.temporal import pack
from tidb_py.expression.lower import LowerContext
from tidb_py.mysql.constants import SERVER_VERSION
from tidb_py.session.state import SessionState


def text(value: str) -> Constant:
    """A string constant."""
    return Constant(value.encode(), string_type(len(value)))


def lower_context(state: SessionState, params: Sequence[Constant] = ()) -> LowerContext:
    """What lowering needs of this session."""

    def assign(name: str, value: Expr) -> Expr:
        if isinstance(value, Constant):
            state.user_variables[name.lower()] = value
        return value

    return LowerContext(
        params=params,
        session_function=lambda name, args: session_function(state, name, args),
        system_variable=lambda name, scope: system_variable(state, name, scope),
        user_variable=lambda name: state.user_variables.get(name.lower(), Constant(None, null_type())),
        assign_user_variable=assign,
        div_precision_increment=int(state.variables.get("div_precision_increment")),
    )


def system_variable(state: SessionState, name: str, scope: str) -> Constant:
    """@@name."""
    value = state.variables.get(name, scope)
    if state.variables.is_boolean(name):
        return Constant(1 if value == "ON" else 0, int_type(flen=1))
    if state.variables.is_number(name):
        number = int(value)
        return Constant(number, int_type(unsigned=number >= 1 << 63))
    return text(value)


def _moment(state: SessionState) -> dt.datetime:
    return state.statement_time or state.server.now()


def _packed(moment: dt.datetime, fsp: int) -> int:
    unit = 10 ** (6 - fsp)
    micro = moment.microsecond // unit * unit
    return pack(moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, micro)


def _clock(name: str, state: SessionState, fsp: int) -> Constant | None:
    utc = _moment(state)
    local = utc.astimezone(state.zone())
    if name in ("now", "sysdate", "current_timestamp", "localtime", "localtimestamp"):
        return Constant(_packed(local, fsp), datetime_type(fsp))
    if name == "utc_timestamp":
        return Constant(_packed(utc, fsp), datetime_type(fsp))
    if name in ("curdate", "current_date", "utc_date"):
        day = utc if name == "utc_date" else local
        return Constant(pack(day.year, day.month, day.day), date_type())
    if name in ("curtime", "current_time", "utc_time"):
        clock = utc if name == "utc_time" else local
        nanos = ((clock.hour * 60 + clock.minute) * 60 + clock.second) * 1_000_000_000
        return Constant(nanos + (clock.microsecond * 1000 if fsp else 0), duration_type(fsp))
    if name == "unix_timestamp":
        return Constant(int(utc.timestamp()), int_type())
    return None


def session_function(state: SessionState, name: str, args: list[Expr]) -> Expr | None:
    """A function of the session, or None."""
    fsp = int(args[0].value) if args and isinstance(args[0], Constant) and isinstance(args[0].value, int) else 0
    if len(args) <= 1:
        clock = _clock(name, state, min(max(fsp, 0), 6))
        if clock is not None:
            return clock
    if name in ("database", "schema"):
        return text(state.database) if state.database else Constant(None, string_type())
    if name in ("user", "session_user", "system_user"):
        return text(f"{state.user}@{state.host}")
    if name == "current_user":
        return text(f"{state.user}@%")
    if name == "version":
        return text(SERVER_VERSION)
    if name == "tidb_version":
        return text(f"Release Version: {SERVER_VERSION}\nEdition: Community\nStore: tikv")
    numbers = {"connection_id": state.connection_id, "found_rows": state.found_rows, "row_count": state.row_count}
    if name in numbers and not args:
        return Constant(numbers[name], int_type())
    if name == "last_insert_id":
        if args and isinstance(args[0], Constant) and isinstance(args[0].value, int):
            state.last_insert_id = args[0].value
        return args[0] if args else Constant(state.last_insert_id, int_type(unsigned=True))
    if name in ("sleep", "benchmark"):
        return Constant(0, int_type(flen=1))
    if name in ("get_lock", "release_lock", "is_free_lock"):
        return Constant(1, int_type(flen=1))
    return None
