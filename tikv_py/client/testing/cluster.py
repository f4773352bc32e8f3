"""A cluster in memory: a PD, stores that check regions as real ones do, and hooks to make them misbehave.

It runs on whatever event loop the test runs on; under virtual time (`core_py.sim.loop.run_virtual`) waiting costs nothing. The only
clock is the loop's, and nothing is random, so the same test does the same every time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from core_py.codec import memcomparable
from core_py.sim.clock import LoopClock
from core_py.sim.network import MemoryNetwork
from protos.kvproto import kvrpcpb_pb2, metapb_pb2
from tikv_py.client.raw.client import RawClient
from tikv_py.client.testing.faults import Hook
from tikv_py.client.testing.pd import MemoryPd
from tikv_py.client.testing.storage import MemoryStorage
from tikv_py.client.testing.store import MemoryStore, Storage
from tikv_py.client.testing.topology import PlacedRegion, Topology
from tikv_py.client.txn.client import TxnClient


class MemoryCluster:
    """Stores, one region with a peer on each, and a PD. `storage` runs the commands (default: `MemoryStorage`).

    `before` and `after` hooks see every command (`faults`), `requests` and `calls` say what was sent. The first store leads
    every region at first; `split`, `merge` and `move_leader` change that. Stale reads are answered up to `safe_lag_s` ago.
    """

    def __init__(self, storage: Storage | None = None, stores: int = 3) -> None:
        self.network = MemoryNetwork()
        self.topology = Topology()
        self.storage: Any = storage or MemoryStorage(LoopClock())
        self.pd = MemoryPd(self.network, self.topology)
        self.before: list[Hook] = []
        self.after: list[Hook] = []
        self.requests: list[tuple[str, Any]] = []
        self.tell_leader = True
        self.safe_lag_s = 0.0
        self._released = asyncio.Event()
        self._clients: list[RawClient | TxnClient] = []
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
        """Close the clients made here and stop listening; running calls end."""
        while self._clients:
            await self._clients.pop().close()
        for store in self.stores.values():
            await store.stop()
        await self.pd.stop()

    # ---- waiting for locks ----

    def wake_waiters(self) -> None:
        """Let every command that waits for a lock look again."""
        self._released.set()
        self._released = asyncio.Event()

    async def locks_released(self, deadline: float) -> bool:
        """Wait until some lock may be gone; False when the deadline (loop time) came first."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self._released.wait()
        except TimeoutError:
            return False

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

    def merge(self, user_key: bytes) -> None:
        """Merge the region of a transactional user key into the next one."""
        self.topology.merge(memcomparable.encode(user_key))

    def move_leader(self, user_key: bytes, store_id: int) -> None:
        """Let another store lead the region of a transactional user key."""
        self.topology.holding(memcomparable.encode(user_key)).leader_store = store_id

    def safe_ts(self) -> int:
        """Up to which timestamp stale reads are answered."""
        return self.pd.next_ts() - (int(self.safe_lag_s * 1000) << 18)

    # ---- clients ----

    def calls(self, name: str) -> int:
        """How often a method was called, on all stores."""
        return sum(store.calls[name] for store in self.stores.values())

    async def txn_client(self, name: str = "client") -> TxnClient:
        """A transactional client."""
        client = await TxnClient.connect(("pd1:1",), transport=self.network.transport(name), clock=LoopClock())
        self._clients.append(client)
        return client

    async def raw_client(self) -> RawClient:
        """A raw client."""
        client = await RawClient.connect(("pd1:1",), transport=self.network.transport("raw"), clock=LoopClock())
        self._clients.append(client)
        return client


@asynccontextmanager
async def memory_cluster(*, stores: int = 3, split_at: Sequence[bytes] = ()) -> AsyncIterator[MemoryCluster]:
    """A running cluster on the running event loop, with regions that begin at the given transactional user keys."""
    cluster = MemoryCluster(stores=stores)
    cluster.split(*split_at)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()
