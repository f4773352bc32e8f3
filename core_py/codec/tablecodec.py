"""Keys of table rows, index entries and schema metadata in the transactional key space (wire facts 4.3).

    row         t <table id> _r <handle>
    index       t <table id> _i <index id> <key datums...> [<handle datum>]     handle only when the entry is not unique
    metadata    m mc(<key>) <type> [mc(<field>)]

Ids and integer handles are comparable signed integers, so the rows of a table are one contiguous range, in handle order.
These are user keys: the transaction layer makes them memcomparable before they reach a store's engine.
"""

from __future__ import annotations

from core_py.codec import memcomparable, number
from core_py.errors import CodecError

TABLE_PREFIX = b"t"
META_PREFIX = b"m"
RECORD_SEP = b"_r"
INDEX_SEP = b"_i"
RECORD_PREFIX_SIZE = 11
INT_RECORD_KEY_SIZE = 19
INDEX_PREFIX_SIZE = 19

META_STRING, META_HASH_META, META_HASH_DATA = b"s", b"H", b"h"


def table_prefix(table_id: int) -> bytes:
    """Everything of a table: rows and indexes."""
    return TABLE_PREFIX + number.encode_i64(table_id)


def record_prefix(table_id: int) -> bytes:
    """The rows of a table."""
    return TABLE_PREFIX + number.encode_i64(table_id) + RECORD_SEP


def record_key(table_id: int, handle: int) -> bytes:
    """One row by integer handle."""
    return TABLE_PREFIX + number.encode_i64(table_id) + RECORD_SEP + number.encode_i64(handle)


def common_record_key(table_id: int, handle: bytes) -> bytes:
    """One row of a clustered table; `handle` is the concatenation of the primary key's datums in key form."""
    return TABLE_PREFIX + number.encode_i64(table_id) + RECORD_SEP + handle


def index_prefix(table_id: int, index_id: int) -> bytes:
    """All entries of an index."""
    return TABLE_PREFIX + number.encode_i64(table_id) + INDEX_SEP + number.encode_i64(index_id)


def decode_table_id(key: bytes) -> int:
    """The table id of a row or index key."""
    if not key.startswith(TABLE_PREFIX):
        raise CodecError(f"key {key.hex()} is not of a table")
    return number.decode_i64(key, 1)


def decode_record_handle(key: bytes) -> int:
    """The integer handle of a row key."""
    if len(key) != INT_RECORD_KEY_SIZE or key[9:11] != RECORD_SEP:
        raise CodecError(f"key {key.hex()} is not a row key with an integer handle")
    return number.decode_i64(key, RECORD_PREFIX_SIZE)


def is_record_key(key: bytes) -> bool:
    """Whether the key is of a row."""
    return key[:1] == TABLE_PREFIX and key[9:11] == RECORD_SEP


def is_index_key(key: bytes) -> bool:
    """Whether the key is of an index entry."""
    return key[:1] == TABLE_PREFIX and key[9:11] == INDEX_SEP


def prefix_next(key: bytes) -> bytes:
    """The smallest key greater than every key with this prefix; empty (plus infinity) when there is none."""
    stripped = key.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else b""


def key_next(key: bytes) -> bytes:
    """The smallest key greater than `key`."""
    return key + b"\x00"


def meta_string_key(key: bytes) -> bytes:
    """A plain metadata value."""
    return META_PREFIX + memcomparable.encode(key) + number.encode_u64(META_STRING[0])


def meta_hash_key(key: bytes, field: bytes) -> bytes:
    """One field of a metadata hash."""
    return meta_hash_prefix(key) + memcomparable.encode(field)


def meta_hash_prefix(key: bytes) -> bytes:
    """All fields of a metadata hash."""
    return META_PREFIX + memcomparable.encode(key) + number.encode_u64(META_HASH_DATA[0])


def decode_meta_hash_field(key: bytes) -> bytes:
    """The field of a metadata hash key."""
    _, pos = memcomparable.decode(key, 1)
    return memcomparable.decode(key, pos + 8)[0]
