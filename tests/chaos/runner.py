"""One run: a workload's clients and a nemesis on a cluster, then the verdict on what the clients saw.

A run fails by its verdict, and also when it shows nothing: too few acknowledged operations, none soon after the last
heal, no final reads, or a server that ended by itself.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.chaos.cluster import HOME, Cluster
from tests.chaos.nemesis import Fault, Nemesis
from tests.support.checkers import bank, list_append, long_fork, register, unique_set
from tests.support.checkers.history import Operation, Outcome, Verdict, read_history

CHECKERS: dict[str, Callable[[Sequence[Operation]], Verdict]] = {
    "bank": bank.check,
    "register": register.check,
    "set": unique_set.check,
    "append": list_append.check,
    "long-fork": long_fork.check,
}
WORKLOADS = tuple(CHECKERS)
READY_WITHIN_S = 90.0
RECOVER_WITHIN_S = 20.0
FINISH_WITHIN_S = 120.0
FLOOR_PER_S = 5.0
"""Acknowledged operations per second of the run; calm clusters do many times that."""
CLIENTS = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    workload: str
    kinds: tuple[str, ...]
    seconds: float
    seed: int
    clients: int = CLIENTS


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it. Times are seconds."""

    plan: Plan
    counts: dict[Outcome, int]
    faults: tuple[Fault, ...]
    begun: float
    """When the clients began, by the monotonic clock."""
    longest_outage: float
    outage_begun: float
    recovery: float
    """From the last heal to the first answer to an operation that began after it; infinite when there was none."""
    verdict: Verdict
    history: Path
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict.valid and not self.failures

    def __str__(self) -> str:
        plan = self.plan
        counts = ", ".join(f"{count} {outcome.value}" for outcome, count in self.counts.items())
        lines = [
            f"{plan.workload}: {'passed' if self.passed else 'FAILED'} (seed {plan.seed}, {plan.seconds:g} s)",
            f"  operations: {counts}",
            f"  longest outage: {self.longest_outage:.1f} s from {self.outage_begun - self.begun:.1f} s",
            f"  first answer: {self.recovery:.1f} s after the last heal",
            f"  faults: {len(self.faults)}",
            *(
                f"    {fault.begun - self.begun:5.1f} .. {fault.healed - self.begun:5.1f} s  {fault.what}"
                for fault in self.faults
            ),
            *(f"  {failure}" for failure in self.failures),
            f"  history: {self.history}",
            f"  verdict: {self.verdict}",
        ]
        return "\n".join(lines)


class Clients:
    """The process with the clients, and what it says."""

    def __init__(self, cluster: Cluster, plan: Plan, history: Path, prefix: str) -> None:
        command = ["-m", "tests.chaos.clients", plan.workload, ",".join(cluster.pd), str(history), prefix]
        command += [str(plan.seed), str(plan.clients)]
        self.log = f"clients-{prefix.strip('/')}"
        self._process = cluster.run(HOME, command, self.log, talks=True)
        self._news = threading.Condition()
        self._said: list[dict[str, float]] = []
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._said.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for(self, word: str, seconds: float) -> bool:
        """Whether a word was said in time."""
        with self._news:
            self._news.wait_for(lambda: self._ended or any(word in line for line in self._said), seconds)
            return any(word in line for line in self._said)

    def acknowledged(self) -> float:
        """How many operations are acknowledged."""
        return next((line["ok"] for line in reversed(self._said) if "ok" in line), 0)

    def wait_for_more(self, count: int, seconds: float) -> None:
        """Wait for so many more acknowledged operations, at most so long."""
        with self._news:
            wanted = self.acknowledged() + count
            self._news.wait_for(lambda: self._ended or self.acknowledged() >= wanted, seconds)

    def stop(self) -> None:
        """No new operations, only the final reads."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """End the process."""
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._thread.join(10)


def run(cluster: Cluster, plan: Plan) -> Report:
    """Run a plan on a running cluster, which is healed afterwards."""
    prefix = f"{plan.workload}-{plan.seed}-{time.monotonic_ns()}/"
    history = cluster.directory / f"{plan.workload}-{plan.seed}.jsonl"
    clients = Clients(cluster, plan, history, prefix)
    failures: list[str] = []
    nemesis = Nemesis(cluster, plan.kinds, f"{plan.workload} {plan.seed}")
    over = threading.Event()
    begun = healed = time.monotonic()
    try:
        if clients.wait_for("ready", READY_WITHIN_S):
            begun = time.monotonic()
            nemesis.run(plan.seconds, over)
            failures += [f"{name} ended by itself: {cluster.log(name)}" for name in cluster.dead()]
            healed = nemesis.faults[-1].healed if nemesis.faults else begun
            clients.wait_for_more(2 * plan.clients, RECOVER_WITHIN_S)
            clients.stop()
            if not clients.wait_for("done", FINISH_WITHIN_S):
                failures.append(f"no final reads: {cluster.log(clients.log)}")
        else:
            failures.append(f"the clients did not begin: {cluster.log(clients.log)}")
    finally:
        nemesis.heal()
        nemesis.close()
        clients.stop()
        clients.end()
    failures += [f"{name} ended by itself: {cluster.log(name)}" for name in cluster.dead()]
    operations = read_history(history.read_text().splitlines()) if history.exists() else []
    return judge(plan, operations, tuple(nemesis.faults), (begun, healed), history, failures)


def judge(
    plan: Plan,
    operations: Sequence[Operation],
    faults: tuple[Fault, ...],
    times: tuple[float, float],
    history: Path,
    failures: list[str],
) -> Report:
    """The verdict and the figures. `times`: when the clients began, and when the last fault was healed."""
    begun, healed = times
    answered = sorted(one.returned for one in operations if one.ok)
    outage, since = max(((after - at, at) for at, after in pairwise([begun, *answered])), default=(plan.seconds, begun))
    recovered = min((one.returned for one in operations if one.ok and one.called >= healed), default=float("inf"))
    recovery = recovered - healed
    floor = int(plan.seconds * FLOOR_PER_S)
    if len(answered) < floor:
        failures.append(
            f"only {len(answered)} operations were acknowledged, {floor} are the least that tells something"
        )
    if recovery > RECOVER_WITHIN_S:
        failures.append(f"nothing was acknowledged within {RECOVER_WITHIN_S} s of the last heal")
    counts = {outcome: sum(one.outcome is outcome for one in operations) for outcome in Outcome}
    verdict = CHECKERS[plan.workload](operations)
    return Report(plan, counts, faults, begun, outage, since, recovery, verdict, history, tuple(failures))
