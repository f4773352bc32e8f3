"""One member that serves etcd's interface over a network in memory, and a client of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.message import Message

from core_py.ports import Channel, Method, StreamCall, methods_of
from core_py.runtime.tasks import TaskScope
from core_py.sim.clock import LoopClock
from core_py.sim.network import MemoryNetwork
from pd_py.etcd import cluster, kv, lease, maintenance, meta_storage, watch
from pd_py.etcd.lessor import Lessor
from pd_py.etcd.member import EtcdMember
from protos.etcd import rpc_pb2
from protos.kvproto import meta_storagepb_pb2
from tests.support.local_kv import FakeMembers, LocalKv

SERVICES = (rpc_pb2.DESCRIPTOR, meta_storagepb_pb2.DESCRIPTOR)
METHODS: dict[str, Method] = {
    name: method
    for descriptor in SERVICES
    for service in descriptor.services_by_name.values()
    for name, method in {
        (f"MetaStorage.{key}" if service.name == "MetaStorage" else key): value
        for key, value in methods_of(service).items()
    }.items()
}


class Member:
    """The member. `lead` and `step_down` begin and end its leadership."""

    def __init__(self, network: MemoryNetwork, name: str, store: LocalKv, members: FakeMembers) -> None:
        self.store, self.members = store, members
        self.clock = LoopClock()
        self.lessor: Lessor | None = None
        self.leader_channel: Channel | None = None
        self._network, self._name = network, name
        self._scope = TaskScope("lessor")
        self._member = EtcdMember(store, members)
        self.watches = watch.WatchService(self._member, self.clock)
        self.address = ""

    async def serve(self) -> None:
        services = [
            kv.service(self._member),
            watch.service(self.watches),
            lease.service(self._member, lambda: self.lessor, lambda: self.leader_channel, random.Random(1)),
            cluster.service(self._member),
            maintenance.service(self._member),
            meta_storage.service(self._member, self.watches, lambda: 42),
        ]
        self.listener = await self._network.transport(self._name).serve("pd:0", services)
        self.address = self.listener.address

    def lead(self) -> None:
        self.store.is_leader = True
        self._scope = TaskScope("lessor")
        self.lessor = Lessor(self.store, self.clock)
        self._scope.spawn(self.lessor.run())

    async def step_down(self) -> None:
        self.store.is_leader = False
        if self.lessor is not None:
            self.lessor.close()
            self.lessor = None
        await self._scope.close()

    async def stop(self) -> None:
        await self.step_down()
        await self.listener.stop(0)


class Client:
    """Calls by method name."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def call(self, name: str, request: Message, metadata: Sequence[tuple[str, str]] = ()) -> Any:
        return await self._channel.unary(METHODS[name], request, timeout_s=30, metadata=metadata)

    async def put(self, key: bytes, value: bytes = b"v", lease_id: int = 0) -> int:
        request = rpc_pb2.PutRequest(key=key, value=value, lease=lease_id)
        return int((await self.call("Put", request)).header.revision)

    async def delete(self, key: bytes) -> None:
        await self.call("DeleteRange", rpc_pb2.DeleteRangeRequest(key=key))

    async def get(self, key: bytes, range_end: bytes = b"", **fields: Any) -> Any:
        return await self.call("Range", rpc_pb2.RangeRequest(key=key, range_end=range_end, **fields))

    async def value(self, key: bytes) -> bytes | None:
        response = await self.get(key)
        return response.kvs[0].value if response.kvs else None

    async def grant(self, ttl_s: int, lease_id: int = 0) -> int:
        return int((await self.call("LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=ttl_s, ID=lease_id))).ID)

    async def ttl(self, lease_id: int, *, keys: bool = False) -> Any:
        return await self.call("LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id, keys=keys))

    def stream(self, name: str, metadata: Sequence[tuple[str, str]] = ()) -> StreamCall:
        return self._channel.stream(METHODS[name], metadata=metadata)

    async def watch(self, key: bytes, range_end: bytes = b"", **fields: Any) -> Watching:
        watching = Watching(self.stream("Watch"))
        await watching.create(key, range_end, **fields)
        return watching


class Watching:
    """A watch stream."""

    def __init__(self, stream: StreamCall) -> None:
        self.stream = stream

    async def create(self, key: bytes, range_end: bytes = b"", **fields: Any) -> Any:
        create = rpc_pb2.WatchCreateRequest(key=key, range_end=range_end, **fields)
        await self.stream.send(rpc_pb2.WatchRequest(create_request=create))
        created = await self.next()
        assert created.created
        return created

    async def next(self) -> Any:
        return await self.stream.receive()

    async def events(self, count: int) -> list[tuple[bytes, bytes, int]]:
        """(key, value, revision) of the next events."""
        found: list[tuple[bytes, bytes, int]] = []
        while len(found) < count:
            response = await self.next()
            assert not response.canceled, response
            found += [(event.kv.key, event.kv.value, event.kv.mod_revision) for event in response.events]
        return found

    async def is_quiet(self, seconds: float = 5.0) -> bool:
        """Whether nothing comes for a while; the stream cannot be used afterwards."""
        try:
            async with asyncio.timeout(seconds):
                await self.next()
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[tuple[Member, Client]]:
    """A leading member and a client."""
    network = MemoryNetwork()
    member = Member(network, "pd", LocalKv(), FakeMembers())
    await member.serve()
    member.lead()
    channel = network.transport("client").connect(member.address)
    try:
        yield member, Client(channel)
    finally:
        await channel.close()
        await member.stop()


async def settle(condition: Callable[[], bool]) -> None:
    """Let others run until something holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")
