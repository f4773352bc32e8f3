"""The link to the detector's leader: begins with all waits, keeps their order, changes over, gives up when it cannot keep pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from core_py.errors import PdError
from core_py.failpoints import UNARMED
from core_py.ports import CallContext, Service
from core_py.runtime.tasks import TaskScope
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from core_py.sim.network import MemoryNetwork
from protos.kvproto import deadlock_pb2 as pb
from tikv_py.deadlock import link as link_module
from tikv_py.deadlock.link import LeaderLink
from tikv_py.deadlock.wait_for_graph import Cycle, Wait
from tikv_py.deadlock.wire import cycle_of, entry_of, response_of
from tikv_py.server.metrics import LockWaitMetrics

OWN = 9


class Waits:
    """What waits on the reporting store."""

    def __init__(self, *waits: Wait) -> None:
        self.waits = list(waits)
        self.refused: list[Cycle] = []

    @property
    def reported(self) -> int:
        return len(self.waits)

    def reported_waits(self) -> list[Wait]:
        return list(self.waits)

    def deadlock(self, cycle: Cycle) -> bool:
        self.refused.append(cycle)
        return True


class Leader:
    """Where the tests say."""

    def __init__(self) -> None:
        self.is_here = False
        self.known = 1
        self.asked = 0

    async def store_id(self) -> int:
        self.asked += 1
        if self.known < 0:
            raise PdError("nobody knows")
        return self.known


class Detector:
    """A leader's end: notes what comes, answers what it is given."""

    def __init__(self) -> None:
        self.streams: list[list[tuple[int, int]]] = []
        self.answers: list[pb.DeadlockResponse] = []

    async def detect(
        self, requests: AsyncIterator[pb.DeadlockRequest], _context: CallContext
    ) -> AsyncIterator[pb.DeadlockResponse]:
        heard: list[tuple[int, int]] = []
        self.streams.append(heard)
        async for request in requests:
            heard.append((request.tp, request.entry.txn))
            while self.answers:
                yield self.answers.pop()


class World:
    """Two stores that may lead, and the link of a third."""

    def __init__(self, *waits: Wait) -> None:
        self.waits, self.leader = Waits(*waits), Leader()
        self.detectors = {1: Detector(), 2: Detector()}
        self.registry = CollectorRegistry()
        self.scope = TaskScope("test")
        self.network = MemoryNetwork()
        leader: Any = self.leader
        self.link = LeaderLink(
            OWN,
            leader,
            self.waits,
            self.network.transport("store9"),
            self._resolve,
            LoopClock(),
            LockWaitMetrics(self.registry),
            UNARMED,
            self.scope,
        )

    async def _resolve(self, store_id: int) -> str:
        return f"store{store_id}:20160"

    async def start(self) -> None:
        for store_id, detector in self.detectors.items():
            service = Service(pb.DESCRIPTOR.services_by_name["Deadlock"], {"Detect": detector.detect})
            await self.network.transport(f"store{store_id}").serve(f"store{store_id}:20160", [service])
        self.scope.spawn(self.link.run())

    def begin(self, txn: int) -> None:
        wait = Wait(txn, 1, 2, b"k")
        self.waits.waits.append(wait)
        self.link.send(pb.DeadlockRequest(entry=entry_of(wait)))

    def errors(self, kind: str) -> float:
        return self.registry.get_sample_value("tikv_lock_manager_error_counter_total", {"type": kind}) or 0.0


def with_world(test: Callable[[World], Awaitable[None]], *waits: Wait) -> None:
    async def main() -> None:
        world = World(*waits)
        await world.start()
        await test(world)
        await world.scope.close()

    run_virtual(main())


def test_a_stream_begins_with_all_waits_and_goes_on_in_order() -> None:
    async def body(world: World) -> None:
        await asyncio.sleep(10)
        assert world.leader.asked == 0, "nobody waits, so nobody is asked"
        for txn in (1, 2, 3):
            world.begin(txn)
        await asyncio.sleep(0.1)
        world.begin(4)
        world.link.send(pb.DeadlockRequest(tp=pb.CleanUpWaitFor, entry=entry_of(Wait(2, 1, 2))))
        await asyncio.sleep(0.1)
        expected = [(pb.Detect, 1), (pb.Detect, 2), (pb.Detect, 3), (pb.Detect, 4), (pb.CleanUpWaitFor, 2)]
        assert world.detectors[1].streams == [expected]

    with_world(body)


def test_a_deadlock_comes_back_with_its_chain() -> None:
    async def body(world: World) -> None:
        cycle = Cycle(Wait(1, 2, 20, b"b", b"tag"), (Wait(2, 3, 30, b"c"), Wait(3, 1, 10, b"a")))
        world.detectors[1].answers.append(response_of(cycle))
        world.begin(1)
        await asyncio.sleep(0.1)
        assert world.waits.refused == [cycle]
        assert cycle.closed_by.key == b"a"

    with_world(body)


def test_a_leader_without_chains_is_understood() -> None:
    told = pb.DeadlockResponse(entry=pb.WaitForEntry(txn=1, wait_for_txn=2, key_hash=20), deadlock_key_hash=10)
    cycle = cycle_of(told)
    assert cycle.closing == Wait(1, 2, 20)
    assert cycle.chain == (Wait(2, 1, 10), Wait(1, 2, 20))


def test_another_leader_is_found_within_a_second_and_told_everything() -> None:
    async def body(world: World) -> None:
        world.begin(1)
        await asyncio.sleep(0.3)
        world.leader.known = 2  # and the stream to the old one stays silent
        await asyncio.sleep(1.5)
        assert world.detectors[1].streams == [[(pb.Detect, 1)]]
        assert world.detectors[2].streams == [[(pb.Detect, 1)]]
        world.waits.waits.clear()
        asked = world.leader.asked
        await asyncio.sleep(10)
        assert world.leader.asked <= asked + 1, "nobody waits, so nobody is asked"

    with_world(body)


def test_it_tries_until_a_leader_is_known_and_stops_when_this_store_leads() -> None:
    async def body(world: World) -> None:
        world.leader.known = 0
        world.begin(1)
        await asyncio.sleep(0.25)
        world.leader.known = -1
        await asyncio.sleep(0.2)
        assert world.errors("leader_not_found") == 3
        assert world.errors("reconnect_leader") == 2
        world.leader.is_here = True
        await asyncio.sleep(0.2)
        asked = world.leader.asked
        await asyncio.sleep(5)
        assert world.leader.asked == asked
        world.leader.is_here, world.leader.known = False, 1
        world.link.wake()
        await asyncio.sleep(0.1)
        assert world.detectors[1].streams == [[(pb.Detect, 1)]]

    with_world(body)


def test_too_many_reports_give_the_stream_up_and_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(world: World) -> None:
        world.begin(1)
        await asyncio.sleep(0.1)
        monkeypatch.setattr(link_module, "OUTBOX_MAX", 5)
        for txn in range(2, 12):
            world.begin(txn)
        await asyncio.sleep(1)
        first, second = world.detectors[1].streams
        assert first == [(pb.Detect, 1)]
        assert second == [(pb.Detect, txn) for txn in range(1, 12)]
        assert world.errors("dropped") == 5

    with_world(body)
