"""SQL servers over a storage cluster in one process, on virtual time: sessions without sockets, real locks below."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry

from core_py.errors import DbError
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from tests.support.storage_cluster import PD_ADDRESS, StorageCluster, storage_cluster
from tidb_py.server.app import SqlServer
from tidb_py.server.config import TidbConfig
from tidb_py.server.handler import ResultSet
from tidb_py.session.query import collect
from tidb_py.session.session import Session
from tidb_py.session.tikv_storage import TikvStorage
from tikv_py.client.txn.client import TxnClient

RELOAD_S = 1.0


class Sql:
    """One session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    async def __call__(self, sql: str) -> Any:
        """Run a statement; rows of a query, else what was done."""
        result = await self.session.execute(sql)
        return await collect(result) if isinstance(result, ResultSet) else result

    async def code(self, sql: str) -> int:
        """Run a statement; the MySQL number of its error, 0 when it succeeded."""
        try:
            await self(sql)
        except DbError as error:
            return error.mysql_code
        return 0

    async def one(self, sql: str) -> Any:
        """The single value of a query."""
        ((value,),) = await self(sql)
        return value


class SqlFront:
    """One SQL server with its own client; `follow` reloads the schema as a running server does."""

    def __init__(self, client: TxnClient) -> None:
        self.client = client
        self.server = SqlServer(
            TidbConfig(port=0), TikvStorage(client), registry=CollectorRegistry(), clock=LoopClock()
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self, *, follow: bool = True) -> SqlFront:
        """Load the schema."""
        await self.server.state.catalog.reload()
        if follow:
            self._task = asyncio.get_running_loop().create_task(self._follow())
        return self

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(RELOAD_S)
            try:
                await self.server.state.catalog.reload()
            except DbError:
                continue

    def session(self, database: str = "d") -> Sql:
        """A session in a database."""
        session = self.server.new_session()
        session.state.database = database
        return Sql(session)

    async def stop(self) -> None:
        """End the reloading and close the client."""
        if self._task is not None:
            self._task.cancel()
        await self.client.close()


async def sql_front(cluster: StorageCluster, name: str = "client", *, follow: bool = True) -> SqlFront:
    """A SQL server on a cluster."""
    client = await TxnClient.connect((PD_ADDRESS,), transport=cluster.network.transport(name), clock=LoopClock())
    return await SqlFront(client).start(follow=follow)


def with_sql(test: Callable[[StorageCluster, SqlFront], Awaitable[None]], stores: int = 1) -> None:
    """Run a test with one SQL server and a database `d`, on virtual time."""

    async def main() -> None:
        async with storage_cluster(stores) as cluster:
            front = await sql_front(cluster)
            try:
                await front.session("")("create database d")
                await test(cluster, front)
            finally:
                await front.stop()

    run_virtual(main())
