"""The DEFAULT keyspace."""

from __future__ import annotations

from typing import Any

import pytest

from core_py.errors import RpcError
from core_py.ports import methods_of
from core_py.sim.loop import run_virtual
from core_py.sim.network import MemoryNetwork
from pd_py.keyspace import service
from protos.kvproto import keyspacepb_pb2 as pb
from protos.kvproto import pdpb_pb2

METHODS = methods_of(pb.DESCRIPTOR.services_by_name["Keyspace"])


def test_default_is_there_and_nothing_else() -> None:
    async def main() -> None:
        network = MemoryNetwork()
        listener = await network.transport("pd").serve("pd:0", [service.service(lambda: 42)])
        channel = network.transport("client").connect(listener.address)
        header = pdpb_pb2.RequestHeader(cluster_id=42)

        async def call(name: str, request: Any) -> Any:
            request.header.CopyFrom(header)
            return await channel.unary(METHODS[name], request, timeout_s=5)

        found = await call("LoadKeyspace", pb.LoadKeyspaceRequest(name="DEFAULT"))
        assert (found.keyspace.name, found.keyspace.id, found.keyspace.state) == ("DEFAULT", 0, pb.ENABLED)
        assert found.header.cluster_id == 42
        assert not found.header.HasField("error")
        for name, request in (
            ("LoadKeyspace", pb.LoadKeyspaceRequest(name="mine")),
            ("LoadKeyspaceByID", pb.LoadKeyspaceByIDRequest(id=7)),
            ("LookupKeyspace", pb.LookupKeyspaceRequest(name="default")),
            ("UpdateKeyspaceState", pb.UpdateKeyspaceStateRequest(id=7)),
        ):
            answer = await call(name, request)
            assert answer.header.error.type == pdpb_pb2.ENTRY_NOT_FOUND
            assert answer.header.error.message == "[PD:keyspace:ErrKeyspaceNotFound]keyspace does not exist"
        assert (await call("LoadKeyspaceByID", pb.LoadKeyspaceByIDRequest(id=0))).keyspace.name == "DEFAULT"
        assert len((await call("LookupKeyspace", pb.LookupKeyspaceRequest(name="DEFAULT"))).keyspaces) == 1
        assert len((await call("GetAllKeyspaces", pb.GetAllKeyspacesRequest())).keyspaces) == 1
        assert len((await call("GetAllKeyspaces", pb.GetAllKeyspacesRequest(start_id=1))).keyspaces) == 0
        refused = await call("UpdateKeyspaceState", pb.UpdateKeyspaceStateRequest(id=0, state=pb.DISABLED))
        assert "cannot modify default keyspace's state" in refused.header.error.message
        watch = channel.stream(METHODS["WatchKeyspaces"])
        await watch.send(pb.WatchKeyspacesRequest(header=header))
        assert (await watch.receive()).keyspaces[0].name == "DEFAULT"
        watch.cancel()
        header.cluster_id = 41
        with pytest.raises(RpcError, match="mismatch cluster id, need 42 but got 41"):
            await call("LoadKeyspace", pb.LoadKeyspaceRequest(name="DEFAULT"))
        await channel.close()
        await listener.stop(0)

    run_virtual(main())
