"""Failpoints on what stores send each other: what is lost is noticed, got over, and never wrong."""

from __future__ import annotations

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
