"""Power is lost at every step of a snapshot's way in, with every prefix of what was not synced: the old state or the new one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from core_py.sim.loop import run_virtual
from tests.unit.raftstore.snapshot_support import chunks, snapshot_message, stream
from tests.unit.raftstore.support import REGION, Bench, bench, first_region
from tikv_py.engine.memory import MemoryEngine

OLD = {"default": {b"za": b"old", b"zk": b"old"}, "lock": {}, "write": {b"zw": b"old"}}
NEW = {"default": {b"zk": b"new", b"zm": b"new"}, "lock": {}, "write": {b"zv": b"new"}}
RECEIVING, BRINGING_IN = 3, 5  # calls to the workers: a chunk each; sync, ingest, sync, sync, drop
STEPS = RECEIVING + BRINGING_IN
Engines = tuple[MemoryEngine, MemoryEngine]


class StoppingWorkers:
    """Does the first `steps` calls, then none: what the store does up to there is all that happens."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        await self._step()
        return function(*args)

    async def sync(self, function: Callable[[], None]) -> None:
        await self._step()
        function()

    async def _step(self) -> None:
        await asyncio.sleep(0)
        if self.steps <= 0:
            await asyncio.Event().wait()
        self.steps -= 1


async def old_engines() -> Engines:
    async with bench() as one:
        await one.append([b""], 6)
        batch = one.kv_db.batch()
        for cf, pairs in OLD.items():
            for key, value in pairs.items():
                batch.put(cf, key, value)
        one.kv_db.write(batch)
        one.kv_db.sync_wal()
        return one.raft_db.crash(), one.kv_db.crash()


async def receive(one: Bench) -> bool:
    """A snapshot at index 20 comes; whether the leader was told that it is here."""
    data = chunks({cf: list(pairs.items()) for cf, pairs in NEW.items()})
    receiving = one.store.snapshots.receive(stream(snapshot_message(one, first_region(), 20), data))
    one.store.scope.spawn(receiving, name="stream")
    for _ in range(5):
        await one.settle()
    return any(sent.message.index == 20 for sent in one.router.sent)


def every_loss(one: Bench) -> list[Engines]:
    return [
        (one.raft_db.image(raft), one.kv_db.image(kv))
        for raft in range(one.raft_db.unsynced_batches() + 1)
        for kv in range(one.kv_db.unsynced_batches() + 1)
    ]


def is_new(one: Bench) -> bool:
    """Checks that the store is in one of the two states, and says in which."""
    data = {cf: dict(one.kv_db.items(cf)) for cf in OLD}
    last = one.peer.storage.last_index()
    assert (last, data) in ((6, OLD), (20, NEW))
    assert one.kv_db.staged() == [], "nothing is left over"
    return last == 20


@pytest.mark.parametrize("steps", range(STEPS + 1))
def test_power_is_lost_while_a_snapshot_comes_in(steps: int) -> None:
    async def main() -> None:
        async with bench(*await old_engines()) as one:
            one.store.workers = StoppingWorkers(steps)
            answered = await receive(one)
            losses = every_loss(one)
        states = set()
        for left in losses:
            async with bench(*left) as again:
                states.add(is_new(again))
                if answered:
                    assert is_new(again), "the leader counts on it"
        assert answered == (steps == STEPS)
        expected = {False} if steps < RECEIVING else {True, False} if steps == RECEIVING else {True}
        assert states == expected, "the marker decides, as soon as it is synced for good"

    run_virtual(main())


@pytest.mark.parametrize("steps", range(BRINGING_IN + 2))
def test_power_is_lost_again_while_start_up_repeats_it(steps: int) -> None:
    async def main() -> None:
        async with bench(*await old_engines()) as one:
            one.store.workers = StoppingWorkers(RECEIVING + 1)
            await receive(one)
            left = one.raft_db.crash(), one.kv_db.crash()
        interrupted = Bench(*left, workers=StoppingWorkers(steps))
        interrupted.store.scope.spawn(interrupted.store.start(), name="start")
        await interrupted.settle()
        losses = every_loss(interrupted)
        await interrupted.store.stop()
        for again in losses:
            async with bench(*again) as third:
                assert is_new(third)

    run_virtual(main())


def test_what_a_lost_stream_had_staged_is_removed_at_start() -> None:
    async def main() -> None:
        raft_db, kv_db = await old_engines()
        run = kv_db.stage("77-1-default")
        run.add([(b"zz", b"")])
        run.finish()
        async with bench(raft_db, kv_db) as one:
            assert not is_new(one)
            assert REGION in one.store.peers

    run_virtual(main())
