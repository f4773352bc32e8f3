"""A fake cluster in memory: a fake PD, stores that check regions as real ones do, and hooks to make them misbehave.

A hook sees (store, method, request) before a command runs and returns None (go on), a region error (answered instead), or
raises `BreakStream`. `after` hooks run once the command took effect: breaking the stream there loses the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from core_py.codec import memcomparable
from core_py.ports import CallContext, Service, StatusError, methods_of
from core_py.region_errors import EpochNotMatch, NotLeader, RegionError, RegionNotFound
from core_py.sim.clock import LoopClock
from core_py.sim.loop import run_virtual
from core_py.sim.network import MemoryNetwork
from protos.grpc_health import health_pb2
from protos.kvproto import kvrpcpb_pb2, metapb_pb2, tikvpb_pb2
from tests.unit.client.fake_pd import FakePd, FakeRegion, Topology
from tests.unit.client.fake_store import FakeStorage
from tikv_py.client.raw.client import RawClient
from tikv_py.client.rpc.methods import BATCH_FIELDS
from tikv_py.client.txn.client import TxnClient

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
TIKV = tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"]
METHODS = methods_of(TIKV)
BY_FIELD = {field: name for name, field in BATCH_FIELDS.items()}


class BreakStream(StatusError):
    """Ends the connection's stream."""

    def __init__(self) -> None:
        super().__init__("UNAVAILABLE", "connection reset")


Hook = Callable[["FakeStoreServer", str, Any], RegionError | None]


class FakeStoreServer:
    """One store's service."""

    def __init__(self, cluster: FakeCluster, store_id: int) -> None:
        self.cluster, self.id, self.address = cluster, store_id, f"kv{store_id}:1"
        self.calls: Counter[str] = Counter()
        self.batch_sizes: list[int] = []
        self.wrong_answers = False
        self.slow_score = 0
        """Told with every batch of answers, unless 0."""
        self.transport_load = 0
        self.serving = True
        self._listener: Any = None

    async def start(self, *, batch: bool = True) -> None:
        handlers: dict[str, Any] = {
            name: self._unary(name)
            for name, method in METHODS.items()
            if not method.client_streaming and not method.server_streaming
        }
        if batch:
            handlers["BatchCommands"] = self._batch
        transport = self.cluster.network.transport(f"kv{self.id}")
        self._listener = await transport.serve(
            self.address, [Service(TIKV, handlers), Service(HEALTH, {"Check": self._check})]
        )

    async def stop(self) -> None:
        await self._listener.stop(0)

    async def _check(self, _request: Any, _context: CallContext) -> Any:
        self.calls["Check"] += 1
        status = health_pb2.HealthCheckResponse
        return status(status=status.SERVING if self.serving else status.NOT_SERVING)

    def _feedback(self) -> kvrpcpb_pb2.HealthFeedback:
        return kvrpcpb_pb2.HealthFeedback(store_id=self.id, slow_score=self.slow_score)

    def _unary(self, name: str) -> Any:
        async def call(request: Any, _context: CallContext) -> Any:
            return self.handle(name, request)

        return call

    async def _batch(self, requests: AsyncIterator[Any], _context: CallContext) -> AsyncIterator[Any]:
        async for batch in requests:
            self.batch_sizes.append(len(batch.requests))
            answer = tikvpb_pb2.BatchCommandsResponse(transport_layer_load=self.transport_load)
            if self.slow_score:
                answer.health_feedback.CopyFrom(self._feedback())
            for request_id, request in reversed(list(zip(batch.request_ids, batch.requests, strict=True))):
                field = request.WhichOneof("cmd")
                made = self.handle(BY_FIELD[field], getattr(request, field))
                if self.wrong_answers:
                    answer.responses.add().Empty.SetInParent()
                else:
                    getattr(answer.responses.add(), field).CopyFrom(made)
                answer.request_ids.append(request_id)
            yield answer

    def handle(self, name: str, request: Any) -> Any:
        self.calls[name] += 1
        self.cluster.requests.append((name, request))
        if name == "GetHealthFeedback":
            return kvrpcpb_pb2.GetHealthFeedbackResponse(health_feedback=self._feedback())
        error = None
        for hook in list(self.cluster.before):
            error = error or hook(self, name, request)
        error = error or self._check_region(request.context)
        if error is not None:
            response = METHODS[name].response()
            response.region_error.CopyFrom(error.to_pb())  # type: ignore[attr-defined]
            return response
        region = self.cluster.topology.regions[request.context.region_id].meta
        if name == "SplitRegion":
            response = self.cluster.split_by_request(request)
        else:
            response = self.cluster.storage.run(name, request, (region.start_key, region.end_key))
        for hook in list(self.cluster.after):
            hook(self, name, request)
        return response

    def _check_region(self, context: Any) -> RegionError | None:
        region = self.cluster.topology.regions.get(context.region_id)
        if region is None or all(peer.store_id != self.id for peer in region.meta.peers):
            return RegionNotFound(context.region_id)
        if region.leader_store != self.id and not context.replica_read and not context.stale_read:
            return NotLeader(context.region_id, region.leader if self.cluster.tell_leader else None)
        if context.region_epoch.version != region.meta.region_epoch.version:
            current = sorted((r.meta for r in self.cluster.topology.regions.values()), key=lambda meta: meta.start_key)
            near = [meta for meta in current if meta.id == region.meta.id or meta.id > 1000]
            return EpochNotMatch("epoch not match", tuple(near))
        return None


class FakeCluster:
    """Three stores, one region with a peer on each, and a PD."""

    def __init__(self, stores: int = 3) -> None:
        self.network = MemoryNetwork()
        self.topology = Topology()
        self.storage = FakeStorage()
        self.pd = FakePd(self.network, self.topology)
        self.before: list[Hook] = []
        self.after: list[Hook] = []
        self.requests: list[tuple[str, Any]] = []
        self.tell_leader = True
        self.stores = {number: FakeStoreServer(self, number) for number in range(1, stores + 1)}
        peers = [metapb_pb2.Peer(id=100 + number, store_id=number) for number in self.stores]
        epoch = metapb_pb2.RegionEpoch(conf_ver=1, version=1)
        self.topology.regions[2] = FakeRegion(metapb_pb2.Region(id=2, peers=peers, region_epoch=epoch), 1)

    async def start(self, *, batch: bool = True) -> None:
        await self.pd.start()
        for store in self.stores.values():
            await store.start(batch=batch)
            self.topology.stores[store.id] = metapb_pb2.Store(id=store.id, address=store.address)

    async def stop(self) -> None:
        for store in self.stores.values():
            await store.stop()
        await self.pd.stop()

    def split(self, *user_keys: bytes) -> None:
        """Split at transactional user keys."""
        for key in user_keys:
            self.topology.split(memcomparable.encode(key))

    def split_by_request(self, request: Any) -> Any:
        encode = (lambda key: key) if request.is_raw_kv else memcomparable.encode
        made = [self.topology.split(encode(key)).meta for key in request.split_keys]
        made.append(self.topology.regions[request.context.region_id].meta)
        made.sort(key=lambda meta: meta.start_key)
        return kvrpcpb_pb2.SplitRegionResponse(regions=made)

    def move_leader(self, user_key: bytes, store_id: int) -> None:
        self.topology.holding(memcomparable.encode(user_key)).leader_store = store_id

    def calls(self, name: str) -> int:
        return sum(store.calls[name] for store in self.stores.values())

    async def client(self, name: str = "client") -> TxnClient:
        return await TxnClient.connect(("pd1:1",), transport=self.network.transport(name), clock=LoopClock())

    async def raw_client(self) -> RawClient:
        return await RawClient.connect(("pd1:1",), transport=self.network.transport("raw"), clock=LoopClock())


def with_cluster(
    test: Callable[[FakeCluster, TxnClient], Awaitable[None]], *, batch: bool = True, stores: int = 3
) -> None:
    """Run a test on virtual time with a connected client; both are closed afterwards."""

    async def body() -> None:
        cluster = FakeCluster(stores)
        await cluster.start(batch=batch)
        client = await cluster.client()
        try:
            await test(cluster, client)
        finally:
            await client.close()
            await cluster.stop()

    run_virtual(body())


def once(name: str, error: RegionError | BaseException | None = None, times: int = 1) -> Hook:
    """A hook that answers (or raises) the first `times` calls of a method."""
    left = times

    def hook(_store: FakeStoreServer, method: str, _request: Any) -> RegionError | None:
        nonlocal left
        if method != name or not left:
            return None
        left -= 1
        if isinstance(error, RegionError):
            return error
        raise error or BreakStream()

    return hook
