"""Latches: exclusive per key, in order of arrival, no deadlock, safe to cancel."""

from __future__ import annotations

import asyncio
import random
from zlib import crc32

import pytest

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


async def test_many_cancelled_waiters_are_passed_over_in_order() -> None:
    latches = Latches()
    first = await latches.acquire([b"k"])
    scope = TaskScope("test")
    waiters = [scope.spawn(latches.acquire([b"k"])) for _ in range(5)]
    await asyncio.sleep(0)
    for at in (0, 1, 3):
        waiters[at].cancel()
    await asyncio.sleep(0)
    latches.release(first)
    await asyncio.sleep(0)
    assert [waiter.done() for waiter in waiters] == [True, True, True, True, False]
    latches.release(waiters[2].result())
    latches.release(await waiters[4])
    assert len(latches) == 0
    await scope.close()


async def test_a_waiter_that_is_cancelled_as_it_gets_its_turn_hands_it_on() -> None:
    latches = Latches()
    first = await latches.acquire([b"k"])
    scope = TaskScope("test")
    second, third = scope.spawn(latches.acquire([b"k"])), scope.spawn(latches.acquire([b"k"]))
    await asyncio.sleep(0)
    latches.release(first)
    second.cancel()
    latches.release(await third)
    assert second.cancelled()
    assert len(latches) == 0
    await scope.close()


@pytest.mark.parametrize("slots", [1, 3, 64])
def test_whatever_comes_and_goes_each_slot_serves_in_order_of_arrival(slots: int) -> None:
    """Against lists: who has arrived in each slot and is not done. Few slots, so that different keys share one."""
    cancelled = sum(asyncio.run(_serve_in_order(slots, random.Random(seed))) for seed in range(25))
    assert cancelled > 20, "the test gives nobody up"


async def _serve_in_order(slots: int, rng: random.Random) -> int:
    latches, scope = Latches(slots), TaskScope("test")
    mask = {1: 0, 3: 3, 64: 63}[slots]
    arrived: dict[int, list[int]] = {}

    def leave(number: int) -> None:
        for queue in arrived.values():
            if number in queue:
                queue.remove(number)

    async def command(number: int, keys: list[bytes]) -> None:
        wanted = {crc32(key) & mask for key in keys}
        for slot in wanted:
            arrived.setdefault(slot, []).append(number)
        try:
            latch = await latches.acquire(keys)
            assert all(arrived[slot][0] == number for slot in wanted), "somebody was ahead"
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            latches.release(latch)
        finally:
            leave(number)

    tasks = []
    for number in range(60):
        keys = [b"%d" % rng.randrange(8) for _ in range(rng.randrange(4))]
        tasks.append(scope.spawn(command(number, keys)))
        if rng.random() < 0.3:
            await asyncio.sleep(0)
    waiting = [task for task in tasks if rng.random() < 0.2]
    for task in waiting:
        if latches_wait(task):
            task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [error for error in done if isinstance(error, Exception)] == []
    assert len(latches) == 0
    await scope.close()
    return sum(isinstance(error, asyncio.CancelledError) for error in done)


def latches_wait(task: asyncio.Task[None]) -> bool:
    """Whether a command waits for its latch, so that cancelling it is the latches' matter."""
    frame = task.get_stack(limit=1)
    awaited = getattr(task.get_coro(), "cr_await", None)
    return bool(frame) and getattr(awaited, "__name__", "") == "acquire"


def test_an_uncontended_latch_makes_no_future() -> None:
    async def main() -> None:
        latches = Latches()
        latch = await latches.acquire([b"a", b"b", b"a"])
        assert latch.owned is None
        assert len(latches) == len(latch.slots) == 2
        latches.release(latch)

    asyncio.run(main())
