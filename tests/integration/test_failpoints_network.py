"""Failpoints on what stores send each other: what is lost is noticed, got over, and never wrong."""

from __future__ import annotations

import asyncio

import pytest

from core_py.failpoints import FailPoints
from core_py.sim.loop import run_virtual
from tests.integration.test_storage_cluster import eventually, raw_client, run, three_replicas
from tests.support.storage_cluster import Node, StorageCluster, storage_cluster


def fail_of(node: Node) -> FailPoints:
    assert node.server is not None
    return node.server.fail


def leader_of(cluster: StorageCluster) -> Node | None:
    """The store that leads the region, in its newest term."""
    leading = [
        (peer.node.term, node.name, node)
        for node in cluster.nodes
        if node.server is not None and node.server.store is not None
        for peer in node.server.store.peers.values()
        if peer.is_leader
    ]
    return max(leading)[2] if leading else None


def lost_messages(node: Node) -> float:
    """What the store counted as not sent."""
    assert node.server is not None
    samples = node.server.registry.collect()
    return sum(
        sample.value
        for metric in samples
        for sample in metric.samples
        if sample.name == "tikv_server_report_failure_msg_total"
    )


@pytest.mark.parametrize(
    ("point", "counted"), [("raft_message_send", False), ("raft_queue_full", True), ("raft_stream_send", True)]
)
def test_a_leader_that_cannot_send_is_replaced_and_rejoins(point: str, *, counted: bool) -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            await client.put(b"before", b"1")
            old = leader_of(cluster)
            assert old is not None
            before = lost_messages(old)
            fail_of(old).configure(point, "return")

            async def replaced() -> bool:
                return leader_of(cluster) is not old

            await eventually(replaced, "another leader")
            await client.put(b"meanwhile", b"2")
            assert (lost_messages(old) > before) == counted
            fail_of(old).remove(point)

            async def caught_up() -> bool:
                return old.kv_db.get("default", b"zmeanwhile") == b"2"

            await eventually(caught_up, "the old leader to catch up")
            assert await client.get(b"before") == b"1"

    run(body)


@pytest.mark.parametrize("point", ["snapshot_send", "snapshot_send_chunk"])
def test_a_replica_is_added_once_its_snapshot_arrives(point: str) -> None:
    async def main() -> None:
        async with storage_cluster(1) as cluster, await raw_client(cluster) as client:
            await client.batch_put({b"k%03d" % i: b"v" * 100 for i in range(100)})
            fail_of(cluster.nodes[0]).configure(point, "return")
            added = [await cluster.add_store(name) for name in ("store2", "store3")]
            with pytest.raises(AssertionError, match="3 replicas"):
                await three_replicas(cluster)
            assert not any(node.kv_db.get("default", b"zk000") for node in added)
            fail_of(cluster.nodes[0]).remove(point)
            await three_replicas(cluster)

            async def complete() -> bool:
                return all(node.kv_db.get("default", b"zk099") is not None for node in added)

            await eventually(complete, "the data on the new replicas")

    run_virtual(main())


def test_a_follower_that_hears_nothing_catches_up_when_it_hears_again() -> None:
    async def body(cluster: StorageCluster) -> None:
        async with await raw_client(cluster) as client:
            await client.put(b"before", b"1")
            follower = next(node for node in cluster.nodes if node is not leader_of(cluster))
            await asyncio.sleep(1)
            fail_of(follower).configure("raft_message_receive", "return")
            await client.put(b"unheard", b"2")
            await asyncio.sleep(5)
            assert follower.kv_db.get("default", b"zbefore") == b"1"
            assert follower.kv_db.get("default", b"zunheard") is None
            fail_of(follower).remove("raft_message_receive")

            async def caught_up() -> bool:
                return follower.kv_db.get("default", b"zunheard") == b"2"

            await eventually(caught_up, "the follower to catch up")

    run(body)


def test_a_store_that_refuses_snapshots_gets_its_replica_later() -> None:
    async def main() -> None:
        async with storage_cluster(1) as cluster, await raw_client(cluster) as client:
            await client.put(b"k", b"v")
            added = await cluster.add_store("store2")
            fail_of(added).configure("snapshot_receive", "return(not now)")
            await asyncio.sleep(10)
            assert added.kv_db.get("default", b"zk") is None
            fail_of(added).remove("snapshot_receive")

            async def arrived() -> bool:
                return added.kv_db.get("default", b"zk") == b"v"

            await eventually(arrived, "the replica")

    run_virtual(main())
