"""A SQL server and clients that break the protocol, disappear, or send statements that fail half-way.

What must hold: a broken client loses its own connection and nothing else, an unauthenticated one cannot take memory or
time, and a statement that fails leaves nothing of itself behind. The packets are made by hand, because no library sends
such ones.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from tests.unit.tidb.harness import RunningServer, code, one, rows


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    running = RunningServer()
    yield running
    running.close()


@pytest.fixture
def db(server: RunningServer) -> Iterator[Any]:
    with server.connect() as connection:
        rows(connection, "drop database if exists rb")
        rows(connection, "create database rb")
        rows(connection, "use rb")
        yield connection


def packet(payload: bytes, sequence: int = 0) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([sequence]) + payload


PAUSE = threading.Event()  # never set
LOGIN = struct.pack("<IIB23x", 0x000FA200 | 8, 1 << 24, 45) + b"root\0\0rb\0mysql_native_password\0"


class Raw:
    """A socket and the packets on it."""

    def __init__(self, server: RunningServer, *, login: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), 10)
        self.greeting = self.read()
        if login:
            self.socket.sendall(packet(LOGIN, 1))
            assert self.read()[:1] == b"\0"

    def _exactly(self, size: int) -> bytes:
        out = b""
        while len(out) < size:
            piece = self.socket.recv(size - len(out))
            if not piece:
                raise ConnectionError
            out += piece
        return out

    def read(self) -> bytes:
        return self._exactly(int.from_bytes(self._exactly(4)[:3], "little"))

    def command(self, payload: bytes) -> bytes:
        self.socket.sendall(packet(payload))
        return self.read()

    def prepare(self, sql: bytes) -> int:
        head = self.command(b"\x16" + sql)
        assert head[0] == 0, head
        statement, columns, params = struct.unpack("<IHH", head[1:9])
        for count in (columns, params):
            for _ in range(count + (1 if count else 0)):
                self.read()
        return int(statement)

    def end(self) -> int:
        """The error number the server says good-bye with (0: none); fails when it does not close."""
        number = 0
        with contextlib.suppress(ConnectionError):
            while True:
                payload = self.read()
                if payload[:1] == b"\xff":
                    number = int.from_bytes(payload[1:3], "little")
        self.socket.close()
        return number


def served(server: RunningServer) -> Any:
    assert server.server is not None
    assert server.server.context is not None
    return server.server.context


def left(server: RunningServer, wanted: int, seconds: float = 5.0) -> bool:
    """Whether the server comes to hold this many connections."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if len(served(server).connections) == wanted:
            return True
        PAUSE.wait(0.01)
    return False


# -- broken packets -----------------------------------------------------------------------------------------------

BEFORE_LOGIN = {
    "junk": b"GET / HTTP/1.1\r\n\r\n",
    "empty payload": packet(b"", 1),
    "old protocol": packet(b"\x05\xa2\x00\x00\x01root\0", 1),
    "short head": packet(LOGIN[:20], 1),
    "user without an end": packet(LOGIN[:34], 1),
    "wrong sequence": packet(LOGIN, 7),
    "password longer than the packet": packet(LOGIN[:37] + b"\xf0" + b"x" * 9, 1),
    "user is not UTF-8": packet(LOGIN[:32] + b"\xff\xfe\0\0rb\0", 1),
    "attributes longer than the packet": packet(struct.pack("<IIB23x", 0x001FA200, 1, 45) + b"root\0\0p\0\xfe" + b"\xff" * 8, 1),
    "announces 16 MiB": b"\xff\xff\xff\x01",
    "TLS that is none": packet(struct.pack("<IIB23x", 0x000FAA00, 1, 45), 1) + b"\x16\x03\x01\x00\x05hello, this is no TLS",
    "two TLS requests": packet(struct.pack("<IIB23x", 0x000FAA00, 1, 45), 1) * 2,
    "a command instead": packet(b"\x03select 1", 0),
}  # fmt: skip


@pytest.mark.parametrize("junk", BEFORE_LOGIN.values(), ids=BEFORE_LOGIN.keys())
def test_junk_before_log_in_ends_only_that_connection(server: RunningServer, db: Any, junk: bytes) -> None:
    raw = Raw(server, login=False)
    raw.socket.sendall(junk)
    raw.end()
    assert one(db, "select 1") == 1
    assert left(server, 1)


@pytest.mark.parametrize("answer", [b"", b"\0", b"x" * 20, b"y" * 60_000])
def test_junk_in_the_middle_of_authentication(server: RunningServer, db: Any, answer: bytes) -> None:
    rows(db, "drop user if exists sw")
    rows(db, "create user sw identified with caching_sha2_password by 'secret'")
    raw = Raw(server, login=False)
    raw.socket.sendall(packet(LOGIN.replace(b"root", b"sw"), 1))
    assert raw.read()[:1] == b"\xfe"  # told to use the other plugin
    raw.socket.sendall(packet(answer, 3))
    if answer.strip(b"\0"):
        assert raw.read() == b"\x01\x04"  # the password itself is wanted
        raw.socket.sendall(packet(b"\x02", 5))
        assert raw.read().startswith(b"\x01-----BEGIN PUBLIC KEY")
        raw.socket.sendall(packet(b"not encrypted by that key", 7))
    assert raw.end() == 1045
    assert left(server, 1)


COMMANDS = {
    "empty": packet(b""),
    "wrong sequence": packet(b"\x03select 1", 3),
    "kill without a number": packet(b"\x0c\x01"),
    "execute without a head": packet(b"\x17\x01"),
    "fetch without a head": packet(b"\x1c\x01\x00"),
    "option without a value": packet(b"\x1b"),
    "change user without an end": packet(b"\x11root\0\xf0abc"),
    "database is not UTF-8": packet(b"\x02\xff\xfe"),
    "huge": b"\xff\xff\xff\x00" + b"\x03" + b"x" * 0xFFFFFE + packet(b"", 5),
}


@pytest.mark.parametrize("junk", COMMANDS.values(), ids=COMMANDS.keys())
def test_junk_instead_of_a_command_ends_only_that_connection(server: RunningServer, db: Any, junk: bytes) -> None:
    raw = Raw(server)
    raw.socket.sendall(junk)
    assert raw.end() in (1156, 1835)
    assert one(db, "select 1") == 1
    assert left(server, 1)


def test_broken_executions(server: RunningServer, db: Any) -> None:
    rows(db, "create table t (id int primary key, s varchar(100))")
    for body in (
        b"", b"\x00", b"\x00\x01\x03", b"\x00\x00", b"\x00\x01\x03\x00\xfd\x00\x01\x02",  # too short, types never bound
        b"\x00\x01\x03\x00\xfd\x00\x01\x00\x00\x00\xfe\xff\xff\xff\xff\xff\xff\xff\x7f",  # a string of 2**63 bytes
        b"\x00\x01\x03\x00\xfd\x00\x01\x00\x00\x00\xff",  # no length at all
        b"\x00\x01\x77\x00\xfd\x00\x01\x00\x00\x00",  # no such type
        b"\x00\x01\x03\x00\x0c\x00\x01\x00\x00\x00\x05abcde",  # a datetime of 5 bytes
    ):  # fmt: skip
        raw = Raw(server)
        statement = raw.prepare(b"insert into t values (?, ?)")
        raw.socket.sendall(packet(b"\x17" + struct.pack("<IBI", statement, 0, 1) + body))
        assert raw.end() == 1835, body
    raw = Raw(server)
    assert raw.command(b"\x17" + struct.pack("<IBI", 99, 0, 1))[1:3] == struct.pack("<H", 1243)
    assert raw.command(b"\x1c" + struct.pack("<II", 99, 1))[1:3] == struct.pack("<H", 1243)
    assert raw.command(b"\x63")[1:3] == struct.pack("<H", 1047)  # the connection goes on
    assert raw.command(b"\x0e")[:1] == b"\0"
    raw.socket.close()
    assert one(db, "select count(*) from t") == 0


def test_text_that_is_not_utf8_is_an_error_and_no_defect(server: RunningServer, db: Any) -> None:
    rows(db, "create table t (id int primary key, s varchar(100))")
    raw = Raw(server)
    for sql in (
        b"sel\xff 1",
        b"select * from `\xff\xfe`",
        b"insert into t values (1, '\xff\xfe')",
        b"select nosuch('\xff')",
    ):
        assert raw.command(b"\x03" + sql)[:1] == b"\xff", sql
    assert raw.command(b"\x16select \xff\xfe from")[:1] == b"\xff"
    assert raw.command(b"\x0e")[:1] == b"\0"
    raw.socket.close()
    assert one(db, "select count(*) from t") == 0


def test_long_data_is_bounded(server: RunningServer, db: Any) -> None:
    served(server).max_allowed_packet = 100_000
    try:
        raw = Raw(server)
        statement = raw.prepare(b"select ?")
        for _ in range(5):
            raw.socket.sendall(packet(b"\x18" + struct.pack("<IH", statement, 0) + b"x" * 30_000))
        assert raw.end() == 1153
        assert one(db, "select 1") == 1
    finally:
        served(server).max_allowed_packet = 64 << 20


def test_a_too_large_packet_is_1153_and_writes_nothing(server: RunningServer, db: Any) -> None:
    rows(db, "create table t (id int primary key, s longtext)")
    served(server).max_allowed_packet = 100_000
    try:
        raw = Raw(server)
        raw.command(b"\x03begin")
        raw.command(b"\x03insert into t values (1, 'before')")
        sql = b"\x03insert into t values (2, '" + b"x" * 150_000 + b"')"
        raw.socket.sendall(len(sql).to_bytes(3, "little") + b"\0" + sql[:1000])  # the announcement is enough
        assert raw.end() == 1153
        assert left(server, 1)
        assert one(db, "select count(*) from t") == 0
    finally:
        served(server).max_allowed_packet = 64 << 20


def test_a_statement_of_more_than_one_packet_arrives_whole(db: Any) -> None:
    rows(db, "create table t (id int primary key, a longtext)")
    rows(db, "insert into t values (1, '" + "x" * 5_000_000 + "')")
    size = 0xFFFFFF - len("\x03select length('')")
    for length in (size - 1, size, size + 1):
        assert one(db, "select length('" + "x" * length + "')") == length
    assert len(one(db, "select concat(a, a, a, a) from t")) == 20_000_000


# -- time and disappearing ------------------------------------------------------------------------------------------


def test_a_client_that_does_not_log_in_is_dropped(server: RunningServer, db: Any) -> None:
    context = served(server)
    context.handshake_timeout_s = 0.5
    try:
        began = time.monotonic()
        silent, slow, switching = (Raw(server, login=False) for _ in range(3))
        stop = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                for byte in packet(LOGIN, 1):
                    slow.socket.sendall(bytes([byte]))
                    if stop.wait(0.1):
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        rows(db, "drop user if exists sw")
        rows(db, "create user sw identified with caching_sha2_password by 'secret'")
        switching.socket.sendall(packet(LOGIN.replace(b"root", b"sw"), 1))
        for raw in (silent, slow, switching):
            with contextlib.suppress(ConnectionResetError):
                raw.end()
        assert time.monotonic() - began < 5
        stop.set()
        thread.join()
        assert left(server, 1)
    finally:
        context.handshake_timeout_s = 10.0
    assert one(db, "select 1") == 1


def test_half_open_connections_leave_nothing(server: RunningServer, db: Any) -> None:
    raws = [Raw(server, login=i % 2 == 0) for i in range(20)]
    assert left(server, 21)
    for i, raw in enumerate(raws):
        if i % 3 == 0:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST
        elif i % 3 == 1:
            raw.socket.sendall(b"\x40\x00\x00\x00\x03sel")  # half a packet
        raw.socket.close()
    assert left(server, 1)
    assert one(db, "select 1") == 1


def test_a_client_gone_in_a_transaction_releases_its_locks(server: RunningServer, db: Any) -> None:
    rows(db, "create table t (id int primary key, v int)")
    rows(db, "insert into t values (1, 0), (2, 0)")
    for way in ("gone", "killed"):
        raw = Raw(server)
        raw.command(b"\x03begin pessimistic")
        assert raw.command(b"\x03update t set v = 7 where id = 1")[:1] == b"\0"
        if way == "gone":
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.socket.close()
        else:
            rows(db, f"kill {struct.unpack('<I', raw.greeting[raw.greeting.index(0, 1) + 1 :][:4])[0]}")
            raw.end()
        rows(db, "begin pessimistic")
        began = time.monotonic()
        rows(db, "update t set v = v + 1 where id = 1")
        rows(db, "commit")
        assert time.monotonic() - began < 3
    assert rows(db, "select * from t") == [(1, 2), (2, 0)]


def test_a_client_gone_while_its_statement_waits_releases_its_locks(server: RunningServer, db: Any) -> None:
    rows(db, "create table t (id int primary key, v int)")
    rows(db, "insert into t values (1, 0), (2, 0)")
    rows(db, "begin pessimistic")
    rows(db, "update t set v = 1 where id = 1")
    raw = Raw(server)
    raw.command(b"\x03begin pessimistic")
    raw.command(b"\x03update t set v = 7 where id = 2")
    raw.socket.sendall(packet(b"\x03update t set v = 7 where id = 1"))  # waits for us
    PAUSE.wait(0.3)
    raw.socket.close()
    began = time.monotonic()
    rows(db, "update t set v = 2 where id = 2")
    rows(db, "commit")
    assert time.monotonic() - began < 5
    assert rows(db, "select * from t") == [(1, 1), (2, 2)]
    assert left(server, 1)


def test_a_client_that_reads_nothing_can_be_killed(server: RunningServer, db: Any) -> None:
    rows(db, "create table t (id int primary key, s longtext)")
    rows(db, "insert into t values " + ", ".join(f"({i}, '{'x' * 1_000_000}')" for i in range(20)))
    raw = Raw(server)
    number = struct.unpack("<I", raw.greeting[raw.greeting.index(0, 1) + 1 :][:4])[0]
    raw.socket.sendall(packet(b"\x03select * from t"))
    PAUSE.wait(0.5)
    rows(db, f"kill {number}")
    assert left(server, 1, 10)
    raw.socket.close()


# -- accounts -------------------------------------------------------------------------------------------------------


def test_wrong_accounts_are_1045_and_disconnected(server: RunningServer, db: Any) -> None:
    rows(db, "drop user if exists u1")
    rows(db, "create user u1 identified by 'secret'")
    for user, password in (("u1", "wrong"), ("u1", ""), ("nobody", ""), ("nobody", "x"), ("root", "x")):
        with pytest.raises(pymysql.err.OperationalError) as info, server.connect(user=user, password=password):
            pass
        assert info.value.args[0] == 1045
    raw = Raw(server, login=False)
    raw.socket.sendall(packet(LOGIN.replace(b"root", b"nobody"), 1) + packet(b"\x03drop database rb"))
    assert raw.end() == 1045
    with pytest.raises(pymysql.err.OperationalError) as info, server.connect(database="nosuch"):
        pass
    assert info.value.args[0] == 1049
    assert rows(db, "show databases like 'rb'") == [("rb",)]
    assert left(server, 1)


# -- statements that fail half-way ----------------------------------------------------------------------------------

FAILING = (
    (1062, "insert into t values (10, 10), (11, 11), (1, 12), (13, 13)"),
    (1062, "insert into t (id, u) values (10, 10), (11, 11), (12, 1)"),
    (1062, "insert into t values (10, 10), (10, 11)"),
    (1062, "insert into t select id + 10, 1 from t"),
    (1062, "update t set u = 5 where id in (1, 2)"),
    (1062, "update t set id = id + 1 where id = 1"),
    (1048, "insert into t values (10, 10), (null, 11)"),
    (1264, "insert into t values (10, 10), (99999999999, 11)"),
    (1366, "insert into t values (10, 10), ('x', 11)"),
    (1136, "insert into t values (10, 10), (11)"),
)


def test_a_failing_statement_writes_nothing(db: Any) -> None:
    rows(db, "create table t (id int primary key, u int, unique key (u))")
    rows(db, "insert into t values (1, 1), (2, 2)")
    for number, sql in FAILING:
        assert code(db, sql) == number, sql
        assert rows(db, "select * from t order by id") == [(1, 1), (2, 2)], sql
        assert rows(db, "select u from t where u > 0 order by u") == [(1,), (2,)], sql


@pytest.mark.parametrize("mode", ["pessimistic", "optimistic"])
def test_a_failing_statement_in_a_transaction_leaves_the_others(server: RunningServer, db: Any, mode: str) -> None:
    rows(db, "create table t (id int primary key, u int, unique key (u))")
    rows(db, "insert into t values (1, 1), (2, 2)")
    rows(db, f"begin {mode}")
    rows(db, "insert into t values (3, 3)")
    rows(db, "update t set u = 20 where id = 2")
    for number, sql in FAILING:
        if "where id in" in sql or "where id = 1" in sql:
            continue
        assert code(db, sql) == number, sql
        assert rows(db, "select * from t order by id") == [(1, 1), (2, 20), (3, 3)], sql
    assert code(db, "selec 1") == 1064
    assert code(db, "select * from nosuch") == 1146
    rows(db, "insert into t values (4, 4)")
    rows(db, "commit")
    with server.connect(database="rb") as other:
        assert rows(other, "select * from t order by id") == [(1, 1), (2, 20), (3, 3), (4, 4)]
        assert rows(other, "select u from t where u > 0 order by u") == [(1,), (3,), (4,), (20,)]
