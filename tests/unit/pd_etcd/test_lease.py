"""Leases: who ends them, when, and what clients are told."""

from __future__ import annotations

import asyncio

import pytest

from core_py.errors import RpcError
from core_py.ports import StreamCall
from core_py.sim.loop import run_virtual
from core_py.sim.network import MemoryNetwork
from pd_py.etcd import lease, lessor
from pd_py.etcd.lessor import Lessor
from pd_py.metastore.errors import OutcomeUnknown
from protos.etcd import rpc_pb2
from tests.support.local_kv import FakeMembers, LocalKv
from tests.unit.pd_etcd.support import Client, Member, serving
from tests.unit.pd_kv.commands import grant, revoke


async def keep_alive(stream: StreamCall, lease_id: int) -> int:
    await stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease_id))
    response: rpc_pb2.LeaseKeepAliveResponse = await stream.receive()
    assert lease_id == response.ID
    return response.TTL


def test_a_lease_that_is_not_kept_alive_takes_its_keys_with_it() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            lease_id = await client.grant(10)
            assert lease_id > 0
            await client.put(b"mine", lease_id=lease_id)
            await client.put(b"free")
            watching = await client.watch(b"mine")
            await asyncio.sleep(9.9)
            assert await client.value(b"mine") == b"v"
            await asyncio.sleep(0.2)
            assert await client.value(b"mine") is None
            assert await client.value(b"free") == b"v"
            assert (await watching.next()).events[0].type == 1
            assert len(member.store.kv.leases) == 0

    run_virtual(main())


def test_keep_alive_gives_the_full_time_again_and_zero_for_a_lost_lease() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            lease_id = await client.grant(10)
            await client.put(b"k", lease_id=lease_id)
            stream = client.stream("LeaseKeepAlive")
            for _ in range(5):
                await asyncio.sleep(7)
                assert await keep_alive(stream, lease_id) == 10
            assert await client.value(b"k") == b"v"
            assert await keep_alive(stream, 12345) == 0
            await asyncio.sleep(11)
            assert await keep_alive(stream, lease_id) == 0
            assert await client.value(b"k") is None

    run_virtual(main())


def test_time_to_live_and_the_list_of_leases() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            first, second = await client.grant(60, 5), await client.grant(1)
            await client.put(b"b", lease_id=first)
            await client.put(b"a", lease_id=first)
            await asyncio.sleep(1.5)
            answer = await client.ttl(first, keys=True)
            assert (answer.TTL, answer.grantedTTL, list(answer.keys)) == (58, 60, [b"a", b"b"])
            assert not (await client.ttl(first)).keys
            listed = await client.call("LeaseLeases", rpc_pb2.LeaseLeasesRequest())
            assert {one.ID for one in listed.leases} == {first, second}, "the shortest lease is two seconds"
            await asyncio.sleep(1)
            answer = await client.ttl(second)
            assert (-1, second) == (answer.TTL, answer.ID)

    run_virtual(main())


def test_a_revoked_lease_is_gone_at_once_and_its_id_can_be_granted_anew() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            await client.grant(5, 7)
            await client.call("LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=7))
            stream = client.stream("LeaseKeepAlive")
            assert await keep_alive(stream, 7) == 0
            await asyncio.sleep(3)
            await client.grant(5, 7)
            await asyncio.sleep(3)  # past the deadline of the first, not of the second
            assert (await client.ttl(7)).TTL == 2
            with pytest.raises(RpcError, match="lease already exists"):
                await client.grant(5, 7)

    run_virtual(main())


def test_a_new_leader_gives_every_lease_its_full_time() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            lease_id = await client.grant(10)
            await asyncio.sleep(8)
            await member.step_down()
            await asyncio.sleep(100)
            assert len(member.store.kv.leases) == 1, "nobody but a leader ends leases"
            member.lead()
            assert (await client.ttl(lease_id)).TTL == 10
            await asyncio.sleep(10.1)
            assert len(member.store.kv.leases) == 0

    run_virtual(main())


def test_a_leader_that_may_have_lost_its_office_keeps_nothing_alive() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            lease_id = await client.grant(10)
            member.store.is_leader = False
            stream = client.stream("LeaseKeepAlive")
            await stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease_id))
            with pytest.raises(RpcError, match="etcdserver: not leader"):
                await stream.receive()
            with pytest.raises(RpcError, match="etcdserver: not leader"):
                await client.ttl(lease_id)

    run_virtual(main())


def test_revoking_goes_on_until_it_succeeds_and_a_late_keep_alive_waits_for_it() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            lease_id = await client.grant(5)
            member.store.refusal = OutcomeUnknown("no quorum")
            await asyncio.sleep(6)
            stream = client.stream("LeaseKeepAlive")
            await stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease_id))
            await asyncio.sleep(3)
            assert len(member.store.kv.leases) == 1
            member.store.refusal = None
            response: rpc_pb2.LeaseKeepAliveResponse = await stream.receive()
            assert response.TTL == 0
            assert len(member.store.kv.leases) == 0

    run_virtual(main())


def test_who_waits_for_the_end_of_a_lease_is_told_of_the_end_of_leadership() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            lease_id = await client.grant(5)
            member.store.refusal = OutcomeUnknown("no quorum")
            await asyncio.sleep(6)
            stream = client.stream("LeaseKeepAlive")
            await stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease_id))
            await asyncio.sleep(1)
            await member.step_down()
            with pytest.raises(RpcError, match="etcdserver: not leader") as caught:
                await stream.receive()
            assert caught.value.status == "UNAVAILABLE"

    run_virtual(main())


def test_many_leases_end_together() -> None:
    async def main() -> None:
        async with serving() as (member, client):
            for number in range(200):
                await client.put(b"%d" % number, lease_id=await client.grant(10))
            await asyncio.sleep(10.1)
            assert len(member.store.kv.leases) == 0
            assert (await client.get(b"\0", b"\0")).count == 0

    run_virtual(main())


def test_a_lessor_does_not_grow_with_leases_that_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessor, "SLACK", 10)

    async def main() -> None:
        store = LocalKv()
        held = Lessor(store, Member(MemoryNetwork(), "pd", store, FakeMembers()).clock)
        for number in range(500):
            store.apply(grant(1 + number % 3, 1_000_000))
            store.apply(revoke(1 + number % 3))
            assert len(held._order) < 20
            assert len(held._known) < 20
        held.close()

    run_virtual(main())


def test_the_number_of_leases_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "MAX_LEASES", 2)

    async def main() -> None:
        async with serving() as (_, client):
            await client.grant(10)
            await client.grant(10)
            with pytest.raises(RpcError, match="too many requests") as caught:
                await client.grant(10)
            assert caught.value.status == "RESOURCE_EXHAUSTED"

    run_virtual(main())


def test_a_follower_asks_the_leader_once() -> None:
    async def main() -> None:
        network = MemoryNetwork()
        store, members = LocalKv(), FakeMembers()
        leader = Member(network, "leader", store, members)
        follower = Member(network, "follower", LocalKv(store.kv), members)
        for member in (leader, follower):
            await member.serve()
        leader.lead()
        follower.leader_channel = network.transport("follower").connect(leader.address)
        channel = network.transport("client").connect(follower.address)
        client = Client(channel)
        store.apply(grant(5, 10))
        stream = client.stream("LeaseKeepAlive")
        for _ in range(3):
            await asyncio.sleep(8)
            assert await keep_alive(stream, 5) == 10
        assert (await client.ttl(5)).TTL == 10
        # The leader goes, and each believes that the other one leads.
        await leader.step_down()
        leader.leader_channel = network.transport("leader").connect(follower.address)
        await stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=5))
        with pytest.raises(RpcError, match="etcdserver: not leader"):
            await stream.receive()
        with pytest.raises(RpcError, match="etcdserver: not leader"):
            await client.ttl(5)
        # Another one leads: the next stream finds it.
        follower.lead()
        assert await keep_alive(client.stream("LeaseKeepAlive"), 5) == 10
        for member in (leader, follower):
            await member.stop()
        await channel.close()

    run_virtual(main())
