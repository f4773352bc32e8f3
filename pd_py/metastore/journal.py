"""Records in an append-only file: length, checksum, payload. A torn or damaged tail is cut; damage before the tail is refused.

    u32 length | u32 crc32(payload) | payload

A loss of power can only damage the end, because every acknowledged record was synced before the next was acknowledged. So the
first bad record ends the file when nothing valid follows it; a valid record behind a bad one means that the disk lies.
"""

from __future__ import annotations

import struct
import zlib

from core_py.errors import StorageError

_HEAD = struct.Struct(">II")
MAX_RECORD = 512 << 20


def encode(payload: bytes) -> bytes:
    """One record."""
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def decode(data: bytes) -> tuple[list[bytes], int]:
    """(payloads, length of the valid part). Raises StorageError for damage in the middle."""
    payloads: list[bytes] = []
    pos = 0
    while pos < len(data):
        payload = _record_at(data, pos)
        if payload is None:
            break
        payloads.append(payload)
        pos += _HEAD.size + len(payload)
    if pos < len(data) and _valid_record_after(data, pos):
        raise StorageError(
            f"journal is damaged at byte {pos} with valid records behind it; restore it from another member"
        )
    return payloads, pos


def _record_at(data: bytes, pos: int) -> bytes | None:
    if pos + _HEAD.size > len(data):
        return None
    size, checksum = _HEAD.unpack_from(data, pos)
    payload = data[pos + _HEAD.size : pos + _HEAD.size + size]
    if size == 0 or size > MAX_RECORD or len(payload) < size or zlib.crc32(payload) != checksum:
        return None
    return payload


def _valid_record_after(data: bytes, pos: int) -> bool:
    """Whether the record that a bad one claims to be followed by is whole."""
    if pos + _HEAD.size > len(data):
        return False
    size = _HEAD.unpack_from(data, pos)[0]
    following = pos + _HEAD.size + size
    return size <= MAX_RECORD and following < len(data) and _record_at(data, following) is not None
