"""SQL sessions and garbage collection: what a session sees when its transaction outlives the versions it reads."""

from __future__ import annotations

import asyncio

from tests.support.sql_cluster import SqlFront, with_sql
from tests.support.storage_cluster import StorageCluster


def test_a_session_that_outlives_the_safe_point_is_told() -> None:
    async def body(cluster: StorageCluster, front: SqlFront) -> None:
        old, other = front.session(), front.session()
        await other("create table t (id int primary key, v int)")
        await other("insert into t values (1, 1), (2, 2), (3, 3)")
        await old("begin")
        assert await old.one("select sum(v) from t") == 6
        await other("update t set v = 10")
        for node in cluster.nodes:
            assert node.server is not None
            assert node.server.store is not None
            node.server.store.gc_safe_point = await front.client.timestamp()
        assert await old.code("select sum(v) from t") == 9006  # a plan that the stores run
        assert await old.code("select v from t where id = 1") == 9006  # a point read
        assert await old.code("insert into t values (4, 4)") in (0, 9006)
        assert await old.code("commit") in (0, 9006)
        assert await other.one("select sum(v) from t") == 30

    with_sql(body)


def test_rows_survive_their_old_versions() -> None:
    async def body(cluster: StorageCluster, front: SqlFront) -> None:
        sql = front.session()
        await sql("create table t (id int primary key, v int, index iv (v))")
        await sql("insert into t values (1, 0), (2, 0), (3, 0)")
        for value in range(1, 30):
            await sql(f"update t set v = {value} where id < 3")
        await sql("delete from t where id = 2")
        await front.client.drain(5.0)
        before = sum(len(list(node.kv_db.items("write"))) for node in cluster.nodes)
        await front.client.gc(await front.client.timestamp())
        await asyncio.sleep(15.0)
        assert sum(len(list(node.kv_db.items("write"))) for node in cluster.nodes) < before / 3
        assert await sql("select id, v from t order by id") == [(1, 29), (3, 0)]
        assert await sql("select id from t where v = 29") == [(1,)]
        assert await sql("select id from t where v = 5") == []

    with_sql(body)
