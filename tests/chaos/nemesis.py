"""Who does harm to a cluster: one fault after another by a seed (with the
name of the workload), each healed before the next begins, all healed at the end.

Kinds: `kill` (kill -9, started again at the heal), `pause` (SIGSTOP), `partition` (a node alone, a node deaf or mute,
two halves), `shuffle` (leaders move about all the time). Each kind has its turn before one has a second; `shuffle` also
comes with others. Half of the faults aim at who leads: PD's leader, or the store with most leaders, as far as PD tells.
A seed repeats the choices, not the outcome: processes and packets take their own time.
"""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.cluster import HOME, MEMBERS, NODES, STORES, Cluster

KINDS = ("kill", "pause", "partition", "shuffle")
HOLD_S, LONG_HOLD_S, CALM_S = (1.5, 4.0), (5.0, 9.0), (0.7, 2.0)
LONG_SHARE = 0.2
LONG_FROM_S = 40.0
"""Shorter runs have no long faults, so that each kind has its turn."""
WITH_SHUFFLE_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done, and when; seconds of the monotonic clock."""

    what: str
    begun: float
    healed: float


class AgentPipe:
    """The nemesis' end of `tests.chaos.agent`."""

    def __init__(self, cluster: Cluster, seed: str) -> None:
        command = ["-m", "tests.chaos.agent", ",".join(cluster.pd), seed]
        self._process = cluster.run(HOME, command, "agent", talks=True)
        self._names = {cluster.spaces.addresses[name]: name for name in NODES}

    def ask(self, **command: object) -> dict[str, object]:
        """One command, one answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, object] = json.loads(self._process.stdout.readline())
        return answer

    def leader(self, nodes: list[str]) -> str | None:
        """Who leads among members or among stores; None when PD does not tell."""
        answer = self.ask(do="leaders")
        if nodes is MEMBERS:
            return self._names.get(str(answer.get("pd", "")).split(":")[0])
        stores = answer.get("stores")
        if not isinstance(stores, dict) or not stores:
            return None
        return self._names.get(max(stores, key=lambda address: stores[address]).split(":")[0])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()


class Nemesis:
    """One run's faults."""

    def __init__(self, cluster: Cluster, kinds: tuple[str, ...], seed: str) -> None:
        self.cluster, self.kinds = cluster, kinds
        self.rng = random.Random(seed)
        self.agent = AgentPipe(cluster, seed)
        self.faults: list[Fault] = []
        self._actions: dict[str, Callable[[], str]] = {
            "kill": self._kill,
            "pause": self._pause,
            "partition": self._partition,
            "shuffle": self._shuffle,
        }

    def run(self, seconds: float, over: threading.Event) -> None:
        """Do harm for so long, or until `over`; returns with everything healed."""
        until = time.monotonic() + seconds
        bag: list[str] = []
        while self.kinds and time.monotonic() + CALM_S[0] < until and not over.wait(self.rng.uniform(*CALM_S)):
            if not bag:
                bag = self.rng.sample(self.kinds, len(self.kinds))
            self._one(bag.pop(), seconds, until, over)
        over.wait(max(0.0, until - time.monotonic()))

    def _one(self, kind: str, seconds: float, until: float, over: threading.Event) -> None:
        begun = time.monotonic()
        long = seconds >= LONG_FROM_S and self.rng.random() < LONG_SHARE
        hold_s = self.rng.uniform(*(LONG_HOLD_S if long else HOLD_S))
        beside = kind != "shuffle" and "shuffle" in self.kinds and self.rng.random() < WITH_SHUFFLE_SHARE
        try:
            what = [self._shuffle()] if beside else []
            what.append(self._actions[kind]())
            over.wait(max(0.5, min(hold_s, until - time.monotonic())))
        finally:
            self.heal()
        self.faults.append(Fault(" with ".join(reversed(what)), begun, time.monotonic()))

    def heal(self) -> None:
        """End everything."""
        self.agent.ask(do="shuffle", on=False)
        self.cluster.heal()

    def close(self) -> None:
        """End the helper process."""
        self.agent.close()

    # ---- kinds ----------------------------------------------------------------------------------------------

    def _target(self) -> str:
        """A member or a store, every other time the one that leads."""
        nodes = self.rng.choice([MEMBERS, STORES, STORES])
        chosen = self.rng.choice(nodes)
        return (self.agent.leader(nodes) or chosen) if self.rng.random() < 0.5 else chosen

    def _targets(self) -> list[str]:
        """One node mostly, else all stores, all members, or a store and a member."""
        draw = self.rng.random()
        if draw < 0.7:
            return [self._target()]
        if draw < 0.8:
            return list(STORES)
        if draw < 0.9:
            return list(MEMBERS)
        return [self.rng.choice(MEMBERS), self.rng.choice(STORES)]

    def _kill(self) -> str:
        targets = self._targets()
        for name in targets:
            self.cluster.kill(name)
        return f"kill {'+'.join(targets)}"

    def _pause(self) -> str:
        targets = self._targets()
        for name in targets:
            self.cluster.pause(name)
        return f"pause {'+'.join(targets)}"

    def _partition(self) -> str:
        draw = self.rng.random()
        if draw < 0.4:
            target = self._target()
            self.cluster.cut(target)
            return f"cut off {target}"
        if draw < 0.7:
            target = self._target()
            deaf = self.rng.random() < 0.5
            for other in NODES:
                if other != target:
                    self.cluster.block(*((other, target) if deaf else (target, other)))
            return f"{target} {'hears' if deaf else 'reaches'} no server"
        left = {self.rng.choice(MEMBERS), self.rng.choice(STORES)}
        for one in left:
            for other in set(NODES) - left:
                self.cluster.block(one, other)
                self.cluster.block(other, one)
        return f"halves, {'+'.join(sorted(left))} apart"

    def _shuffle(self) -> str:
        self.agent.ask(do="shuffle", on=True)
        return "shuffle leaders"
