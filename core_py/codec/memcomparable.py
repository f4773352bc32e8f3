"""Memcomparable bytes: any byte string as groups of eight that sort as the strings do and cannot be each other's prefix.

Each group is eight data bytes, zero-padded, and a marker 0xFF - padding; a string whose length is a multiple of eight ends
with a group of eight zeros and marker 0xF7 (wire facts 4.1). Thanks to that, a version suffix can follow a user key
without disturbing the order of user keys. `decode` refuses markers and padding that `encode` would not write.
"""

from __future__ import annotations

from core_py.errors import CodecError

_PADS = tuple(bytes(pad) + bytes((0xFF - pad,)) for pad in range(9))


def encode(raw: bytes) -> bytes:
    """Encode `raw`; the result has (len(raw) // 8 + 1) * 9 bytes."""
    size = len(raw)
    whole = size & ~7
    tail = raw[whole:] + _PADS[8 - (size - whole)]
    if not whole:
        return tail
    parts = [raw[i : i + 8] for i in range(0, whole, 8)]
    parts.append(tail)
    return b"\xff".join(parts)


def encoded_size(raw_size: int) -> int:
    """How many bytes `encode` makes of `raw_size` bytes."""
    return (raw_size // 8 + 1) * 9


def decode(data: bytes, pos: int = 0) -> tuple[bytes, int]:
    """Return (raw bytes, position after the last group)."""
    parts = []
    while True:
        group = data[pos : pos + 9]
        if len(group) < 9:
            raise CodecError(f"memcomparable bytes are truncated at offset {pos}")
        pos += 9
        marker = group[8]
        if marker == 0xFF:
            parts.append(group[:8])
            continue
        pad = 0xFF - marker
        if pad > 8 or group[8 - pad : 8] != bytes(pad):
            raise CodecError(f"memcomparable group at offset {pos - 9} has a bad marker or padding")
        parts.append(group[: 8 - pad])
        return b"".join(parts), pos


def decode_whole(data: bytes) -> bytes:
    """Decode `data`, which must be one encoded string and nothing after it."""
    raw, end = decode(data)
    if end != len(data):
        raise CodecError(f"{len(data) - end} bytes follow a memcomparable key")
    return raw


def encode_desc(raw: bytes) -> bytes:
    """Descending variant: every bit of `encode(raw)` inverted."""
    return bytes(byte ^ 0xFF for byte in encode(raw))
