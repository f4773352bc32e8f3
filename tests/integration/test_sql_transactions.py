"""Transactions of SQL sessions over real stores on virtual time: schema changes meanwhile, ids, lock waits, failures."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from core_py.errors import DbError
from core_py.sim.loop import run_virtual
from tests.sim.faults import SeededFault
from tests.support.sql_cluster import Sql, SqlFront, sql_front, with_sql
from tests.support.storage_cluster import StorageCluster, storage_cluster
from tidb_py.session.storage import Transaction

PAUSE_S = 5.0


async def index_and_rows(sql: Sql, table: str, index: str, column: str) -> tuple[list[Any], list[Any]]:
    """A column's values by a full scan and by its index."""
    by_table = await sql(f"select {column} from {table} ignore index ({index}) order by 1")
    by_index = await sql(f"select {column} from {table} where {column} > -1000000 order by 1")
    return by_table, by_index


def test_index_sees_rows_of_a_transaction_that_began_before_its_table() -> None:
    async def body(_cluster: StorageCluster, front: SqlFront) -> None:
        writer, ddl = front.session(), front.session()
        await writer("begin")
        await ddl("create table t (id int primary key, v int)")
        await ddl("insert into t values (1, 1)")
        outcome = await writer.code("insert into t values (2, 2)")
        await ddl("create index iv on t (v)")
        outcome = outcome or await writer.code("commit")
        found = {v for (v,) in await ddl("select v from t where v >= 0 and v < 10")}
        expected = {1} if outcome else {1, 2}
        assert {row[0] for row in await ddl("select id from t where id in (1, 2)")} == expected
        assert found == expected

    with_sql(body)


def test_transaction_reads_its_snapshot_without_an_index_made_later() -> None:
    async def body(_cluster: StorageCluster, front: SqlFront) -> None:
        reader, ddl = front.session(), front.session()
        await ddl("create table t (id int primary key, v int)")
        await ddl("insert into t values (1, 1), (2, 2), (3, 3)")
        await reader("begin")
        assert await reader("select id from t where v = 2") == [(2,)]
        await ddl("create index iv on t (v)")
        assert await reader("select id from t where v = 2") == [(2,)]
        await reader("commit")
        assert await reader("select id from t where v = 2") == [(2,)]

    with_sql(body)


@pytest.mark.parametrize("mode", ["optimistic", "pessimistic"])
def test_slow_commit_is_in_the_index_or_refused(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that stalls between its look at the schema and its first write must not slip by the index building."""

    async def body(cluster: StorageCluster, front: SqlFront) -> None:
        other = await sql_front(cluster, "client2")
        writer, ddl = front.session(), other.session()
        await ddl("create table t (id int primary key, v int)")
        await ddl("insert into t values (1, 1)")
        await asyncio.sleep(2)
        await writer(f"begin {mode}")
        await writer("insert into t values (2, 2)")
        connection = front.client.sender
        send = connection.send
        stalled = False

        async def stall(region: Any, name: str, request: Any, **options: Any) -> Any:
            nonlocal stalled
            if name == "KvPrewrite" and not stalled:
                stalled = True
                await asyncio.sleep(PAUSE_S)
            return await send(region, name, request, **options)

        monkeypatch.setattr(connection, "send", stall)
        commit = asyncio.get_running_loop().create_task(writer.code("commit"))
        await asyncio.sleep(0.05)
        await ddl("create index iv on t (v)")
        refused = await commit
        expected = [(1,)] if refused else [(1,), (2,)]
        assert sorted(await ddl("select v from t where v >= 0 and v < 10")) == expected
        assert sorted(await ddl("select id from t where id in (1, 2)")) == expected
        await other.stop()

    with_sql(body)


def test_generated_id_that_is_in_use_is_not_overwritten() -> None:
    async def body(cluster: StorageCluster, front: SqlFront) -> None:
        other = await sql_front(cluster, "client2")
        first, second = front.session(), other.session()
        await first("create table t (id int primary key auto_increment, v varchar(20))")
        await asyncio.sleep(2)
        await first("insert into t (v) values ('first')")
        await second("insert into t values (2, 'explicit')")
        await first("insert into t (v) values ('next')")
        assert sorted(v for _, v in await first("select * from t")) == [b"explicit", b"first", b"next"]
        assert await first("select v from t where id = 2") == [(b"explicit",)]
        await other.stop()

    with_sql(body)


def test_generated_ids_of_two_servers_do_not_collide() -> None:
    async def body(cluster: StorageCluster, front: SqlFront) -> None:
        other = await sql_front(cluster, "client2")
        await front.session()("create table t (id int primary key auto_increment, v int)")
        await asyncio.sleep(2)

        async def insert(sql: Sql) -> None:
            for i in range(20):
                await sql(f"insert into t (v) values ({i}), ({i})")

        await asyncio.gather(*(insert(f.session()) for f in (front, other) for _ in range(3)))
        assert await front.session().one("select count(*) from t") == 240
        await other.stop()

    with_sql(body)


def test_lock_wait_timeout_is_the_sessions_and_leaves_the_transaction_open() -> None:
    async def body(_cluster: StorageCluster, front: SqlFront) -> None:
        a, b = front.session(), front.session()
        await a("create table t (id int primary key, v int)")
        await a("insert into t values (1, 0), (2, 0)")
        await b("set innodb_lock_wait_timeout = 2")
        await a("begin pessimistic")
        await b("begin pessimistic")
        await a("update t set v = 1 where id = 1")
        await b("update t set v = 2 where id = 2")
        began = asyncio.get_running_loop().time()
        assert await b.code("update t set v = 2 where id = 1") == 1205
        assert 2 <= asyncio.get_running_loop().time() - began < 6
        blocked = asyncio.get_running_loop().create_task(a.code("update t set v = 1 where id = 2"))
        assert await b("select id, v from t order by id") == [(1, 0), (2, 2)]
        await b("commit")
        assert await blocked == 0
        await a("commit")
        assert await b("select id, v from t order by id") == [(1, 1), (2, 1)]

    with_sql(body)


def test_long_think_time_keeps_the_locks() -> None:
    async def body(_cluster: StorageCluster, front: SqlFront) -> None:
        a, b = front.session(), front.session()
        await a("create table t (id int primary key, v int)")
        await a("insert into t values (1, 0)")
        await a("begin pessimistic")
        await a("update t set v = v + 1 where id = 1")
        await b("set innodb_lock_wait_timeout = 1")
        await b("begin pessimistic")
        for _ in range(4):
            await asyncio.sleep(30)
            assert await b.code("update t set v = v + 10 where id = 1") == 1205
        await a("commit")
        await b("update t set v = v + 10 where id = 1")
        await b("commit")
        assert await a.one("select v from t") == 11
        assert not len(front.client._heart_beats)

    with_sql(body)


def test_waiting_for_a_second_lock_keeps_the_first() -> None:
    async def body(_cluster: StorageCluster, front: SqlFront) -> None:
        a, b, c = front.session(), front.session(), front.session()
        await a("create table t (id int primary key, v int)")
        await a("insert into t values (1, 0), (2, 0)")
        await a("begin pessimistic")
        await a("update t set v = v + 1 where id = 2")
        await b("begin pessimistic")
        waiting = asyncio.get_running_loop().create_task(b("update t set v = v + 10 where id in (1, 2)"))
        await asyncio.sleep(30)
        await c("set innodb_lock_wait_timeout = 1")
        await c("begin pessimistic")
        assert await c.code("update t set v = v + 100 where id = 1") == 1205
        await a("rollback")
        await waiting
        await b("commit")
        assert await a("select v from t order by id") == [(10,), (10,)]

    with_sql(body)


def test_failed_commit_releases_its_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(_cluster: StorageCluster, front: SqlFront) -> None:
        a, b = front.session(), front.session()
        await a("create table t (id int primary key, v int)")
        await a("insert into t values (1, 0)")
        await a("begin pessimistic")
        await a("update t set v = 1 where id = 1")

        async def fail(_reader: object = None) -> None:
            raise DbError("no region")

        catalog = front.server.state.catalog
        with monkeypatch.context() as patch:
            patch.setattr(catalog, "reload", fail)
            assert await a.code("commit") == 1105
        await b("set innodb_lock_wait_timeout = 1")
        await asyncio.sleep(1)
        await b("begin pessimistic")
        await b("update t set v = v + 5 where id = 1")
        await b("commit")
        assert await a.one("select v from t") == 5
        assert not len(front.client._heart_beats)

    with_sql(body)


def test_statement_too_large_for_its_transaction_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(_cluster: StorageCluster, front: SqlFront) -> None:
        a = front.session()
        await a("create table t (id int primary key, v varchar(100))")
        await a("begin optimistic")
        await a("insert into t values (1, 'kept')")
        txn: Transaction | None = a.session.state.txn
        assert txn is not None
        monkeypatch.setattr(txn._txn.buffer, "_max_txn", 400)  # type: ignore[attr-defined]
        values = ", ".join(f"({i}, '{'x' * 50}')" for i in range(2, 20))
        assert await a.code(f"insert into t values {values}") == 8004
        assert await a("select id from t") == [(1,)]
        await a("commit")
        assert await a("select id from t") == [(1,)]

    with_sql(body)


@pytest.mark.parametrize("mode", ["autocommit", "optimistic", "pessimistic"])
def test_same_unique_value_twice(mode: str) -> None:
    async def body(_cluster: StorageCluster, front: SqlFront) -> None:
        setup = front.session()
        await setup("create table t (id int primary key auto_increment, u int, unique key (u))")

        async def insert(sql: Sql, value: int) -> int:
            if mode != "autocommit":
                await sql(f"begin {mode}")
            code = await sql.code(f"insert into t (u) values ({value})")
            await asyncio.sleep(0.01)
            if mode == "autocommit":
                return code
            if code:
                await sql("rollback")
                return code
            return await sql.code("commit")

        for value in range(5):
            codes = await asyncio.gather(*(insert(front.session(), value) for _ in range(4)))
            assert sorted(c == 0 for c in codes) == [False, False, False, True]
            assert {c for c in codes if c} <= ({9007} if mode == "optimistic" else {1062})
        assert await setup.one("select count(*) from t") == 5
        assert await setup.one("select count(distinct u) from t") == 5

    with_sql(body)


def test_dropped_index_is_not_read_by_a_server_that_has_not_heard_of_it() -> None:
    async def body(cluster: StorageCluster, front: SqlFront) -> None:
        other = await sql_front(cluster, "client2")
        a, b = front.session(), other.session()
        await a("create table t (id int primary key, v int, key iv (v))")
        await asyncio.sleep(2)
        stop = False
        missing = []

        async def read() -> None:
            while not stop:
                low = await b.one("select count(*) from t where id < 1000")
                by_index = len(await b("select id from t where v = 7"))
                if by_index < low:
                    missing.append((low, by_index))
                await asyncio.sleep(0.05)

        async def write() -> None:
            i = 0
            while not stop:
                await a.code(f"insert into t values ({i}, 7)")
                i += 1
                await asyncio.sleep(0.02)

        tasks = [asyncio.get_running_loop().create_task(work()) for work in (read, write)]
        await asyncio.sleep(1.3)
        await a("drop index iv on t")
        await asyncio.sleep(3)
        stop = True
        await asyncio.gather(*tasks)
        assert not missing
        await other.stop()

    with_sql(body)


@pytest.mark.parametrize("statement", ["autocommit", "explicit"])
def test_many_writers_of_one_row_all_get_their_turn(statement: str) -> None:
    async def main() -> None:
        async with storage_cluster(1, fault=SeededFault(random.Random(1))) as cluster:
            front = await sql_front(cluster)
            await front.session("")("create database d")
            setup = front.session()
            await setup("create table t (id int primary key, v int)")
            await setup("insert into t values (1, 0)")

            async def add(sql: Sql) -> None:
                for _ in range(3):
                    if statement == "explicit":
                        await sql("begin pessimistic")
                    await sql("update t set v = v + 1 where id = 1")
                    await sql("commit")

            await asyncio.gather(*(add(front.session()) for _ in range(24)))
            assert await setup.one("select v from t") == 72
            await front.stop()

    run_virtual(main())


def test_outer_joins_change_only_rows_that_are_there() -> None:
    async def body(_cluster: StorageCluster, front: SqlFront) -> None:
        sql = front.session()
        await sql("create table a (id int primary key, v int)")
        await sql("create table b (id int primary key, v int)")
        await sql("insert into a values (1, 1), (2, 2)")
        await sql("insert into b values (1, 10)")
        await sql("update a left join b on a.id = b.id set b.v = a.v + 5, a.v = a.v + 100")
        assert await sql("select * from a order by id") == [(1, 101), (2, 102)]
        assert await sql("select * from b") == [(1, 6)]
        await sql("begin")
        assert await sql("select a.id, b.v from a left join b on a.id = b.id order by 1 for update") == [
            (1, 6),
            (2, None),
        ]
        await sql("commit")
        await sql("delete b from a left join b on a.id = b.id")
        assert await sql("select count(*) from b") == [(0,)]

    with_sql(body)
