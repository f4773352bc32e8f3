"""SQL end to end: a real client library, our server, the in-memory store."""

from __future__ import annotations

import datetime as dt
import socket
import struct
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pymysql
import pymysql.cursors
import pytest
from pymysql.constants import CLIENT

# ruff: noqa: DTZ001, ISC004 - MySQL times have no zone
from tests.unit.tidb.harness import RunningServer, code, one, rows


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    running = RunningServer()
    yield running
    running.close()


@pytest.fixture
def db(server: RunningServer) -> Iterator[Any]:
    with server.connect() as connection:
        rows(connection, "drop database if exists t1")
        rows(connection, "create database t1")
        rows(connection, "use t1")
        yield connection


def test_what_clients_send_on_connect(db: Any) -> None:
    for sql in (
        "select @@version_comment limit 1", "select DATABASE(), USER() limit 1", "SET NAMES utf8mb4",
        "SET NAMES 'utf8mb4' COLLATE 'utf8mb4_0900_ai_ci'", "SET @@session.autocommit = OFF", "SET AUTOCOMMIT = 1",
        "SELECT VERSION()", "SELECT @@transaction_isolation", "SELECT @@tx_isolation", "SELECT @@sql_mode",
        "SELECT @@lower_case_table_names", "SHOW FULL TABLES FROM t1", "SHOW schemas", "ROLLBACK", "show warnings",
        "SELECT VERSION(), @@sql_mode, @@default_storage_engine, @@sql_auto_is_null, @@lower_case_table_names, "
        "CONVERT_TZ('2001-01-01 01:00:00', 'UTC', 'UTC') IS NOT NULL",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "SHOW VARIABLES LIKE 'sql_mode'", "SHOW ENGINES",
        "/*!40101 SET NAMES utf8 */", "SHOW COLLATION", "SHOW CHARACTER SET", "SHOW PROCESSLIST", "SHOW GRANTS",
        "SET character_set_results = NULL", "SELECT @@max_allowed_packet", "SELECT CAST('test' AS CHAR(60)) AS anon_1",
    ):  # fmt: skip
        rows(db, sql)
    assert one(db, "select 1 = 1") == 1
    assert code(db, "select @@nosuch") == 1193


def test_types_round_trip(db: Any) -> None:
    rows(
        db,
        """create table k (id int primary key, a tinyint, b smallint unsigned, c mediumint, d bigint unsigned,
        e float, f double, g decimal(20,6), h char(5), i varchar(30), j text, k blob, l date, m datetime(6), n timestamp null,
        o time(3), p year, q enum('x','y'), r set('a','b','c'), s bit(10), t json, u binary(4), v bool)""",
    )
    values = (
        1, -128, 65535, -8388608, 2**64 - 1, 1.5, 0.1, Decimal("-12345678901234.123456"), "ab", "héllo 'q' \\ \n", "x" * 1000,
        b"\x00\xff'\\", dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 1, 2, 3, 456789), dt.datetime(2024, 1, 1),
        "-12:34:56.789", 2024, "y", "a,c", 513, '{"k": [1, "é"]}', b"ab\x00\x00", 1,
    )  # fmt: skip
    rows(db, f"insert into k values ({','.join(['%s'] * len(values))})", values)
    got = rows(db, "select * from k")[0]
    assert got[:6] == values[:6]
    assert got[6:13] == values[6:13]
    assert got[13:15] == values[13:15]
    assert got[15] == -dt.timedelta(hours=12, minutes=34, seconds=56, milliseconds=789)
    assert got[16:19] == (2024, "y", "a,c")
    assert got[19] == b"\x02\x01"
    assert got[20:] == ('{"k": [1, "é"]}', b"ab\x00\x00", 1)
    rows(db, "insert into k (id) values (2)")
    assert rows(db, "select * from k where id=2")[0][1:] == (None,) * 22


def test_bad_values_are_refused_and_write_nothing(db: Any) -> None:
    rows(db, "create table b (id int primary key, n tinyint not null, s varchar(3), d date, u int, unique key uu (u))")
    rows(db, "insert into b values (1, 1, 'a', '2024-01-01', 1)")
    assert code(db, "insert into b values (2, 300, 'a', null, 2)") == 1264
    assert code(db, "insert into b values (2, 1, 'abcd', null, 2)") == 1406
    assert code(db, "insert into b values (2, 'x', 'a', null, 2)") == 1366
    assert code(db, "insert into b values (2, 1, 'a', '2024-02-30', 2)") == 1292
    assert code(db, "insert into b values (2, null, 'a', null, 2)") == 1048
    assert code(db, "insert into b (id) values (2)") == 1364
    assert code(db, "insert into b values (2, 1)") == 1136
    assert code(db, "insert into b values (2, 1, 'a', null, 2), (1, 1, 'a', null, 3)") == 1062
    assert code(db, "insert into b values (2, 1, 'a', null, 5), (3, 1, 'a', null, 1)") == 1062
    assert code(db, "update b set u = 'x'") == 1366
    assert rows(db, "select id from b") == [(1,)]
    assert code(db, "insert into b (nosuch) values (1)") == 1054
    assert code(db, "insert into nosuch values (1)") == 1146
    rows(db, "insert ignore into b values (2, 300, 'abcd', '2024-02-30', 2)")
    assert len(rows(db, "show warnings")) >= 2
    assert rows(db, "select n, s from b where id = 2") == [(127, "abc")]


def test_numbers(db: Any) -> None:
    assert rows(db, "select 1+1, 7/2, 7 div 2, -7 % 3, 1.5*2.25, 2e0/3, 1/0, 0.1+0.2")[0] == (
        2, Decimal("3.5000"), 3, -1, Decimal("3.375"), 2 / 3, None, Decimal("0.3"),
    )  # fmt: skip
    assert code(db, "select 9223372036854775807 + 1") == 1690
    assert one(db, "select 18446744073709551615") == 2**64 - 1
    assert one(db, "select round(2.5), round(-1.455, 2), truncate(1.999, 1), ceil(1.2)" + " is not null") is not None
    assert rows(db, "select 1 <=> null, null = null, null is null, 1 in (2, null), not null")[0] == (
        0,
        None,
        1,
        None,
        None,
    )
    assert rows(db, "select '10' + 5, '3abc' * 2, 'a' = 'A', 'a' = 'a ', 1 = '1'")[0] == (15.0, 6.0, 0, 1, 1)


def test_queries(db: Any) -> None:
    rows(db, "create table p (id int primary key, name varchar(20), dept int, pay decimal(10,2), key kd (dept))")
    rows(db, "create table d (id int primary key, title varchar(20))")
    rows(db, "insert into d values (1,'eng'),(2,'ops'),(3,'empty')")
    rows(db, "insert into p values (1,'ann',1,100),(2,'bob',1,200.50),(3,'cid',2,50),(4,'dan',null,10),(5,'eve',2,75)")
    assert rows(db, "select d.title, count(p.id) n, sum(pay) from d left join p on p.dept = d.id group by d.id order by d.id") == [
        ("eng", 2, Decimal("300.50")), ("ops", 2, Decimal("125.00")), ("empty", 0, None),
    ]  # fmt: skip
    assert rows(db, "select name from p where dept in (1,2) and pay between 60 and 150 order by name desc") == [
        ("eve",),
        ("ann",),
    ]
    assert rows(db, "select name from p where name like '%%n%%' order by pay limit 1, 1") == [("ann",)]
    assert rows(db, "select dept, avg(pay) a from p group by dept having a > 60 order by a") == [
        (2, Decimal("62.500000")), (1, Decimal("150.250000")),
    ]  # fmt: skip
    assert rows(db, "select name from p where pay > (select avg(pay) from p) order by id") == [("ann",), ("bob",)]
    assert rows(db, "select title from d where id not in (select dept from p where dept is not null)") == [("empty",)]
    assert rows(db, "select title from d where id not in (select dept from p)") == []
    assert rows(db, "select title from d where not exists (select 1 from p where p.dept = d.id)") == [("empty",)]
    assert rows(db, "select name from p x where pay = (select max(pay) from p y where y.dept = x.dept) order by 1") == [
        ("bob",), ("eve",),
    ]  # fmt: skip
    assert rows(db, "select a.name, b.name from p a join p b on a.dept = b.dept and a.id < b.id order by 1") == [
        ("ann", "bob"), ("cid", "eve"),
    ]  # fmt: skip
    assert rows(db, "select distinct dept from p order by dept") == [(None,), (1,), (2,)]
    assert rows(db, "select name from p union all select title from d order by 1 limit 3") == [
        ("ann",),
        ("bob",),
        ("cid",),
    ]
    assert rows(db, "select * from (select dept, count(*) c from p group by dept) s where c = 2 order by dept") == [
        (1, 2),
        (2, 2),
    ]
    assert rows(db, "with w as (select id from p where dept = 1) select count(*) from w") == [(2,)]
    assert rows(db, "select group_concat(name order by name desc separator '|') from p where dept=1") == [("bob|ann",)]
    assert rows(db, "select count(distinct dept), count(dept), count(*) from p") == [(2, 4, 5)]
    assert rows(db, "select id from p order by id desc limit 2") == [(5,), (4,)]
    assert rows(db, "select right(name, 2), p.* from p where id = 1")[0] == ("nn", 1, "ann", 1, Decimal("100.00"))
    assert code(db, "select name, count(*) from p group by dept") == 1055
    assert code(db, "select id from p a join p b on a.id = b.id") == 1052
    assert code(db, "select (select id from p)") == 1242
    assert code(db, "select sum(id) from p where sum(id) > 1") == 1111
    assert code(db, "select nofunc(1)") == 1305


def test_json(db: Any) -> None:
    rows(db, "create table js (id int primary key, doc json)")
    rows(db, """insert into js values (1, '{"a": {"b": [1, 2, "x"]}, "n": 5}'), (2, '[]'), (3, null)""")
    assert rows(db, "select doc->'$.a.b[1]', doc->>'$.a.b[2]', json_extract(doc, '$.n') from js where id = 1") == [
        ("2", "x", "5")
    ]
    assert rows(db, "select json_length(doc), json_type(doc) from js order by id") == [
        (2, "OBJECT"),
        (0, "ARRAY"),
        (None, None),
    ]
    assert rows(db, "select id from js where doc->'$.n' = 5 or json_contains(doc, '1', '$.a.b')") == [(1,)]
    assert one(db, "select json_object('k', 1, 'l', json_array(1, 'z', null))") == '{"k": 1, "l": [1, "z", null]}'
    assert rows(db, "select json_valid('{'), json_valid('[]'), json_keys('{\"x\": 1}')") == [(0, 1, '["x"]')]
    assert rows(db, "select id from js where doc->'$.a.b[2]' = 'x'") == [(1,)]
    assert code(db, "select json_extract('{', '$')") == 3140
    assert code(db, "insert into js values (4, '{')") == 1366


def test_unsigned_keys(db: Any) -> None:
    rows(db, "create table uk (id bigint unsigned primary key, v int)")
    rows(db, f"insert into uk values (1, 1), ({2**64 - 1}, 2)")
    assert rows(db, f"select v from uk where id = {2**64 - 1}") == [(2,)]
    assert rows(db, "select v from uk where id = 1") == [(1,)]
    assert rows(db, f"select v from uk where id = {2**63}") == []
    assert rows(db, "select v from uk where id > 5") == [(2,)]
    assert rows(db, "select id from uk order by id desc") == [(2**64 - 1,), (1,)]


def test_long_chains_of_conditions(db: Any) -> None:
    rows(db, "create table lc (id int primary key, a int)")
    rows(db, "insert into lc values " + ",".join(f"({i},{i % 7})" for i in range(500)))
    ors = " or ".join(f"id = {i}" for i in range(400))
    assert one(db, f"select count(*) from lc where {ors}") == 400
    mixed = " or ".join(f"(id = {i} and a < 5)" for i in range(0, 600, 2))
    assert one(db, f"select count(*) from lc where {mixed}") == sum(1 for i in range(0, 500, 2) if i % 7 < 5)
    ands = " and ".join(f"id <> {i}" for i in range(300))
    assert one(db, f"select count(*) from lc where {ands}") == 200
    ids = ",".join(str(i) for i in range(0, 20_000, 2))
    assert one(db, f"select count(*) from lc where id in ({ids})") == 250
    assert one(db, f"select count(*) from lc where a in ({ids})") == sum(1 for i in range(500) if i % 7 % 2 == 0)
    assert one(db, "select count(*) from lc where id / 0 is null") == 500
    assert rows(db, "show warnings")[0][1] == 1365


def test_for_update_blocks_the_other_writer(server: RunningServer, db: Any) -> None:
    rows(db, "create table fu (id int primary key, v int)")
    rows(db, "insert into fu values (1, 1), (2, 2)")
    done: list[str] = []

    def other() -> None:
        with server.connect(database="t1") as connection:
            rows(connection, "update fu set v = v * 10 where id = 1")
            done.append("other")

    rows(db, "begin")
    assert rows(db, "select v from fu where id = 1 for update") == [(1,)]
    thread = threading.Thread(target=other)
    thread.start()
    rows(db, "update fu set v = v + 1 where id = 1")
    thread.join(0.2)
    assert not done
    rows(db, "commit")
    thread.join(10)
    assert done == ["other"]
    assert one(db, "select v from fu where id = 1") == 20


def test_update_and_delete(db: Any) -> None:
    rows(
        db, "create table u (id int primary key auto_increment, a int, b int default 7, unique key ka (a), key kb (b))"
    )
    with db.cursor() as cursor:
        assert cursor.execute("insert into u (a) values (1),(2),(3)") == 3
        assert cursor.lastrowid == 1
        assert cursor.execute("update u set b = b + a where a > 1") == 2
        assert cursor.execute("update u set b = 7 where a = 1") == 0
        assert cursor.execute("update u set id = 10 where id = 1") == 1
        assert cursor.execute("delete from u where b = 9") == 1
        assert cursor.execute("insert into u (a, b) values (3, 1) on duplicate key update b = values(b) + b") == 2
        assert cursor.execute("replace into u (id, a, b) values (99, 3, 4)") == 2
    assert rows(db, "select * from u order by id") == [(10, 1, 7), (99, 3, 4)]
    assert code(db, "update u set a = 1") == 1062
    assert rows(db, "select a from u where a = 1") == [(1,)]
    assert rows(db, "select a from u where b = 4") == [(3,)]
    rows(db, "update u x join (select 10 id, 50 v) y on x.id = y.id set x.b = y.v")
    assert rows(db, "select b from u where id = 10") == [(50,)]
    rows(db, "delete x from u x join u y on x.id = y.id where y.b = 50")
    rows(db, "insert into u (a) select a + 100 from u")
    assert rows(db, "select count(*), max(a) from u") == [(2, 103)]


def test_transactions(server: RunningServer, db: Any) -> None:
    rows(db, "create table x (id int primary key, v int)")
    rows(db, "insert into x values (1, 1), (2, 2)")
    with server.connect(database="t1") as other:
        rows(db, "begin")
        assert db.server_status & 1
        rows(db, "insert into x values (3, 3)")
        rows(db, "update x set v = 10 where id = 1")
        rows(db, "delete from x where id = 2")
        assert rows(db, "select * from x order by id") == [(1, 10), (3, 3)]
        assert rows(db, "select count(*), sum(v) from x") == [(2, Decimal(13))]
        assert rows(other, "select * from x order by id") == [(1, 1), (2, 2)]
        assert code(db, "insert into x values (4, 4), (3, 3)") == 1062
        assert rows(db, "select count(*) from x") == [(2,)]
        rows(db, "savepoint s1")
        rows(db, "insert into x values (5, 5)")
        rows(db, "rollback to s1")
        rows(db, "release savepoint s1")
        rows(db, "commit")
        assert not db.server_status & 1
        assert rows(other, "select * from x order by id") == [(1, 10), (3, 3)]
        rows(other, "begin")
        assert rows(other, "select v from x where id = 1") == [(10,)]
        rows(db, "update x set v = 11 where id = 1")
        assert rows(other, "select v from x where id = 1") == [(10,)]
        rows(other, "update x set v = v + 1 where id = 1")  # a locking statement reads what is newest
        rows(other, "commit")
        assert rows(db, "select v from x where id = 1") == [(12,)]


def test_concurrent_increments_lose_nothing(server: RunningServer, db: Any) -> None:
    rows(db, "create table c (id int primary key, v int)")
    rows(db, "insert into c values (1, 0)")

    def work(explicit: bool) -> None:
        with server.connect(database="t1") as connection:
            for _ in range(20):
                if explicit:
                    rows(connection, "begin")
                rows(connection, "update c set v = v + 1 where id = 1")
                if explicit:
                    rows(connection, "commit")

    threads = [threading.Thread(target=work, args=(i % 2 == 0,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one(db, "select v from c") == 80


def test_ddl(db: Any) -> None:
    rows(db, "create table g (id bigint unsigned primary key auto_increment, a int)")
    rows(db, "insert into g (a) values (1),(2),(2)")
    rows(db, "create index ka on g (a)")
    assert rows(db, "select id from g where a = 2 order by id") == [(2,), (3,)]
    assert code(db, "create unique index ua on g (a)") == 1062
    assert code(db, "create index ka on g (a)") == 1061
    rows(db, "alter table g add column b varchar(10) not null default 'q' after id, add key kb (b)")
    assert rows(db, "select * from g order by id limit 1") == [(1, "q", 1)]
    assert rows(db, "select count(*) from g where b = 'q'") == [(3,)]
    rows(db, "alter table g drop column b")
    rows(db, "alter table g rename to h")
    assert code(db, "select * from g") == 1146
    assert [r[0] for r in rows(db, "show index from h")] == ["h", "h"]
    rows(db, "drop index ka on h")
    rows(db, "truncate table h")
    assert one(db, "select count(*) from h") == 0
    assert code(db, "create table h (a int)") == 1050
    rows(db, "create table if not exists h (a int)")
    assert code(db, "drop table nosuch") == 1051
    rows(db, "drop table if exists nosuch, h")
    assert code(db, "create table e (a int, a int)") == 1060
    assert code(db, "create table e (a int, primary key (z))") == 1072
    assert code(db, "create table e (a int auto_increment)") == 1075
    assert code(db, "create database t1") == 1007
    assert code(db, "use nosuch") == 1049
    rows(db, "create table f (a varchar(5), b int, primary key (a, b), unique key (b)) comment='hi'")
    text = rows(db, "show create table f")[0][1]
    assert "PRIMARY KEY (`a`,`b`)" in text
    assert "UNIQUE KEY `b` (`b`)" in text
    rows(db, "insert into f values ('a', 1)")
    assert code(db, "insert into f values ('a', 1)") == 1062
    rows(db, "insert into f values ('b', 2)")
    assert rows(db, "select b from f where a = 'b' and b = 2") == [(2,)]


def test_explain(db: Any) -> None:
    rows(db, "create table e (id int primary key, a int, b int, key kab (a, b), unique key ub (b))")

    def plan(sql: str) -> str:
        return " ".join(f"{r[0]} {r[2]}" for r in rows(db, f"explain {sql}"))

    assert plan("select * from e where id = 1").startswith("Point_Get")
    assert plan("select * from e where id in (1, 2)").startswith("Batch_Point_Get")
    assert plan("select * from e where b = 1").startswith("Point_Get")
    assert "TableRangeScan" in plan("select * from e where id > 5")
    assert "IndexReader" in plan("select a, b from e where a = 1")
    assert "HashAgg_1 root" in plan("select sum(a) from e")
    assert "cop[tikv]" in plan("select sum(a) from e")
    assert "Limit" in plan("select * from e order by id limit 3")
    assert "TopN" in plan("select * from e order by a limit 3")


def test_prepared_statements_in_the_binary_protocol(server: RunningServer, db: Any) -> None:
    rows(db, "create table r (id int primary key, v varchar(20), d datetime, n decimal(8,2), f double)")
    rows(db, "insert into r values (1,'one','2024-01-02 03:04:05',1.25,0.5),(2,null,null,null,null)")
    rows(db, "prepare s from 'select v, n from r where id = ?'")
    rows(db, "set @i = 1")
    assert rows(db, "execute s using @i") == [("one", Decimal("1.25"))]
    rows(db, "deallocate prepare s")
    assert code(db, "execute s using @i") == 1243
    raw = RawClient(server.port)
    raw.query("use t1")
    statement, params, columns = raw.prepare("select id, v, d, n, f from r where id >= ? order by id")
    assert (params, columns) == (1, 5)
    first = raw.execute(statement, b"\x00\x01\x08\x00" + struct.pack("<q", 1))
    again = raw.execute(statement, b"\x00\x00" + struct.pack("<q", 1))
    assert first == again
    assert len(first) == 2
    assert first[0][0] == 0
    assert first[0][2:6] == struct.pack("<i", 1)
    assert first[0][6:10] == b"\x03one"
    assert first[0][10:18] == b"\x07\xe8\x07\x01\x02\x03\x04\x05"
    assert first[1][1] == 0b01111000  # v, d, n, f are NULL
    assert raw.cursor_rows(statement, b"\x00\x00" + struct.pack("<q", 1), step=1) == first
    raw.close()


def test_small_commands(server: RunningServer, db: Any) -> None:
    rows(db, "create table sc (id int primary key, name varchar(5))")
    raw = RawClient(server.port)
    raw.query("use t1")
    raw._command(0x09, b"")  # COM_STATISTICS
    raw.connection._next_seq_id = 1
    assert b"Uptime" in raw.connection._read_packet().get_all_data()
    raw._command(0x04, b"sc\0")  # COM_FIELD_LIST
    raw.connection._next_seq_id = 1
    assert b"id" in raw.connection._read_packet().get_all_data()
    assert b"name" in raw.connection._read_packet().get_all_data()
    assert raw.connection._read_packet().get_all_data()[0] == 0xFE
    raw._command(0x1B, b"\0\0")  # COM_SET_OPTION: multi statements on
    raw.connection._next_seq_id = 1
    assert raw.connection._read_packet().get_all_data()[0] == 0xFE
    raw.connection.select_db("t1")
    assert code(raw.connection, "use nosuch") == 1049
    raw._command(0x63, b"")  # no such command
    raw.connection._next_seq_id = 1
    with pytest.raises(pymysql.MySQLError) as info:
        raw.connection._read_packet()
    assert info.value.args[0] == 1047
    assert one(raw.connection, "select 1") == 1
    raw.close()


class RawClient:
    """Just enough of a client to speak the binary protocol."""

    def __init__(self, port: int) -> None:
        self.connection: Any = pymysql.connect(host="127.0.0.1", port=port, user="root")

    def query(self, sql: str) -> None:
        self.connection.query(sql)

    def _command(self, number: int, body: bytes) -> None:
        self.connection._next_seq_id = 0
        self.connection.write_packet(bytes([number]) + body)

    def prepare(self, sql: str) -> tuple[int, int, int]:
        self._command(0x16, sql.encode())
        self.connection._next_seq_id = 1
        head = self.connection._read_packet().get_all_data()
        statement, columns, params = struct.unpack("<IHH", head[1:9])
        for count in (params, columns):
            for _ in range(count + (1 if count else 0)):
                self.connection._read_packet()
        return statement, params, columns

    def execute(self, statement: int, body: bytes) -> list[bytes]:
        self._command(0x17, struct.pack("<IBI", statement, 0, 1) + body)
        self.connection._next_seq_id = 1
        columns = self.connection._read_packet().get_all_data()[0]
        for _ in range(columns + 1):
            self.connection._read_packet()
        out: list[bytes] = []
        while True:
            data = self.connection._read_packet().get_all_data()
            if data[0] == 0xFE and len(data) < 9:
                return out
            out.append(bytes(data))

    def cursor_rows(self, statement: int, body: bytes, step: int) -> list[bytes]:
        self._command(0x17, struct.pack("<IBI", statement, 1, 1) + body)
        self.connection._next_seq_id = 1
        columns = self.connection._read_packet().get_all_data()[0]
        status = 0
        for _ in range(columns + 1):
            status = struct.unpack("<H", self.connection._read_packet().get_all_data()[-2:])[0]
        assert status & 0x40  # CURSOR_EXISTS
        out: list[bytes] = []
        while not status & 0x80:  # LAST_ROW_SENT
            self._command(0x1C, struct.pack("<II", statement, step))
            self.connection._next_seq_id = 1
            while (data := self.connection._read_packet().get_all_data())[0] != 0xFE:
                out.append(bytes(data))
            status = struct.unpack("<H", data[-2:])[0]
        return out

    def close(self) -> None:
        self.connection.close()


def test_load_data(db: Any, tmp_path: Path) -> None:
    rows(db, "create table l (id int primary key, s varchar(40), d date)")
    file = tmp_path / "data.csv"
    lines = ["id,s,d"] + [f'{i},"te ""x"", {i}",2024-01-{i % 28 + 1:02d}' for i in range(12_000)]
    file.write_text("\n".join(lines) + "\n" + "12000,\\N,\\N\n")
    with db.cursor() as cursor:
        affected = cursor.execute(
            f"load data local infile '{file}' into table l fields terminated by ',' optionally enclosed by '\"' "
            "lines terminated by '\\n' ignore 1 lines"
        )
    assert affected == 12_001
    assert rows(db, "select s, d from l where id in (7, 12000)") == [('te "x", 7', dt.date(2024, 1, 8)), (None, None)]
    assert one(db, "select count(*) from l where s like 'te%%'") == 12_000


def test_multi_statements_and_large_results(server: RunningServer, db: Any) -> None:
    with (
        server.connect(client_flag=CLIENT.MULTI_STATEMENTS, database="t1") as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("select 1; select 'a;b'; create table ms (a int)")
        assert cursor.fetchall() == ((1,),)
        assert cursor.nextset()
        assert cursor.fetchall() == (("a;b",),)
        assert cursor.nextset()
        assert not cursor.nextset()
    rows(db, "create table big (id int primary key, s varchar(300))")
    rows(db, "insert into big values " + ",".join(f"({i},'{'x' * (i % 300)}')" for i in range(3000)))
    assert [len(r[1]) for r in rows(db, "select * from big order by id")] == [i % 300 for i in range(3000)]
    with server.connect(cursorclass=pymysql.cursors.SSCursor, database="t1") as streaming, streaming.cursor() as cursor:
        cursor.execute("select * from big")
        assert sum(1 for _ in cursor) == 3000


def test_accounts(server: RunningServer, db: Any) -> None:
    for plugin in ("mysql_native_password", "caching_sha2_password"):
        rows(db, "drop user if exists u1")
        rows(db, f"create user u1 identified with {plugin} by 'secret'")
        with server.connect(user="u1", password="secret") as connection:
            assert one(connection, "select user()").startswith("u1@")
        with server.connect(user="u1", password="secret") as connection:  # fast path of caching_sha2
            assert one(connection, "select 1") == 1
        for password in ("wrong", ""):
            with pytest.raises(pymysql.err.OperationalError) as info, server.connect(user="u1", password=password):
                pass
            assert info.value.args[0] == 1045
        rows(db, "alter user u1 identified by 'other'")
        with server.connect(user="u1", password="other") as connection:
            assert one(connection, "select 1") == 1
    with pytest.raises(pymysql.err.OperationalError), server.connect(user="nobody"):
        pass
    assert code(db, "create user u1") == 1396


def test_tls(server: RunningServer) -> None:
    with server.connect(ssl={"check_hostname": False, "verify_mode": None}) as connection:
        assert one(connection, "select 1") == 1
        assert len(rows(connection, "select table_name from information_schema.tables")) > 10


def test_a_wrong_password_is_disconnected_and_nonsense_closes_only_its_connection(
    server: RunningServer, db: Any
) -> None:
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\x00\x00\x01\xff", b"\xff\xff\xff\x01", bytes(64)):
        with socket.create_connection(("127.0.0.1", server.port), 5) as raw:
            raw.recv(1024)
            raw.sendall(junk)
            raw.settimeout(5)
            while raw.recv(1024):
                pass
    assert one(db, "select 1") == 1


def test_a_too_large_packet_is_refused(server: RunningServer, db: Any) -> None:
    if server.server is None or server.server.context is None:
        pytest.skip("the server is another process")
    old = server.server.context.max_allowed_packet
    server.server.context.max_allowed_packet = 100_000
    try:
        with server.connect() as small, pytest.raises(pymysql.MySQLError) as info:
            rows(small, "select '" + "x" * 200_000 + "'")
        assert info.value.args[0] in (1153, 2006, 2013)
    finally:
        server.server.context.max_allowed_packet = old
    assert one(db, "select 1") == 1


def test_information_schema(db: Any) -> None:
    rows(db, "create table i (id int primary key, a varchar(10) default 'z', unique key ua (a))")
    assert rows(db, "select column_name, data_type, is_nullable from information_schema.columns where table_schema = 't1' "
                    "and table_name = 'i' order by ordinal_position") == [("id", "int", "NO"), ("a", "varchar", "YES")]  # fmt: skip
    assert rows(db, "select index_name from information_schema.statistics where table_schema='t1' order by 1") == [
        ("PRIMARY",),
        ("ua",),
    ]
    assert rows(db, "select constraint_type from information_schema.table_constraints where table_name='i' and "
                    "table_schema='t1' order by 1") == [("PRIMARY KEY",), ("UNIQUE",)]  # fmt: skip
    assert one(db, "select count(*) from information_schema.schemata where schema_name = 't1'") == 1
    assert [r[0] for r in rows(db, "describe i")] == ["id", "a"]
    assert [r[0] for r in rows(db, "show full columns from i like 'a'")] == ["a"]
    assert rows(db, "show tables like 'i'") == [("i",)]


def test_time_zone(db: Any) -> None:
    rows(db, "create table z (id int primary key, t timestamp null, d datetime)")
    rows(db, "set time_zone = '+08:00'")
    rows(db, "insert into z values (1, '2024-01-01 08:00:00', '2024-01-01 08:00:00')")
    assert rows(db, "select count(*) from z where t = '2024-01-01 08:00:00'") == [(1,)]
    rows(db, "set time_zone = '+00:00'")
    assert rows(db, "select t, d from z")[0] == (dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, 8))
    assert code(db, "set time_zone = 'Nowhere/None'") == 1298
    rows(db, "set time_zone = 'SYSTEM'")


def test_reset_connection_and_change_user(server: RunningServer) -> None:
    with server.connect() as connection:
        rows(connection, "set @a = 5")
        rows(connection, "begin")
        connection._execute_command(0x1F, "")
        connection._read_ok_packet()
        assert rows(connection, "select @a") == [(None,)]
        connection.ping()
        assert not connection.server_status & 1
