"""A server refuses a request that is too large before it reads it."""

from __future__ import annotations

import pytest

from core_py.errors import RpcError
from core_py.ports import CallContext, Service, methods_of
from core_py.runtime.grpc_transport import GrpcTransport
from protos.etcd import rpc_pb2

KV = rpc_pb2.DESCRIPTOR.services_by_name["KV"]


async def test_a_request_over_the_limit_is_refused() -> None:
    seen: list[int] = []

    async def put(request: rpc_pb2.PutRequest, _context: CallContext) -> rpc_pb2.PutResponse:
        seen.append(len(request.value))
        return rpc_pb2.PutResponse()

    listener = await GrpcTransport(max_request_bytes=1 << 20).serve("127.0.0.1:0", [Service(KV, {"Put": put})])
    channel = GrpcTransport().connect(listener.address)
    method = methods_of(KV)["Put"]
    await channel.unary(method, rpc_pb2.PutRequest(value=b"x" * (1 << 19)), timeout_s=5)
    with pytest.raises(RpcError, match="RESOURCE_EXHAUSTED"):
        await channel.unary(method, rpc_pb2.PutRequest(value=b"x" * (2 << 20)), timeout_s=5)
    assert seen == [1 << 19]
    await channel.close()
    await listener.stop(0)
