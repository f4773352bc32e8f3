"""The server's side of one connection as a state machine: bytes in, events out; replies in, bytes out.

    GREETING --SslRequest--> GREETING (after TLS)   --HandshakeResponse--> AUTH --accept()--> COMMAND
    COMMAND --ask_file()--> INFILE --empty packet--> COMMAND            any --ProtocolError--> CLOSED

It knows framing, sequence numbers and phases and nothing of SQL, sockets or accounts. Invariants: no command is parsed
before `accept()`; after a `ProtocolError` or `Quit` every further byte is ignored.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from tidb_py.mysql.commands import AnyCommand, ChangeUser, Quit, parse_command
from tidb_py.mysql.constants import NATIVE_PASSWORD, SERVER_CAPABILITIES, SERVER_VERSION, Capability
from tidb_py.mysql.errors import ProtocolError
from tidb_py.mysql.handshake import HandshakeResponse, SslRequest, greeting, parse_first
from tidb_py.mysql.packets import PacketDecoder, PacketEncoder

_DEPRECATE_EOF = int(Capability.DEPRECATE_EOF)  # arithmetic of enum flags is slow, and this is asked for every result
HANDSHAKE_LIMIT = 64 * 1024  # a client that is not authenticated may send no more than this in one packet


class Phase(enum.Enum):
    """What the next packet of the client means."""

    GREETING = "greeting"
    AUTH = "auth"
    COMMAND = "command"
    INFILE = "infile"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class AuthData:
    """A further message of the authentication exchange."""

    data: bytes


@dataclass(frozen=True, slots=True)
class InfileData:
    """A piece of the file asked for; empty at its end."""

    data: bytes


Event = SslRequest | HandshakeResponse | AuthData | InfileData | AnyCommand


class ServerConnection:
    """Protocol state of one client."""

    def __init__(self, connection_id: int, scramble: bytes, *, max_allowed_packet: int, tls: bool) -> None:
        self.connection_id = connection_id
        self.scramble = scramble
        self.max_allowed_packet = max_allowed_packet
        self.capabilities = 0
        self.phase = Phase.GREETING
        self.secure = False
        self._offered = int(SERVER_CAPABILITIES) | (int(Capability.SSL) if tls else 0)
        self._decoder = PacketDecoder(HANDSHAKE_LIMIT)
        self._encoder = PacketEncoder()

    @property
    def deprecate_eof(self) -> bool:
        """Whether rows end with an OK instead of an EOF."""
        return bool(self.capabilities & _DEPRECATE_EOF)

    def greeting(self) -> bytes:
        """The first bytes to send."""
        out = self._encoder.one(
            greeting(SERVER_VERSION, self.connection_id, self.scramble, self._offered, NATIVE_PASSWORD)
        )
        self._decoder.sequence = 1
        return out

    def receive(self, data: bytes) -> None:
        """Take bytes of the client."""
        if self.phase is not Phase.CLOSED:
            self._decoder.feed(data)

    def next_event(self) -> Event | None:
        """The next thing the client said, or None; raises `ProtocolError` and closes when it is nonsense."""
        if self.phase is Phase.CLOSED:
            return None
        try:
            payload = self._decoder.next_payload()
            if payload is None:
                return None
            self._encoder.sequence = self._decoder.sequence
            return self._event(payload)
        except ProtocolError:
            self._encoder.sequence = (self._decoder.sequence + 1) & 0xFF
            self.phase = Phase.CLOSED
            raise

    def _event(self, payload: bytes) -> Event:
        if self.phase is Phase.COMMAND:
            self._decoder.sequence = 0
            command = parse_command(payload, self.capabilities)
            if isinstance(command, Quit):
                self.phase = Phase.CLOSED
            elif isinstance(command, ChangeUser):
                self.phase = Phase.AUTH
                self._decoder.sequence = self._encoder.sequence + 1
            return command
        if self.phase is Phase.INFILE:
            if not payload:
                self.phase = Phase.COMMAND
                self._decoder.sequence = 0
            return InfileData(payload)
        if self.phase is Phase.AUTH:
            return AuthData(payload)
        event = parse_first(payload, self._offered)
        if isinstance(event, HandshakeResponse):
            self.capabilities = event.capabilities
            self.phase = Phase.AUTH
        elif not self._offered & Capability.SSL:
            raise ProtocolError("the client asks for TLS, which this server did not offer")
        return event

    def start_tls(self) -> bytes:
        """TLS begins: hand over bytes that already belong to it."""
        self.secure = True
        return self._decoder.take_buffer()

    def accept(self) -> None:
        """The client is who it says; commands may come."""
        self.phase = Phase.COMMAND
        self._decoder.sequence = 0
        self._decoder.max_allowed_packet = self.max_allowed_packet

    def ask_file(self, request: bytes) -> bytes:
        """Send a LOCAL INFILE request and expect the file."""
        out = self.send(request)
        self.phase = Phase.INFILE
        self._decoder.sequence = self._encoder.sequence
        return out

    def send(self, *payloads: bytes) -> bytes:
        """Frame payloads for the client."""
        out = self._encoder.one(payloads[0]) if len(payloads) == 1 else self._encoder.many(payloads)
        if self.phase is Phase.AUTH:
            self._decoder.sequence = self._encoder.sequence
        return out

    @property
    def encoder(self) -> PacketEncoder:
        """For encoders that frame many rows at once."""
        return self._encoder
