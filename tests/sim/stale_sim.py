"""Stale reads under a seed: what a replica answers up to its safe timestamp is what the leader holds for it at the very end.

Workload: transactions on a few keys, optimistic and pessimistic, committed after a while, rolled back, or left behind with their
locks; the time between their commit timestamp and their commit is long. Readers go past the client straight to a store, and ask at
timestamps up to the safe ts of the replica there (and sometimes above it, which it must refuse). Faults: the nemesis's.
Checked at the end: every single answer against a snapshot read at its timestamp. One seed, one hash.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from core_py.codec import memcomparable
from core_py.errors import DbError
from core_py.ports import methods_of
from core_py.runtime.config import Seconds
from core_py.sim.clock import LoopClock
from protos.kvproto import kvrpcpb_pb2 as pb
from protos.kvproto import tikvpb_pb2
from tests.sim import world as worlds
from tests.sim.world import Options, Outcome, World, error_name
from tests.support.storage_cluster import PD_ADDRESS, Node, StorageCluster
from tikv_py.client.txn.client import TxnClient
from tikv_py.raftstore.peer import Peer
from tikv_py.server.config import ResolvedTsConfig, TikvConfig

KEYS = [b"key%d" % number for number in range(8)]
WRITERS, READERS = 5, 4
SETTINGS = TikvConfig(resolved_ts=ResolvedTsConfig(advance_ts_interval=Seconds(0.2)))
METHODS = methods_of(tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"])


class GaveUp(DbError):
    """A transaction is not committed after all."""


class StaleReads:
    """One run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = random.Random(world.rng.random())
        self.seen: dict[tuple[int, bytes], set[bytes]] = {}
        """Values that were read, by timestamp and key; an empty one for none."""
        self.committed = self.answers = self.by_followers = 0
        self.stopping = False

    def note(self, text: str, who: str) -> None:
        self.world.note(text, where=who)

    async def run(self) -> Outcome:
        cluster = self.world.cluster
        async with await self.client(cluster, self.world.seed) as client, asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(self.writer(client, number))
            for _ in range(READERS):
                group.create_task(self.reader(cluster))
            await self.world.nemesis.run(self.world.options.run_s)
            self.stopping = True
        await self.check_end(cluster)
        return Outcome("", self.committed, self.by_followers)

    async def client(self, cluster: StorageCluster, seed: int) -> TxnClient:
        transport = cluster.network.transport("client")
        return await TxnClient.connect(
            (PD_ADDRESS,), transport=transport, clock=LoopClock(), random=random.Random(seed)
        )

    async def dawdle(self) -> None:
        """Between taking the commit timestamp and committing; some transactions are given up here."""
        await asyncio.sleep(self.rng.random() ** 3 * 2)
        if self.rng.random() < 0.1:
            raise GaveUp("the application thought better of it")

    async def writer(self, client: TxnClient, number: int) -> None:
        count = 0
        while not self.stopping:
            count += 1
            chosen = self.rng.sample(KEYS, self.rng.randrange(1, 4))
            try:
                txn = await client.begin(pessimistic=self.rng.random() < 0.4)
                if txn.pessimistic:
                    await txn.lock_keys(chosen)
                await asyncio.sleep(self.rng.random() * 0.5)
                for key in chosen:
                    if self.rng.random() < 0.2:
                        txn.delete(key)
                    else:
                        txn.put(key, b"%d-%d" % (number, count))
                if self.rng.random() < 0.1:
                    await txn.rollback()
                    continue
                await txn.commit(self.dawdle)
            except DbError as error:
                self.note(f"{count}: {error_name(error)}", f"writer{number}")
            else:
                self.committed += 1
                self.note(f"{count}: committed at {txn.commit_ts}", f"writer{number}")
            await asyncio.sleep(self.rng.random() * 0.1)

    async def reader(self, cluster: StorageCluster) -> None:
        while not self.stopping:
            await asyncio.sleep(self.rng.random() * 0.05)
            node = self.rng.choice(cluster.nodes)
            server = node.server
            peers = [] if server is None or server.store is None else list(server.store.peers.values())
            ready = [peer for peer in peers if peer.safe_ts()]
            if not ready:
                continue
            peer = self.rng.choice(ready)
            safe_ts = peer.safe_ts()
            back_ms = self.rng.choice([0, 0, self.rng.randrange(2000), -self.rng.randrange(1, 2000)])
            await self.ask(cluster, node, peer, safe_ts - (back_ms << 18))

    async def ask(self, cluster: StorageCluster, node: Node, peer: Peer, ts: int) -> None:
        region, was_leader = peer.region, peer.is_leader
        inside = [
            key
            for key in KEYS
            if region.start_key <= (encoded := memcomparable.encode(key))
            and (not region.end_key or encoded < region.end_key)
        ]
        request: Any = pb.BatchGetRequest(keys=inside, version=ts)
        if is_scan := self.rng.random() < 0.5:
            request = pb.ScanRequest(start_key=b"key", end_key=b"kez", limit=100, version=ts)
        context = request.context
        context.region_id, context.stale_read = region.id, True
        context.region_epoch.CopyFrom(region.region_epoch)
        channel = cluster.network.transport("client").connect(f"{node.name}:20160")
        try:
            method = METHODS["KvScan" if is_scan else "KvBatchGet"]
            response = await channel.unary(method, request, timeout_s=2)
        except DbError:
            return
        finally:
            await channel.close()
        if response.HasField("region_error"):
            return
        assert not any(pair.HasField("error") for pair in response.pairs), "a stale read met a lock"
        found = {pair.key: pair.value for pair in response.pairs}
        for key in inside:
            self.seen.setdefault((ts, key), set()).add(found.get(key, b""))
        self.answers += 1
        self.by_followers += not was_leader
        self.note(f"{node.name} region {region.id} at {ts}: {sorted(found.items())}", "reader")

    async def check_end(self, cluster: StorageCluster) -> None:
        async with await self.client(cluster, 1) as fresh:
            for ts in sorted({ts for ts, _ in self.seen}):
                asked = sorted(key for at, key in self.seen if at == ts)
                truth = await fresh.snapshot(ts).batch_get(asked)
                for key in asked:
                    seen = self.seen[ts, key]
                    assert seen == {truth.get(key, b"")}, f"{key.decode()} at {ts}: read {seen}, is {truth.get(key)!r}"


def simulate(seed: int, options: Options = Options()) -> Outcome:  # noqa: B008 frozen
    """Run one seed. Raises SeedFailed."""

    async def workload(world: World) -> Outcome:
        return await StaleReads(world).run()

    keys = [memcomparable.encode(key) for key in KEYS]
    return worlds.simulate("stale", seed, workload, options, keys, SETTINGS)
