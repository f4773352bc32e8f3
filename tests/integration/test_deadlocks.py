"""Deadlocks over several stores, told to the transaction that closed the cycle; the detector's leader moves and crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from core_py.errors import RpcError
from core_py.region_errors import RegionError
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2 as pb
from tests.integration.test_region_splits import Latency
from tests.support.cluster_checks import leader, led, split_everywhere, store_of, until, whole
from tests.support.storage_cluster import PD_ADDRESS, Node, StorageCluster, storage_cluster
from tests.support.store_rpc import METHODS
from tikv_py.client.errors import DeadlockError
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.transaction import Transaction
from tikv_py.deadlock.link import DETECT
from tikv_py.raftstore import admin

A, B, C = b"a", b"b", b"c"
SOON_S = 0.1


def now() -> float:
    return asyncio.get_running_loop().time()


class World:
    """A cluster whose regions of A, B and C are led by stores 1, 2 and 3, and a client."""

    def __init__(self, cluster: StorageCluster, client: TxnClient) -> None:
        self.cluster, self.client = cluster, client

    async def begin(self, *held: bytes) -> Transaction:
        """A transaction that has locked keys, one after the other."""
        txn = await self.client.begin(pessimistic=True)
        for key in held:
            await txn.lock_keys([key])
        return txn

    def wait(self, txn: Transaction, key: bytes) -> asyncio.Task[float]:
        """Lock a key beside the test; the seconds until it failed with a deadlock, or had it."""

        async def run() -> float:
            began = now()
            try:
                await txn.lock_keys([key])
            finally:
                self.took = now() - began
            return self.took

        return asyncio.get_running_loop().create_task(run())

    def metric(self, node: Node, name: str, **labels: str) -> float:
        assert node.server is not None
        return node.server.registry.get_sample_value(name, labels) or 0.0

    def detectors(self) -> list[Node]:
        """Who believes to lead the detector."""
        name = "tikv_lock_manager_detector_leader_heartbeat"
        return [node for node in self.cluster.nodes if node.server is not None and self.metric(node, name)]


async def lead_from(cluster: StorageCluster, key: bytes, wanted: Node) -> None:
    """Move a region's leadership to a store."""

    def missing() -> str:
        found = led(cluster, key)
        if found is None or found[0] is not wanted:
            return "elsewhere"
        return "" if found[1].node.in_lease() else "no lease"

    for _ in range(50):
        if not missing():
            return
        node, peer = await leader(cluster, key)
        if node is not wanted:
            target = next(member for member in peer.region.peers if member.store_id == store_of(wanted).store_id)
            with suppress(RegionError):
                admin.transfer_leader(store_of(node), peer, target)
        await asyncio.sleep(0.2)
    raise AssertionError(f"{key!r} is not led by {wanted.name}: {missing()}")


def with_world(test: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with storage_cluster(3, fault=Latency(5)) as cluster:
            await whole(cluster)
            for key in (B, C):
                await split_everywhere(cluster, key)
            for key, node in zip((A, B, C), cluster.nodes, strict=True):
                await lead_from(cluster, key, node)
            transport = cluster.network.transport("client")
            async with await TxnClient.connect((PD_ADDRESS,), transport=transport, clock=LoopClock()) as client:
                await test(World(cluster, client))

    run_virtual(main())


async def refused(task: asyncio.Task[float]) -> pb.Deadlock:
    """What a transaction is told that closed a cycle."""
    with pytest.raises(DeadlockError) as caught:
        await task
    return caught.value.deadlock


def test_two_transactions_over_two_stores() -> None:
    async def body(world: World) -> None:
        one, two = await world.begin(B), await world.begin(C)
        waiting = world.wait(one, C)
        await asyncio.sleep(0.2)
        assert not waiting.done()
        told = await refused(world.wait(two, B))
        assert world.took < SOON_S
        assert (told.lock_ts, told.lock_key, told.deadlock_key) == (one.start_ts, B, C)
        assert [(entry.txn, entry.wait_for_txn, entry.key) for entry in told.wait_chain] == [
            (one.start_ts, two.start_ts, C),
            (two.start_ts, one.start_ts, B),
        ]
        assert told.deadlock_key_hash == told.wait_chain[0].key_hash
        await two.rollback()
        await waiting
        await one.commit()

    with_world(body)


def test_three_transactions_over_three_stores() -> None:
    async def body(world: World) -> None:
        txns = [await world.begin(key) for key in (A, B, C)]
        tasks = [world.wait(txns[0], B), world.wait(txns[1], C)]
        await asyncio.sleep(0.05)
        told = await refused(world.wait(txns[2], A))
        assert world.took < SOON_S
        assert [entry.txn for entry in told.wait_chain] == [txn.start_ts for txn in txns]
        assert [entry.key for entry in told.wait_chain] == [B, C, A]
        await txns[2].rollback()
        await tasks[1]
        await txns[1].rollback()
        await tasks[0]
        for node in world.cluster.nodes:
            found = world.metric(node, "tikv_lock_manager_error_counter_total", type="deadlock")
            assert found == (node is world.cluster.nodes[0]), "the first region's leader detects"
        await remembered(world)

    async def remembered(world: World) -> None:
        channel = world.cluster.network.transport("client").connect("store1:20160")
        history = await channel.unary(METHODS["GetLockWaitHistory"], pb.GetLockWaitHistoryRequest(), timeout_s=1)
        assert [entry.key for entry in history.entries] == [B, C, A]
        await channel.close()

    with_world(body)


def test_a_deadlock_that_forms_when_a_key_goes_to_its_next_holder() -> None:
    async def body(world: World) -> None:
        holder = await world.begin(B)
        first, second = await world.begin(A), await world.begin(C)
        tasks = [world.wait(first, B), world.wait(second, B)]
        await asyncio.sleep(0.05)
        other = asyncio.get_running_loop().create_task(first.lock_keys([C]))  # beside its wait for B
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in [*tasks, other])
        began = now()
        await holder.rollback()
        await tasks[0]
        with pytest.raises(DeadlockError):
            await tasks[1]
        assert now() - began < SOON_S
        await second.rollback()
        await other
        await first.rollback()

    with_world(body)


def test_no_deadlock_is_made_up_when_many_wait_in_line() -> None:
    async def body(world: World) -> None:
        async def work(number: int) -> None:
            txn = await world.client.begin(pessimistic=True)
            for key in (A, B, C):
                await txn.lock_keys([key])
            await txn.rollback()

        await asyncio.gather(*(work(number) for number in range(40)))
        for node in world.cluster.nodes:
            assert not world.metric(node, "tikv_lock_manager_error_counter_total", type="deadlock")

    with_world(body)


def test_the_next_leader_learns_the_waits_when_the_detectors_leader_crashes() -> None:
    async def body(world: World) -> None:
        assert world.detectors() == [world.cluster.nodes[0]]
        one, two = await world.begin(B), await world.begin(C)
        waiting = world.wait(one, C)
        await asyncio.sleep(0.2)
        await world.cluster.crash(world.cluster.nodes[0])
        await until(lambda: "" if world.detectors() else "none", "another store detects")
        await asyncio.sleep(0.5)
        assert not waiting.done()
        told = await refused(world.wait(two, B))
        assert world.took < SOON_S
        assert len(told.wait_chain) == 2
        await two.rollback()
        await waiting
        await one.rollback()

    with_world(body)


def test_a_cycle_that_formed_while_nobody_detected_is_found_by_the_next_leader() -> None:
    async def body(world: World) -> None:
        one, two = await world.begin(B), await world.begin(C)
        await world.cluster.crash(world.cluster.nodes[0])
        began = now()
        tasks = [world.wait(one, C), world.wait(two, B)]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert now() - began < 5
        (failed,) = done
        assert isinstance(failed.exception(), DeadlockError)
        await (one if failed is tasks[0] else two).rollback()
        await asyncio.wait(tasks)
        await (two if failed is tasks[0] else one).rollback()

    with_world(body)


def test_a_leader_that_hands_over_begins_anew_elsewhere_and_ends_its_streams() -> None:
    async def body(world: World) -> None:
        one, two = await world.begin(B), await world.begin(C)
        waiting = world.wait(one, C)
        await asyncio.sleep(0.1)
        await lead_from(world.cluster, A, world.cluster.nodes[1])
        assert world.detectors() == [world.cluster.nodes[1]]
        channel = world.cluster.network.transport("client").connect("store1:20160")
        stream = channel.stream(DETECT)
        with pytest.raises(RpcError, match="FAILED_PRECONDITION"):
            await stream.receive()
        await channel.close()
        await asyncio.sleep(1.5)
        await refused(world.wait(two, B))
        assert world.took < SOON_S
        await two.rollback()
        await waiting
        await one.rollback()

    with_world(body)


def test_reports_that_are_lost_are_made_up_for() -> None:
    async def body(world: World) -> None:
        detector, reporter = world.cluster.nodes[0].server, world.cluster.nodes[2].server
        assert detector is not None
        assert reporter is not None
        one, two = await world.begin(B), await world.begin(C)
        reporter.fail.configure("deadlock_report_send", "1*return(cut)")
        waiting = world.wait(one, C)
        await asyncio.sleep(0.3)
        await refused(world.wait(two, B))
        assert world.took < SOON_S, "the stream was opened again, with the wait that was not told"
        await two.rollback()
        await waiting
        await one.rollback()

        one, two = await world.begin(B), await world.begin(C)
        detector.fail.configure("deadlock_report_receive", "1*return")
        waiting = world.wait(one, C)
        await asyncio.sleep(0.1)
        last = world.wait(two, B)
        await asyncio.wait([waiting, last], return_when=asyncio.FIRST_COMPLETED)
        assert world.took < 2.5, "the requests are made again after a second, and told again"
        assert len([task for task in (waiting, last) if task.done() and task.exception()]) == 1
        await (one if waiting.done() else two).rollback()
        await asyncio.wait([waiting, last])

    with_world(body)
