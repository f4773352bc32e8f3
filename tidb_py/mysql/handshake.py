"""The first packets of a connection: greeting (protocol 10), SSLRequest, HandshakeResponse41, COM_CHANGE_USER, switch.

Pure encoders and decoders. Clients older than 4.1 are refused: they cannot send a salted password.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tidb_py.mysql.constants import CHARSET_UTF8MB4, Capability, Status
from tidb_py.mysql.errors import ProtocolError
from tidb_py.mysql.wire import Reader

SCRAMBLE_SIZE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeResponse:
    """Who the client says it is."""

    capabilities: int
    max_packet: int
    charset: int
    user: str
    auth_response: bytes
    database: str
    plugin: str
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SslRequest:
    """The client wants TLS before it says who it is."""

    capabilities: int
    max_packet: int
    charset: int


def greeting(version: str, connection_id: int, scramble: bytes, capabilities: int, plugin: str) -> bytes:
    """The server's first payload."""
    if len(scramble) != SCRAMBLE_SIZE or 0 in scramble:
        raise ValueError("a scramble has 20 bytes, none of them NUL")
    return b"".join(
        (
            b"\x0a",
            version.encode(),
            b"\0",
            (connection_id & 0xFFFFFFFF).to_bytes(4, "little"),
            scramble[:8],
            b"\0",
            (capabilities & 0xFFFF).to_bytes(2, "little"),
            bytes([CHARSET_UTF8MB4]),
            int(Status.AUTOCOMMIT).to_bytes(2, "little"),
            (capabilities >> 16).to_bytes(2, "little"),
            bytes([SCRAMBLE_SIZE + 1]),
            b"\0" * 10,
            scramble[8:],
            b"\0",
            plugin.encode(),
            b"\0",
        )
    )


def parse_first(payload: bytes, server_capabilities: int) -> SslRequest | HandshakeResponse:
    """Decode the client's answer to the greeting."""
    reader = Reader(payload)
    capabilities = reader.uint(4)
    if not capabilities & Capability.PROTOCOL_41:
        raise ProtocolError("the client speaks a protocol older than 4.1")
    max_packet = reader.uint(4)
    charset = reader.uint(1)
    reader.take(23)
    if capabilities & Capability.SSL and not reader.left:
        return SslRequest(capabilities, max_packet, charset)
    user = reader.text(reader.nul_bytes())
    return _parse_rest(reader, capabilities & (server_capabilities | Capability.SSL), max_packet, charset, user)


def _parse_rest(reader: Reader, capabilities: int, max_packet: int, charset: int, user: str) -> HandshakeResponse:
    if capabilities & Capability.PLUGIN_AUTH_LENENC:
        auth_response = reader.lenenc_bytes()
    elif capabilities & Capability.SECURE_CONNECTION:
        auth_response = reader.take(reader.uint(1))
    else:
        auth_response = reader.nul_bytes()
    database = ""
    if capabilities & Capability.CONNECT_WITH_DB and reader.left:
        database = reader.text(reader.nul_bytes())
    plugin = ""
    if capabilities & Capability.PLUGIN_AUTH and reader.left:
        plugin = reader.text(reader.nul_bytes())
    attributes: dict[str, str] = {}
    if capabilities & Capability.CONNECT_ATTRS and reader.left:
        attributes = parse_attributes(reader)
    return HandshakeResponse(
        capabilities=capabilities,
        max_packet=max_packet,
        charset=charset,
        user=user,
        auth_response=auth_response,
        database=database,
        plugin=plugin,
        attributes=attributes,
    )


def parse_attributes(reader: Reader) -> dict[str, str]:
    """Connection attributes: a length, then length-encoded key and value in turn."""
    inner = Reader(reader.lenenc_bytes())
    out: dict[str, str] = {}
    while inner.left:
        key = inner.lenenc_bytes().decode(errors="replace")
        out[key] = inner.lenenc_bytes().decode(errors="replace")
    return out


def parse_change_user(payload: bytes, capabilities: int) -> HandshakeResponse:
    """Decode COM_CHANGE_USER (the command byte included)."""
    reader = Reader(payload, 1)
    user = reader.text(reader.nul_bytes())
    auth_response = reader.take(reader.uint(1)) if capabilities & Capability.SECURE_CONNECTION else reader.nul_bytes()
    database = reader.text(reader.nul_bytes())
    charset = reader.uint(2) & 0xFF if reader.left >= 2 else CHARSET_UTF8MB4
    plugin = reader.text(reader.nul_bytes()) if capabilities & Capability.PLUGIN_AUTH and reader.left else ""
    attributes = parse_attributes(reader) if capabilities & Capability.CONNECT_ATTRS and reader.left else {}
    return HandshakeResponse(
        capabilities=capabilities,
        max_packet=0,
        charset=charset,
        user=user,
        auth_response=auth_response,
        database=database,
        plugin=plugin,
        attributes=attributes,
    )


def auth_switch(plugin: str, scramble: bytes) -> bytes:
    """Ask the client to authenticate by another plugin."""
    return b"\xfe" + plugin.encode() + b"\0" + scramble + b"\0"


def auth_more_data(data: bytes) -> bytes:
    """A plugin's message in the middle of authentication."""
    return b"\x01" + data
