"""A server that gives out numbers as PD gives out timestamps, and does nothing else: the floor under PD's figures.

python -m bench.echo_pd PORT
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import uvloop

from core_py.ports import CallContext, Service
from core_py.runtime.grpc_transport import GrpcTransport
from protos.kvproto import pdpb_pb2

CLUSTER_ID = 7


async def serve(port: int) -> None:
    """Serve until killed."""
    address = f"127.0.0.1:{port}"
    newest = 0

    async def get_members(_request: pdpb_pb2.GetMembersRequest, _context: CallContext) -> pdpb_pb2.GetMembersResponse:
        response = pdpb_pb2.GetMembersResponse()
        response.header.cluster_id = CLUSTER_ID
        response.leader.client_urls.append(f"http://{address}")
        response.members.add().CopyFrom(response.leader)
        return response

    async def tso(
        requests: AsyncIterator[pdpb_pb2.TsoRequest], _context: CallContext
    ) -> AsyncIterator[pdpb_pb2.TsoResponse]:
        nonlocal newest
        async for request in requests:
            newest += request.count
            response = pdpb_pb2.TsoResponse(count=request.count)
            response.header.cluster_id = CLUSTER_ID
            response.timestamp.physical, response.timestamp.logical = newest >> 18, newest & 0x3FFFF
            yield response

    service = Service(pdpb_pb2.DESCRIPTOR.services_by_name["PD"], {"GetMembers": get_members, "Tso": tso})
    listener = await GrpcTransport().serve(address, [service])
    try:
        await asyncio.Event().wait()
    finally:
        await listener.stop(0)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
