"""TLS without sockets: ciphertext in, plain text out, and back.

MySQL clients send the SSLRequest and the first TLS record back to back, so both may sit in one read; handing the socket
to the event loop's own TLS would lose the record. Here the bytes that follow the SSLRequest are simply fed in.
"""

from __future__ import annotations

import ssl

from tidb_py.mysql.errors import ProtocolError

_CHUNK = 256 * 1024


class TlsLayer:
    """The server's side of one TLS session."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._ready = False

    def feed(self, data: bytes) -> bytes:
        """Take ciphertext and return what became readable."""
        if data:
            self._incoming.write(data)
        out = []
        try:
            if not self._ready:
                self._tls.do_handshake()
                self._ready = True
            while piece := self._tls.read(_CHUNK):
                out.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise ProtocolError(f"TLS failed: {error.reason or error}") from error
        return b"".join(out)

    def wrap(self, data: bytes) -> bytes:
        """Encrypt plain text, after anything TLS itself wants to send."""
        if self._ready:  # before that the client could not read it
            self._tls.write(data)
        return self._outgoing.read()

    def pending(self) -> bytes:
        """What TLS itself wants to send (handshake records)."""
        return self._outgoing.read() if self._outgoing.pending else b""
