"""What a TLS client offers to speak: the ALPN names of its first message, read without answering it.

Only the first record is looked at, and only as far as the names: the handshake itself belongs to whoever gets the connection. A
first message that spreads over several records is refused; no client in use sends one, and putting it together here would
mean holding what a stranger sends.
"""

from __future__ import annotations

RECORD_HEADER = 5
MAX_RECORD = 1 << 14
_HANDSHAKE, _CLIENT_HELLO, _ALPN = 0x16, 1, 16


class MalformedHello(ValueError):
    """Not the first message of a TLS client."""


def offered_protocols(data: bytes) -> tuple[bytes, ...] | None:
    """ALPN names in the client's order, () when it names none, None when more bytes are needed. Raises MalformedHello."""
    if data[:1] != bytes([_HANDSHAKE]):
        raise MalformedHello("not a handshake record")
    if len(data) < RECORD_HEADER:
        return None
    length = int.from_bytes(data[3:5], "big")
    if not 4 < length <= MAX_RECORD:
        raise MalformedHello(f"a record of {length} bytes")
    if len(data) < RECORD_HEADER + length:
        return None
    record = data[RECORD_HEADER : RECORD_HEADER + length]
    if record[0] != _CLIENT_HELLO or int.from_bytes(record[1:4], "big") + 4 > length:
        raise MalformedHello("not a client's first message in one record")
    return _alpn(_Reader(record[4 : 4 + int.from_bytes(record[1:4], "big")]))


class _Reader:
    """Vectors of TLS: a length of 1 or 2 bytes, then as many bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """The next bytes."""
        end = self._at + count
        if end > len(self._data):
            raise MalformedHello("a length goes beyond the message")
        out = self._data[self._at : end]
        self._at = end
        return out

    def vector(self, width: int) -> bytes:
        """A vector whose length takes `width` bytes."""
        return self.take(int.from_bytes(self.take(width), "big"))


def _alpn(hello: _Reader) -> tuple[bytes, ...]:
    hello.take(2 + 32)  # version, random
    hello.vector(1)  # session id
    hello.vector(2)  # cipher suites
    hello.vector(1)  # compression
    if not hello:
        return ()
    extensions = _Reader(hello.vector(2))
    while extensions:
        kind = int.from_bytes(extensions.take(2), "big")
        body = extensions.vector(2)
        if kind == _ALPN:
            names, found = _Reader(_Reader(body).vector(2)), []
            while names:
                found.append(names.vector(1))
            return tuple(found)
    return ()
