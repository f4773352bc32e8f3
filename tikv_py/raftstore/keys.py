"""Keys of a store's own records, as in the public layout (wire facts 4.2).

01 01                         store identity            kv, default
01 02 <region> 01 <index>     raft log entry            raft
01 02 <region> 02             raft state                raft
01 02 <region> 03             apply state               kv, raft family
01 03 <region> 01             region state              kv, raft family
01 05 <region> 01             snapshot being applied    raft (private to this implementation)
01 06                         nothing, to have something to sync    raft (private as well)
"""

from __future__ import annotations

import struct

from core_py.errors import CodecError

STORE_IDENT_KEY = b"\x01\x01"
INSPECT_KEY = b"\x01\x06"
REGION_META_MIN = b"\x01\x03"
REGION_META_MAX = b"\x01\x04"
REGION_RAFT_MIN = b"\x01\x02"

_REGION = struct.Struct(">2sQB")
_REGION_U64 = struct.Struct(">2sQBQ")


def log_key(region_id: int, index: int) -> bytes:
    """A log entry."""
    return _REGION_U64.pack(b"\x01\x02", region_id, 1, index)


def decode_log_key(key: bytes) -> tuple[int, int]:
    """(region id, index) of a log entry's key. Raises CodecError."""
    if len(key) != _REGION_U64.size or key[:2] != REGION_RAFT_MIN or key[10] != 1:
        raise CodecError(f"{key.hex()} is not the key of a log entry")
    _, region_id, _, index = _REGION_U64.unpack(key)
    return region_id, index


def raft_state_key(region_id: int) -> bytes:
    """RaftLocalState."""
    return _REGION.pack(b"\x01\x02", region_id, 2)


def apply_state_key(region_id: int) -> bytes:
    """RaftApplyState."""
    return _REGION.pack(b"\x01\x02", region_id, 3)


def region_state_key(region_id: int) -> bytes:
    """RegionLocalState."""
    return _REGION.pack(b"\x01\x03", region_id, 1)


def decode_region_state_key(key: bytes) -> int:
    """The region id of a region state key."""
    region_id: int = _REGION.unpack(key)[1]
    return region_id


def pending_snapshot_key(region_id: int) -> bytes:
    """The marker that a region's staged snapshot has replaced its log and must be brought in."""
    return _REGION.pack(b"\x01\x05", region_id, 1)


PENDING_SNAPSHOT_MIN = b"\x01\x05"
PENDING_SNAPSHOT_MAX = b"\x01\x06"


def data_range(start_key: bytes, end_key: bytes) -> tuple[bytes, bytes]:
    """The engine range of a region's bounds."""
    return b"z" + start_key, b"z" + end_key if end_key else b"{"


def region_bounds(start: bytes, end: bytes) -> tuple[bytes, bytes]:
    """The inverse of `data_range`."""
    return start[1:], end[1:]
