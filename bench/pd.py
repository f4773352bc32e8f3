"""PD members as processes on free ports, without stores."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.processes import free_ports, running, wait_for_port


@dataclass(frozen=True, slots=True)
class Member:
    """One PD process."""

    address: str
    pid: int


@contextlib.contextmanager
def members(count: int, *arguments: str) -> Iterator[list[Member]]:
    """A cluster of `count` members; more command line arguments go to each."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        clients, peers = free_ports(count), free_ports(count)
        cluster = ",".join(f"pd{number}=http://127.0.0.1:{port}" for number, port in enumerate(peers))
        started = []
        for number in range(count):
            command = [
                *(sys.executable, "-m", "pd_py.server", "--name", f"pd{number}", "--data-dir", f"{directory}/{number}"),
                *("--client-urls", f"http://127.0.0.1:{clients[number]}"),
                *("--peer-urls", f"http://127.0.0.1:{peers[number]}", "--initial-cluster", cluster, *arguments),
            ]
            process = stack.enter_context(running(command, Path(directory) / f"{number}.log"))
            started.append(Member(f"127.0.0.1:{clients[number]}", process.pid))
        for port in clients:
            wait_for_port(port)
        yield started
