"""Runs a test of the client over a memory cluster whose storage is the real MVCC actions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from core_py.sim.loop import run_virtual
from tests.unit.client.async_storage import AsyncStorage
from tikv_py.client.testing.cluster import MemoryCluster
from tikv_py.client.txn.client import DEFAULTS, TxnClient
from tikv_py.client.txn.transaction import TxnOptions

TWO_PHASES = TxnOptions(try_one_pc=False, use_async_commit=False)


def with_cluster(
    test: Callable[[MemoryCluster, TxnClient], Awaitable[None]],
    *,
    batch: bool = True,
    stores: int = 3,
    defaults: TxnOptions = DEFAULTS,
) -> None:
    """Run a test on virtual time with a connected client; both are closed afterwards."""

    async def body() -> None:
        cluster = MemoryCluster(AsyncStorage(), stores)
        await cluster.start(batch=batch)
        client = await cluster.client()
        client.defaults = defaults
        try:
            await test(cluster, client)
        finally:
            await client.close()
            await cluster.stop()

    run_virtual(body())
