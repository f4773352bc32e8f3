"""The PD client against a fake PD: coalescing, leader changes, broken streams, typed errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from core_py.errors import RpcError, StoreAddressConflict
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from core_py.sim.network import MemoryNetwork
from protos.kvproto import metapb_pb2, pdpb_pb2
from tikv_py.client.pd.client import PdClient
from tikv_py.client.pd.errors import AlreadyBootstrapped, PdUnavailable, StoreNotFound, TsoUnavailable
from tikv_py.client.testing.pd import CLUSTER_ID, MemoryPd
from tikv_py.client.testing.topology import PlacedRegion, Topology

MEMBERS = ("pd1:1", "pd2:1", "pd3:1")


def with_pd(test: Callable[[MemoryPd, PdClient], Awaitable[None]]) -> None:
    async def body() -> None:
        network = MemoryNetwork()
        topology = Topology()
        meta = metapb_pb2.Region(id=1, peers=[metapb_pb2.Peer(id=2, store_id=1)])
        topology.regions[1] = PlacedRegion(meta, 1)
        pd = MemoryPd(network, topology, MEMBERS)
        await pd.start()
        client = PdClient(network.transport("client"), ("http://pd3:1", "pd2:1"), LoopClock())
        await client.connect()
        try:
            await test(pd, client)
        finally:
            await client.close()
            await pd.stop()

    run_virtual(body())


def test_connect_finds_leader_and_cluster() -> None:
    async def body(_pd: MemoryPd, client: PdClient) -> None:
        assert client.leader == "pd1:1"
        assert client.cluster_id == CLUSTER_ID

    with_pd(body)


def test_timestamps_are_coalesced_unique_and_in_order() -> None:
    async def body(pd: MemoryPd, client: PdClient) -> None:
        got = await asyncio.gather(*(client.timestamp() for _ in range(1000)))
        assert got == sorted(set(got))
        assert sum(pd.tso_counts) == 1000
        assert len(pd.tso_counts) <= 3
        assert await client.timestamp() > got[-1]

    with_pd(body)


def test_many_timestamps_at_once_are_one_wish_among_others() -> None:
    async def body(_pd: MemoryPd, client: PdClient) -> None:
        wishes = (1, 5000, 7, 5000, 100_000, 3)
        got = await asyncio.gather(*(client.timestamps(count) for count in wishes))
        assert [len(one) for one in got] == list(wishes)
        flat = [ts for one in got for ts in one]
        assert flat == sorted(set(flat))
        assert await client.timestamp() > flat[-1]
        for count in (0, -1, 100_001):
            with pytest.raises(ValueError, match="can be had"):
                await client.timestamps(count)

    with_pd(body)


def test_leader_change_in_mid_stream() -> None:
    async def body(pd: MemoryPd, client: PdClient) -> None:
        first = await client.timestamp()
        pd.leader = "pd2:1"
        got = await asyncio.gather(*(client.timestamp() for _ in range(10)))
        assert min(got) > first
        assert len(set(got)) == 10
        assert client.leader == "pd2:1"
        assert await client.alloc_id() > 0
        pd.leader = "pd3:1"
        assert await client.alloc_id(5) > 0
        assert client.leader == "pd3:1"

    with_pd(body)


def test_dead_leader_is_left() -> None:
    async def body(pd: MemoryPd, client: PdClient) -> None:
        first = await client.timestamp()
        await pd.stop_member("pd1:1")
        waiting = asyncio.gather(*(client.timestamp() for _ in range(5)))
        await asyncio.sleep(1)
        pd.leader = "pd3:1"
        assert min(await waiting) > first

    with_pd(body)


def test_wrong_count_breaks_the_stream_and_is_asked_again() -> None:
    async def body(pd: MemoryPd, client: PdClient) -> None:
        pd.tso_count_error = 1
        assert await client.timestamp() > 0
        assert pd.tso_counts == [1, 1]

    with_pd(body)


def test_decreasing_timestamp_is_never_handed_out() -> None:
    async def body(pd: MemoryPd, client: PdClient) -> None:
        first = await client.timestamp()
        pd.last_ts = 0
        pd.clock.skew_ms = -60_000
        with pytest.raises(TsoUnavailable, match="goes back"):
            await client.timestamp(2.0)
        pd.clock.skew_ms = 0
        assert await client.timestamp() > first

    with_pd(body)


def test_no_leader_fails_within_the_budget() -> None:
    async def body(pd: MemoryPd, client: PdClient) -> None:
        pd.leader = ""
        with pytest.raises(PdUnavailable):
            await client.get_region(b"a", budget_s=2.0)
        with pytest.raises(TsoUnavailable):
            await client.timestamp(2.0)

    with_pd(body)


def test_header_errors_are_typed() -> None:
    async def body(pd: MemoryPd, client: PdClient) -> None:
        with pytest.raises(StoreNotFound):
            await client.get_store(9)
        with pytest.raises(AlreadyBootstrapped):
            await client.bootstrap(metapb_pb2.Store(id=1), metapb_pb2.Region(id=1))
        pd.topology.stores[1] = metapb_pb2.Store(id=1, address="kv1:1")
        with pytest.raises(StoreAddressConflict):
            await client.put_store(metapb_pb2.Store(id=2, address="kv1:1"))
        assert await client.is_bootstrapped()
        assert [store.id for store in await client.get_all_stores()] == [1]

    with_pd(body)


def test_regions() -> None:
    async def body(pd: MemoryPd, client: PdClient) -> None:
        pd.topology.split(b"m")
        left, right = pd.topology.ordered()
        found = await client.get_region(b"a")
        assert found is not None
        assert found.region.id == left.meta.id
        assert found.leader == left.leader
        before = await client.get_prev_region(b"z")
        assert before is not None
        assert before.region.id == left.meta.id
        assert await client.get_prev_region(b"a") is None
        assert await client.get_region_by_id(99) is None
        assert [info.region.id for info in await client.scan_regions(b"", b"")] == [left.meta.id, right.meta.id]
        assert [info.region.id for info in await client.scan_regions(b"", b"m")] == [left.meta.id]

    with_pd(body)


def test_heartbeat_stream_follows_the_leader() -> None:
    async def body(pd: MemoryPd, client: PdClient) -> None:
        stream = client.region_heartbeat_stream()
        region = metapb_pb2.Region(id=1)
        await stream.send(pdpb_pb2.RegionHeartbeatRequest(region=region))
        assert (await stream.receive()).region_id == 1
        assert pd.heartbeats[0].header.cluster_id == CLUSTER_ID
        pd.leader = "pd2:1"
        await stream.send(pdpb_pb2.RegionHeartbeatRequest(region=region))
        with pytest.raises(RpcError):
            await stream.receive()
        await stream.send(pdpb_pb2.RegionHeartbeatRequest(region=region))
        assert (await stream.receive()).region_id == 1
        stream.close()

    with_pd(body)


@pytest.mark.parametrize("turns", range(4))
def test_closing_while_the_stream_breaks(turns: int) -> None:
    """A task group that fails and is cancelled at once forgets the cancellation (CPython 3.11): `close` must end all the same."""

    async def body(pd: MemoryPd, client: PdClient) -> None:
        await client.timestamp()
        await pd.stop()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await client.close()

    with_pd(body)
