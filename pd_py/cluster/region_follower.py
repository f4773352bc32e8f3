"""How a member that follows keeps a copy of the leader's regions: `pdpb.PD/SyncRegions`, the asking side.

It asks the leader for what came since the position it knows, takes in what arrives, and begins again when the stream ends.
`is_synced` says that the copy was complete and the stream still runs: only then may this member answer reads. Invariant:
the position is that of the first change that has not been taken in, in the history of the leader that sent the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core_py.errors import DbError
from core_py.ports import StreamCall, Transport, methods_of
from core_py.runtime.log import get_logger
from pd_py.cluster.convert import InvalidRegion
from pd_py.cluster.region_syncer import KEEP_ALIVE_S
from pd_py.cluster.regions import Regions
from protos.kvproto import pdpb_pb2

RETRY_S = 1.0
SILENCE_S = 3 * KEEP_ALIVE_S
"""A leader that says nothing for so long is gone, whatever the network believes."""
_METHOD = methods_of(pdpb_pb2.DESCRIPTOR.services_by_name["PD"])["SyncRegions"]


class RegionFollower:
    """The copy's keeper. `leader_address` gives host:port of the leader, empty when there is none or this member leads."""

    def __init__(
        self,
        regions: Regions,
        transport: Transport,
        member: pdpb_pb2.Member,
        leader_address: Callable[[], str],
        cluster_id: Callable[[], int],
    ) -> None:
        self._regions = regions
        self._transport = transport
        self._member = member
        self._leader_address = leader_address
        self._cluster_id = cluster_id
        self._position = 0
        self._is_whole = False
        """Whether messages are changes now, and not part of all regions."""
        self.is_synced = False

    async def run(self) -> None:
        """Follow whoever leads, until cancelled."""
        while True:
            address = self._leader_address()
            if address and self._cluster_id():
                await self._follow(address)
            await asyncio.sleep(RETRY_S)

    async def _follow(self, address: str) -> None:
        """One stream, until it ends or another member leads."""
        channel = self._transport.connect(address)
        stream: StreamCall | None = None
        try:
            stream = channel.stream(_METHOD)
            request = pdpb_pb2.SyncRegionRequest(member=self._member, start_index=self._position)
            request.header.cluster_id = self._cluster_id()
            self._is_whole = self._position > 0
            await stream.send(request)
            while self._leader_address() == address:
                async with asyncio.timeout(SILENCE_S):
                    response = await stream.receive()
                if response is None:
                    break
                self.take(response)
        except (DbError, TimeoutError) as error:
            get_logger().info("regions do not come", leader=address, error=str(error) or "silence")
        finally:
            self.is_synced = False
            if stream is not None:
                stream.cancel()
            await channel.close()

    def take(self, response: pdpb_pb2.SyncRegionResponse) -> None:
        """Take in one message. Raises StaleRegions when it is not from the history that was asked for."""
        count = len(response.regions)
        if count and response.start_index == 0:
            self._position, self._is_whole, self.is_synced = 0, False, False  # all regions come now
        elif self._is_whole and response.start_index != self._position:
            self._position, self._is_whole = 0, False
            raise StaleRegions(f"the leader continues at {response.start_index}")
        for number in range(count):
            try:
                self._regions.put_synced(response, number)
            except InvalidRegion as error:
                get_logger().warn("region of the leader is not taken", error=str(error))
        self._regions.settle()
        if self._is_whole:
            self._position += count
            self.is_synced = True
        elif not count:
            self._position, self._is_whole, self.is_synced = response.start_index, True, True


class StaleRegions(DbError):
    """A message that does not continue what this member has."""

    code = "PD:Cluster:StaleRegions"
