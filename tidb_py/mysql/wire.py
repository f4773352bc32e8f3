"""Length-encoded integers and strings, and a bounds-checked reader of one packet's payload.

Invariant: a `Reader` never reads past its payload; every short or impossible field is a `ProtocolError`.
"""

from __future__ import annotations

import struct

from tidb_py.mysql.errors import ProtocolError

_LENENC_ONE = [bytes([i]) for i in range(251)]


def lenenc_int(value: int) -> bytes:
    """Encode a length-encoded integer."""
    if value < 251:
        return _LENENC_ONE[value]
    if value < 1 << 16:
        return b"\xfc" + value.to_bytes(2, "little")
    if value < 1 << 24:
        return b"\xfd" + value.to_bytes(3, "little")
    return b"\xfe" + value.to_bytes(8, "little")


def lenenc_bytes(value: bytes) -> bytes:
    """Encode a length-encoded string."""
    n = len(value)
    return _LENENC_ONE[n] + value if n < 251 else lenenc_int(n) + value


class Reader:
    """Reads fields of one payload from left to right."""

    __slots__ = ("data", "pos")

    def __init__(self, data: bytes, pos: int = 0) -> None:
        self.data = data
        self.pos = pos

    @property
    def left(self) -> int:
        """How many bytes are not read yet."""
        return len(self.data) - self.pos

    def take(self, n: int) -> bytes:
        """Exactly `n` bytes."""
        end = self.pos + n
        if n < 0 or end > len(self.data):
            raise ProtocolError(f"packet ends early: {n} bytes wanted at offset {self.pos}, {self.left} left")
        out = self.data[self.pos : end]
        self.pos = end
        return out

    def rest(self) -> bytes:
        """All bytes not read yet."""
        return self.take(self.left)

    def uint(self, size: int) -> int:
        """A fixed-size little-endian unsigned integer."""
        return int.from_bytes(self.take(size), "little")

    def sint(self, size: int) -> int:
        """A fixed-size little-endian signed integer."""
        return int.from_bytes(self.take(size), "little", signed=True)

    def float32(self) -> float:
        """A little-endian IEEE single."""
        return float(struct.unpack("<f", self.take(4))[0])

    def float64(self) -> float:
        """A little-endian IEEE double."""
        return float(struct.unpack("<d", self.take(8))[0])

    def lenenc(self) -> int:
        """A length-encoded integer."""
        first = self.uint(1)
        if first < 251:
            return first
        if first == 0xFC:
            return self.uint(2)
        if first == 0xFD:
            return self.uint(3)
        if first == 0xFE:
            return self.uint(8)
        raise ProtocolError(f"byte 0x{first:02x} at offset {self.pos - 1} starts no length-encoded integer")

    def lenenc_bytes(self) -> bytes:
        """A length-encoded string."""
        return self.take(self.lenenc())

    def nul_bytes(self) -> bytes:
        """A string up to a NUL byte, or up to the end when there is none."""
        end = self.data.find(b"\0", self.pos)
        if end < 0:
            return self.rest()
        out = self.data[self.pos : end]
        self.pos = end + 1
        return out

    def text(self, raw: bytes) -> str:
        """Decode a string field, which must be UTF-8."""
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise ProtocolError(f"a text field is not UTF-8: {error}") from error
