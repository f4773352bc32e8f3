"""A playground as a context manager: real processes on free ports, gone when the block ends.

    with playground("--kv", "3") as cluster:
        connection = pymysql.connect(host=cluster.mysql_host, port=cluster.mysql_port, user="root")

Ports are tried, not reserved: another program may take one between the choice and the start, so a refused start is
tried again with other ports.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from core_py.errors import CANNOT_LISTEN

ATTEMPTS = 20
OFFSETS = range(1_000, 12_560, 40)
"""All ports stay below 32768, where the kernel takes those of outgoing connections from."""
STOP_TIMEOUT_S = 30.0


class PlaygroundFailed(RuntimeError):
    """The playground did not come up; the text is what it said."""


@dataclass(frozen=True, slots=True)
class PlaygroundCluster:
    """The ready block of a running playground."""

    mysql: str
    pd: str
    status: dict[str, str]
    pids: dict[str, list[int]]
    data_dir: str
    port_offset: int
    process: subprocess.Popen[str]

    @property
    def mysql_host(self) -> str:
        """Host of the first SQL server."""
        return self.mysql.split(",")[0].rsplit(":", 1)[0]

    @property
    def mysql_port(self) -> int:
        """Port of the first SQL server."""
        return int(self.mysql.split(",")[0].rsplit(":", 1)[1])

    def kill(self, role: str, number: int = 0) -> None:
        """End one process of a role ("pd", "kv", "db") without warning."""
        os.kill(self.pids[role][number], signal.SIGKILL)


def start(*arguments: str, port_offset: int | None = None) -> PlaygroundCluster:
    """Start a playground and wait until it is ready. Raises PlaygroundFailed."""
    chosen = random.Random(os.urandom(8))
    said = ""
    for _ in range(ATTEMPTS):
        offset = chosen.choice(OFFSETS) if port_offset is None else port_offset
        command = [sys.executable, "-m", "tidb_py.server", "playground", "--json", "--without-monitor"]
        process = subprocess.Popen(
            [*command, "--port-offset", str(offset), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if line:
            ready = json.loads(line)
            return PlaygroundCluster(
                ready["mysql"], ready["pd"], ready["status"], ready["pids"], ready["data_dir"], offset, process
            )
        said = process.communicate()[1]
        if port_offset is not None or CANNOT_LISTEN not in said:
            break
    raise PlaygroundFailed(said.strip() or "no output")


def stop(cluster: PlaygroundCluster) -> None:
    """Stop everything in order."""
    cluster.process.send_signal(signal.SIGINT)
    try:
        cluster.process.communicate(timeout=STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        cluster.process.kill()
        cluster.process.communicate()


@contextlib.contextmanager
def playground(*arguments: str, port_offset: int | None = None) -> Iterator[PlaygroundCluster]:
    """A running playground. Raises PlaygroundFailed."""
    cluster = start(*arguments, port_offset=port_offset)
    try:
        yield cluster
    finally:
        stop(cluster)
