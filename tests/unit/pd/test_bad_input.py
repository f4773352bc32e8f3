"""What PD is asked wrongly over gRPC: the public code and text, and nothing changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from core_py.errors import RpcError
from core_py.ports import Channel, methods_of
from core_py.sim.loop import run_virtual
from protos.etcd import rpc_pb2
from protos.kvproto import metapb_pb2, pdpb_pb2
from tests.support.pd_cluster import PdCluster

PD = methods_of(pdpb_pb2.DESCRIPTOR.services_by_name["PD"])
KV = methods_of(rpc_pb2.DESCRIPTOR.services_by_name["KV"])


class Asker:
    """Calls one member."""

    def __init__(self, cluster: PdCluster, channel: Channel) -> None:
        self.cluster = cluster
        self.server = cluster.members["pd1"].running
        self.channel = channel
        self.cluster_id = self.server.directory.cluster_id

    async def __call__(self, name: str, request: Any) -> Any:
        if not request.header.cluster_id:
            request.header.cluster_id = self.cluster_id
        return await self.channel.unary(PD[name], request, timeout_s=5)

    async def refused(self, name: str, request: Any) -> str:
        """The text of the refusal in the header; nothing may have changed."""
        before = self.state()
        response = await self(name, request)
        assert response.header.HasField("error"), response
        assert self.state() == before
        return str(response.header.error.message)

    async def status(self, name: str, request: Any) -> str:
        """The status and text of a call that ends badly; nothing may have changed."""
        before = self.state()
        with pytest.raises(RpcError) as refused:
            await self(name, request)
        assert self.state() == before
        return f"{refused.value.status} {refused.value}"

    def state(self) -> tuple[object, ...]:
        """Everything that a refused call must leave alone."""
        cluster = self.server.cluster
        assert cluster is not None
        pairs = [pair for pair in self.server.store.prefix("/") if not pair[0].endswith(("/timestamp", "/alloc_id"))]
        return tuple(pairs), tuple(cluster.tree.all())


def with_pd(body: Callable[[Asker], Awaitable[None]], *, bootstrapped: bool = True) -> None:
    async def main() -> None:
        cluster = PdCluster(("pd1",))
        await cluster.start("pd1")
        ask = Asker(cluster, cluster.network.transport("client").connect("pd1:2379"))
        if bootstrapped:
            await ask("Bootstrap", pdpb_pb2.BootstrapRequest(store=store(1), region=region(10, b"", b"", 1)))
        try:
            await body(ask)
        finally:
            await cluster.stop()

    run_virtual(main())


def store(number: int, **fields: Any) -> metapb_pb2.Store:
    return metapb_pb2.Store(id=number, address=f"store{number}:1", version="8.5.0", **fields)


def region(number: int, start: bytes, end: bytes, version: int, conf_ver: int = 1) -> metapb_pb2.Region:
    meta = metapb_pb2.Region(id=number, start_key=start, end_key=end)
    meta.region_epoch.version, meta.region_epoch.conf_ver = version, conf_ver
    meta.peers.add(id=number + 1, store_id=1)
    return meta


def heartbeat(meta: metapb_pb2.Region) -> pdpb_pb2.RegionHeartbeatRequest:
    return pdpb_pb2.RegionHeartbeatRequest(region=meta, leader=meta.peers[0], term=1)


def test_another_clusters_id_is_refused_by_calls_and_streams() -> None:
    async def body(ask: Asker) -> None:
        wrong = pdpb_pb2.RequestHeader(cluster_id=42)
        need = f"mismatch cluster id, need {ask.cluster_id} but got 42"
        for name, request in (
            ("GetRegion", pdpb_pb2.GetRegionRequest(header=wrong)),
            ("AllocID", pdpb_pb2.AllocIDRequest(header=wrong)),
            ("PutStore", pdpb_pb2.PutStoreRequest(header=wrong, store=store(2))),
            ("GetGCState", pdpb_pb2.GetGCStateRequest(header=wrong)),
        ):
            said = await ask.status(name, request)
            assert said.startswith("FAILED_PRECONDITION")
            assert need in said
        for name, message in (
            ("Tso", pdpb_pb2.TsoRequest(header=wrong, count=1)),
            ("QueryRegion", pdpb_pb2.QueryRegionRequest(header=wrong, keys=[b"a"])),
        ):
            stream = ask.channel.stream(PD[name])
            await stream.send(message)
            with pytest.raises(RpcError, match="mismatch cluster id"):
                await stream.receive()

    with_pd(body)


def test_before_the_first_store_there_is_no_cluster() -> None:
    async def body(ask: Asker) -> None:
        for name, request in (
            ("GetRegion", pdpb_pb2.GetRegionRequest(region_key=b"a")),
            ("PutStore", pdpb_pb2.PutStoreRequest(store=store(1))),
            ("ScatterRegion", pdpb_pb2.ScatterRegionRequest(regions_id=[1])),
            ("GetGCState", pdpb_pb2.GetGCStateRequest()),
        ):
            response = await ask(name, request)
            assert response.header.error.type == pdpb_pb2.NOT_BOOTSTRAPPED, name
            assert response.header.error.message == "cluster is not bootstrapped"

    with_pd(body, bootstrapped=False)


def test_counts_and_limits_out_of_range_are_refused() -> None:
    async def body(ask: Asker) -> None:
        assert "too many" in await ask.refused("AllocID", pdpb_pb2.AllocIDRequest(count=1 << 30))
        split = pdpb_pb2.AskBatchSplitRequest(region=region(10, b"", b"", 1), split_count=1 << 20)
        assert "out of range" in await ask.refused("AskBatchSplit", split)
        assert await ask.refused("SplitRegions", pdpb_pb2.SplitRegionsRequest())
        assert await ask.refused("ScatterRegion", pdpb_pb2.ScatterRegionRequest(regions_id=[1], retry_limit=1 << 40))
        for count in (0, 1 << 18, (1 << 32) - 1):
            stream = ask.channel.stream(PD["Tso"])
            request = pdpb_pb2.TsoRequest(count=count)
            request.header.cluster_id = ask.cluster_id
            await stream.send(request)
            with pytest.raises(RpcError, match="out of range") as refused:
                await stream.receive()
            assert refused.value.status == "INVALID_ARGUMENT"

    with_pd(body)


def test_stores_that_cannot_be_are_refused() -> None:
    async def body(ask: Asker) -> None:
        def put(meta: metapb_pb2.Store) -> pdpb_pb2.PutStoreRequest:
            return pdpb_pb2.PutStoreRequest(store=meta)

        assert "invalid put store" in await ask.refused("PutStore", put(store(0)))
        twin = store(2)
        twin.address = "store1:1"
        assert "duplicated store address" in await ask.refused("PutStore", put(twin))
        labelled = store(2)
        labelled.labels.add(key="zone with spaces", value="a")
        assert "does not match format" in await ask.refused("PutStore", put(labelled))
        old = store(2)
        old.version = "not a version"
        assert await ask.refused("PutStore", put(old))
        unknown = pdpb_pb2.StoreHeartbeatRequest(stats=pdpb_pb2.StoreStats(store_id=99))
        assert "not found" in await ask.refused("StoreHeartbeat", unknown)
        assert "invalid store ID 99, not found" in await ask.refused("GetStore", pdpb_pb2.GetStoreRequest(store_id=99))

    with_pd(body)


def test_stale_and_overlapping_regions_change_nothing() -> None:
    async def body(ask: Asker) -> None:
        cluster = ask.server.cluster
        assert cluster is not None
        stream = ask.channel.stream(PD["RegionHeartbeat"])

        async def report(meta: metapb_pb2.Region) -> None:
            request = heartbeat(meta)
            request.header.cluster_id = ask.cluster_id
            await stream.send(request)
            await ask("GetRegion", pdpb_pb2.GetRegionRequest(region_key=b"a"))  # comes behind it

        await report(region(10, b"", b"m", 5, conf_ver=3))
        await report(region(11, b"m", b"", 5, conf_ver=3))
        before = cluster.tree.all()
        assert [one.region_id for one in before] == [10, 11]
        for meta in (
            region(10, b"", b"", 4, conf_ver=3),
            region(10, b"", b"m", 5, conf_ver=2),
            region(12, b"a", b"z", 4, conf_ver=9),
            region(10, b"z", b"a", 9, conf_ver=9),
        ):
            await report(meta)
            assert cluster.tree.all() == before, meta

    with_pd(body)


def test_scans_of_ranges_that_make_no_sense_are_refused() -> None:
    async def body(ask: Asker) -> None:
        request = pdpb_pb2.BatchScanRegionsRequest(limit=10)
        request.ranges.add(start_key=b"m", end_key=b"z")
        request.ranges.add(start_key=b"a", end_key=b"n")
        assert await ask.refused("BatchScanRegions", request)
        assert await ask.refused("GetRegionByID", pdpb_pb2.GetRegionByIDRequest(region_id=0))

    with_pd(body)


def test_barriers_and_safe_points_out_of_order_are_refused() -> None:
    async def body(ask: Asker) -> None:
        await ask("AdvanceTxnSafePoint", pdpb_pb2.AdvanceTxnSafePointRequest(target=100))
        for name, request, text in (
            ("AdvanceTxnSafePoint", pdpb_pb2.AdvanceTxnSafePointRequest(target=50), "PD:gc:ErrDecreasingTxnSafePoint"),
            (
                "AdvanceGCSafePoint",
                pdpb_pb2.AdvanceGCSafePointRequest(target=101),
                "PD:gc:ErrGCSafePointExceedsTxnSafePoint",
            ),
            ("SetGCBarrier", pdpb_pb2.SetGCBarrierRequest(barrier_id="b", barrier_ts=50, ttl_seconds=10), "Barrier"),
            ("SetGCBarrier", pdpb_pb2.SetGCBarrierRequest(barrier_id="b", barrier_ts=500, ttl_seconds=-1), "ttl"),
            ("SetGCBarrier", pdpb_pb2.SetGCBarrierRequest(barrier_id="", barrier_ts=500, ttl_seconds=1), "barrier"),
        ):
            said = await ask.refused(name, request)
            assert text.lower() in said.lower(), (name, said)

    with_pd(body)


def test_an_oversized_change_is_refused() -> None:
    async def body(ask: Asker) -> None:
        request = rpc_pb2.PutRequest(key=b"k", value=b"x" * (2 << 20))
        before = ask.state()
        with pytest.raises(RpcError, match="request is too large"):
            await ask.channel.unary(KV["Put"], request, timeout_s=5)
        many = rpc_pb2.TxnRequest()
        for number in range(200):
            many.success.add().request_put.key = b"%d" % number
        with pytest.raises(RpcError, match="too many operations"):
            await ask.channel.unary(KV["Txn"], many, timeout_s=5)
        assert ask.state() == before

    with_pd(body)


def test_a_call_is_forwarded_to_members_only() -> None:
    async def body(ask: Asker) -> None:
        request = pdpb_pb2.GetMembersRequest()
        for host in ("http://169.254.169.254:80", "elsewhere:2379"):
            with pytest.raises(RpcError, match="is no member") as refused:
                await ask.channel.unary(PD["GetMembers"], request, timeout_s=5, metadata=(("pd-forwarded-host", host),))
            assert refused.value.status == "INVALID_ARGUMENT"
        own = (("pd-forwarded-host", "http://pd1:2379"),)
        answer = await ask.channel.unary(PD["GetMembers"], request, timeout_s=5, metadata=own)
        assert answer.leader.name == "pd1"

    with_pd(body)
