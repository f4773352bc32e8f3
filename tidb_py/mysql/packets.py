"""Packet framing: 3-byte length, sequence number, payload; payloads of 16 MiB - 1 continue in the next packet.

`PacketDecoder` is fed any slices of the stream and yields whole payloads. Invariants: the announced length is checked
against `max_allowed_packet` before anything is kept for it, and sequence numbers must follow one another; a new command
starts again at 0. `PacketEncoder` numbers what goes out after what came in.
"""

from __future__ import annotations

from collections.abc import Iterable

from tidb_py.mysql.constants import MAX_PAYLOAD
from tidb_py.mysql.errors import PacketsOutOfOrder, PacketTooLarge


class PacketDecoder:
    """Bytes in, payloads out."""

    __slots__ = ("_buffer", "_parts", "_parts_size", "max_allowed_packet", "sequence")

    def __init__(self, max_allowed_packet: int) -> None:
        self._buffer = bytearray()
        self._parts: list[bytes] = []  # pieces of a payload that continues
        self._parts_size = 0
        self.max_allowed_packet = max_allowed_packet
        self.sequence = 0  # the number that must come next

    def feed(self, data: bytes) -> None:
        """Take more of the stream."""
        self._buffer += data

    def next_payload(self) -> bytes | None:
        """The next whole payload, or None when more bytes are needed."""
        buffer = self._buffer
        while len(buffer) >= 4:
            size = buffer[0] | buffer[1] << 8 | buffer[2] << 16
            if self._parts_size + size > self.max_allowed_packet:
                raise PacketTooLarge("Got a packet bigger than 'max_allowed_packet' bytes")
            if buffer[3] != self.sequence:
                raise PacketsOutOfOrder(f"Got packets out of order: {buffer[3]} where {self.sequence} must come")
            if len(buffer) < size + 4:
                return None
            payload = bytes(memoryview(buffer)[4 : size + 4])
            del buffer[: size + 4]
            self.sequence = (self.sequence + 1) & 0xFF
            if size == MAX_PAYLOAD:
                self._parts.append(payload)
                self._parts_size += size
                continue
            if self._parts:
                self._parts.append(payload)
                payload = b"".join(self._parts)
                self._parts.clear()
                self._parts_size = 0
            return payload
        return None

    def take_buffer(self) -> bytes:
        """Hand over what is not decoded yet (the start of TLS after an SSLRequest)."""
        out = bytes(self._buffer)
        self._buffer.clear()
        return out


def frame(payload: bytes, sequence: int) -> bytes:
    """One payload as packets that start at `sequence`."""
    size = len(payload)
    if size < MAX_PAYLOAD:
        return (size | sequence << 24).to_bytes(4, "little") + payload
    out = []
    for start in range(0, size + 1, MAX_PAYLOAD):
        piece = payload[start : start + MAX_PAYLOAD]
        out.append((len(piece) | sequence << 24).to_bytes(4, "little") + piece)
        sequence = (sequence + 1) & 0xFF
    return b"".join(out)


def packets_of(payload_size: int) -> int:
    """How many packets a payload of this size takes."""
    return payload_size // MAX_PAYLOAD + 1


class PacketEncoder:
    """Numbers and frames payloads that go to the client."""

    __slots__ = ("sequence",)

    def __init__(self) -> None:
        self.sequence = 0

    def one(self, payload: bytes) -> bytes:
        """Frame one payload."""
        out = frame(payload, self.sequence)
        self.sequence = (self.sequence + packets_of(len(payload))) & 0xFF
        return out

    def many(self, payloads: Iterable[bytes]) -> bytes:
        """Frame several payloads as one byte string; the hot path of result rows."""
        out = []
        sequence = self.sequence
        for payload in payloads:
            size = len(payload)
            if size < MAX_PAYLOAD:
                out.append((size | sequence << 24).to_bytes(4, "little"))
                out.append(payload)
                sequence = (sequence + 1) & 0xFF
            else:
                out.append(frame(payload, sequence))
                sequence = (sequence + packets_of(size)) & 0xFF
        self.sequence = sequence
        return b"".join(out)
