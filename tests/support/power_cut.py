"""Losing power at a failpoint: the store's disks are copied and the machine is cut off when the point's panic ends the process.

A process that panics says nothing more and does nothing more; here it is still in memory, so its network is cut at the
same moment and its disks are the copies. `keep` says how much of what was not synced the disks kept.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from core_py.errors import InvariantViolation
from core_py.runtime import tasks
from core_py.sim.network import NoFault
from tests.support.storage_cluster import Node, StorageCluster
from tikv_py.engine.memory import MemoryEngine
from tikv_py.server.app import TikvServer

EVERYTHING = 1 << 30  # more batches than a test writes


@dataclass(frozen=True, slots=True)
class Keep:
    """Batches, of those that were not synced, that each database has after the loss of power."""

    raft: int = 0
    kv: int = 0


NOTHING, ONLY_RAFT, ONLY_KV, ALL = Keep(), Keep(raft=EVERYTHING), Keep(kv=EVERYTHING), Keep(EVERYTHING, EVERYTHING)


@dataclass
class DeadMachines(NoFault):
    """A perfect network but for machines without power."""

    dead: set[str] = field(default_factory=set)

    def connected(self, source: str, target: str) -> bool:
        """See `core_py.sim.network.Fault`."""
        return source not in self.dead and target not in self.dead


class PowerCut:
    """One store's loss of power at `point`; made before the cluster meets it. Two may follow each other."""

    def __init__(self, cluster: StorageCluster, point: str, keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
        fault = cluster.network.fault
        self._machines = fault if isinstance(fault, DeadMachines) else DeadMachines()
        cluster.network.fault = self._machines
        self._cluster = cluster
        self._point = point
        self._keep = keep
        self._stop_process = tasks.stop_process
        monkeypatch.setattr(tasks, "stop_process", self._ended)
        self._node: Node | None = None
        self._left: tuple[MemoryEngine, MemoryEngine] | None = None
        self._happened = asyncio.Event()

    def arm(self, node: Node) -> None:
        """The next time that the running store passes the point it ends."""
        assert node.server is not None
        self._node = node
        node.server.fail.configure(self._point, "panic(power cut)")

    async def start_armed(self, node: Node) -> None:
        """Start a store that has the point armed from its first moment; it may end before it serves."""
        self._node = node

        def arm(server: TikvServer) -> None:
            server.fail.configure(self._point, "panic(power cut)")

        self._cluster.before_store_starts = arm
        try:
            await self._cluster.start_store(node)
        except InvariantViolation as panic:
            self._ended(panic)
        finally:
            self._cluster.before_store_starts = lambda _server: None

    def _ended(self, error: BaseException) -> None:
        node = self._node
        if not self._is_ours(error) or node is None:
            self._stop_process(error)
            return
        if self._left is None:  # what a dead process does after its end does not count
            self._left = node.raft_db.image(self._keep.raft), node.kv_db.image(self._keep.kv)
            self._machines.dead.add(node.name)
            self._happened.set()

    def _is_ours(self, error: BaseException) -> bool:
        # Not by its class: the store may say more of where it was, in an error of its own.
        return isinstance(error, InvariantViolation) and f"failpoint {self._point}:" in str(error)

    @property
    def has_happened(self) -> bool:
        """Whether the power is off."""
        return self._happened.is_set()

    async def wait(self, seconds: float = 60.0) -> None:
        """Until the power is off; then the store is stopped and has the disks that were left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._happened.wait()
        assert self._left is not None, f"not within {seconds} s: {self._point}"
        assert self._node is not None
        try:
            await self._cluster.stop_store(self._node)
        except InvariantViolation:  # the listener tells what ended one of its calls; the rest is still to be stopped
            await self._cluster.stop_store(self._node)
        self._node.raft_db, self._node.kv_db = self._left
        failures = self._cluster.failures
        failures[:] = [error for error in failures if not self._is_ours(error)]

    def restore(self) -> None:
        """The machine has power again; its store is still to be started."""
        assert self._node is not None
        self._machines.dead.discard(self._node.name)
