"""Idle groups fall silent, wake when spoken to, and notice that their leader's store died although nobody ticks them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

from core_py.raft.config import RaftConfig
from core_py.raft.messages import ConfState, Message, MsgType
from core_py.raft.node import RawNode
from core_py.raft.storage import MemoryStorage
from core_py.runtime.config import Seconds
from core_py.sim.loop import run_virtual
from protos.kvproto import eraftpb_pb2, metapb_pb2
from tests.integration.test_storage_cluster import eventually, raw_client, three_replicas
from tests.support.storage_cluster import FAST, Node, StorageCluster, storage_cluster
from tikv_py.raftstore import admin
from tikv_py.raftstore.config import RaftstoreConfig
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.store import Store


def run(test: Callable[[StorageCluster], Awaitable[None]], raftstore: RaftstoreConfig = FAST) -> None:
    async def main() -> None:
        async with storage_cluster(3, raftstore=raftstore) as cluster:
            await three_replicas(cluster)
            await test(cluster)

    run_virtual(main())


def stores(cluster: StorageCluster) -> list[Store]:
    return [node.server.store for node in cluster.nodes if node.server is not None and node.server.store is not None]


def leader(cluster: StorageCluster) -> tuple[Node, Peer]:
    for node in cluster.nodes:
        if node.server is not None and node.server.store is not None:
            for peer in node.server.store.peers.values():
                if peer.is_leader:
                    return node, peer
    raise AssertionError("nobody leads")


async def all_asleep(cluster: StorageCluster) -> None:
    async def asleep() -> bool:
        return all(not store.hibernation.awake for store in stores(cluster))

    await eventually(asleep, "all peers sleep", 20)


def test_an_idle_group_says_nothing() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            await client.put(b"k", b"v")
        await all_asleep(cluster)
        said = 0
        for store in stores(cluster):
            send = store.router.send

            def counted(store_id: int, message: object, send: Callable[..., None] = send) -> None:
                nonlocal said
                said += 1
                send(store_id, message)

            store.router.send = counted  # type: ignore[method-assign]
        turns = [store.turns for store in stores(cluster)]
        await asyncio.sleep(100)
        assert said == 0
        assert [store.turns for store in stores(cluster)] == turns

    run(body)


def test_pd_hears_of_a_sleeping_region_now_and_then() -> None:
    async def body(cluster: StorageCluster) -> None:
        assert cluster.pd.cluster is not None
        await all_asleep(cluster)
        before = cluster.pd.cluster.region_heartbeats
        await asyncio.sleep(30 * float(FAST.pd_heartbeat_tick_interval))
        heard = cluster.pd.cluster.region_heartbeats - before
        assert 5 <= heard <= 7, "every fifth interval"

    run(body)


def test_a_write_and_a_read_wake_it() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            await client.put(b"k", b"1")
            await all_asleep(cluster)
            _, peer = leader(cluster)
            assert not peer.can_read_locally(), "a sleeping leader's lease is not counted, so it has none"
            assert await client.get(b"k") == b"1"
            await all_asleep(cluster)
            await client.put(b"k", b"2")
            assert await client.get(b"k") == b"2"
            assert leader(cluster)[1] is peer

    run(body)


def test_a_group_that_is_read_stays_awake() -> None:
    """Reads under the lease leave no trace in the log; without the lease each would cost a round trip."""

    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            await client.put(b"k", b"1")
            node, peer = leader(cluster)
            assert node.server is not None
            assert node.server.store is not None
            for _ in range(200):
                await client.get(b"k")
                await asyncio.sleep(float(FAST.raft_base_tick_interval) / 2)
                assert not node.server.store.hibernation.is_asleep(peer.region.id)
            await all_asleep(cluster)

    run(body)


def test_a_group_whose_leader_dies_asleep_elects_another_by_itself() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            await client.put(b"k", b"1")
            await all_asleep(cluster)
            node, old = leader(cluster)
            await cluster.crash(node)
            loop = asyncio.get_running_loop()
            began = loop.time()

            async def led() -> bool:
                return any(peer.is_leader for store in stores(cluster) for peer in store.peers.values())

            await eventually(led, "a new leader", 5)
            tick = float(FAST.raft_base_tick_interval)
            assert loop.time() - began < 3 * FAST.raft_election_timeout_ticks * tick
            assert leader(cluster)[1].peer_id != old.peer_id
            await client.put(b"k", b"2")
            assert await client.get(b"k") == b"2"

    run(body)


def test_a_group_with_a_member_away_stays_awake() -> None:
    """Its leader must go on telling PD that the member is down."""

    async def body(cluster: StorageCluster) -> None:
        node, _ = leader(cluster)
        away = next(one for one in cluster.nodes if one is not node)
        await cluster.stop_store(away)
        await asyncio.sleep(30)
        assert any(store.hibernation.awake for store in stores(cluster))
        await cluster.start_store(away)
        await all_asleep(cluster)

    run(body)


def test_a_follower_that_was_removed_in_its_sleep_finds_out() -> None:
    async def body(cluster: StorageCluster) -> None:
        await all_asleep(cluster)
        node, peer = leader(cluster)
        lost = next(one for one in cluster.nodes if one is not node)
        assert lost.server is not None
        assert lost.server.store is not None
        assert node.server is not None
        assert node.server.store is not None
        store = lost.server.store
        meta = next(one for one in peer.region.peers if one.store_id == store.store_id)
        deliver = store.deliver
        store.deliver = lambda message: None  # type: ignore[method-assign]
        removed = metapb_pb2.Peer(id=meta.id, store_id=meta.store_id)
        cluster.pd.cluster.options = replace(cluster.pd.cluster.options, max_replicas=2)  # type: ignore[union-attr]
        await admin.change_peers(node.server.store, peer, [(eraftpb_pb2.RemoveNode, removed)])
        store.deliver = deliver  # type: ignore[method-assign]
        assert store.hibernation.is_asleep(peer.region.id)

        async def gone() -> bool:
            return peer.region.id not in store.peers

        await eventually(gone, "the removed peer ends", 60)

    run(body, replace(FAST, max_leader_missing_duration=Seconds(20.0)))


def follower(rng: random.Random) -> RawNode:
    storage = MemoryStorage(ConfState((1, 2, 3)), index=5, term=5)
    return RawNode(RaftConfig(id=1, applied=5), storage, rng)


def test_a_woken_follower_counts_its_sleep_as_silence_and_keeps_its_promise() -> None:
    for slept, grants in ((8, False), (9, True), (1000, True)):
        node = follower(random.Random(1))
        node.step(Message(MsgType.HEARTBEAT, 1, 2, 6, commit=5))
        node.tick()
        node.fall_asleep()
        node.wake(slept)
        node.ready()
        node.step(Message(MsgType.REQUEST_PRE_VOTE, 1, 3, 7, log_term=5, index=5))
        answers = [m for m in node.ready().messages if m.msg_type is MsgType.REQUEST_PRE_VOTE_RESPONSE]
        assert bool(answers) == grants, f"one tick awake and {slept} asleep, of 10 promised"


def test_a_leader_that_slept_long_is_not_deposed_by_its_own_silence() -> None:
    node = follower(random.Random(1))
    node.campaign()
    node.ready()
    for kind in (MsgType.REQUEST_PRE_VOTE_RESPONSE, MsgType.REQUEST_VOTE_RESPONSE):
        ready = node.ready()
        node.on_persist(ready.number)
        node.step(Message(kind, 1, 2, node.term + (kind is MsgType.REQUEST_PRE_VOTE_RESPONSE)))
    ready = node.ready()
    node.on_persist(ready.number)
    assert node.role.value == "leader"
    for _ in range(9):
        node.tick()
    node.ready()
    node.fall_asleep()
    assert not node.in_lease()
    node.wake(10_000)
    node.tick()
    assert node.role.value == "leader"
    assert any(m.msg_type is MsgType.HEARTBEAT for m in node.ready().messages)
