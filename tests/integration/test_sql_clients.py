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
