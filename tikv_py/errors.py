"""Errors of the storage node that more than one of its packages raises."""

from __future__ import annotations

from core_py.errors import DbError


class LostValue(DbError):
    """A write record points to a value that is not there: the data is damaged. Never answered around."""

    code = "KV:Storage:LostValue"

    def __init__(self, key: bytes, start_ts: int) -> None:
        super().__init__(
            f"key {key.hex()} has a write record of {start_ts} but no value: restore this replica from another one"
        )
