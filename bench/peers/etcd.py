"""etcd: three members on this machine (Debian's etcd-server), driven over grpc.aio with the same loop as ours."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.processes import free_ports, running, wait_for_port


def version() -> str | None:
    """The installed version, or None."""
    if shutil.which("etcd") is None:
        return None
    lines = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()
    return lines[0] if lines else "etcd"


@dataclass(frozen=True, slots=True)
class Member:
    """One running member."""

    address: str
    pid: int

    def is_leader(self) -> bool:
        """What its metrics page says."""
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=5) as page:
            return b"\netcd_server_is_leader 1\n" in page.read()


@contextlib.contextmanager
def cluster() -> Iterator[list[Member]]:
    """A running three-member cluster; its leader may not be chosen yet."""
    clients, peers = free_ports(3), free_ports(3)
    pids: list[int] = []
    initial = ",".join(f"m{i}=http://127.0.0.1:{peers[i]}" for i in range(3))
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        for i in range(3):
            command = [
                "etcd",
                *("--name", f"m{i}", "--data-dir", f"{directory}/m{i}", "--log-level", "error"),
                *("--listen-client-urls", f"http://127.0.0.1:{clients[i]}"),
                *("--advertise-client-urls", f"http://127.0.0.1:{clients[i]}"),
                *("--listen-peer-urls", f"http://127.0.0.1:{peers[i]}"),
                *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peers[i]}"),
                *("--initial-cluster", initial, "--initial-cluster-state", "new"),
            ]
            pids.append(stack.enter_context(running(command, Path(directory) / f"m{i}.log")).pid)
        for port in clients:
            wait_for_port(port)
        yield [Member(f"127.0.0.1:{port}", pid) for port, pid in zip(clients, pids, strict=True)]
