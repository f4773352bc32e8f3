"""A member with certificates talks to nobody who has none, on the client port and on the peer port."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from core_py.errors import ConfigError, RpcError
from core_py.runtime.clock import SystemClock
from core_py.runtime.grpc_transport import GrpcTransport
from core_py.runtime.workers import InlineWorkers
from core_py.sim.disk import MemoryDisk
from pd_py.metastore import links
from pd_py.server.app import PdServer
from pd_py.server.config import PdConfig, SecurityConfig
from protos.kvproto import pdpb_pb2
from tests.support.certificates import certificate
from tikv_py.client.pd.members import METHODS


async def test_only_holders_of_a_certificate_get_in(tmp_path: Path) -> None:
    certificate(tmp_path)
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    security = SecurityConfig(cert, cert, key)
    tls = security.load()
    config = PdConfig(client_urls="https://localhost:0", peer_urls="https://localhost:0", security=security)
    server = PdServer(
        config,
        transport=GrpcTransport(tls),
        disk=MemoryDisk(),
        workers=InlineWorkers(),
        clock=SystemClock(),
        rng=random.Random(1),
        registry=CollectorRegistry(),
    )
    await server.start()
    peer_address = server.peer_address
    for transport, gets_in in ((GrpcTransport(tls), True), (GrpcTransport(), False)):
        clients, peers = transport.connect(server.address), transport.connect(peer_address)
        if gets_in:
            answer = await clients.unary(METHODS["GetMembers"], pdpb_pb2.GetMembersRequest(), timeout_s=5)
            assert answer.members[0].client_urls[0].startswith("https://")
            described = await links.describe(peers)
            assert described is not None
            assert described.member_id == server.store.member_id
        else:
            with pytest.raises(RpcError):
                await clients.unary(METHODS["GetMembers"], pdpb_pb2.GetMembersRequest(), timeout_s=2)
            assert await links.describe(peers, 2) is None
        await clients.close()
        await peers.close()
    await server.stop()


def test_half_of_the_files_are_refused() -> None:
    with pytest.raises(ValueError, match="belong together"):
        SecurityConfig(cacert_path="ca.pem").validate()
    with pytest.raises(ConfigError, match="cannot be read"):
        SecurityConfig("no.pem", "no.pem", "no.pem").load()
