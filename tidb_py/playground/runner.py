"""Running a playground's processes: check ports, start in order, wait until each answers, stop in reverse.

Children get a session of their own, so that Ctrl-C reaches only the playground, which then stops them in order; on
Linux the kernel ends them when the playground dies without doing so. A child that ends by itself while the playground
is up is reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import aiohttp

from core_py.errors import CANNOT_LISTEN, ConfigError, DbError
from tidb_py.playground.plan import Instance, Plan, to_toml

READY_TIMEOUT_S = 60.0
POLL_S = 0.05
STOP_TIMEOUT_S = 10.0
_PR_SET_PDEATHSIG = 1

Progress = Callable[[str, str], None]


class StartFailed(DbError):
    """A process of the playground did not come up."""

    code = "DB:Playground:StartFailed"


def check_ports(plan: Plan) -> None:
    """Raise ConfigError naming the first port that is in use."""
    for instance in plan.instances:
        for port in instance.ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((plan.host, port))
                except OSError as error:
                    raise ConfigError(
                        f"{CANNOT_LISTEN} port {port} for {instance.name} ({error.strerror});"
                        " stop what runs there, or choose others with --port-offset"
                    ) from None


def _die_with_parent() -> None:
    """In the child, before exec: ask the kernel for SIGTERM when the playground is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Runner:
    """The processes of one playground."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self._plan = plan
        self._progress = progress
        self._running: list[tuple[Instance, asyncio.subprocess.Process]] = []

    def pids(self) -> dict[str, list[int]]:
        """Process ids by role."""
        out: dict[str, list[int]] = {"pd": [], "kv": [], "db": []}
        for instance, process in self._running:
            out[instance.role].append(process.pid)
        return out

    async def start(self) -> None:
        """Start everything; on failure stop what runs and raise StartFailed."""
        try:
            for role in ("pd", "kv", "db"):
                for instance in self._plan.by_role(role):
                    await self._spawn(instance)
                async with asyncio.TaskGroup() as group:
                    for instance, process in self._running:
                        if instance.role == role:
                            group.create_task(self._wait_ready(instance, process))
        except BaseExceptionGroup as errors:
            await self.stop()
            raise errors.exceptions[0] from None
        except BaseException:
            await self.stop()
            raise

    async def _spawn(self, instance: Instance) -> None:
        self._progress(instance.name, "starting")
        instance.directory.mkdir(parents=True, exist_ok=True)
        config_path = instance.directory / "config.toml"
        config_path.write_text(to_toml(instance.config), encoding="utf-8")
        with (instance.directory / "stderr.log").open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *instance.command(config_path),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._running.append((instance, process))

    async def _wait_ready(self, instance: Instance, process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not await is_ready(instance, process.pid):
                    if process.returncode is not None:
                        raise StartFailed(
                            f"{instance.name} ended with exit code {process.returncode}: {_last_words(instance)}"
                        )
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise StartFailed(
                f"{instance.name} is not ready after {READY_TIMEOUT_S:.0f} s; see {instance.log_file}"
            ) from None
        self._progress(instance.name, "ready")

    async def watch(self, stop: asyncio.Event) -> None:
        """Until `stop`: report processes that end."""
        reported: set[int] = set()
        while not stop.is_set():
            for instance, process in self._running:
                if process.returncode is not None and process.pid not in reported:
                    reported.add(process.pid)
                    self._progress(instance.name, f"ended with exit code {process.returncode}; see {instance.log_file}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await stop.wait()

    async def stop(self) -> None:
        """Stop SQL servers, then stores, then PD; kill what does not go."""
        for role in ("db", "kv", "pd"):
            group = [process for instance, process in self._running if instance.role == role]
            for process in group:
                if process.returncode is None:
                    process.terminate()
            for process in group:
                try:
                    async with asyncio.timeout(STOP_TIMEOUT_S):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()
        self._running.clear()


async def is_ready(instance: Instance, pid: int) -> bool:
    """Whether the status page says so, and is that of process `pid`.

    Two playgrounds that start at the same moment both find the ports free. The one whose child then cannot listen must not
    take the other's answer for its own: its user would work in the other's cluster.
    """
    host, port = instance.status_address.rsplit(":", 1)
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/ready") as answer:
            return answer.status == HTTPStatus.OK and (await answer.json()).get("pid") == pid
    except (aiohttp.ClientError, OSError, ValueError, AttributeError):
        return False


def _last_words(instance: Instance) -> str:
    path = instance.directory / "stderr.log"
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else f"see {instance.log_file}"


def ready_json(plan: Plan, pids: dict[str, list[int]], data_dir: Path) -> str:
    """The ready block for scripts, on one line."""
    return json.dumps(
        {
            "mysql": ",".join(instance.address for instance in plan.by_role("db")),
            "pd": ",".join(instance.address for instance in plan.by_role("pd")),
            "status": {instance.name: f"http://{instance.status_address}/metrics" for instance in plan.instances},
            "pids": pids,
            "data_dir": str(data_dir),
        }
    )
