"""etcd: three members on this machine (Debian's etcd-server), driven over grpc.aio with the same loop as ours."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.processes import free_ports, running, wait_for_port


def version() -> str | None:
    """The installed version, or None."""
    if shutil.which("etcd") is None:
        return None
    lines = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()
    return lines[0] if lines else "etcd"


@contextlib.contextmanager
def cluster() -> Iterator[list[str]]:
    """Client addresses of a running three-member cluster."""
    clients, peers = free_ports(3), free_ports(3)
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
            stack.enter_context(running(command, Path(directory) / f"m{i}.log"))
        for port in clients:
            wait_for_port(port)
        yield [f"127.0.0.1:{port}" for port in clients]
