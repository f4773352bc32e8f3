"""Stores by id: their addresses (from PD), one connection each, and whether they answered lately.

A store that failed is looked up again at PD before its next use, because it may have moved; a changed address closes the old
connection. `is_suspect` steers replica reads away from silent stores for a while; it forbids nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from core_py.ports import Clock, Transport
from core_py.runtime.tasks import TaskScope
from protos.kvproto import metapb_pb2
from tikv_py.client.pd.client import PdClient
from tikv_py.client.pd.errors import StoreNotFound
from tikv_py.client.rpc.connection import StoreConnection

SUSPECT_S = 3.0
REFRESH_EVERY_S = 1.0  # a failing store's address is asked for at most so often


@dataclass(slots=True)
class StoreHandle:
    """A known store."""

    id: int
    address: str
    connection: StoreConnection
    failed_at: float | None = None
    checked_at: float = 0.0


class StoreCache:
    """All stores this client has talked to."""

    def __init__(
        self, pd: PdClient, transport: Transport, clock: Clock, scope: TaskScope, *, streams_per_store: int = 1
    ) -> None:
        self._pd, self._transport, self._clock, self._scope = pd, transport, clock, scope
        self._streams = streams_per_store
        self._stores: dict[int, StoreHandle] = {}
        self._locks: dict[int, asyncio.Lock] = {}

    async def get(self, store_id: int) -> StoreHandle:
        """The store, connected. Raises StoreNotFound (also for a removed one), PdError, RpcError."""
        handle = self._stores.get(store_id)
        if handle is not None and not self._should_refresh(handle):
            return handle
        async with self._locks.setdefault(store_id, asyncio.Lock()):
            handle = self._stores.get(store_id)
            if handle is None or self._should_refresh(handle):
                handle = await self._refresh(store_id)
            return handle

    def _should_refresh(self, handle: StoreHandle) -> bool:
        return handle.failed_at is not None and self._clock.monotonic() - handle.checked_at >= REFRESH_EVERY_S

    async def _refresh(self, store_id: int) -> StoreHandle:
        store = await self._pd.get_store(store_id)
        if store.state == metapb_pb2.Tombstone:
            await self.forget(store_id)
            raise StoreNotFound(f"store {store_id} was removed from the cluster")
        handle = self._stores.get(store_id)
        if handle is None or handle.address != store.address:
            if handle is not None:
                await handle.connection.close()
            address = store.address
            connection = StoreConnection(lambda: self._transport.connect(address), self._scope, address)
            handle = self._stores[store_id] = StoreHandle(store_id, store.address, connection)
        handle.checked_at = self._clock.monotonic()
        return handle

    def failed(self, handle: StoreHandle) -> None:
        """A call to it failed in transport."""
        handle.failed_at = self._clock.monotonic()

    def moved(self, handle: StoreHandle) -> None:
        """Another store answered at its address: look it up before the next use."""
        handle.failed_at, handle.checked_at = self._clock.monotonic(), float("-inf")

    @staticmethod
    def answered(handle: StoreHandle) -> None:
        """A call to it was answered."""
        handle.failed_at = None

    def is_suspect(self, store_id: int) -> bool:
        """Whether it failed a short time ago."""
        handle = self._stores.get(store_id)
        failed_at = None if handle is None else handle.failed_at
        return failed_at is not None and self._clock.monotonic() - failed_at < SUSPECT_S

    async def forget(self, store_id: int) -> None:
        """Drop a store and its connection."""
        handle = self._stores.pop(store_id, None)
        if handle is not None:
            await handle.connection.close()

    async def close(self) -> None:
        """Close all connections."""
        for store_id in list(self._stores):
            await self.forget(store_id)
