"""PD's scheduling on real stores, under a workload: a new store fills, a store that is drained loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from core_py.errors import DbError
from core_py.runtime.config import ByteSize
from core_py.runtime.tasks import TaskScope
from core_py.sim.loop import run_virtual
from pd_py.cluster.cluster import Cluster
from pd_py.schedule.view import StoreState
from pd_py.server.session import LeaderSession
from tests.integration.test_storage_cluster import eventually, raw_client
from tests.support.storage_cluster import StorageCluster, storage_cluster
from tikv_py.client.raw.client import RawClient
from tikv_py.server.config import CoprocessorConfig, TikvConfig

REGIONS = 40
VALUE = b"x" * (64 << 10)
VALUES_PER_REGION = 20
EVEN_WITHIN = 0.15
BY_HAND = TikvConfig(
    coprocessor=CoprocessorConfig(region_max_size=ByteSize(1 << 30), region_split_size=ByteSize(1 << 29))
)


def session_of(cluster: StorageCluster) -> LeaderSession:
    session = cluster.pd.directory.session
    assert session is not None
    return session


def pd_of(cluster: StorageCluster) -> Cluster:
    return session_of(cluster).cluster


def key(region: int, number: int = 0) -> bytes:
    return b"r%03d-%05d" % (region, number)


class Writer:
    """Writes growing numbers to a key of each region, and remembers what was acknowledged."""

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self.acknowledged: dict[bytes, int] = {}

    async def run(self) -> None:
        number = 0
        while True:
            number += 1
            target = key(number % REGIONS, 99_999)
            try:
                await self._client.put(target, b"%d" % number)
            except DbError:
                continue
            self.acknowledged[target] = number
            await asyncio.sleep(0.01)

    async def check(self) -> None:
        for target, number in self.acknowledged.items():
            assert int(await self._client.get(target) or b"0") >= number, target
        for region in range(REGIONS):
            assert await self._client.get(key(region, VALUES_PER_REGION - 1)) == VALUE, region


@asynccontextmanager
async def filled(stores: int) -> AsyncIterator[tuple[StorageCluster, Writer]]:
    """A cluster of many regions of more than a MiB each, under a writer."""
    async with storage_cluster(stores, settings=BY_HAND) as cluster, await raw_client(cluster) as client:
        pd = await cluster.pd_client()
        await pd.split_regions([key(region) for region in range(1, REGIONS)])
        await pd.close()
        await eventually(lambda: true_if(len(pd_of(cluster).tree) == REGIONS), "the regions are split", 60)
        for region in range(REGIONS):
            await client.batch_put({key(region, number): VALUE for number in range(VALUES_PER_REGION)})
        await session_of(cluster).coordinator.set_store_limit(None, None, 500)
        writer = Writer(client)
        scope = TaskScope("writer")
        scope.spawn(writer.run())
        try:
            yield cluster, writer
            await scope.close()
            await writer.check()
        finally:
            await scope.close()


async def true_if(condition: bool) -> bool:
    return condition


def run(stores: int, body: Callable[[StorageCluster, Writer], Awaitable[None]]) -> None:
    async def main() -> None:
        async with filled(stores) as (cluster, writer):
            await body(cluster, writer)

    run_virtual(main())


def counts(cluster: StorageCluster) -> dict[int, int]:
    return {view.store_id: view.region_count for view in pd_of(cluster).stores()}


def is_even(cluster: StorageCluster) -> bool:
    found = counts(cluster)
    mean = sum(found.values()) / len(found)
    return all(abs(count - mean) <= EVEN_WITHIN * mean for count in found.values())


def is_settled(cluster: StorageCluster) -> bool:
    return all(len(region.peers) == 3 and not region.pending for region in pd_of(cluster).tree.all())


def test_a_fourth_store_fills_to_within_fifteen_percent_of_the_others() -> None:
    async def body(cluster: StorageCluster, writer: Writer) -> None:
        await cluster.add_store("store4")
        await eventually(lambda: true_if(is_even(cluster) and is_settled(cluster)), "even", 300)
        moved = len(writer.acknowledged)
        await asyncio.sleep(20)
        assert is_even(cluster)
        assert moved == REGIONS

    run(3, body)


def test_a_drained_store_becomes_a_tombstone_and_loses_nothing() -> None:
    async def body(cluster: StorageCluster, _writer: Writer) -> None:
        pd = pd_of(cluster)
        node = cluster.nodes[0]
        assert node.server is not None
        assert node.server.store is not None
        store_id = node.server.store.store_id
        await pd.store_admin.remove(store_id)
        view = pd.store(store_id)
        assert view is not None
        assert view.state is StoreState.OFFLINE

        def is_gone() -> bool:
            now = pd.store(store_id)
            return now is not None and now.state is StoreState.TOMBSTONE

        await eventually(lambda: true_if(is_gone()), "tombstone", 400)
        assert is_settled(cluster)
        assert all(region.on_store(store_id) is None for region in pd.tree.all())
        await cluster.stop_store(node)

    run(4, body)
