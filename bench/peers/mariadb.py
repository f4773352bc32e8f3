"""MariaDB: one server on this machine (Debian's mariadb-server), in a temporary directory, as it comes out of the package."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.processes import free_ports, running, wait_for_port


def version() -> str | None:
    """The installed version, or None."""
    if shutil.which("mariadbd") is None:
        return None
    return subprocess.run(["mariadbd", "--version"], capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def server() -> Iterator[int]:
    """The port of a running server with a password-less user `bench`."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        user = ["--user=root"]
        subprocess.run(
            [
                "mariadb-install-db",
                *user,
                f"--datadir={data}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            check=True,
            capture_output=True,
        )
        command = [
            "mariadbd",
            *user,
            *(f"--datadir={data}", f"--port={port}", f"--socket={directory}/socket", "--bind-address=127.0.0.1"),
            *("--skip-name-resolve", "--innodb-buffer-pool-size=512M"),
        ]
        with running(command, Path(directory) / "log"):
            wait_for_port(port)
            sql = "CREATE USER bench@'127.0.0.1'; GRANT ALL ON *.* TO bench@'127.0.0.1'; CREATE DATABASE sbtest"
            subprocess.run(
                ["mariadb", f"--socket={directory}/socket", "-u", "root", "-e", sql], check=True, capture_output=True
            )
            yield port
