"""The protocol codec against itself: round trips, one byte at a time, and nonsense that must be refused."""

from __future__ import annotations

import struct

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidb_py.mysql import auth
from tidb_py.mysql.commands import Ping, Query, Quit, StmtExecute, Unknown
from tidb_py.mysql.connection import AuthData, InfileData, Phase, ServerConnection
from tidb_py.mysql.constants import CACHING_SHA2, MAX_PAYLOAD, NATIVE_PASSWORD, Capability, ColumnType
from tidb_py.mysql.errors import PacketsOutOfOrder, PacketTooLarge, ProtocolError
from tidb_py.mysql.handshake import HandshakeResponse
from tidb_py.mysql.packets import PacketDecoder, PacketEncoder, frame
from tidb_py.mysql.resultset import encode_binary_rows, encode_text_rows
from tidb_py.mysql.statement import StatementParams
from tidb_py.mysql.wire import Reader, lenenc_bytes, lenenc_int

SCRAMBLE = bytes(range(1, 21))


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_lenenc_round_trip(value: int) -> None:
    reader = Reader(lenenc_int(value))
    assert reader.lenenc() == value
    assert reader.left == 0


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_packets_survive_one_byte_at_a_time(payloads: list[bytes]) -> None:
    decoder = PacketDecoder(1 << 20)
    out = []
    for byte in PacketEncoder().many(payloads):
        decoder.feed(bytes([byte]))
        payload = decoder.next_payload()
        if payload is not None:
            out.append(payload)
    assert out == payloads


@pytest.mark.parametrize("size", [0, MAX_PAYLOAD - 1, MAX_PAYLOAD, MAX_PAYLOAD + 5])
def test_large_payloads_are_split(size: int) -> None:
    payload = b"x" * size
    decoder = PacketDecoder(1 << 26)
    decoder.feed(frame(payload, 0))
    assert decoder.next_payload() == payload


def test_too_large_packet_is_refused_before_it_arrives() -> None:
    decoder = PacketDecoder(1000)
    decoder.feed((1001).to_bytes(3, "little") + b"\0")
    with pytest.raises(PacketTooLarge):
        decoder.next_payload()


def test_sequence_numbers_must_follow() -> None:
    decoder = PacketDecoder(1000)
    decoder.feed(frame(b"a", 3))
    with pytest.raises(PacketsOutOfOrder):
        decoder.next_payload()


def response(user: bytes = b"root", answer: bytes = b"", plugin: bytes = b"mysql_native_password") -> bytes:
    caps = (
        Capability.PROTOCOL_41 | Capability.SECURE_CONNECTION | Capability.PLUGIN_AUTH | Capability.CONNECT_WITH_DB
        | Capability.PLUGIN_AUTH_LENENC | Capability.DEPRECATE_EOF
    )  # fmt: skip
    head = struct.pack("<IIB23x", int(caps), 1 << 24, 255)
    return head + user + b"\0" + lenenc_bytes(answer) + b"test\0" + plugin + b"\0"


def connected() -> ServerConnection:
    conn = ServerConnection(7, SCRAMBLE, max_allowed_packet=1 << 20, tls=False)
    conn.greeting()
    conn.receive(frame(response(), 1))
    event = conn.next_event()
    assert isinstance(event, HandshakeResponse)
    assert (event.user, event.database, event.plugin) == ("root", "test", NATIVE_PASSWORD)
    conn.send(b"ok")
    conn.accept()
    return conn


def test_a_connection_reaches_commands() -> None:
    conn = connected()
    conn.receive(frame(b"\x03select 1", 0) + frame(b"\x0e", 0) + frame(b"\x63", 0) + frame(b"\x01", 0))
    events = [conn.next_event() for _ in range(4)]
    assert events == [Query(b"select 1"), Ping(), Unknown(0x63), Quit()]
    assert conn.phase is Phase.CLOSED
    conn.receive(frame(b"\x0e", 0))
    assert conn.next_event() is None


def test_no_command_before_authentication() -> None:
    conn = ServerConnection(7, SCRAMBLE, max_allowed_packet=1 << 20, tls=False)
    conn.greeting()
    conn.receive(frame(response(), 1) + frame(b"\x03select 1", 2))
    assert isinstance(conn.next_event(), HandshakeResponse)
    conn.send(b"more")
    conn.receive(b"")
    with pytest.raises(PacketsOutOfOrder):
        conn.next_event()


def test_local_infile_phase() -> None:
    conn = connected()
    conn.receive(frame(b"\x03load data", 0))
    conn.next_event()
    assert conn.ask_file(b"\xfbfile")[3] == 1
    conn.receive(frame(b"abc", 2) + frame(b"", 3))
    assert conn.next_event() == InfileData(b"abc")
    assert conn.next_event() == InfileData(b"")
    assert conn.phase is Phase.COMMAND
    assert conn.send(b"ok")[3] == 4


@given(st.binary(max_size=80))
@settings(max_examples=300)
def test_nonsense_raises_only_protocol_errors(data: bytes) -> None:
    for conn in (ServerConnection(1, SCRAMBLE, max_allowed_packet=4096, tls=True), connected()):
        if conn.phase is Phase.GREETING:
            conn.greeting()
        conn.receive(frame(data, 1 if conn.phase is Phase.GREETING else 0))
        try:
            conn.next_event()
        except ProtocolError:
            assert conn.phase is Phase.CLOSED


def exchange(account: auth.Account | None, cache: auth.AuthCache | None = None, *, secure: bool) -> auth.AuthExchange:
    return auth.AuthExchange(account, SCRAMBLE, cache or auth.AuthCache(), auth.RsaKey(), secure=secure)


def test_native_password() -> None:
    account = auth.Account(user="u", host="%", auth_string=auth.native_hash("secret"))
    good = auth.native_scramble("secret", SCRAMBLE)
    assert exchange(account, secure=False).start(NATIVE_PASSWORD, good).status is auth.AuthStatus.ACCEPTED
    bad = auth.native_scramble("Secret", SCRAMBLE)
    assert exchange(account, secure=False).start(NATIVE_PASSWORD, bad).status is auth.AuthStatus.REFUSED
    assert exchange(account, secure=False).start(NATIVE_PASSWORD, b"").status is auth.AuthStatus.REFUSED
    assert exchange(None, secure=False).start(NATIVE_PASSWORD, good).status is auth.AuthStatus.REFUSED
    switched = exchange(account, secure=False)
    assert switched.start(CACHING_SHA2, b"x" * 32).status is auth.AuthStatus.CONTINUE
    assert switched.receive(good).status is auth.AuthStatus.ACCEPTED


def test_a_client_without_a_usable_plugin_is_told_which_one_to_use() -> None:
    # libmariadb answers as "dummy_fallback_auth" when it cannot load the plugin of the greeting (its loader races between
    # threads); it then waits for a switch and takes an immediate OK for a message of the plugin
    for plugin in (NATIVE_PASSWORD, CACHING_SHA2):
        account = auth.Account(user="root", host="%", plugin=plugin)
        step = (fallback := exchange(account, secure=False)).start("dummy_fallback_auth", b"")
        assert step.status is auth.AuthStatus.CONTINUE
        assert step.payloads[0].startswith(b"\xfe" + plugin.encode() + b"\0" + SCRAMBLE)
        assert fallback.receive(b"").status is auth.AuthStatus.ACCEPTED
        assert exchange(account, secure=False).start("dummy_fallback_auth", b"").status is auth.AuthStatus.CONTINUE
        refused = exchange(account, secure=False)
        refused.start("dummy_fallback_auth", b"")
        assert refused.receive(b"x" * 20).status is auth.AuthStatus.REFUSED
    assert exchange(None, secure=False).start("dummy_fallback_auth", b"").status is auth.AuthStatus.REFUSED


def test_the_greeting_names_a_plugin_every_client_has_built_in() -> None:
    assert b"mysql_native_password\0" in ServerConnection(7, SCRAMBLE, max_allowed_packet=1 << 20, tls=False).greeting()


def test_caching_sha2_full_then_fast() -> None:
    stored = auth.sha2_hash("secret", b"a" * 20)
    account = auth.Account(user="u", host="%", plugin=CACHING_SHA2, auth_string=stored)
    answer = auth.sha2_scramble("secret", SCRAMBLE)
    cache = auth.AuthCache()
    full = exchange(account, cache, secure=True)
    step = full.start(CACHING_SHA2, answer)
    assert (step.status, step.payloads) == (auth.AuthStatus.CONTINUE, (b"\x01\x04",))
    assert full.receive(b"wrong\0").status is auth.AuthStatus.REFUSED
    full = exchange(account, cache, secure=True)
    full.start(CACHING_SHA2, answer)
    assert full.receive(b"secret\0").status is auth.AuthStatus.ACCEPTED
    fast = exchange(account, cache, secure=False).start(CACHING_SHA2, answer)
    assert (fast.status, fast.payloads) == (auth.AuthStatus.ACCEPTED, (b"\x01\x03",))
    wrong = auth.sha2_scramble("other", SCRAMBLE)
    assert exchange(account, cache, secure=False).start(CACHING_SHA2, wrong).status is auth.AuthStatus.REFUSED


def test_sha256_crypt_known_vector() -> None:
    # the published vector of sha256-crypt with 5000 rounds (Drepper's specification)
    digest = auth._crypt_text(auth._crypt_digest(b"Hello world!", b"saltstring"))
    assert digest == "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"


def test_execute_parameters() -> None:
    params = StatementParams(4)
    types = bytes([ColumnType.LONGLONG, 0x80, ColumnType.VAR_STRING, 0, ColumnType.DOUBLE, 0, ColumnType.LONG, 0])
    body = b"\x08\x01" + types + (2**64 - 1).to_bytes(8, "little") + lenenc_bytes(b"hi") + struct.pack("<d", 1.5)
    assert params.decode(body) == [2**64 - 1, b"hi", 1.5, None]
    again = b"\x00\x00" + bytes(8) + lenenc_bytes(b"x") + struct.pack("<d", 2.0) + struct.pack("<i", -3)
    assert params.decode(again) == [0, b"x", 2.0, -3]
    params.append_long_data(1, b"lo")
    params.append_long_data(1, b"ng")
    assert params.decode(b"\x00\x00" + bytes(8) + struct.pack("<d", 2.0) + struct.pack("<i", 9))[1] == b"long"
    with pytest.raises(ProtocolError):
        StatementParams(1).decode(b"\0\0")


def test_execute_times() -> None:
    params = StatementParams(3)
    types = bytes([ColumnType.DATETIME, 0, ColumnType.TIME, 0, ColumnType.DATE, 0])
    body = b"\0\x01" + types + b"\x0b\xe8\x07\x02\x1d\x0a\x0b\x0c" + (5).to_bytes(4, "little")
    body += b"\x08\x01" + (1).to_bytes(4, "little") + b"\x02\x03\x04" + b"\x04\xe8\x07\x02\x1d"
    assert params.decode(body) == ["2024-02-29 10:11:12.000005", "-26:03:04", "2024-02-29"]


cells = st.lists(st.tuples(st.none() | st.binary(max_size=300), st.none() | st.binary(max_size=3)), min_size=1)


@given(cells)
@settings(max_examples=60)
def test_rows_column_wise_equal_rows_by_hand(rows: list[tuple[bytes | None, bytes | None]]) -> None:
    rows = rows * (1 + 20 // len(rows))
    columns = [pa.array(list(c), pa.large_binary()) for c in zip(*rows, strict=True)]
    whole, by_hand = PacketEncoder(), PacketEncoder()
    whole.sequence = by_hand.sequence = 250
    text = encode_text_rows(columns, whole)
    assert text == b"".join(encode_text_rows([c.slice(i, 1) for c in columns], by_hand) for i in range(len(rows)))
    binary = encode_binary_rows(columns, [True, False], whole)
    one_by_one = [
        encode_binary_rows([c.slice(i, 1) for c in columns], [True, False], by_hand) for i in range(len(rows))
    ]
    assert binary == b"".join(one_by_one)
    assert whole.sequence == by_hand.sequence


def test_stmt_execute_is_parsed_lazily() -> None:
    conn = connected()
    conn.receive(frame(b"\x17\x05\0\0\0\x01\x01\0\0\0body", 0))
    assert conn.next_event() == StmtExecute(5, 1, b"body")
    assert conn.next_event() is None
    conn.phase = Phase.AUTH
    conn.receive(frame(b"x", 0))
    assert conn.next_event() == AuthData(b"x")
