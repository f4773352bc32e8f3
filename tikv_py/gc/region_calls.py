"""Calls to whichever store leads the region of a key: what the cluster's own housekeeping needs of a client.

The full client (`tikv_py.client`) is for users and knows stores only from outside; this one is a loop around PD's word: look the
region up, ask its leader, and after a refusal look again. It keeps no cache, because it makes few calls.

Bounds are physical (encoded) keys. Tests: tests/integration/test_gc_driver.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from core_py.errors import DbError
from core_py.ports import Clock, methods_of
from core_py.region_errors import (
    FlashbackInProgress,
    FlashbackNotPrepared,
    NotLeader,
    RegionError,
    RegionNotFound,
    from_pb,
)
from protos.kvproto import metapb_pb2, tikvpb_pb2
from tikv_py.client.pd.client import PdClient
from tikv_py.raftstore.region import find_peer
from tikv_py.raftstore.router import StoreCalls

METHODS = methods_of(tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"])
CALL_TIMEOUT_S = 20.0
BUDGET_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0

Make = Callable[[metapb_pb2.Region], Any]


class RegionCalls:
    """See the module's text."""

    def __init__(self, pd: PdClient, stores: StoreCalls, clock: Clock) -> None:
        self._pd = pd
        self._stores = stores
        self._clock = clock

    async def call(self, key: bytes, name: str, make: Make) -> tuple[metapb_pb2.Region, Any]:
        """Send what `make` makes for the region that holds `key`; the region and its answer.

        Tries again for `BUDGET_S` seconds, then raises the last failure (DbError); FlashbackInProgress and FlashbackNotPrepared at
        once.
        """
        until = self._clock.monotonic() + BUDGET_S
        pause = FIRST_PAUSE_S
        leader: metapb_pb2.Peer | None = None
        while True:
            try:
                return await self._once(key, name, make, leader)
            except (FlashbackInProgress, FlashbackNotPrepared):
                raise  # it takes whoever sets the region back, not time
            except DbError as error:
                if self._clock.monotonic() + pause >= until:
                    raise
                leader = error.leader if isinstance(error, NotLeader) else None
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _once(
        self, key: bytes, name: str, make: Make, hint: metapb_pb2.Peer | None
    ) -> tuple[metapb_pb2.Region, Any]:
        info = await self._pd.get_region(key)
        if info is None:
            raise RegionNotFound(0)
        region = info.region
        known = None if hint is None else find_peer(region, peer_id=hint.id)
        leader = known or info.leader
        if leader is None:
            raise NotLeader(region.id)
        request = make(region)
        request.context.region_id = region.id
        request.context.region_epoch.CopyFrom(region.region_epoch)
        request.context.peer.CopyFrom(leader)
        response = await self._stores.call(leader.store_id, METHODS[name], request, CALL_TIMEOUT_S)
        if response.HasField("region_error"):
            error: RegionError = from_pb(response.region_error)
            raise error
        return region, response

    async def close(self) -> None:
        """End the connections."""
        await self._stores.close()
