"""Runs a test of the client over the memory cluster, twice: with its own storage, and with one of the stores' MVCC actions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from tests.unit.client.mvcc_storage import MvccStorage
from tikv_py.client.testing.cluster import MemoryCluster
from tikv_py.client.testing.storage import MemoryStorage
from tikv_py.client.testing.store import Storage
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

    async def body(storage: Storage) -> None:
        cluster = MemoryCluster(storage, stores)
        await cluster.start(batch=batch)
        client = await cluster.txn_client()
        client.defaults = defaults
        try:
            await test(cluster, client)
        finally:
            await client.close()
            await cluster.stop()

    for storage in (MemoryStorage(LoopClock()), MvccStorage()):
        run_virtual(body(storage))
