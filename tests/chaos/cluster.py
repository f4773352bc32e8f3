"""Three PD members and three stores as processes, each in a network namespace of its own, and what can be done to them.

Clients run in a namespace of their own too (`HOME`), which no fault cuts off: what they cannot reach is the fault of
servers. `heal` ends everything that was done and starts what was killed, on the data it had.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.netns import Namespaces, namespaces

MEMBERS = ["pd1", "pd2", "pd3"]
STORES = ["store1", "store2", "store3"]
NODES = [*MEMBERS, *STORES]
HOME = "home"
"""The namespace of clients."""
STORE_CONFIG = """
[raftstore]
raft-base-tick-interval = "100ms"
pd-store-heartbeat-tick-interval = "2s"
"""
LOG_TAIL = 2000


class Cluster:
    """The processes by name."""

    def __init__(self, spaces: Namespaces, directory: Path, stack: ExitStack) -> None:
        self.spaces, self.directory, self._stack = spaces, directory, stack
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.pd = [f"{spaces.addresses[name]}:2379" for name in MEMBERS]
        self._killed: set[str] = set()
        self._paused: set[str] = set()
        self._cut: set[str] = set()
        self._blocked: set[tuple[str, str]] = set()

    def start(self, name: str) -> None:
        """Start a member or a store; its data is what it left."""
        command = self._member(name) if name in MEMBERS else self._store(name)
        self.processes[name] = self.run(name, command, name)

    def run(self, space: str, command: list[str], log: str, *, talks: bool = False) -> subprocess.Popen[bytes]:
        """Run a command of this Python in a namespace, until the cluster ends. `talks`: with pipes for input and output."""
        file = self._stack.enter_context((self.directory / f"{log}.log").open("ab"))
        pipe = subprocess.PIPE if talks else None
        arguments = self.spaces.command(space, [sys.executable, *command])
        process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe or file, stderr=file)
        self._stack.callback(end, process)
        return process

    def _member(self, name: str) -> list[str]:
        addresses = self.spaces.addresses
        cluster = ",".join(f"{one}=http://{addresses[one]}:2380" for one in MEMBERS)
        return [
            *("-m", "pd_py.server", "--name", name, "--data-dir", str(self.directory / name)),
            *("--client-urls", f"http://{addresses[name]}:2379", "--peer-urls", f"http://{addresses[name]}:2380"),
            *("--initial-cluster", cluster, "--shared-port"),
        ]

    def _store(self, name: str) -> list[str]:
        config = self.directory / "tikv.toml"
        config.write_text(STORE_CONFIG)
        address = self.spaces.addresses[name]
        return [
            *("-m", "tikv_py.server", "--config", str(config), "--pd-endpoints", ",".join(self.pd)),
            *("--addr", f"{address}:20160", "--status-addr", f"{address}:20180"),
            *("--data-dir", str(self.directory / name)),
        ]

    def log(self, name: str) -> str:
        """The end of a log."""
        return (self.directory / f"{name}.log").read_text(errors="replace")[-LOG_TAIL:]

    def dead(self) -> list[str]:
        """Nodes that ended by themselves."""
        return [name for name in NODES if name not in self._killed and self.processes[name].poll() is not None]

    # ---- faults ---------------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """kill -9."""
        self._killed.add(name)
        self.processes[name].kill()
        self.processes[name].wait()

    def pause(self, name: str) -> None:
        """Stop a process where it is."""
        self._paused.add(name)
        os.kill(self.processes[name].pid, signal.SIGSTOP)

    def cut(self, name: str) -> None:
        """Nothing gets in or out."""
        self._cut.add(name)
        self.spaces.cut(name)

    def block(self, source: str, target: str) -> None:
        """What one sends to another is lost."""
        self._blocked.add((source, target))
        self.spaces.block(source, target)

    def heal(self) -> None:
        """End all of that."""
        for source, target in self._blocked:
            self.spaces.unblock(source, target)
        for name in self._cut:
            self.spaces.heal(name)
        for name in self._paused:
            if self.processes[name].poll() is None:
                os.kill(self.processes[name].pid, signal.SIGCONT)
        for name in self._killed:
            self.start(name)
        for faults in (self._blocked, self._cut, self._paused, self._killed):
            faults.clear()


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, whatever state it is in."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


@contextmanager
def running(directory: Path) -> Iterator[Cluster]:
    """A cluster that has just been started; clients wait until it answers."""
    with namespaces([*NODES, HOME]) as spaces, ExitStack() as stack:
        cluster = Cluster(spaces, directory, stack)
        for name in NODES:
            cluster.start(name)
        yield cluster
