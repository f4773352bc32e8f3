"""PD members in one process: real server code over a network, disks and clocks in memory, which can be killed and cut off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from core_py.ports import Workers
from core_py.runtime.config import Seconds
from core_py.runtime.workers import InlineWorkers
from core_py.sim.clock import PausingClock
from core_py.sim.disk import MemoryDisk
from core_py.sim.network import MemoryNetwork
from pd_py.server.app import PdServer
from pd_py.server.config import PdConfig
from tests.sim.faults import SeededFault

NAMES = ("pd1", "pd2", "pd3")


@dataclass
class PdMember:
    """One member with its disk and clock, and the server while it runs."""

    name: str
    initial_cluster: str = ""
    join: str = ""
    token: str = "pd-cluster"
    disk: MemoryDisk = field(default_factory=MemoryDisk)
    clock: PausingClock = field(default_factory=PausingClock)
    workers: Workers = field(default_factory=InlineWorkers)
    server: PdServer | None = None

    @property
    def running(self) -> PdServer:
        """The server. Fails while it is down."""
        assert self.server is not None, f"{self.name} is down"
        return self.server


class PdCluster:
    """Members by name."""

    def __init__(
        self,
        names: tuple[str, ...] = NAMES,
        *,
        seed: int = 0,
        make_workers: Callable[[], Workers] = InlineWorkers,
    ) -> None:
        self.rng = random.Random(seed)
        self.fault = SeededFault(random.Random(self.rng.random()))
        self.network = MemoryNetwork(self.fault)
        self.make_workers = make_workers
        initial = ",".join(f"{name}=http://{name}:2380" for name in names)
        self.members = {name: PdMember(name, initial) for name in names}
        self.failures: dict[str, BaseException] = {}

    async def start(self, name: str) -> PdServer:
        """Start a member on what its disk holds."""
        member = self.members[name]
        member.workers = self.make_workers()
        config = PdConfig(
            name=name,
            client_urls=f"http://{name}:2379",
            peer_urls=f"http://{name}:2380",
            initial_cluster=member.initial_cluster,
            initial_cluster_token=member.token,
            join=member.join,
            tick_interval=Seconds(0.05),
            election_interval=Seconds(0.5),
        )
        server = PdServer(
            config,
            transport=self.network.transport(name),
            disk=member.disk,
            workers=member.workers,
            clock=member.clock,
            rng=random.Random(self.rng.random()),
            registry=CollectorRegistry(),
            on_failure=lambda error: self.failed(name, error),
        )
        self.fault.dead.discard(name)
        try:
            await server.start()
        except BaseException:
            await server.stop()
            raise
        member.server = server
        return server

    def failed(self, name: str, error: BaseException) -> None:
        """A member's background task failed; a process would have ended."""
        self.failures.setdefault(name, error)

    async def start_all(self) -> None:
        """Start all members at once."""
        await asyncio.gather(*(self.start(name) for name in self.members))

    async def kill(self, name: str, torn_bytes: int = 0) -> None:
        """Lose power: nothing it says from now on is heard; what it had not synced is gone but for a torn end."""
        member = self.members[name]
        server, member.server = member.running, None
        self.fault.dead.add(name)
        left = member.disk.crash(torn_bytes)
        await server.stop()
        member.disk = left

    def serving(self) -> list[str]:
        """The members that would give a timestamp now."""
        found = []
        for member in self.members.values():
            if member.server is None or self.fault.stands(member.name):
                continue
            session = member.server.directory.session
            if session is not None and session.store.is_valid:
                found.append(member.name)
        return found

    async def leader(self, budget_s: float = 10.0) -> PdMember:
        """The member that serves, once there is one."""
        async with asyncio.timeout(budget_s):
            while not (found := self.serving()):  # noqa: ASYNC110 virtual time
                await asyncio.sleep(0.02)
        return self.members[found[0]]

    async def until(self, condition: Callable[[], object], budget_s: float = 10.0) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(budget_s):
            while not condition():  # noqa: ASYNC110 virtual time
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Stop all members."""
        for member in self.members.values():
            if member.server is not None:
                await member.server.stop()
                member.server = None
