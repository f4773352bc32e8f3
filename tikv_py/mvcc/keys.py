"""Keys as the engine holds them: `z`, the memcomparable user key, and for versioned families an inverted timestamp.

A *data key* is `z` + mc(user key). Its versions sort directly behind it, newest first. Region bounds, which travel without the
`z`, compare with the part after it.
"""

from __future__ import annotations

from core_py.codec import memcomparable, number
from core_py.errors import CodecError

DATA_PREFIX = b"z"
DATA_END = b"{"  # the byte after `z`: the end of all data
TS_SIZE = 8


def data_key(user_key: bytes) -> bytes:
    """The engine key of a transactional user key, without a version."""
    return DATA_PREFIX + memcomparable.encode(user_key)


def user_key(data_key: bytes) -> bytes:
    """The inverse of `data_key`."""
    return memcomparable.decode_whole(data_key[1:])


def versioned(data_key: bytes, ts: int) -> bytes:
    """The engine key of one version."""
    return data_key + number.encode_u64_desc(ts)


def split_version(key: bytes) -> tuple[bytes, int]:
    """(data key, timestamp) of a versioned engine key."""
    if len(key) < TS_SIZE + 2:
        raise CodecError(f"key {key.hex()} is too short to carry a version")
    return key[:-TS_SIZE], number.decode_u64_desc(key, len(key) - TS_SIZE)
