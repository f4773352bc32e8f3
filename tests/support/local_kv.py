"""PD's replicated store without replication: a group of one that applies commands at once, and can be told to refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from core_py.errors import DbError
from pd_py.metastore.errors import MemberRefused, NotLeader
from pd_py.metastore.kv.errors import raise_error
from pd_py.metastore.kv.state import KvState
from protos.private import metastore_pb2


class LocalKv:
    """`pd_py.metastore.port.MetaStore` and `pd_py.etcd.ports.LeaderStore`. `refusal` is raised instead of any change."""

    def __init__(self, state: KvState | None = None) -> None:
        self.kv = state or KvState()
        self.is_leader = True
        self.term = 7
        self.member_id = 1
        self.cluster_id = 99
        self.refusal: DbError | None = None
        self.barriers = 0
        self.commands = 0
        self._listeners: list[Callable[[], None]] = []

    def get(self, key: str) -> bytes | None:
        return self.kv.get(key.encode())

    def prefix(self, prefix: str) -> list[tuple[str, bytes]]:
        return [(key.decode(), value) for key, value in self.kv.prefix(prefix.encode())]

    async def write(self, changes: Mapping[str, bytes | None]) -> int:
        command = metastore_pb2.Command()
        command.txn.SetInParent()
        for key, value in sorted(changes.items()):
            op = command.txn.success.add()
            if value is None:
                op.request_delete_range.key = key.encode()
            else:
                op.request_put.key, op.request_put.value = key.encode(), value
        result = await self.execute(command)
        raise_error(result.error_code, result.error)
        return result.revision

    async def execute(self, command: metastore_pb2.Command) -> metastore_pb2.Result:
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        return self.apply(command)

    def apply(self, command: metastore_pb2.Command) -> metastore_pb2.Result:
        """What a command from the log does, at once."""
        self.commands += 1
        result = self.kv.apply(metastore_pb2.Command.FromString(command.SerializeToString()))
        self.notify()
        return metastore_pb2.Result.FromString(result.SerializeToString())

    def notify(self) -> None:
        for listener in list(self._listeners):
            listener()

    async def barrier(self) -> None:
        await asyncio.sleep(0)
        self.barriers += 1
        if self.refusal is not None:
            raise self.refusal

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def check(self) -> None:
        if not self.is_leader:
            raise NotLeader("not leader")


@dataclass(frozen=True, slots=True)
class FakeMember:
    """`pd_py.etcd.ports.MemberInfo`."""

    id: int
    name: str = ""
    peer_urls: tuple[str, ...] = ()
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False


class FakeMembers:
    """`pd_py.etcd.ports.Members` of a table."""

    def __init__(self) -> None:
        self.table = {1: FakeMember(1, "pd1", ("http://pd1:2380",), ("http://pd1:2379",))}
        self.leader = 1

    def list(self) -> Sequence[FakeMember]:
        return [self.table[number] for number in sorted(self.table)]

    def leader_id(self) -> int:
        return self.leader

    async def add(self, peer_urls: Sequence[str], *, is_learner: bool) -> FakeMember:
        if any(set(peer_urls) & set(one.peer_urls) for one in self.table.values()):
            raise MemberRefused("etcdserver: Peer URLs already exists")
        number = max(self.table) + 1
        self.table[number] = FakeMember(number, peer_urls=tuple(peer_urls), is_learner=is_learner)
        return self.table[number]

    async def remove(self, member_id: int) -> None:
        del self.table[member_id]

    async def update(self, member_id: int, peer_urls: Sequence[str]) -> None:
        self.table[member_id] = replace(self.table[member_id], peer_urls=tuple(peer_urls))

    async def promote(self, member_id: int) -> None:
        self.table[member_id] = replace(self.table[member_id], is_learner=False)
