"""Random schedules of transactions with injected faults, against a serial oracle of those that were committed.

Several clients run transactions of reads and writes on few keys over several regions, in every commit mode, while answers get
lost, connections break, regions split and leaders move, and callers cancel. Afterwards the stored versions are the serial history:
every transaction must have read the values of its start timestamp, no two that overlap may have written the same key, every
acknowledged commit must be there at its timestamp and no refused one. An outcome that was not told (cancelled, undetermined) is
found in the data, all of it or nothing. Whoever writes all keys at the end meets no lock that cannot be settled.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core_py.codec.ts import TS_MAX
from core_py.errors import DbError
from core_py.region_errors import ServerIsBusy, StaleCommand
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2
from tests.unit.client.mvcc_storage import MvccStorage
from tikv_py.client.errors import UndeterminedError
from tikv_py.client.testing.cluster import MemoryCluster
from tikv_py.client.testing.faults import LOST, BreakStream, Delay
from tikv_py.client.testing.storage import MemoryStorage
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.transaction import Transaction, TxnOptions
from tikv_py.mvcc import keys
from tikv_py.mvcc.reader import MvccReader

KEYS = [b"k%d" % number for number in range(8)]
CLIENTS = 3
TXNS_PER_CLIENT = 6
QUIET_S = 200.0  # everybody's locks are settled by then


@dataclass
class Done:
    """What a transaction did, and what its caller knows. `commit_ts` None = nothing was told."""

    name: bytes
    start_ts: int
    reads: dict[bytes, bytes | None] = field(default_factory=dict)
    locked: dict[bytes, bytes | None] = field(default_factory=dict)
    writes: dict[bytes, bytes] = field(default_factory=dict)
    commit_ts: int | None = 0


class World:
    """One run."""

    def __init__(self, cluster: MemoryCluster, seed: int, faulty: bool) -> None:
        self.cluster, self.random, self.faulty = cluster, random.Random(seed), faulty
        self.done: list[Done] = []
        cluster.before.append(self._before)
        cluster.after.append(self._after)

    def _before(self, _store: Any, name: str, _request: Any) -> Any:
        dice = self.random.random() if self.faulty and name.startswith("K") else 1.0
        if dice < 0.01:
            raise BreakStream
        if dice < 0.02:
            self.cluster.split(self.random.choice(KEYS) + b"x")
        elif dice < 0.03:
            self.cluster.move_leader(self.random.choice(KEYS), self.random.randrange(1, 4))
        elif dice < 0.04:
            return ServerIsBusy("full", 1) if self.random.random() < 0.5 else StaleCommand(1)
        elif dice < 0.05:
            return LOST
        return Delay(self.random.random() * 0.02)

    def _after(self, _store: Any, name: str, _request: Any) -> Any:
        dice = self.random.random() if self.faulty and name.startswith("K") else 1.0
        if dice < 0.02:
            raise BreakStream
        return LOST if dice < 0.03 else None

    async def run_client(self, client: TxnClient, number: int) -> None:
        for at in range(TXNS_PER_CLIENT):
            client.defaults = TxnOptions(
                pessimistic=self.random.random() < 0.4,
                try_one_pc=self.random.random() < 0.6,
                use_async_commit=self.random.random() < 0.7,
            )
            done = Done(b"c%dt%d" % (number, at), 0)
            task = asyncio.get_running_loop().create_task(self.run_txn(client, done))
            await asyncio.sleep(0)
            if self.faulty and self.random.random() < 0.15:
                await asyncio.sleep(self.random.random() * 0.2)
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled() and (error := task.exception()) is not None:
                assert isinstance(error, DbError), error
            await asyncio.sleep(self.random.random() * 0.05)

    async def run_txn(self, client: TxnClient, done: Done) -> None:
        txn = await client.begin()
        done.start_ts = txn.start_ts
        chosen = self.random.sample(KEYS, self.random.randrange(1, 5))
        try:
            for key in chosen:
                done.reads[key] = await txn.get(key)
            written = chosen[: self.random.randrange(1, len(chosen) + 1)]
            if txn.pessimistic:
                done.locked = await txn.lock_keys(written, return_values=True, wait_ms=3000)
            for key in written:
                txn.put(key, done.name)
            done.writes = dict.fromkeys(written, done.name)
            done.commit_ts = None
            self.done.append(done)
            done.commit_ts = await txn.commit()
        except UndeterminedError:
            return
        except DbError:
            done.commit_ts = 0
        finally:
            if not txn.is_closed:
                await txn.rollback()


async def check(world: World, client: TxnClient) -> None:
    """See the module's text."""
    versions = await history(world, client)
    for done in world.done:
        if not done.writes:
            continue
        seen = {versions_of[done.name] for key in done.writes if done.name in (versions_of := versions[key])}
        there = [key for key in done.writes if done.name in versions[key]]
        assert len(there) in (0, len(done.writes)), f"{done} is half there: {there}"
        if done.commit_ts is None:
            done.commit_ts = seen.pop() if seen else 0
        elif done.commit_ts:
            assert seen == {done.commit_ts}, f"{done} was acknowledged, found {seen}"
        else:
            assert not seen, f"{done} was refused, found {seen}"
    committed = sorted((d for d in world.done if d.commit_ts), key=lambda d: d.commit_ts or 0)
    for done in committed:
        for key, value in done.reads.items():
            assert value == value_at(versions, key, done.start_ts), f"{done} read {key!r}"
        for key, value in done.locked.items():
            assert value == value_at(versions, key, (done.commit_ts or 0) - 1), f"{done} locked {key!r}"
    for number, one in enumerate(committed):
        for two in committed[number + 1 :]:
            both = one.writes.keys() & two.writes.keys()
            optimistic = [key for key in both if key not in two.locked]
            assert not optimistic or two.start_ts >= (one.commit_ts or 0), f"lost update: {one} and {two}"


def value_at(versions: dict[bytes, dict[bytes, int]], key: bytes, ts: int) -> bytes | None:
    """The newest value committed at or before a timestamp."""
    found = [(commit_ts, name) for name, commit_ts in versions[key].items() if commit_ts <= ts]
    return max(found)[1] if found else None


async def history(world: World, client: TxnClient) -> dict[bytes, dict[bytes, int]]:
    """Key -> name of the writer -> commit timestamp, when all locks are settled."""

    async def overwrite(txn: Transaction) -> None:
        for key in KEYS:
            txn.put(key, b"last")

    await client.run_in_transaction(overwrite, pessimistic=False)
    await client.drain(QUIET_S)
    storage = world.cluster.storage
    assert not storage.locks()
    versions: dict[bytes, dict[bytes, int]] = {}
    for key in KEYS:
        versions[key] = {}
        for value, commit_ts in stored(storage, key):
            assert value not in versions[key], f"{value!r} wrote {key!r} twice"
            versions[key][value] = commit_ts
    return versions


def stored(storage: Any, key: bytes) -> list[tuple[bytes, int]]:
    """All values of a key with their commit timestamps."""
    if isinstance(storage, MemoryStorage):
        return [(v.value, v.commit_ts) for v in storage.table.row(key).versions if v.kind == kvrpcpb_pb2.Put]
    reader, found, ts = MvccReader(storage.engine), [], int(TS_MAX)
    while (write := reader.get_data_write(keys.data_key(key), ts)) is not None:
        found.append((reader.value_of(keys.data_key(key), write[1]), write[0]))
        ts = write[0] - 1
    return found


def run(seed: int, *, faulty: bool, own_storage: bool) -> World:
    """One schedule."""

    async def body() -> World:
        cluster = MemoryCluster(MemoryStorage(LoopClock()) if own_storage else MvccStorage())
        await cluster.start()
        cluster.split(KEYS[2], KEYS[5])
        world = World(cluster, seed, faulty)
        clients = [await cluster.txn_client(f"client{number}") for number in range(CLIENTS)]
        await asyncio.gather(*(world.run_client(client, number) for number, client in enumerate(clients)))
        cluster.before.clear()
        cluster.after.clear()
        for client in clients:
            await client.drain(QUIET_S)
        reader = await cluster.txn_client("reader")
        await check(world, reader)
        await reader.drain(QUIET_S)
        for client in (*clients, reader):
            await client.close()
        await cluster.stop()
        return world

    return run_virtual(body())


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32), faulty=st.booleans(), own_storage=st.booleans())
def test_schedules_agree_with_a_serial_order(seed: int, faulty: bool, own_storage: bool) -> None:
    run(seed, faulty=faulty, own_storage=own_storage)


def test_the_schedules_are_not_idle() -> None:
    worlds = [run(seed, faulty=faulty, own_storage=True) for seed in range(5) for faulty in (False, True)]
    committed = sum(1 for world in worlds for done in world.done if done.commit_ts)
    assert committed > len(worlds) * CLIENTS * TXNS_PER_CLIENT // 4
