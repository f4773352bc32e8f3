"""Waiting for locks: the oldest is woken first and alone, nobody waits longer than it may, nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from core_py.failpoints import UNARMED
from core_py.runtime.tasks import TaskScope
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from tikv_py.deadlock.wait_for_graph import Cycle, Wait
from tikv_py.engine.port import CF_LOCK, CF_WRITE
from tikv_py.mvcc import keys
from tikv_py.mvcc.errors import KeyIsLocked, TxnError
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.txn import Modify
from tikv_py.txn.waiting import lock_waiting
from tikv_py.txn.waiting.errors import DeadlockFound, LockWaitEnded
from tikv_py.txn.waiting.key_queue import Claim
from tikv_py.txn.waiting.lock_waiting import LockWaiting, WaitSettings, key_hash

KEY, OTHER = b"k", b"other"
DELAY_S = 0.02


def lock_of(start_ts: int) -> Lock:
    return Lock(LockType.PESSIMISTIC, b"p", start_ts, 3000, for_update_ts=start_ts)


def taken(user_key: bytes, start_ts: int) -> list[Modify]:
    return [Modify(CF_LOCK, keys.data_key(user_key), lock_of(start_ts).to_bytes())]


def released(user_key: bytes) -> list[Modify]:
    return [Modify(CF_WRITE, keys.data_key(user_key), b""), Modify(CF_LOCK, keys.data_key(user_key), None)]


class Recorder:
    """A detector that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def wait_begins(self, wait: Wait) -> None:
        self.told.append(("begins", wait.txn, wait.wait_for_txn, wait.key))

    def wait_ends(self, wait: Wait) -> None:
        self.told.append(("ends", wait.txn))

    def holder_changed(self, key_hash: int, key: bytes, old_ts: int, new_ts: int) -> None:
        self.told.append(("holder", key, old_ts, new_ts))


class World:
    """Waiters and the order in which they went on."""

    def __init__(self) -> None:
        self.waiting = LockWaiting(LoopClock(), UNARMED, WaitSettings(1.0, DELAY_S))
        self.scope = TaskScope("test")
        self.ended: list[int] = []
        self.outcomes: dict[int, TxnError | None] = {}

    def wait(
        self, start_ts: int, holder: int, *, user_key: bytes = KEY, first: bool = True, region: tuple[int, int] = (1, 1),
        timeout_s: float = 1.0,
    ) -> asyncio.Task[None]:  # fmt: skip
        async def run() -> None:
            claim = Claim(start_ts, *region, is_first_lock=first, resource_group_tag=b"tag")
            met = KeyIsLocked(user_key, lock_of(holder))
            self.outcomes[start_ts] = await self.waiting.wait(met, claim, timeout_s)
            self.ended.append(start_ts)

        return self.scope.spawn(run())

    async def settle(self) -> list[int]:
        for _ in range(5):
            await asyncio.sleep(0)
        return self.ended


def with_world(test: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World()
        await test(world)
        await world.scope.close()
        assert len(world.waiting) == world.waiting.keys() == world.waiting.reported == 0, "a wait was left behind"
        assert world.waiting._by_region == {}

    run_virtual(main())


def test_a_release_wakes_the_oldest_transaction_and_nobody_else() -> None:
    async def body(world: World) -> None:
        for start_ts in (30, 10, 20):
            world.wait(start_ts, holder=1)
        await world.settle()
        world.waiting.applied(released(OTHER))
        assert await world.settle() == []
        world.waiting.applied(released(KEY))
        assert await world.settle() == [10]
        world.waiting.applied(taken(KEY, 10))
        await asyncio.sleep(2 * DELAY_S)
        assert world.ended == [10], "the key is held again, so the others wait on"
        world.waiting.applied(released(KEY))
        assert await world.settle() == [10, 20]
        world.waiting.applied(taken(KEY, 20))
        await asyncio.sleep(1)

    with_world(body)


def test_a_key_that_stays_free_wakes_the_next_after_the_delay_one_at_a_time() -> None:
    async def body(world: World) -> None:
        for start_ts in range(10, 15):
            world.wait(start_ts, holder=1)
        await world.settle()
        world.waiting.applied(released(KEY))
        for woken in range(1, 6):
            assert await world.settle() == list(range(10, 10 + woken))
            await asyncio.sleep(DELAY_S)
        assert set(world.outcomes.values()) == {None}

    with_world(body)


def test_the_time_is_up_with_the_lock_that_is_there_then() -> None:
    async def body(world: World) -> None:
        world.wait(10, holder=1)
        world.wait(20, holder=1, timeout_s=0.5)
        await asyncio.sleep(0.7)
        early = world.outcomes[20]
        assert isinstance(early, LockWaitEnded)
        assert (early.lock.start_ts, early.since_change_ms) == (1, 0), "since when it is there is not known"
        world.waiting.applied(taken(KEY, 5))
        await asyncio.sleep(0.3001)
        late = world.outcomes[10]
        assert isinstance(late, LockWaitEnded)
        assert late.lock.start_ts == 5
        assert late.since_change_ms == pytest.approx(300, abs=1)

    with_world(body)


def test_whose_time_is_up_while_another_takes_the_key_is_told_the_last_lock_and_that_it_changed_just_now() -> None:
    async def body(world: World) -> None:
        world.wait(10, holder=1)
        world.wait(20, holder=1, timeout_s=0.505)
        await asyncio.sleep(0.5)
        world.waiting.applied(released(KEY))
        await asyncio.sleep(0.01)
        told = world.outcomes[20]
        assert isinstance(told, LockWaitEnded)
        assert (told.lock.start_ts, told.since_change_ms) == (1, 5)
        assert world.ended == [10, 20]

    with_world(body)


def test_a_transactions_newer_request_takes_the_older_ones_place() -> None:
    async def body(world: World) -> None:
        first = world.wait(10, holder=1)
        await world.settle()
        second = world.wait(10, holder=1)
        await world.settle()
        assert (first.done(), second.done(), len(world.waiting)) == (True, False, 1)
        world.waiting.applied(released(KEY))
        await world.settle()
        assert second.done()

    with_world(body)


def test_a_lock_is_known_without_looking_only_while_the_key_changes_hands() -> None:
    async def body(world: World) -> None:
        key = keys.data_key(KEY)
        assert world.waiting.known_lock(key, 30) is None
        for start_ts in (10, 20):
            world.wait(start_ts, holder=1)
        await world.settle()
        assert world.waiting.known_lock(key, 30) is None, "who knows since when it is there"
        world.waiting.applied(released(KEY))
        assert world.waiting.known_lock(key, 30) is None, "it is free"
        world.waiting.applied(taken(KEY, 10))
        known = world.waiting.known_lock(key, 30)
        assert known is not None
        assert known.lock.start_ts == 10
        assert world.waiting.known_lock(key, 10) is None, "its own"
        await asyncio.sleep(lock_waiting.KNOWN_FOR_S + 0.1)
        assert world.waiting.known_lock(key, 30) is None, "long ago"
        await asyncio.sleep(0.5)

    with_world(body)


def test_a_region_that_moves_or_changes_sends_its_waiters_on_their_way() -> None:
    async def body(world: World) -> None:
        world.wait(10, holder=1, region=(1, 1))
        world.wait(20, holder=1, region=(2, 1), user_key=OTHER)
        world.wait(30, holder=1, region=(3, 1), user_key=b"third")
        await world.settle()
        world.waiting.region_changed(1, 1)
        world.waiting.region_changed(2, 2)
        world.waiting.region_changed(4, None)
        assert await world.settle() == [20]
        world.waiting.region_changed(1, None)
        assert await world.settle() == [20, 10]
        await asyncio.sleep(1)

    with_world(body)


def test_cancelled_waits_leave_the_line_moving() -> None:
    async def body(world: World) -> None:
        tasks = [world.wait(start_ts, holder=1) for start_ts in (10, 20, 30)]
        await world.settle()
        tasks[0].cancel()
        await world.settle()
        world.waiting.applied(released(KEY))
        tasks[1].cancel()  # woken, and gone before it could do anything
        await world.settle()
        assert world.ended == []
        await asyncio.sleep(DELAY_S)
        assert await world.settle() == [30]

    with_world(body)


def test_too_many_waiters_are_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(world: World) -> None:
        monkeypatch.setattr(lock_waiting, "WAITERS_MAX", 2)
        for start_ts in (10, 20, 30):
            world.wait(start_ts, holder=1)
        assert await world.settle() == [30]
        assert isinstance(world.outcomes[30], KeyIsLocked)
        await asyncio.sleep(1)

    with_world(body)


def test_the_detector_hears_of_all_but_first_locks_and_ends_a_wait() -> None:
    async def body(world: World) -> None:
        recorder = Recorder()
        world.waiting.detector = recorder
        world.wait(10, holder=1, first=False)
        world.wait(20, holder=1, first=True)
        await world.settle()
        world.waiting.applied(taken(KEY, 2))
        assert recorder.told == [("begins", 10, 1, KEY), ("holder", KEY, 1, 2)]
        assert world.waiting.reported_waits() == [Wait(10, 2, key_hash(keys.data_key(KEY)), KEY, b"tag")]
        cycle = Cycle(world.waiting.reported_waits()[0], (Wait(2, 10, 7, b"held"),))
        assert world.waiting.deadlock(cycle)
        assert not world.waiting.deadlock(cycle), "it is over"
        await world.settle()
        refused = world.outcomes[10]
        assert isinstance(refused, DeadlockFound)
        assert refused.cycle == cycle
        assert recorder.told[2:] == [("ends", 10)]
        world.waiting.applied(released(KEY))
        await world.settle()
        assert recorder.told[3:] == [], "nobody is left whom it concerns"

    with_world(body)


def test_handing_a_key_on_tells_the_detector_the_same_however_many_wait() -> None:
    async def body(world: World) -> None:
        for start_ts in range(10, 1010):
            world.wait(start_ts, holder=1, first=False)
        await world.settle()
        recorder = Recorder()
        world.waiting.detector = recorder
        world.waiting.applied(released(KEY))
        world.waiting.applied(taken(KEY, 10))
        assert recorder.told == [("holder", KEY, 1, 0), ("ends", 10), ("holder", KEY, 0, 10)]
        assert await world.settle() == [10]
        await asyncio.sleep(1)

    with_world(body)
