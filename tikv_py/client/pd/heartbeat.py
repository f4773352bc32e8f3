"""The region heartbeat stream: leaders report their regions, PD sends scheduling commands back, neither waits for the other.

The object outlives connections: after a failure (raised to the caller once) the next `send` or `receive` opens a new stream
to the leader of then. PD forgets nothing by that, because every heartbeat carries the region's whole state.
"""

from __future__ import annotations

import asyncio

from core_py.errors import RpcError
from core_py.ports import StreamCall
from protos.kvproto import pdpb_pb2
from tikv_py.client.concurrency import received
from tikv_py.client.pd.errors import from_header
from tikv_py.client.pd.members import PdMembers


class RegionHeartbeatStream:
    """One sender and one receiver at a time."""

    def __init__(self, members: PdMembers) -> None:
        self._members = members
        self._stream: StreamCall | None = None
        self._address = ""
        self._opening = asyncio.Lock()

    async def send(self, request: pdpb_pb2.RegionHeartbeatRequest) -> None:
        """Report a region; the header is filled here. Raises RpcError, PdError."""
        stream = await self._open()
        self._members.fill_header(request)
        try:
            await stream.send(request)
        except RpcError:
            self._broken(stream)
            raise

    async def receive(self) -> pdpb_pb2.RegionHeartbeatResponse:
        """The next command of PD. Raises RpcError, PdError (also for a heartbeat that PD refused)."""
        stream = await self._open()
        try:
            response: pdpb_pb2.RegionHeartbeatResponse | None = await received(stream)
        except RpcError:
            self._broken(stream)
            raise
        if response is None:
            self._broken(stream)
            raise RpcError("PD ended the region heartbeat stream")
        error = from_header(response.header)
        if error is not None:
            raise error
        return response

    async def _open(self) -> StreamCall:
        if self._stream is not None:
            return self._stream
        async with self._opening:
            if self._stream is None:
                self._address = await self._members.find_leader()
                try:
                    self._stream = self._members.open_stream("RegionHeartbeat", self._address)
                except RpcError:
                    self._members.doubt(self._address)
                    raise
            return self._stream

    def _broken(self, stream: StreamCall) -> None:
        if self._stream is stream:
            self._stream = None
            self._members.doubt(self._address)
            stream.cancel()

    def close(self) -> None:
        """End the stream; a later call would open another."""
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
