"""Numbers as bytes: comparable big-endian forms, LEB128 varints and compact bytes.

The comparable forms keep order: for a < b, encode(a) < encode(b) as bytes. `desc` forms invert every bit, so that
larger numbers sort first; timestamps in MVCC keys use that. Layouts: TiKV's codec/number.rs (wire facts 4.1).
Decoders raise `CodecError` on truncated input and never read past the end.
"""

from __future__ import annotations

import struct

from core_py.errors import CodecError

SIGN_BIT = 1 << 63
U64_MAX = (1 << 64) - 1

_U64 = struct.Struct(">Q")
_U64_LE = struct.Struct("<Q")
_F64 = struct.Struct(">d")


def encode_u64(value: int) -> bytes:
    """Eight bytes, big-endian; `value` in [0, 2^64)."""
    return _U64.pack(value)


def decode_u64(data: bytes, pos: int = 0) -> int:
    """The inverse of `encode_u64` at `pos`."""
    try:
        return int(_U64.unpack_from(data, pos)[0])
    except struct.error:
        raise CodecError(f"eight bytes wanted at offset {pos}, {max(len(data) - pos, 0)} left") from None


def encode_u64_desc(value: int) -> bytes:
    """Like `encode_u64` with every bit inverted: larger values sort first."""
    return _U64.pack(~value & U64_MAX)


def decode_u64_desc(data: bytes, pos: int = 0) -> int:
    """The inverse of `encode_u64_desc` at `pos`."""
    return ~decode_u64(data, pos) & U64_MAX


def encode_i64(value: int) -> bytes:
    """Comparable signed form: the sign bit is flipped, then big-endian."""
    return _U64.pack((value + SIGN_BIT) & U64_MAX)


def decode_i64(data: bytes, pos: int = 0) -> int:
    """The inverse of `encode_i64` at `pos`."""
    return decode_u64(data, pos) - SIGN_BIT


def encode_f64(value: float) -> bytes:
    """Comparable double: positive numbers get the sign bit set, negative ones are inverted whole."""
    bits = int(_U64.unpack(_F64.pack(value))[0])
    return _U64.pack(~bits & U64_MAX if bits & SIGN_BIT else bits | SIGN_BIT)


def decode_f64(data: bytes, pos: int = 0) -> float:
    """The inverse of `encode_f64` at `pos`."""
    bits = decode_u64(data, pos)
    bits = bits & ~SIGN_BIT if bits & SIGN_BIT else ~bits & U64_MAX
    return float(_F64.unpack(_U64.pack(bits))[0])


# Timestamps take nine bytes, and there is one in every record: they are spread and joined seven bits at a time by masks.
_MORE = 0x8080808080808080


def _join_groups(low: int) -> int:
    """The low 56 bits of a varint from its first eight bytes, read little-endian."""
    low = (low & 0x007F007F007F007F) | (low & 0x7F007F007F007F00) >> 1
    low = (low & 0x00003FFF00003FFF) | (low & 0x3FFF00003FFF0000) >> 2
    return (low & 0x000000000FFFFFFF) | (low & 0x0FFFFFFF00000000) >> 4


def _encode_nine(value: int) -> bytes:
    """A varint of 57 to 63 bits."""
    low = value & 0x00FFFFFFFFFFFFFF
    low = (low & 0x0FFFFFFF) | (low & 0x00FFFFFFF0000000) << 4
    low = (low & 0x00003FFF00003FFF) | (low & 0x0FFFC0000FFFC000) << 2
    low = (low & 0x007F007F007F007F) | (low & 0x3F803F803F803F80) << 1
    return _U64_LE.pack(low | _MORE) + bytes((value >> 56,))


def encode_var_u64(value: int) -> bytes:
    """LEB128: seven bits a byte, low bits first; at most ten bytes."""
    if value < 0x80:
        return bytes((value,))
    if 1 << 56 <= value < 1 << 63:
        return _encode_nine(value)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_var_u64(data: bytes, pos: int = 0) -> tuple[int, int]:
    """Return (value, position after it)."""
    if pos + 9 <= len(data) and data[pos] >= 0x80 and data[pos + 8] < 0x80:
        low = int(_U64_LE.unpack_from(data, pos)[0])
        if low & _MORE == _MORE:
            return _join_groups(low) | data[pos + 8] << 56, pos + 9
    value = shift = 0
    end = min(len(data), pos + 10)
    while pos < end:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > U64_MAX:
                raise CodecError("varint exceeds 64 bits")
            return value, pos
        shift += 7
    raise CodecError("varint is truncated or longer than ten bytes")


def encode_var_i64(value: int) -> bytes:
    """Zig-zag, then LEB128."""
    return encode_var_u64(((value << 1) ^ (value >> 63)) & U64_MAX)


def decode_var_i64(data: bytes, pos: int = 0) -> tuple[int, int]:
    """Return (value, position after it)."""
    raw, pos = decode_var_u64(data, pos)
    return (raw >> 1) ^ -(raw & 1), pos


def encode_compact_bytes(raw: bytes) -> bytes:
    """Zig-zag varint length, then the bytes."""
    return encode_var_i64(len(raw)) + raw


def decode_compact_bytes(data: bytes, pos: int = 0) -> tuple[bytes, int]:
    """Return (bytes, position after them); a length beyond the input is refused."""
    size, pos = decode_var_i64(data, pos)
    if size < 0 or pos + size > len(data):
        raise CodecError(f"{size} bytes announced at offset {pos}, {len(data) - pos} left")
    return data[pos : pos + size], pos + size


def encode_u64_le(value: int) -> bytes:
    """Eight bytes, little-endian."""
    return _U64_LE.pack(value)


def compact_int(value: int) -> bytes:
    """The shortest of 1, 2, 4 or 8 little-endian bytes that holds a signed integer (row format v2)."""
    if -0x80 <= value < 0x80:
        return value.to_bytes(1, "little", signed=True)
    if -0x8000 <= value < 0x8000:
        return value.to_bytes(2, "little", signed=True)
    if -0x80000000 <= value < 0x80000000:
        return value.to_bytes(4, "little", signed=True)
    return value.to_bytes(8, "little", signed=True)


def compact_uint(value: int) -> bytes:
    """The shortest of 1, 2, 4 or 8 little-endian bytes that holds an unsigned integer (row format v2)."""
    if value < 0x100:
        return value.to_bytes(1, "little")
    if value < 0x10000:
        return value.to_bytes(2, "little")
    if value < 0x100000000:
        return value.to_bytes(4, "little")
    return value.to_bytes(8, "little")
