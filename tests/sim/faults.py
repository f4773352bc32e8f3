"""The network's faults: delay, loss, cuts, processes that stand still, messages twice and out of order."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from protos.kvproto import raft_serverpb_pb2 as serverpb
from tests.support.storage_cluster import Node

DELAY_S = 0.004  # a message takes up to this long
LATE_S = 0.4  # a raft message that is overtaken comes up to this much later


@dataclass(frozen=True, slots=True)
class Cut:
    """Messages from these endpoints to those do not pass; None means everybody."""

    sources: frozenset[str] | None
    targets: frozenset[str] | None

    def blocks(self, source: str, target: str) -> bool:
        """Whether a message from source to target is stopped."""
        return (self.sources is None or source in self.sources) and (self.targets is None or target in self.targets)


class SeededFault:
    """`core_py.sim.network.Fault` of a run, and a disturber of its raft messages."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.loss = 0.0
        self.disorder = 0.0
        self.slow: dict[tuple[str, str], float] = {}
        """Links, from and to, on which a message takes up to this many seconds."""
        self.cuts: list[Cut] = []
        self.stands_until: dict[str, float] = {}
        self.dead: set[str] = set()

    def connected(self, source: str, target: str) -> bool:
        """See `Fault`."""
        if source in self.dead or target in self.dead:
            return False
        return not any(cut.blocks(source, target) for cut in self.cuts)

    def delay_s(self, source: str, target: str) -> float | None:
        """See `Fault`. Only messages between stores are lost."""
        between_stores = source.startswith("store") and target.startswith("store")
        if self.loss and between_stores and self._rng.random() < self.loss:
            return None
        until = max(self.stands_until.get(source, 0.0), self.stands_until.get(target, 0.0))
        held = max(until - asyncio.get_running_loop().time(), 0.0)
        return held + self._rng.random() * self.slow.get((source, target), DELAY_S)

    def stands(self, name: str) -> bool:
        """Whether a process stands still."""
        return self.stands_until.get(name, 0.0) > asyncio.get_running_loop().time()

    def isolate(self, name: str) -> None:
        """Cut one endpoint off."""
        one = frozenset((name,))
        self.cuts += [Cut(one, None), Cut(None, one)]

    def part(self, one: frozenset[str], other: frozenset[str], *, both: bool = True) -> None:
        """Cut between two groups, or only from one to the other."""
        self.cuts.append(Cut(one, other))
        if both:
            self.cuts.append(Cut(other, one))

    def reconnect(self, name: str) -> None:
        """End all cuts between one endpoint and PD."""
        self.cuts = [cut for cut in self.cuts if not (cut.blocks(name, "pd") or cut.blocks("pd", name))]

    def heal(self) -> None:
        """End everything that is wrong with the network."""
        self.loss = self.disorder = 0.0
        self.slow.clear()
        self.cuts.clear()

    def disturb(self, node: Node) -> None:
        """Let a store's raft messages be sent twice, or later than those after them."""
        server = node.server
        assert server is not None
        assert server.store is not None
        router = server.store.router
        send = router.send

        def late(store_id: int, message: serverpb.RaftMessage) -> None:
            if node.server is server:
                send(store_id, message)

        def disturbed(store_id: int, message: serverpb.RaftMessage) -> None:
            fate = self._rng.random() if self.disorder else 1.0
            if fate > self.disorder / 2:
                send(store_id, message)
            if fate < self.disorder:
                copy = serverpb.RaftMessage.FromString(message.SerializeToString())
                asyncio.get_running_loop().call_later(self._rng.random() * LATE_S, late, store_id, copy)

        router.send = disturbed  # type: ignore[method-assign]
