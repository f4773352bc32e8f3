"""Numbers of the MySQL protocol: capabilities, commands, status flags, column types and flags, collations.

Only the numbers that this server reads or writes are here. They are plain integer enumerations, so that a value
off the wire compares without conversion.
"""

from __future__ import annotations

import enum
from typing import Final


class Capability(enum.IntFlag):
    """Capability flags of the handshake."""

    LONG_PASSWORD = 1
    FOUND_ROWS = 2
    LONG_FLAG = 4
    CONNECT_WITH_DB = 8
    NO_SCHEMA = 16
    COMPRESS = 32
    ODBC = 64
    LOCAL_FILES = 128
    IGNORE_SPACE = 256
    PROTOCOL_41 = 512
    INTERACTIVE = 1024
    SSL = 2048
    IGNORE_SIGPIPE = 4096
    TRANSACTIONS = 8192
    RESERVED = 16384
    SECURE_CONNECTION = 32768
    MULTI_STATEMENTS = 1 << 16
    MULTI_RESULTS = 1 << 17
    PS_MULTI_RESULTS = 1 << 18
    PLUGIN_AUTH = 1 << 19
    CONNECT_ATTRS = 1 << 20
    PLUGIN_AUTH_LENENC = 1 << 21
    DEPRECATE_EOF = 1 << 24


SERVER_CAPABILITIES: Final = (
    Capability.LONG_PASSWORD
    | Capability.FOUND_ROWS
    | Capability.LONG_FLAG
    | Capability.CONNECT_WITH_DB
    | Capability.LOCAL_FILES
    | Capability.IGNORE_SPACE
    | Capability.PROTOCOL_41
    | Capability.INTERACTIVE
    | Capability.TRANSACTIONS
    | Capability.SECURE_CONNECTION
    | Capability.MULTI_STATEMENTS
    | Capability.MULTI_RESULTS
    | Capability.PS_MULTI_RESULTS
    | Capability.PLUGIN_AUTH
    | Capability.CONNECT_ATTRS
    | Capability.PLUGIN_AUTH_LENENC
    | Capability.DEPRECATE_EOF
)


class Command(enum.IntEnum):
    """First byte of a command packet."""

    QUIT = 0x01
    INIT_DB = 0x02
    QUERY = 0x03
    FIELD_LIST = 0x04
    STATISTICS = 0x09
    PROCESS_KILL = 0x0C
    PING = 0x0E
    CHANGE_USER = 0x11
    STMT_PREPARE = 0x16
    STMT_EXECUTE = 0x17
    STMT_SEND_LONG_DATA = 0x18
    STMT_CLOSE = 0x19
    STMT_RESET = 0x1A
    SET_OPTION = 0x1B
    STMT_FETCH = 0x1C
    RESET_CONNECTION = 0x1F


class Status(enum.IntFlag):
    """Status flags of OK and EOF packets."""

    IN_TRANS = 0x0001
    AUTOCOMMIT = 0x0002
    MORE_RESULTS = 0x0008
    CURSOR_EXISTS = 0x0040
    LAST_ROW_SENT = 0x0080


class ColumnType(enum.IntEnum):
    """Column types as they go over the wire."""

    DECIMAL = 0
    TINY = 1
    SHORT = 2
    LONG = 3
    FLOAT = 4
    DOUBLE = 5
    NULL = 6
    TIMESTAMP = 7
    LONGLONG = 8
    INT24 = 9
    DATE = 10
    TIME = 11
    DATETIME = 12
    YEAR = 13
    VARCHAR = 15
    BIT = 16
    JSON = 245
    NEWDECIMAL = 246
    ENUM = 247
    SET = 248
    TINY_BLOB = 249
    MEDIUM_BLOB = 250
    LONG_BLOB = 251
    BLOB = 252
    VAR_STRING = 253
    STRING = 254


class ColumnFlag(enum.IntFlag):
    """Flags of a column definition."""

    NOT_NULL = 1
    PRI_KEY = 2
    UNIQUE_KEY = 4
    MULTIPLE_KEY = 8
    BLOB = 16
    UNSIGNED = 32
    ZEROFILL = 64
    BINARY = 128
    ENUM = 256
    AUTO_INCREMENT = 512
    TIMESTAMP = 1024
    SET = 2048
    NO_DEFAULT_VALUE = 4096


CURSOR_TYPE_READ_ONLY: Final = 1
CHARSET_UTF8MB4: Final = 46  # utf8mb4_bin, the default of TiDB
CHARSET_BINARY: Final = 63
MAX_PAYLOAD: Final = 0xFFFFFF
NATIVE_PASSWORD: Final = "mysql_native_password"  # noqa: S105 - a name
CACHING_SHA2: Final = "caching_sha2_password"
SERVER_VERSION: Final = "8.0.11-TiDB-v8.5.0-py"
