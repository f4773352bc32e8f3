"""One store, called as a client's wire would call it: no retries, no caches, the protocol's own messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from core_py.failpoints import FailPoints
from core_py.ports import Channel, StreamCall, methods_of
from core_py.sim.loop import run_virtual
from protos.kvproto import kvrpcpb_pb2 as pb
from protos.kvproto import tikvpb_pb2
from tests.support.storage_cluster import StorageCluster, storage_cluster
from tikv_py.engine.port import DATA_CFS
from tikv_py.raftstore.store import Store
from tikv_py.server.app import TikvServer
from tikv_py.server.config import TikvConfig

METHODS = methods_of(tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"])


class StoreRpc:
    """The first store of a cluster and its first region."""

    def __init__(self, cluster: StorageCluster, channel: Channel) -> None:
        self.cluster = cluster
        self._channel = channel

    @property
    def server(self) -> TikvServer:
        server = self.cluster.nodes[0].server
        assert server is not None
        return server

    @property
    def store(self) -> Store:
        assert self.server.store is not None
        return self.server.store

    @property
    def fail(self) -> FailPoints:
        return self.server.fail

    def context(self) -> pb.Context:
        """For the region that begins at minus infinity, as it is now."""
        peer = next(peer for peer in self.store.peers.values() if not peer.region.start_key)
        return pb.Context(region_id=peer.region.id, region_epoch=peer.region.region_epoch, peer=peer.meta())

    async def call(self, name: str, request: Any, *, timeout_s: float = 20.0) -> Any:
        """One command, with the region's context filled in."""
        request.context.MergeFrom(self.context())
        return await self._channel.unary(METHODS[name], request, timeout_s=timeout_s)

    def stream(self, name: str) -> StreamCall:
        """An open stream."""
        return self._channel.stream(METHODS[name])

    def data(self) -> dict[str, list[tuple[bytes, bytes]]]:
        """Everything users wrote, per family."""
        items = self.cluster.nodes[0].kv_db.items
        return {cf: [pair for pair in items(cf) if pair[0].startswith(b"z")] for cf in DATA_CFS}

    async def prewrite(self, key: bytes, value: bytes, start_ts: int) -> None:
        """Leave a lock of an optimistic transaction."""
        request = pb.PrewriteRequest(primary_lock=key, start_version=start_ts, lock_ttl=3000)
        request.mutations.add(op=pb.Put, key=key, value=value)
        response = await self.call("KvPrewrite", request)
        assert not response.errors
        assert not response.HasField("region_error")

    async def commit(self, key: bytes, start_ts: int, commit_ts: int) -> None:
        """Commit what `prewrite` left."""
        request = pb.CommitRequest(start_version=start_ts, keys=[key], commit_version=commit_ts)
        response = await self.call("KvCommit", request)
        assert not response.HasField("error")
        assert not response.HasField("region_error")


@asynccontextmanager
async def store_rpc(stores: int = 1, settings: TikvConfig | None = None) -> AsyncIterator[StoreRpc]:
    """A cluster and a wire to its first store."""
    async with storage_cluster(stores, settings=settings) as cluster:
        channel = cluster.network.transport("client").connect("store1:20160")
        rpc = StoreRpc(cluster, channel)
        for _ in range(200):
            if any(peer.can_read_locally() for peer in rpc.store.peers.values()):
                break
            await asyncio.sleep(0.05)
        try:
            yield rpc
        finally:
            await channel.close()


def with_store(
    test: Callable[[StoreRpc], Awaitable[None]], stores: int = 1, *, settings: TikvConfig | None = None
) -> None:
    """Run a test on virtual time."""

    async def main() -> None:
        async with store_rpc(stores, settings) as rpc:
            await test(rpc)

    run_virtual(main())
