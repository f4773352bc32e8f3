"""PD's metadata store of a single member, for tests that need one: the real replica on a disk in memory."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping

from core_py.ports import Workers
from core_py.runtime.tasks import TaskScope
from core_py.runtime.workers import InlineWorkers
from core_py.sim.clock import LoopClock
from core_py.sim.disk import MemoryDisk
from core_py.sim.network import MemoryNetwork
from pd_py.member import identity
from pd_py.member.fenced import FencedStore
from pd_py.metastore.durable_log import DurableLog
from pd_py.metastore.links import Links
from pd_py.metastore.replica import RaftTimes, Replica
from pd_py.metastore.replicated import ReplicatedStore

BIRTH = identity.Birth("pd", ("http://pd:2380",), "", "", "pd-cluster")


class LoneStore(ReplicatedStore):
    """A `ReplicatedStore` with nobody else; `open` it, and `close` it."""

    scope: TaskScope
    failures: list[BaseException]

    @classmethod
    async def open(cls, disk: MemoryDisk, workers: Workers | None = None) -> LoneStore:
        """A store that leads."""
        transport = MemoryNetwork().transport("pd")
        log = DurableLog(disk, workers or InlineWorkers())
        own = await identity.establish(BIRTH, disk, log, transport)
        links = Links(transport, own.member_id, own.group_id, "", lambda _member: "", lambda _message: None)
        clock = LoopClock()
        replica = Replica(own.member_id, log, clock, random.Random(1), RaftTimes(), links.send, restarted=own.restarted)
        store = cls(replica, links, own.group_id, clock)
        store.failures = []
        store.scope = TaskScope("metadata", on_failure=store.failures.append)
        changed = asyncio.Event()
        replica.on_state = changed.set
        store.scope.spawn(replica.run())
        while not store.is_leader:
            changed.clear()
            await changed.wait()
        return store

    def fenced(self) -> FencedStore:
        """As the leader of this term has it."""
        return FencedStore(self)

    async def close(self) -> None:
        """Stop."""
        await self.scope.close()


class DiskMetadata:
    """`pd_py.metastore.port.Metadata` over a disk, without members and elections: for tests of what is kept, not how."""

    def __init__(self, disk: MemoryDisk) -> None:
        self._disk = disk
        stored = json.loads(disk.read("metadata") or b"{}")
        self._values = {key: bytes.fromhex(value) for key, value in stored.items()}
        self._revision = 1

    def get(self, key: str) -> bytes | None:
        return self._values.get(key)

    def prefix(self, prefix: str) -> list[tuple[str, bytes]]:
        return sorted((key, value) for key, value in self._values.items() if key.startswith(prefix))

    async def write(self, changes: Mapping[str, bytes | None]) -> int:
        await asyncio.sleep(0)
        for key, value in changes.items():
            if value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value
        image = {key: value.hex() for key, value in sorted(self._values.items())}
        self._disk.replace("metadata", json.dumps(image).encode())
        self._revision += 1
        return self._revision
