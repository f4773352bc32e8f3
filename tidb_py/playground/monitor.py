"""Prometheus beside a playground, when the machine has it: scrapes every instance, keeps its data with the playground's.

Nothing is downloaded. Where there is no `prometheus` program, the ready block says so and the metrics pages are there
all the same.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from pathlib import Path

from tidb_py.playground.plan import Plan

PORT = 9090


class Monitor:
    """A Prometheus process, or none."""

    def __init__(self, plan: Plan, data_dir: Path) -> None:
        self._plan = plan
        self._directory = data_dir / "prometheus"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> str:
        """Start it if it is installed; the line for the ready block."""
        program = shutil.which("prometheus")
        if program is None:
            return "no `prometheus` on this machine; the metrics pages above work without"
        port = _free_port(self._plan.host, PORT)
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "prometheus.yml"
        config.write_text(json.dumps(self._config()), encoding="utf-8")  # JSON is YAML
        with (self._directory / "prometheus.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={self._directory / 'data'}",
                f"--web.listen-address={self._plan.host}:{port}",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return f"http://{self._plan.host}:{port} (Prometheus)"

    def _config(self) -> dict[str, object]:
        jobs = {"pd": "pd", "kv": "tikv", "db": "tidb"}
        return {
            "global": {"scrape_interval": "5s"},
            "scrape_configs": [
                {
                    "job_name": job,
                    "static_configs": [{"targets": [instance.status_address for instance in self._plan.by_role(role)]}],
                }
                for role, job in jobs.items()
            ],
        }

    async def stop(self) -> None:
        """Stop it."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


def _free_port(host: str, wanted: int) -> int:
    with socket.socket() as probe:
        try:
            probe.bind((host, wanted))
        except OSError:
            probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
