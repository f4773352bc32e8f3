"""Failpoints between a store and PD: reports that do not come, orders that are not obeyed, births that are cut short."""

from __future__ import annotations

import asyncio

import pytest

from core_py.failpoints import FailPointPanic
from core_py.sim.loop import run_virtual
from pd_py.cluster.cluster import Cluster
from protos.kvproto import kvrpcpb_pb2 as pb
from tests.integration.test_storage_cluster import eventually, raw_client, three_replicas
from tests.support.storage_cluster import StorageCluster, storage_cluster
from tests.support.store_rpc import StoreRpc, with_store


def pd_of(cluster: StorageCluster) -> Cluster:
    assert cluster.pd.cluster is not None
    return cluster.pd.cluster


def test_a_store_that_does_not_report_is_silent_for_pd() -> None:
    async def body(rpc: StoreRpc) -> None:
        def silent_s() -> float:
            heard = pd_of(rpc.cluster).stores_info.get(rpc.store.store_id).heard_at
            return asyncio.get_running_loop().time() - heard

        await asyncio.sleep(3)
        assert silent_s() < 1
        rpc.fail.configure("pd_store_heartbeat", "return")
        await asyncio.sleep(5)
        assert silent_s() > 4
        rpc.fail.remove("pd_store_heartbeat")
        await asyncio.sleep(3)
        assert silent_s() < 1

    with_store(body)


async def split(rpc: StoreRpc, *keys: bytes) -> pb.SplitRegionResponse:
    response: pb.SplitRegionResponse = await rpc.call(
        "SplitRegion", pb.SplitRegionRequest(split_keys=keys, is_raw_kv=True)
    )
    return response


def test_pd_learns_of_a_split_from_its_report_or_from_the_heartbeats() -> None:
    async def body(rpc: StoreRpc) -> None:
        tree = pd_of(rpc.cluster).tree
        await asyncio.sleep(3)
        assert len(tree) == 1
        rpc.fail.configure_all("pd_region_heartbeat=return")
        await split(rpc, b"m")
        await asyncio.sleep(5)
        assert len(tree) == 2, "by the report alone"

        rpc.fail.configure_all("pd_report_split=return")
        await split(rpc, b"c")
        await asyncio.sleep(5)
        assert len(tree) == 2
        assert len(rpc.store.peers) == 3

        rpc.fail.remove("pd_region_heartbeat")
        await asyncio.sleep(5)
        assert len(tree) == 3, "by the heartbeats alone"

    with_store(body)


@pytest.mark.parametrize("point", ["split_before_ids", "split_before_propose"])
def test_a_split_that_fails_before_its_proposal_changes_nothing(point: str) -> None:
    async def body(rpc: StoreRpc) -> None:
        rpc.fail.configure(point, "1*return(cut off)")
        with pytest.raises(Exception, match="cut off"):
            await split(rpc, b"m")
        assert len(rpc.store.peers) == 1
        assert rpc.context().region_epoch.version == 1
        response = await split(rpc, b"m")
        assert [region.end_key for region in response.regions] == [b"m", b""]
        assert rpc.context().region_epoch.version == 2

    with_store(body)


def test_a_split_that_waits_before_its_proposal_gives_way_to_another() -> None:
    async def body(rpc: StoreRpc) -> None:
        rpc.fail.configure("split_before_propose", "1*pause")
        async with asyncio.TaskGroup() as group:
            slow = group.create_task(split(rpc, b"m"))
            await asyncio.sleep(1)
            await split(rpc, b"t")
            rpc.fail.remove("split_before_propose")
        regions = sorted(peer.region.end_key for peer in rpc.store.peers.values())
        assert regions in ([b"", b"m", b"t"], [b"", b"t"])
        assert slow.result().HasField("region_error") == (b"m" not in regions)

    with_store(body)


def test_a_leader_that_ignores_pd_gets_no_replicas_until_it_listens() -> None:
    async def main() -> None:
        async with storage_cluster(1) as cluster:
            server = cluster.nodes[0].server
            assert server is not None
            server.fail.configure("pd_command", "return")
            for name in ("store2", "store3"):
                await cluster.add_store(name)
            await asyncio.sleep(10)
            assert [len(region.peers) for region in pd_of(cluster).tree.all()] == [1]
            server.fail.remove("pd_command")
            await three_replicas(cluster)

    run_virtual(main())


@pytest.mark.parametrize("point", ["bootstrap_prepared", "bootstrap_decided"])
def test_a_store_that_dies_in_its_bootstrap_finishes_it_after_the_restart(point: str) -> None:
    async def main() -> None:
        cluster = StorageCluster(0)
        await cluster.start()
        try:
            cluster.before_store_starts = lambda server: server.fail.configure(point, "panic(power cut)")
            with pytest.raises(FailPointPanic, match="power cut"):
                await cluster.add_store("store1")
            (node,) = cluster.nodes
            assert pd_of(cluster).bootstrapped == (point == "bootstrap_decided")
            await cluster.crash(node)
            cluster.before_store_starts = lambda _server: None
            await cluster.start_store(node)
            async with await raw_client(cluster) as client:
                await client.put(b"k", b"v")
                assert await client.get(b"k") == b"v"

            async def reported() -> bool:
                return len(pd_of(cluster).tree) == 1

            await eventually(reported, "one region")
            assert node.kv_db.get("default", b"\x01\x02") is None, "the preparation is cleared away"
        finally:
            await cluster.stop()

    run_virtual(main())
