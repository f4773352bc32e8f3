"""The consistency check on three stores: replicas under load agree, and one whose data was damaged stops."""

from __future__ import annotations

import asyncio

import pytest

from core_py.errors import InvariantViolation, RpcError
from core_py.ports import methods_of
from core_py.sim.loop import run_virtual
from protos.kvproto import debugpb_pb2 as debugpb
from tests.integration.test_storage_cluster import eventually, raw_client, three_replicas
from tests.support.storage_cluster import Node, StorageCluster, storage_cluster
from tikv_py.engine.port import CF_DEFAULT
from tikv_py.raftstore.peer import Peer
from tikv_py.raftstore.store import Store

METHODS = methods_of(debugpb.DESCRIPTOR.services_by_name["Debug"])


def store_of(node: Node) -> Store:
    assert node.server is not None
    assert node.server.store is not None
    return node.server.store


def leaders(cluster: StorageCluster) -> list[tuple[Node, Peer]]:
    return [(node, peer) for node in cluster.nodes for peer in store_of(node).peers.values() if peer.is_leader]


async def check(cluster: StorageCluster, node: Node, region_id: int) -> None:
    channel = cluster.network.transport("operator").connect(f"{node.name}:20160")
    try:
        request = debugpb.RegionConsistencyCheckRequest(region_id=region_id)
        await channel.unary(METHODS["CheckRegionConsistency"], request, timeout_s=5)
    finally:
        await channel.close()


def passed(cluster: StorageCluster) -> int:
    return sum(store_of(node).consistency.passed for node in cluster.nodes)


def test_replicas_agree_while_they_are_written_to() -> None:
    async def main() -> None:
        async with storage_cluster(3) as cluster, await raw_client(cluster) as client:
            await three_replicas(cluster)
            checks = 8

            async def writer(name: int) -> None:
                for number in range(200):
                    await client.put(b"k%d-%03d" % (name, number % 50), b"v%d" % number)

            async def checker() -> None:
                for number in range(checks):
                    ((node, peer),) = leaders(cluster)
                    await check(cluster, node, peer.region.id)

                    async def compared(number: int = number) -> bool:
                        return passed(cluster) == 3 * (number + 1)

                    await eventually(compared, "three replicas to compare")

            async with asyncio.TaskGroup() as group:
                for name in range(4):
                    group.create_task(writer(name))
                group.create_task(checker())

    run_virtual(main())


def test_a_replica_with_other_data_stops(broken_invariants: list[BaseException]) -> None:
    async def main() -> None:
        async with storage_cluster(3) as cluster, await raw_client(cluster) as client:
            await three_replicas(cluster)
            await client.put(b"k", b"v")
            ((node, peer),) = leaders(cluster)
            other = next(one for one in cluster.nodes if one is not node)

            async def replicated() -> bool:
                return other.kv_db.get(CF_DEFAULT, b"zk") == b"v"

            await eventually(replicated, "the write on the follower")
            batch = other.kv_db.batch()
            batch.put(CF_DEFAULT, b"zk", b"w")
            other.kv_db.write(batch)
            await check(cluster, node, peer.region.id)

            async def stopped() -> bool:
                return bool(broken_invariants)

            await eventually(stopped, "the damaged replica to stop")
            assert f"region {peer.region.id}: data differs from the leader's" in str(broken_invariants[0])
            assert passed(cluster) == 2

    with pytest.raises(InvariantViolation):  # a process would have ended at once; here the cluster hands it on as well
        run_virtual(main())
    broken_invariants.clear()


def test_only_the_leader_begins_a_check() -> None:
    async def main() -> None:
        async with storage_cluster(3) as cluster:
            await three_replicas(cluster)
            ((node, peer),) = leaders(cluster)
            other = next(one for one in cluster.nodes if one is not node)
            with pytest.raises(RpcError, match="FAILED_PRECONDITION"):
                await check(cluster, other, peer.region.id)

    run_virtual(main())
