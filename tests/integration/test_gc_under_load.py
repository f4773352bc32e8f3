"""Money moves between accounts while garbage is collected every second, regions split and stores lose power: the sum stays."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from functools import partial

from core_py.errors import DbError
from core_py.runtime.config import Seconds
from core_py.sim.loop import run_virtual
from tests.integration.test_gc import are_equal, data, leads
from tests.integration.test_storage_cluster import eventually, three_replicas, txn_client
from tests.support.storage_cluster import StorageCluster, storage_cluster
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.transaction import Transaction
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE
from tikv_py.gc.config import GcConfig
from tikv_py.server.config import TikvConfig

ACCOUNTS = [b"account%02d" % number for number in range(12)]
SETTINGS = TikvConfig(
    gc=GcConfig(poll_interval=Seconds(0.3), life_time=Seconds(1.0), run_interval=Seconds(0.7), batch_keys=3)
)


def amount(value: bytes | None) -> int:
    """Balances are padded now and then, so that some values are long ones."""
    assert value is not None, "an account is gone"
    return int(value)


class Bank:
    """The tellers and what they check."""

    def __init__(self, client: TxnClient, seed: int) -> None:
        self.client, self.rng = client, random.Random(seed)
        self.moved = self.audits = 0
        self.stopping = False

    async def open(self) -> None:
        async with self.client.begin() as txn:
            for account in ACCOUNTS:
                txn.put(account, b"100")

    async def teller(self) -> None:
        while not self.stopping:
            source, target = self.rng.sample(ACCOUNTS, 2)
            try:
                await self.client.run_in_transaction(partial(self._move, source=source, target=target))
                self.moved += 1
            except DbError:  # a store is down, or the transaction took too long
                pass
            await asyncio.sleep(0.1)

    async def _move(self, txn: Transaction, source: bytes, target: bytes) -> None:
        found = await txn.batch_get([source, target])
        left, right = amount(found.get(source)), amount(found.get(target))
        width = self.rng.choice([0, 0, 300])
        txn.put(source, b"%0*d" % (width, left - 1))
        txn.put(target, b"%0*d" % (width, right + 1))

    async def auditor(self) -> None:
        while not self.stopping:
            ts = await self.client.timestamp()
            try:
                found = await self.client.snapshot(ts).batch_get(ACCOUNTS)
            except DbError:
                await asyncio.sleep(0.1)
                continue
            assert sum(amount(found.get(account)) for account in ACCOUNTS) == 100 * len(ACCOUNTS)
            self.audits += 1
            await asyncio.sleep(0.1)


async def disturb(cluster: StorageCluster, client: TxnClient) -> None:
    for at in (3, 6, 9):
        await asyncio.sleep(1.0)
        await client.split_region([ACCOUNTS[at]])
        node = next(node for node in cluster.nodes if leads(cluster, node.name))
        await cluster.crash(node)
        await asyncio.sleep(1.0)
        await cluster.start_store(node)
    await asyncio.sleep(3.0)


def test_no_money_is_lost_while_garbage_is_collected() -> None:
    async def body(cluster: StorageCluster, client: TxnClient) -> None:
        bank = Bank(client, 7)
        await bank.open()
        working = [asyncio.ensure_future(one) for one in (*(bank.teller() for _ in range(4)), bank.auditor())]
        await disturb(cluster, client)
        bank.stopping = True
        await asyncio.gather(*working)
        await client.drain(5.0)
        assert bank.moved > 100
        assert bank.audits > 20

        async def clean() -> bool:
            counts = [[len(one) for one in data(cluster, cf)] for cf in (CF_WRITE, CF_LOCK)]
            return are_equal(cluster) and counts == [[len(ACCOUNTS)] * 3, [0] * 3]

        await eventually(clean, "one version of each account and no lock")
        found = await client.snapshot(await client.timestamp()).batch_get(ACCOUNTS)
        assert sum(amount(found.get(account)) for account in ACCOUNTS) == 100 * len(ACCOUNTS)
        long_values = sum(len(value) > 255 for value in found.values())
        assert [len(one) for one in data(cluster, CF_DEFAULT)] == [long_values] * 3

    async def main() -> None:
        async with storage_cluster(3, seed=7, settings=replace(SETTINGS)) as cluster:
            await three_replicas(cluster)
            async with await txn_client(cluster) as client:
                await body(cluster, client)

    run_virtual(main())
