"""Carries bytes both ways between two connections, with back-pressure and half-closes.

Reading from one side stops while the other side's send buffer is full, so a slow reader costs at most one buffer. The end of
one direction is passed on and leaves the other open; the loss of one connection closes the other after what is
buffered was sent. Bytes are not looked at.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

READ_AHEAD_MAX = 1 << 20  # what the inner side may say before the outer one is attached


class _Side(asyncio.Protocol):
    """One of the two connections."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None
        self.lost = False
        self._early = bytearray()
        self._ended = False
        self._on_lost = on_lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.other is not None:
            self.other._pass_on_early(self.transport)

    def _pass_on_early(self, transport: asyncio.Transport) -> None:
        """What was said before there was anybody to say it to."""
        if self._early:
            transport.write(bytes(self._early))
            self._early.clear()
        if self.lost:
            transport.close()
        elif self._ended:
            transport.write_eof()  # the end of the other direction closes both

    def data_received(self, data: bytes) -> None:
        other = None if self.other is None else self.other.transport
        if other is not None:
            other.write(data)
            return
        self._early += data
        if len(self._early) > READ_AHEAD_MAX and self.transport is not None:
            self.transport.abort()

    def eof_received(self) -> bool:
        self._ended = True
        other = self.other
        if other is not None and other.transport is not None and not other.transport.is_closing():
            other.transport.write_eof()
            if other._ended:
                other.transport.close()
                return False
        return True  # the other direction may have more to say

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None and not self.other.lost:
            self.other.transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        self.lost = True
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()
        self._on_lost()


class BytePump:
    """Joins an accepted socket to the listener of a Unix socket. `on_end` is called once, when both sides are gone."""

    def __init__(self, on_end: Callable[[BytePump], None]) -> None:
        self._on_end = on_end
        self._joined = False
        self._outer = _Side(self._lost)
        self._inner = _Side(self._lost)
        self._outer.other, self._inner.other = self._inner, self._outer

    async def start(self, accepted: socket.socket, path: str) -> None:
        """Take the socket over and connect. Raises OSError when nobody listens at `path`; the socket is closed then."""
        loop = asyncio.get_running_loop()
        try:
            await loop.create_unix_connection(lambda: self._inner, path)
            await loop.connect_accepted_socket(lambda: self._outer, accepted)
        except BaseException:
            accepted.close()
            self.abort()
            raise
        self._joined = True
        self._lost()

    def _lost(self) -> None:
        if self._joined and self._inner.lost and self._outer.lost:
            self._joined = False
            self._on_end(self)

    def abort(self) -> None:
        """Drop both connections."""
        for side in (self._outer, self._inner):
            if side.transport is not None:
                side.transport.abort()
