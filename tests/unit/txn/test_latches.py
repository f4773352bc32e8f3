"""Latches: exclusive per key, in order of arrival, no deadlock, safe to cancel."""

from __future__ import annotations

import asyncio
import random

from core_py.runtime.tasks import TaskScope
from tikv_py.txn.latches import Latches


async def test_commands_on_one_key_run_in_order() -> None:
    latches, order = Latches(), []

    async def command(name: int, keys: list[bytes]) -> None:
        latch = await latches.acquire(keys)
        order.append(name)
        await asyncio.sleep(0)
        latches.release(latch)

    await asyncio.gather(*(command(i, [b"k"]) for i in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert len(latches) == 0


async def test_random_overlapping_commands_exclude_each_other_and_all_end() -> None:
    latches, rng = Latches(), random.Random(7)
    held: set[bytes] = set()

    async def command() -> None:
        keys = [b"%d" % rng.randrange(6) for _ in range(rng.randrange(1, 4))]
        latch = await latches.acquire(keys)
        assert not held & set(keys)
        held.update(keys)
        for _ in range(rng.randrange(3)):
            await asyncio.sleep(0)
        held.difference_update(keys)
        latches.release(latch)

    await asyncio.gather(*(command() for _ in range(300)))
    assert len(latches) == 0


async def test_a_cancelled_waiter_leaves_no_trace() -> None:
    latches = Latches()
    first = await latches.acquire([b"a", b"b"])
    scope = TaskScope("test")
    waiter = scope.spawn(latches.acquire([b"b", b"c"]))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.wait([waiter])
    latches.release(first)
    assert len(latches) == 0
    await scope.close()
