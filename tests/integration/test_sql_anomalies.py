"""The named anomalies, and the verdict of snapshot isolation on each: in SQL, over real stores.

The same names at the client: tests/integration/test_anomalies.py; on the bare rules: tests/unit/mvcc/test_anomalies.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from core_py.errors import DbError
from tests.integration.test_anomalies import MODES, blocked, spawn
from tests.support.sql_cluster import Sql, SqlFront, with_sql
from tests.support.storage_cluster import StorageCluster


def with_table(test: Callable[[Sql, Sql, Sql], Awaitable[None]]) -> None:
    """Run with three sessions and t = {(1, 50), (2, 50)}, an index on v."""

    async def body(_cluster: StorageCluster, front: SqlFront) -> None:
        sessions = [front.session() for _ in range(3)]
        await sessions[0]("create table t (id int primary key, v int, key iv (v))")
        await sessions[0]("insert into t values (1, 50), (2, 50)")
        await test(*sessions)

    with_sql(body)


def begin(pessimistic: bool) -> str:
    """BEGIN of a mode."""
    return "begin pessimistic" if pessimistic else "begin optimistic"


@MODES
def test_sql_dirty_write(pessimistic: bool) -> None:
    async def body(a: Sql, b: Sql, c: Sql) -> None:
        await a(begin(pessimistic))
        await b(begin(pessimistic))
        await a("update t set v = 1")
        second = spawn(b.code("update t set v = 2"))
        assert await blocked(second) is pessimistic
        assert await a.code("commit") == 0
        assert await second == 0
        assert await b.code("commit") == (0 if pessimistic else 9007)
        assert await c("select v from t") == [(2 if pessimistic else 1,)] * 2

    with_table(body)


@MODES
def test_sql_dirty_read(pessimistic: bool) -> None:
    async def body(a: Sql, b: Sql, c: Sql) -> None:
        await a(begin(pessimistic))
        await a("update t set v = 9")
        assert await c("select v from t order by id") == [(50,), (50,)]
        assert await b("select v from t where v = 9") == []
        await a("rollback")
        assert await c("select v from t where v = 9") == []

    with_table(body)


@MODES
def test_sql_lost_update(pessimistic: bool) -> None:
    async def body(a: Sql, b: Sql, c: Sql) -> None:
        await a(begin(pessimistic))
        await b(begin(pessimistic))
        await a("update t set v = v + 1 where id = 1")
        second = spawn(b.code("update t set v = v + 10 where id = 1"))
        assert await blocked(second) is pessimistic
        await a("commit")
        assert await second == 0
        assert await b.code("commit") == (0 if pessimistic else 9007)
        assert await c.one("select v from t where id = 1") == (61 if pessimistic else 51)

    with_table(body)


def test_sql_read_then_write_of_a_stale_value() -> None:
    """A plain SELECT does not protect in a pessimistic transaction, as in MySQL; FOR UPDATE does."""

    async def body(a: Sql, b: Sql, c: Sql) -> None:
        await a("begin pessimistic")
        assert await a.one("select v from t where id = 1 for update") == 50
        second = spawn(b("update t set v = v + 10 where id = 1"))
        assert await blocked(second)
        await a("update t set v = 51 where id = 1")
        await a("commit")
        await second
        assert await c.one("select v from t where id = 1") == 61

    with_table(body)


@MODES
def test_sql_read_skew(pessimistic: bool) -> None:
    async def body(a: Sql, b: Sql, _c: Sql) -> None:
        await a(begin(pessimistic))
        assert await a.one("select v from t where id = 1") == 50
        await b("begin")
        await b("update t set v = 0 where id = 1")
        await b("update t set v = 100 where id = 2")
        await b("commit")
        assert await a.one("select v from t where id = 2") == 50
        assert int(await b.one("select sum(v) from t")) == int(await a.one("select sum(v) from t")) == 100
        assert await b("select v from t order by id") == [(0,), (100,)]

    with_table(body)


@MODES
def test_sql_fuzzy_read(pessimistic: bool) -> None:
    async def body(a: Sql, b: Sql, c: Sql) -> None:
        await a(begin(pessimistic))
        for number in (1, 2):
            assert await a.one("select v from t where id = 1") == 50
            await b(f"update t set v = {number} where id = 1")
            assert await c.one("select v from t where id = 1") == number
        assert await a("select id from t where v = 50 order by id") == [(1,), (2,)]

    with_table(body)


@MODES
def test_sql_phantom(pessimistic: bool) -> None:
    async def body(a: Sql, b: Sql, c: Sql) -> None:
        await a(begin(pessimistic))
        assert await a.one("select v from t where id = 1") == 50
        await b("begin")
        await b("update t set v = 0 where id = 1")
        await b("update t set v = 100 where id = 2")
        await b("insert into t values (3, 50)")
        await b("commit")
        await c("delete from t where id = 2")
        assert await a.one("select v from t where id = 2") == 50
        assert await a("select id, v from t order by id") == [(1, 50), (2, 50)]
        assert await a("select id from t where v = 50 order by id") == [(1,), (2,)]
        assert await a.one("select count(*) from t where v >= 50") == 2
        assert await a("select sum(v) from t union all select max(id) from t") == [(100,), (2,)]
        await a("insert into t values (4, 7)")
        assert await a("select id, v from t order by id desc") == [(4, 7), (2, 50), (1, 50)]
        assert await a("select id from t where v between 0 and 60 order by v limit 2") == [(4,), (1,)]
        assert int(await a.one("select sum(v) from t")) == 107
        await a("commit")
        assert await a("select id, v from t order by id") == [(1, 0), (3, 50), (4, 7)]

    with_table(body)


@MODES
def test_sql_write_skew_is_allowed(pessimistic: bool) -> None:
    async def body(a: Sql, b: Sql, c: Sql) -> None:
        for sql, row in ((a, 1), (b, 2)):
            await sql(begin(pessimistic))
            assert int(await sql.one("select sum(v) from t")) == 100
            await sql(f"update t set v = -50 where id = {row}")
        assert [await a.code("commit"), await b.code("commit")] == [0, 0]
        assert int(await c.one("select sum(v) from t")) == -100

    with_table(body)


def test_sql_for_update_prevents_write_skew() -> None:
    async def body(a: Sql, b: Sql, c: Sql) -> None:
        await a("begin pessimistic")
        await b("begin pessimistic")
        assert len(await a("select * from t where v > 0 for update")) == 2
        second = spawn(b("select sum(v) from t where v > 0 for update"))
        assert await blocked(second)
        await a("update t set v = -50 where id = 1")
        await a("commit")
        assert [(int(total),) for (total,) in await second] == [(50,)]
        await b("rollback")
        assert int(await c.one("select sum(v) from t")) == 0

    with_table(body)


def test_sql_acknowledged_writes_are_seen_by_others_at_once() -> None:
    async def body(a: Sql, b: Sql, c: Sql) -> None:
        for number in range(30):
            await a(f"update t set v = {number}")
            assert await b.one("select v from t where id = 2") == number
            assert await c("select v from t where v >= 0") == [(number,)] * 2

    with_table(body)


def test_sql_own_writes_in_every_kind_of_read() -> None:
    async def body(a: Sql, b: Sql, _c: Sql) -> None:
        await a("begin")
        await a("insert into t values (5, 10), (6, 20), (7, 30)")
        await a("delete from t where id = 6")
        await a("update t set v = 11 where id = 5")
        await a("update t set id = 8 where id = 7")
        await b("insert into t values (100, 11)")
        assert await a("select id from t where v = 11") == [(5,)]
        assert await a("select id, v from t where id between 5 and 9 order by id desc") == [(8, 30), (5, 11)]
        assert await a("select v, count(*) from t group by v order by v") == [(11, 1), (30, 1), (50, 2)]
        assert await a("select id from t where id in (1, 5, 6, 7, 8, 100)") == [(1,), (5,), (8,)]
        assert await a("select min(id), max(id) from t") == [(1, 8)]
        assert await a("select id from t order by id limit 1, 2") == [(2,), (5,)]
        assert await a("select id from t order by v desc, id limit 3") == [(1,), (2,), (8,)]
        await a("savepoint s")
        await a("delete from t")
        assert await a("select * from t") == []
        await a("rollback to s")
        assert await a.one("select count(*) from t") == 4
        assert await a.code("insert into t values (9, 1), (5, 1)") == 1062
        assert await a.one("select count(*) from t") == 4
        await a("commit")
        assert await b("select id from t where v = 11 order by id") == [(5,), (100,)]

    with_table(body)


def test_sql_deadlock_is_reported_at_once() -> None:
    async def body(a: Sql, b: Sql, c: Sql) -> None:
        for sql, row in ((a, 1), (b, 2)):
            await sql("begin pessimistic")
            await sql(f"update t set v = v + 1 where id = {row}")
        waiting = spawn(a.code("update t set v = v + 1 where id = 2"))
        assert await blocked(waiting)
        began = asyncio.get_running_loop().time()
        assert await b.code("update t set v = v + 1 where id = 1") == 1213
        assert asyncio.get_running_loop().time() - began < 0.1
        await b("rollback")
        assert await waiting == 0
        await a("commit")
        assert await c("select v from t order by id") == [(51,), (51,)]

    with_table(body)


def test_sql_insert_races() -> None:
    async def body(a: Sql, b: Sql, c: Sql) -> None:
        await a("create table u (k int primary key, n int not null, w int, unique key (w))")
        statements = (
            "insert into u values (1, 1, 1) on duplicate key update n = n + 1", "insert ignore into u values (2, 1, 2)",
            "insert into u values (3, 1, 3) on duplicate key update n = n + 1", "replace into u values (4, 1, 3)",
        )  # fmt: skip

        codes: set[int] = set()

        async def run(sql: Sql, mode: str) -> int:
            done = 0
            for _ in range(8):
                if mode:
                    await sql(mode)
                try:
                    for statement in statements[:2]:
                        await sql(statement)
                    if mode:
                        await sql("commit")
                except DbError as error:
                    codes.add(error.mysql_code)
                    await sql("rollback")
                else:
                    done += 1
            return done

        counts = await asyncio.gather(run(a, ""), run(b, "begin pessimistic"), run(c, "begin optimistic"))
        assert counts[0] == counts[1] == 8
        assert codes <= {9007}
        assert await a("select * from u order by k") == [(1, sum(counts), 1), (2, 1, 2)]
        await asyncio.gather(*(sql(s) for sql in (a, b, c) for s in statements[2:] if sql is not c or "replace" in s))
        assert await a("select count(*) from u where w = 3") == [(1,)]
        assert await a("select w from u where w > 0 order by w") == [(1,), (2,), (3,)]

    with_table(body)
