"""What real clients say beyond plain queries: dumps, frameworks' migrations, EXPLAIN as people read it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

# ruff: noqa: DTZ001 - MySQL times have no zone
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


def test_accounts_are_durable_with_autocommit_off(server: RunningServer, db: Any) -> None:
    rows(db, "drop user if exists u2")
    with server.connect(autocommit=False) as connection:
        rows(connection, "create user u2 identified by 'one'")
        assert code(connection, "create user u2") == 1396
        with server.connect(user="u2", password="one") as other:
            assert one(other, "select 1") == 1
            other.autocommit(False)
            rows(other, "set password = 'two'")
            with server.connect(user="u2", password="two"):
                pass
    rows(db, "drop user u2")


def test_foreign_keys_without_a_name_get_one(db: Any) -> None:
    rows(db, "create table p (id int primary key)")
    rows(db, "create table c (id int primary key, a int, b int, foreign key (a) references p (id))")
    rows(db, "alter table c add foreign key (b) references p (id)")
    text = rows(db, "show create table c")[0][1]
    assert "CONSTRAINT `fk_1` FOREIGN KEY (`a`)" in text
    assert "CONSTRAINT `fk_2` FOREIGN KEY (`b`)" in text
    rows(db, "alter table c drop foreign key fk_1")
    assert "fk_1" not in rows(db, "show create table c")[0][1]


def test_what_dumps_and_frameworks_say(db: Any) -> None:
    rows(db, "create table d (id int primary key, j json, t datetime)")
    rows(db, "/*!40000 ALTER TABLE `d` DISABLE KEYS */")
    rows(db, "/*!40000 ALTER TABLE `d` ENABLE KEYS */;")
    with db.cursor() as cursor:
        cursor.execute("do 1, sleep(0)")
        assert cursor.description is None
    rows(db, "insert into d values (1, '{\"k\": [1], \"z\": null}', '2024-07-01 12:00:00')")
    paths = "json_contains_path(j, 'one', '$.k', '$.no'), json_contains_path(j, 'ALL', '$.k', '$.no')"
    assert rows(db, f"select {paths}, json_contains_path(j, 'one', '$.z') from d") == [(1, 0, 1)]
    assert code(db, "select json_contains_path(j, 'some', '$.k') from d") == 3154
    assert rows(
        db,
        "select convert_tz(t, 'UTC', 'Europe/Paris'), convert_tz(t, 'Nowhere', 'UTC'), convert_tz(t, '../x', 'UTC') from d",
    ) == [(dt.datetime(2024, 7, 1, 14), None, None)]
    assert rows(db, "select trigger_name from information_schema.triggers where event_object_schema = database()") == []


def test_explain_names_what_it_shows(db: Any) -> None:
    rows(db, "create table e (id int primary key, s varchar(20), n int, key ks (s))")

    def text(sql: str) -> str:
        return "\n".join(" ".join(str(c) for c in r) for r in rows(db, "explain " + sql))

    grouped = text("select n, count(*), sum(id + 1) from e group by n")
    assert "Column#-" not in grouped
    assert "group by:e.n" in grouped
    assert "sum(cast(plus(e.id, 1), decimal))" in grouped
    assert 'range:["x"]' in text("select * from e where s = 'x'")
    assert "upper(t1.e.s)" in text("select upper(s) from e")
    assert "Point_Get_1 1.00" in text("select * from e where id = 1")
    for change in ("update e set n = 1 where id = 1", "delete from e where id = 1"):
        shown = text(change)
        assert shown.startswith("Update_1 N/A" if change[0] == "u" else "Delete_1 N/A")
        assert "Point_Get_" in shown
        rows(db, change)  # it can still be run
    assert text("insert into e values (1, 2, 3)") == "Insert_1 N/A root  N/A"
    assert "TableFullScan" in text("replace into e select * from e")


def test_statements_are_measured_by_their_type(server: RunningServer, db: Any) -> None:
    if server.server is None:
        pytest.skip("the server is another process")
    registry = server.registry

    def value(name: str, **labels: str) -> float:
        return registry.get_sample_value(name, labels) or 0.0

    def counts() -> dict[str, float]:
        db.ping()  # a statement is counted after its answer, and before the next command
        out = {"transactions": value("tidb_session_transaction_duration_seconds_count")}
        for sql_type in ("Select", "Insert", "Update", "CreateTable", "Begin", "Commit", "Other"):
            out[sql_type] = value("tidb_executor_statement_total", type=sql_type)
            for phase in ("parse", "compile", "execute"):
                name = f"tidb_session_{phase}_duration_seconds_count"
                out[f"{phase} {sql_type}"] = value(name, sql_type=sql_type)
            out[f"handle {sql_type}"] = value("tidb_server_handle_query_duration_seconds_count", sql_type=sql_type)
        return out

    before = counts()
    rows(db, "create table m (id int primary key, v int)")
    rows(db, "insert into m values (1, 1)")
    rows(db, "begin")
    rows(db, "update m set v = 2")
    rows(db, "commit")
    rows(db, "select * from m where v > 0")
    assert code(db, "nonsense") == 1064
    rows(db, "select 1")
    rows(db, "select v from m where id = 1")  # needs no parser
    rows(db, "select v from m where id = 2")
    grown = {name: after - before[name] for name, after in counts().items() if after != before[name]}
    handled = {"Select": 4, "Insert": 1, "Update": 1, "CreateTable": 1, "Begin": 1, "Commit": 1, "Other": 1}
    for sql_type, number in handled.items():
        assert grown[sql_type] == grown[f"execute {sql_type}"] == grown[f"handle {sql_type}"] == number
    assert grown["parse Select"] == 2
    assert grown["compile Select"] == 2
    assert grown["transactions"] == 2  # the INSERT's own, and ours
    assert value("tidb_domain_load_schema_duration_seconds_count") >= 1


def test_a_dump_may_create_a_database_that_exists(db: Any) -> None:
    assert rows(db, "show create database if not exists t1")[0][1].startswith(
        "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `t1`"
    )
    rows(db, rows(db, "show create database if not exists t1")[0][1])
    assert rows(db, "select file_name from information_schema.files") == []


def test_bulk_statements_treat_duplicates_as_single_rows_do(db: Any) -> None:
    """The same rows in one long statement and one by one leave the same table."""
    given = [(i % 90, i % 70 if i % 11 else None, f"s{i}", i / 4) for i in range(200)]
    texts = [f"({a},{'NULL' if b is None else b},'{c}',{d})" for a, b, c, d in given]
    forms = {
        "insert ignore into {} values {}": "", "replace into {} values {}": "",
        "insert into {} values {}": (
            " on duplicate key update s = values(s), n = n + values(n), f = f + 1, u = u, d = default"
        ),
    }  # fmt: skip
    for form, tail in forms.items():
        affected = []
        for table in ("bulk", "single"):
            rows(db, f"drop table if exists {table}")
            rows(
                db,
                f"create table {table} (id int primary key, u int unique, s varchar(9), n decimal(9,2), f float default 1.1, "
                "d int default 7, key (s))",
            )
            names = f"{table} (id, u, s, n)"
            with db.cursor() as cursor:
                if table == "bulk":
                    affected.append(cursor.execute(form.format(names, ", ".join(texts)) + tail))
                else:
                    affected.append(sum(cursor.execute(form.format(names, text) + tail) for text in texts))
        content = rows(db, "select * from bulk order by id")
        assert content == rows(db, "select * from single order by id")
        assert rows(db, "select s from bulk where s > '' order by s") == sorted((r[2],) for r in content)
        assert affected[0] == affected[1]


def test_queries_of_orms(db: Any) -> None:
    rows(db, "create table o (id int primary key, name varchar(9))")
    rows(db, "create table p (id int primary key, o_id int, name varchar(9))")
    rows(db, "insert into o values (1, 'a'), (2, 'b')")
    rows(db, "insert into p values (1, 1, 'a'), (3, 1, 'x')")
    assert rows(db, "select id, o.name, p.name, p.id from o join p using (id, name)") == [(1, "a", "a", 1)]
    assert rows(db, "select p.id from o left join p using (id) order by o.id") == [(1,), (None,)]
    assert rows(db, "select * from o join p using (id)") == [(1, "a", 1, "a")]
    assert rows(db, "select 1 from dual where 1 = 1") == [(1,)]
    assert one(db, "select unix_timestamp() between unix_timestamp(now()) - 5 and unix_timestamp(now()) + 5") == 1
    assert rows(db, "with o as (select name from o where id = 2) select * from o") == [("b",)]
    assert rows(db, "with x as (select 1 a), y as (select a + 1 b from x) select * from x, y, x z") == [(1, 2, 1)]
    assert (
        code(db, "with recursive n as (select 1 i union all select i + 1 from n where i < 5) select * from n") == 1235
    )
    assert rows(db, "select * from information_schema.column_privileges") == []
