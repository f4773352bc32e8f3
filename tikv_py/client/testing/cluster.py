"""A cluster in memory: a PD, stores that check regions as real ones do, and hooks to make them misbehave.

It runs on whatever event loop the test runs on; under virtual time (`core_py.sim.loop.run_virtual`) waiting costs nothing. The only
clock is the loop's, and nothing is random, so the same test does the same every time.
"""

from __future__ import annotations

import asyncio
from typing import Any

from core_py.codec import memcomparable
from core_py.sim.clock import LoopClock
from core_py.sim.network import MemoryNetwork
from protos.kvproto import kvrpcpb_pb2, metapb_pb2
from tikv_py.client.raw.client import RawClient
from tikv_py.client.testing.faults import Hook
from tikv_py.client.testing.pd import MemoryPd
from tikv_py.client.testing.store import MemoryStore, Storage
from tikv_py.client.testing.topology import PlacedRegion, Topology
from tikv_py.client.txn.client import TxnClient


class MemoryCluster:
    """Stores, one region with a peer on each, and a PD. `storage` runs the commands."""

    def __init__(self, storage: Storage, stores: int = 3) -> None:
        self.network = MemoryNetwork()
        self.topology = Topology()
        self.storage: Any = storage
        self.pd = MemoryPd(self.network, self.topology)
        self.before: list[Hook] = []
        self.after: list[Hook] = []
        self.requests: list[tuple[str, Any]] = []
        self.tell_leader = True
        self._released = asyncio.Event()
        self.stores = {number: MemoryStore(self, number) for number in range(1, stores + 1)}
        peers = [metapb_pb2.Peer(id=100 + number, store_id=number) for number in self.stores]
        epoch = metapb_pb2.RegionEpoch(conf_ver=1, version=1)
        self.topology.regions[2] = PlacedRegion(metapb_pb2.Region(id=2, peers=peers, region_epoch=epoch), 1)

    async def start(self, *, batch: bool = True) -> None:
        """Listen on the memory network; without `batch` stores do not serve BatchCommands."""
        await self.pd.start()
        for store in self.stores.values():
            await store.start(batch=batch)
            self.topology.stores[store.id] = metapb_pb2.Store(id=store.id, address=store.address)

    async def stop(self) -> None:
        """Stop listening; running calls end."""
        for store in self.stores.values():
            await store.stop()
        await self.pd.stop()

    # ---- waiting for locks ----

    def wake_waiters(self) -> None:
        """Let every command that waits for a lock look again."""
        self._released.set()
        self._released = asyncio.Event()

    async def lock_released(self, _key: bytes, deadline: float) -> None:
        """Wait until some lock may be gone, or the deadline (loop time)."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._released.wait()
        except TimeoutError:
            return

    # ---- regions ----

    def split(self, *user_keys: bytes) -> None:
        """Split at transactional user keys."""
        for key in user_keys:
            self.topology.split(memcomparable.encode(key))

    def split_by_request(self, request: Any) -> Any:
        """What a store does with SplitRegion."""
        encode = (lambda key: key) if request.is_raw_kv else memcomparable.encode
        made = [self.topology.split(encode(key)).meta for key in request.split_keys]
        made.append(self.topology.regions[request.context.region_id].meta)
        made.sort(key=lambda meta: meta.start_key)
        return kvrpcpb_pb2.SplitRegionResponse(regions=made)

    def move_leader(self, user_key: bytes, store_id: int) -> None:
        """Let another store lead the region of a transactional user key."""
        self.topology.holding(memcomparable.encode(user_key)).leader_store = store_id

    # ---- clients ----

    def calls(self, name: str) -> int:
        """How often a method was called, on all stores."""
        return sum(store.calls[name] for store in self.stores.values())

    async def client(self, name: str = "client") -> TxnClient:
        """A transactional client."""
        return await TxnClient.connect(("pd1:1",), transport=self.network.transport(name), clock=LoopClock())

    async def raw_client(self) -> RawClient:
        """A raw client."""
        return await RawClient.connect(("pd1:1",), transport=self.network.transport("raw"), clock=LoopClock())
