"""A real member: gRPC and the HTTP API on one port, and the API follows the terms of leadership."""

from __future__ import annotations

import random

import aiohttp
from prometheus_client import CollectorRegistry

from core_py.ports import methods_of
from core_py.runtime import log
from core_py.runtime.clock import SystemClock
from core_py.runtime.grpc_transport import GrpcTransport
from core_py.runtime.port_front import SharedPortTransport
from core_py.runtime.workers import InlineWorkers
from core_py.sim.disk import MemoryDisk
from pd_py.api.app import application
from pd_py.api.wiring import Surroundings, backend_of
from pd_py.server.app import PdServer
from pd_py.server.config import PdConfig
from protos.kvproto import metapb_pb2, pdpb_pb2

METHODS = methods_of(pdpb_pb2.DESCRIPTOR.services_by_name["PD"])
CLIENT = "127.0.0.1:0"


async def test_one_member_with_one_port() -> None:
    inner, clock = GrpcTransport(), SystemClock()
    around = Surroundings("pd1", clock, inner, lambda: {"name": "pd1"}, log.set_level)
    backend = backend_of(around, lambda: server.directory, lambda: server.changes)
    server = PdServer(
        PdConfig(name="pd1", client_urls=f"http://{CLIENT}", peer_urls="http://localhost:0"),
        transport=SharedPortTransport(inner, CLIENT, lambda: application(backend)),
        disk=MemoryDisk(),
        workers=InlineWorkers(),
        clock=clock,
        rng=random.Random(1),
        registry=CollectorRegistry(),
    )
    await server.start()
    api = f"http://{server.address}/pd/api/v1"
    channel = inner.connect(server.address)
    try:
        async with aiohttp.ClientSession() as http:
            members = await channel.unary(METHODS["GetMembers"], pdpb_pb2.GetMembersRequest(), timeout_s=5)
            header = pdpb_pb2.RequestHeader(cluster_id=members.header.cluster_id)
            shown = await (await http.get(f"{api}/members")).json()
            assert shown["header"]["cluster_id"] == header.cluster_id
            assert shown["leader"]["client_urls"] == [f"http://{server.address}"]
            assert [one["health"] for one in await (await http.get(f"{api}/health")).json()] == [True]
            response = await http.get(f"{api}/stores")
            assert (response.status, "ErrNotBootstrapped" in await response.text()) == (500, True)

            region = metapb_pb2.Region(id=3, region_epoch=metapb_pb2.RegionEpoch(conf_ver=1, version=1))
            region.peers.add(id=2, store_id=1)
            store = metapb_pb2.Store(id=1, address="store1:20160", version="8.5.0")
            request = pdpb_pb2.BootstrapRequest(header=header, store=store, region=region)
            answer = await channel.unary(METHODS["Bootstrap"], request, timeout_s=5)
            assert not answer.header.HasField("error"), answer.header
            shown = await (await http.get(f"{api}/stores")).json()
            assert [one["store"]["address"] for one in shown["stores"]] == ["store1:20160"]
            assert (await (await http.get(f"{api}/region/id/3")).json())["peers"][0]["store_id"] == 1
            response = await http.post(f"{api}/config", json={"leader-schedule-limit": 7})
            assert await response.json() == "The config is updated."
            config = await (await http.get(f"{api}/config")).json()
            assert (config["name"], config["schedule"]["leader-schedule-limit"]) == ("pd1", 7)
            assert "balance-leader-scheduler" in await (await http.get(f"{api}/schedulers")).json()
            assert (await http.get(f"{api}/gc/safepoint")).status == 200
            assert backend.leader() is backend.leader(), "made once for a term"
    finally:
        await channel.close()
        await server.stop()
    assert backend.leader() is None
