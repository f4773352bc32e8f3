"""What members that do not lead do for clients: they say who does, carry calls there, and read regions from their copy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from core_py.errors import RpcError
from core_py.ports import Channel, methods_of
from core_py.sim.loop import run_virtual
from protos.kvproto import metapb_pb2, pdpb_pb2
from tests.support.pd_cluster import PdCluster, PdMember

PD = methods_of(pdpb_pb2.DESCRIPTOR.services_by_name["PD"])


def with_three(body: Callable[[PdCluster, PdMember, PdMember], Awaitable[None]]) -> None:
    async def main() -> None:
        cluster = PdCluster()
        await cluster.start_all()
        leader = await cluster.leader()
        follower = next(one for one in cluster.members.values() if one is not leader)
        await cluster.until(lambda: all(member.client_urls for member in follower.running.store.members()))
        await bootstrap(cluster, leader)
        try:
            await body(cluster, leader, follower)
        finally:
            await cluster.stop()

    run_virtual(main())


async def bootstrap(cluster: PdCluster, leader: PdMember) -> None:
    region = metapb_pb2.Region(id=10)
    region.region_epoch.version = region.region_epoch.conf_ver = 1
    region.peers.add(id=11, store_id=1)
    first = pdpb_pb2.BootstrapRequest(store=metapb_pb2.Store(id=1, address="store1:1", version="8.5.0"), region=region)
    first.header.cluster_id = leader.running.directory.cluster_id
    await channel(cluster, leader).unary(PD["Bootstrap"], first, timeout_s=5)


def channel(cluster: PdCluster, member: PdMember) -> Channel:
    return cluster.network.transport("client").connect(f"{member.name}:2379")


def question(cluster: PdCluster) -> pdpb_pb2.GetRegionRequest:
    request = pdpb_pb2.GetRegionRequest(region_key=b"k")
    request.header.cluster_id = next(iter(cluster.members.values())).running.directory.cluster_id
    return request


def test_a_follower_refuses_and_names_the_leader() -> None:
    async def body(cluster: PdCluster, leader: PdMember, follower: PdMember) -> None:
        with pytest.raises(RpcError, match="not leader") as refused:
            await channel(cluster, follower).unary(PD["GetRegion"], question(cluster), timeout_s=5)
        assert refused.value.status == "UNAVAILABLE"
        members = await channel(cluster, follower).unary(PD["GetMembers"], pdpb_pb2.GetMembersRequest(), timeout_s=5)
        assert members.leader.name == leader.name
        assert {one.name for one in members.members} == set(cluster.members)

    with_three(body)


def test_calls_and_streams_are_carried_to_the_leader() -> None:
    async def body(cluster: PdCluster, leader: PdMember, follower: PdMember) -> None:
        metadata = (("pd-forwarded-host", f"http://{leader.name}:2379"),)
        through = channel(cluster, follower)
        found = await through.unary(PD["GetRegion"], question(cluster), timeout_s=5, metadata=metadata)
        assert found.region.id == 10
        stream = through.stream(PD["Tso"], metadata=metadata)
        newest = 0
        for _ in range(5):
            request = pdpb_pb2.TsoRequest(count=3)
            request.header.cluster_id = question(cluster).header.cluster_id
            await stream.send(request)
            answer = await stream.receive()
            ts = answer.timestamp.physical << 18 | answer.timestamp.logical
            assert ts >= newest + 3
            newest = ts
        await stream.done_sending()
        assert await stream.receive() is None

    with_three(body)


def test_regions_are_read_from_a_followers_copy_when_the_caller_allows_it() -> None:
    async def body(cluster: PdCluster, leader: PdMember, follower: PdMember) -> None:
        allowed = (("pd-allow-follower-handle", "true"),)
        await cluster.until(follower.running.directory.follows)
        found = await channel(cluster, follower).unary(
            PD["GetRegion"], question(cluster), timeout_s=5, metadata=allowed
        )
        assert found.region.id == 10
        stream = channel(cluster, follower).stream(PD["QueryRegion"], metadata=allowed)
        request = pdpb_pb2.QueryRegionRequest(keys=[b"a", b"z"])
        request.header.cluster_id = question(cluster).header.cluster_id
        await stream.send(request)
        assert list((await stream.receive()).key_id_map) == [10, 10]

        cluster.fault.isolate(leader.name)  # the copy follows nobody now
        await cluster.until(lambda: not follower.running.directory.follows())
        if follower.running.directory.session is None:
            with pytest.raises(RpcError, match="not leader"):
                await channel(cluster, follower).unary(
                    PD["GetRegion"], question(cluster), timeout_s=5, metadata=allowed
                )

    with_three(body)


def test_a_member_that_was_restarted_knows_its_regions_before_any_heartbeat() -> None:
    async def main() -> None:
        cluster = PdCluster(("pd1",))
        await cluster.start("pd1")
        member = cluster.members["pd1"]
        await bootstrap(cluster, member)
        stream = channel(cluster, member).stream(PD["RegionHeartbeat"])
        for region_id, start, end in ((10, b"", b"m"), (20, b"m", b"")):
            request = pdpb_pb2.RegionHeartbeatRequest(term=6, approximate_size=7 << 20)
            request.header.cluster_id = question(cluster).header.cluster_id
            request.region.id, request.region.start_key, request.region.end_key = region_id, start, end
            request.region.region_epoch.version, request.region.region_epoch.conf_ver = 2, 1
            request.leader.id, request.leader.store_id = region_id + 1, 1
            request.region.peers.add().CopyFrom(request.leader)
            await stream.send(request)
        await cluster.until(lambda: member.running.cluster is not None and len(member.running.cluster.tree) == 2)
        await cluster.stop()
        await cluster.start("pd1")
        found = await channel(cluster, member).unary(PD["GetRegion"], question(cluster), timeout_s=5)
        assert found.region.id == 10
        assert not found.leader.id, "who leads it a heartbeat must say"
        await cluster.stop()

    run_virtual(main())


def test_a_new_leader_knows_the_regions_at_once() -> None:
    async def body(cluster: PdCluster, leader: PdMember, follower: PdMember) -> None:
        await cluster.until(
            lambda: all(one.running.directory.follows() for one in cluster.members.values() if one is not leader)
        )
        await cluster.kill(leader.name)
        new = await cluster.leader()
        assert new.running.cluster is not None
        assert [region.region_id for region in new.running.cluster.tree.all()] == [10]

    with_three(body)
