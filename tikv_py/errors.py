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


class Refused(DbError):
    """A command that this store will never carry out as it is; nothing was done. Told under the public text, without a code."""

    code = "KV:Storage:Refused"


class KeyTooLarge(Refused):
    """A key is longer than `storage.max-key-size`."""

    code = "KV:Storage:KeyTooLarge"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"max key size exceeded, size: {size}, limit: {limit}")


class ApiVersionNotMatched(Refused):
    """The command is of another API version than the store's data."""

    code = "KV:Storage:ApiVersionNotMatched"

    def __init__(self, command: str, storage: str, request: str) -> None:
        super().__init__(
            f"Api version in request does not match with TiKV storage, cmd: {command}, storage: {storage}, request: {request}"
        )
