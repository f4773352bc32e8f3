"""A whole storage cluster under a seed, with transactions: money moves between accounts while everything fails.

Workload: tellers move amounts by optimistic and by pessimistic transactions, each leaving a record of its own; auditors read all
accounts at one timestamp, from leaders and from followers. Checked: every snapshot has the same total; the timestamp of a
transaction that began after another was acknowledged is above that one's; after healing, every acknowledged transfer has
its record, the balances are exactly what the records say, and all replicas are equal. One seed, one hash.
"""

from __future__ import annotations

import asyncio
import random

from core_py.codec import memcomparable
from core_py.errors import DbError
from core_py.sim.clock import LoopClock
from tests.sim import world as worlds
from tests.sim.world import Options, Outcome, World, check_replicas, error_name
from tests.support.storage_cluster import PD_ADDRESS, StorageCluster
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.transaction import Transaction

ACCOUNTS = [b"account%d" % number for number in range(8)]
OPENING = 100
TELLERS = 5
AUDITORS = 3


class Bank:
    """One run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = random.Random(world.rng.random())
        self.acknowledged: dict[bytes, bytes] = {}
        self.newest_commit = 0
        self.audits = 0
        self.stopping = False

    def note(self, text: str, who: str) -> None:
        self.world.note(text, where=who)

    async def run(self) -> Outcome:
        cluster, seed = self.world.cluster, self.world.seed
        async with await self.client(cluster, seed) as client:
            async with client.begin() as txn:
                for account in ACCOUNTS:
                    txn.put(account, b"%d" % OPENING)
            async with asyncio.TaskGroup() as group:
                for number in range(TELLERS):
                    group.create_task(self.teller(client, number))
                for number in range(AUDITORS):
                    group.create_task(self.auditor(client, from_followers=number == 0))
                await self.world.nemesis.run(self.world.options.run_s)
                self.stopping = True
        await self.check_end(cluster)
        return Outcome("", len(self.acknowledged), self.audits)

    async def client(self, cluster: StorageCluster, seed: int) -> TxnClient:
        transport = cluster.network.transport("client")
        return await TxnClient.connect(
            (PD_ADDRESS,), transport=transport, clock=LoopClock(), random=random.Random(seed)
        )

    async def teller(self, client: TxnClient, number: int) -> None:
        count = 0
        while not self.stopping:
            count += 1
            record = b"record%d-%05d" % (number, count)
            source, target = self.rng.sample(ACCOUNTS, 2)
            amount = self.rng.randrange(1, 20)
            pessimistic = self.rng.random() < 0.5
            text = b"%s %s %d" % (source, target, amount)
            try:
                before = self.newest_commit
                txn = await client.begin(pessimistic=pessimistic)
                # A commit decided by the stores may have the very timestamp that PD gives next: it is seen at it.
                assert txn.start_ts >= before, "a timestamp went back behind an acknowledged commit"
                async with txn:
                    await self.transfer(txn, (source, target, amount), record, text)
            except DbError as error:
                self.note(f"{record.decode()} {text.decode()}: {error_name(error)}", f"teller{number}")
            else:
                self.acknowledged[record] = text
                self.newest_commit = max(self.newest_commit, txn.commit_ts)
                self.note(f"{record.decode()} {text.decode()}: committed at {txn.commit_ts}", f"teller{number}")
            await asyncio.sleep(self.rng.random() * 0.15)

    async def transfer(self, txn: Transaction, move: tuple[bytes, bytes, int], record: bytes, text: bytes) -> None:
        source, target, amount = move
        if txn.pessimistic:
            found = await txn.lock_keys([source, target], return_values=True)
        else:
            found = dict(await txn.batch_get([source, target]))
        txn.put(source, b"%d" % (int(found[source] or b"") - amount))
        txn.put(target, b"%d" % (int(found[target] or b"") + amount))
        txn.insert(record, text)

    async def auditor(self, client: TxnClient, *, from_followers: bool) -> None:
        while not self.stopping:
            try:
                ts = await client.timestamp()
                found = await client.snapshot(ts, replica_read=from_followers).batch_get(ACCOUNTS)
            except DbError as error:
                self.note(f"no audit: {error_name(error)}", "auditor")
            else:
                total = sum(int(value) for value in found.values())
                assert total == OPENING * len(ACCOUNTS), f"at {ts} the accounts hold {total}: {found}"
                self.audits += 1
                self.note(f"audit at {ts}", "auditor")
            await asyncio.sleep(self.rng.random() * 0.15)

    async def check_end(self, cluster: StorageCluster) -> None:
        async with await self.client(cluster, 1) as fresh:
            snapshot = fresh.snapshot(await fresh.timestamp())
            records = {key: value async for key, value in snapshot.scan(b"record", b"recore")}
            balances = dict.fromkeys(ACCOUNTS, OPENING)
            for text in records.values():
                source, target, amount = text.split()
                balances[source] -= int(amount)
                balances[target] += int(amount)
            lost = {key: text for key, text in self.acknowledged.items() if records.get(key) != text}
            assert not lost, f"acknowledged transfers are lost: {lost}"
            found = {key: int(value) async for key, value in snapshot.scan(b"account", b"accounu")}
            assert found == balances, f"the accounts hold {found}, the records say {balances}"
        await check_replicas(self.world)


def simulate(seed: int, options: Options = Options()) -> Outcome:  # noqa: B008 frozen
    """Run one seed. Raises SeedFailed."""

    async def workload(world: World) -> Outcome:
        return await Bank(world).run()

    keys = [memcomparable.encode(account) for account in ACCOUNTS]
    return worlds.simulate("bank", seed, workload, options, split_keys=keys)
