"""Three PD members and three stores as processes, each PD member in a network namespace of its own, under a running workload.

Members are killed in turn and all at once; the leader is cut off, and stopped. No timestamp repeats or goes back, no id is given
twice, no acknowledged key or transaction is lost, and everything goes on within 10 s of the end of each fault.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.chaos.cluster import end
from tests.support.netns import Namespaces, available, namespaces

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("processes"), pytest.mark.timeout(400)]

MEMBERS = ["pd1", "pd2", "pd3"]
HOME = "home"
"""The namespace of stores and clients."""
RESUME_WITHIN_S = 10.0
CUT_S = 8.0
STOPPED_S = 30.0
LEADER_TRIES = 40
START_WITHIN_S = 60.0
KINDS = ("tso", "ids", "puts", "txns")


class Cluster:
    """The processes."""

    def __init__(self, spaces: Namespaces, directory: Path, stack: ExitStack) -> None:
        self.spaces = spaces
        self.directory = directory
        self._stack = stack
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.pd = [f"{spaces.addresses[name]}:2379" for name in MEMBERS]

    def start_member(self, name: str) -> None:
        address = self.spaces.addresses[name]
        cluster = ",".join(f"{one}=http://{self.spaces.addresses[one]}:2380" for one in MEMBERS)
        command = [
            *(sys.executable, "-m", "pd_py.server", "--name", name, "--data-dir", str(self.directory / name)),
            *("--client-urls", f"http://{address}:2379", "--peer-urls", f"http://{address}:2380"),
            *("--initial-cluster", cluster, "--shared-port"),
        ]
        self._start(name, self.spaces.command(name, command))

    def start_store(self, number: int) -> None:
        home = self.spaces.addresses[HOME]
        config = self.directory / "tikv.toml"
        config.write_text('[raftstore]\nraft-base-tick-interval = "100ms"\npd-store-heartbeat-tick-interval = "2s"\n')
        command = [
            *(sys.executable, "-m", "tikv_py.server", "--config", str(config), "--pd-endpoints", ",".join(self.pd)),
            *("--addr", f"{home}:{21160 + number}", "--status-addr", f"{home}:{21180 + number}"),
            *("--data-dir", str(self.directory / f"store{number}")),
        ]
        self._start(f"store{number}", self.spaces.command(HOME, command))

    def _start(self, name: str, command: list[str]) -> None:
        log = self._stack.enter_context((self.directory / f"{name}.log").open("ab"))
        self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)
        self._stack.callback(end, self.processes[name])

    def leader(self) -> str:
        """The name of the member that leads."""
        for _ in range(LEADER_TRIES):
            command = [sys.executable, "-m", "tests.chaos.pd_workload", "--leader", ",".join(self.pd)]
            asked = subprocess.run(self.spaces.command(HOME, command), capture_output=True, text=True, check=True)
            address = asked.stdout.strip()
            if address in self.pd:
                return MEMBERS[self.pd.index(address)]
        raise AssertionError(f"no leader, asked {LEADER_TRIES} times")

    def signal(self, name: str, number: int) -> None:
        os.kill(self.processes[name].pid, number)

    def kill(self, name: str) -> None:
        self.signal(name, signal.SIGKILL)
        self.processes[name].wait()


class Watcher:
    """Reads what the workload tells."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.lines: list[dict[str, float]] = []
        self.last: dict[str, object] = {}
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = json.loads(raw)
            with self._news:
                if "wrong" in line:
                    self.last = line
                else:
                    self.lines.append(line)
                self._news.notify_all()

    def until(self, at: float) -> None:
        """Wait until the workload has told of this moment."""
        with self._news:
            assert self._news.wait_for(lambda: self.lines[-1]["t"] >= at, at - time.monotonic() + 30)

    def begun(self) -> bool:
        """Wait until every kind of work was done a few times; False when that takes too long."""
        with self._news:
            return self._news.wait_for(
                lambda: bool(self.lines) and min(self.lines[-1][kind] for kind in KINDS) >= 10, START_WITHIN_S
            )

    def wait_for_progress(self, since: float, within_s: float) -> dict[str, float]:
        """How many seconds after `since` each kind of work went on. Fails after `within_s`.

        What was on its way when the fault began does not count: only what comes half a second later.
        """
        self.until(since + 0.5)
        before = next(line for line in reversed(self.lines) if line["t"] <= since + 0.5)
        found: dict[str, float] = {}
        while len(found) < len(KINDS):
            for line in list(self.lines):
                for kind in KINDS:
                    if kind not in found and line["t"] > before["t"] and line[kind] > before[kind] + 2:
                        found[kind] = line["t"] - since
            missing = [kind for kind in KINDS if kind not in found]
            assert not missing or time.monotonic() < since + within_s + 1, (
                f"{missing} did not go on within {within_s} s"
            )
            self.until(self.lines[-1]["t"] + 0.01)
        assert max(found.values()) <= within_s, found
        return found

    def finish(self) -> dict[str, object]:
        self._process.send_signal(signal.SIGTERM)
        self._thread.join(60)
        return self.last


@contextmanager
def running(directory: Path) -> Iterator[tuple[Cluster, Watcher]]:
    with namespaces([*MEMBERS, HOME]) as spaces, ExitStack() as stack:
        cluster = Cluster(spaces, directory, stack)
        for name in MEMBERS:
            cluster.start_member(name)
        for number in range(3):
            cluster.start_store(number)
        log = stack.enter_context((directory / "workload.log").open("wb"))
        command = [sys.executable, "-m", "tests.chaos.pd_workload", ",".join(cluster.pd)]
        process = subprocess.Popen(spaces.command(HOME, command), stdout=subprocess.PIPE, stderr=log)
        stack.callback(end, process)
        watcher = Watcher(process)
        assert watcher.begun(), f"the workload did not begin: {(directory / 'workload.log').read_text()}"
        yield cluster, watcher


@pytest.fixture
def chaos(tmp_path: Path) -> Iterator[tuple[Cluster, Watcher]]:
    reason = available()
    if reason:
        pytest.skip(reason)
    with running(tmp_path) as started:
        yield started


def test_members_that_die_and_members_that_are_cut_off(chaos: tuple[Cluster, Watcher]) -> None:
    cluster, watcher = chaos
    told: dict[str, dict[str, float]] = {}
    for name in MEMBERS:
        cluster.kill(name)
        told[f"{name} killed"] = watcher.wait_for_progress(time.monotonic(), RESUME_WITHIN_S)
        cluster.start_member(name)
        watcher.wait_for_progress(time.monotonic(), RESUME_WITHIN_S)

    for name in MEMBERS:
        cluster.kill(name)
    for name in MEMBERS:
        cluster.start_member(name)
    told["all killed"] = watcher.wait_for_progress(time.monotonic(), RESUME_WITHIN_S)

    leader = cluster.leader()
    cluster.spaces.cut(leader)
    told["leader cut off"] = watcher.wait_for_progress(time.monotonic(), RESUME_WITHIN_S)
    watcher.until(time.monotonic() + CUT_S)
    cluster.spaces.heal(leader)
    told["leader back"] = watcher.wait_for_progress(time.monotonic(), RESUME_WITHIN_S)

    leader = cluster.leader()
    cluster.signal(leader, signal.SIGSTOP)
    told["leader stopped"] = watcher.wait_for_progress(time.monotonic(), RESUME_WITHIN_S)
    watcher.until(time.monotonic() + STOPPED_S)
    cluster.signal(leader, signal.SIGCONT)
    told["leader goes on"] = watcher.wait_for_progress(time.monotonic(), RESUME_WITHIN_S)

    watcher.until(time.monotonic() + 2)
    outcome = watcher.finish()
    for event, kinds in told.items():
        print(event, {kind: round(seconds, 1) for kind, seconds in kinds.items()})
    assert outcome.get("wrong") == []
