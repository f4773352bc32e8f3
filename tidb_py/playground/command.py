"""`tidb-py playground`: the options, the progress, the ready block."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status

from core_py.errors import ConfigError, DbError
from core_py.runtime.tasks import TaskScope
from tidb_py.playground.monitor import Monitor
from tidb_py.playground.plan import Options, Plan, make_plan
from tidb_py.playground.runner import Runner, check_ports, ready_json

EXIT_INTERRUPTED = 130
TAG = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")


@dataclass(frozen=True, slots=True)
class PlaygroundRequest:
    """The command line."""

    db: int
    kv: int
    pd: int
    host: str
    port_offset: int
    data_dir: str | None
    tag: str | None
    db_config: str | None
    kv_config: str | None
    pd_config: str | None
    without_monitor: bool
    json: bool


def _load(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _data_dir(request: PlaygroundRequest) -> tuple[Path, bool]:
    """(directory, whether it is temporary). Raises ConfigError."""
    if request.data_dir is not None:
        return Path(request.data_dir).expanduser().resolve(), False
    if request.tag is not None:
        if not TAG.match(request.tag):
            raise ConfigError(f"--tag {request.tag!r}: letters, digits, dot, dash and underscore make a tag")
        return Path.home() / ".tidb-py" / "data" / request.tag, False
    return Path(tempfile.mkdtemp(prefix="tidb-py-playground-")), True


def run(request: PlaygroundRequest) -> int:
    """Run a playground until it is told to stop; returns the exit code."""
    console = Console(stderr=request.json, highlight=False)
    temporary_dir: Path | None = None
    try:
        data_dir, temporary = _data_dir(request)
        temporary_dir = data_dir if temporary else None
        plan = make_plan(
            Options(
                request.db,
                request.kv,
                request.pd,
                request.host,
                request.port_offset,
                data_dir,
                _load(request.db_config),
                _load(request.kv_config),
                _load(request.pd_config),
            )
        )
        check_ports(plan)
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return asyncio.run(_run(request, plan, data_dir, temporary, console))
    except DbError as error:
        Console(stderr=True, highlight=False).print(f"error: {error.message}", soft_wrap=True, markup=False)
        return 1
    finally:
        if temporary_dir is not None:
            shutil.rmtree(temporary_dir, ignore_errors=True)


async def _run(request: PlaygroundRequest, plan: Plan, data_dir: Path, temporary: bool, console: Console) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    states: dict[str, str] = {instance.name: "waiting" for instance in plan.instances}
    with Status("starting ...", console=console) as status:

        def progress(name: str, state: str) -> None:
            states[name] = state
            if not console.is_terminal:
                console.print(f"{name}: {state}", soft_wrap=True)
            status.update(", ".join(f"{one} {now}" for one, now in states.items()))

        runner = Runner(plan, progress)
        if not await _start_unless(stop, runner):
            return EXIT_INTERRUPTED
    monitor = Monitor(plan, data_dir)
    note = None if request.without_monitor else await monitor.start()
    if request.json:
        print(ready_json(plan, runner.pids(), data_dir), flush=True)  # noqa: T201 the answer for scripts
    else:
        _print_ready(console, plan, data_dir, temporary=temporary, monitor=note)
    try:
        await runner.watch(stop)
    finally:
        console.print("stopping ...")
        await monitor.stop()
        await runner.stop()
    return 0


async def _start_unless(stop: asyncio.Event, runner: Runner) -> bool:
    """Start everything; False when the user said stop before it was up."""
    scope = TaskScope("playground start", on_failure=lambda _error: None)
    starting, stopping = scope.spawn(runner.start()), scope.spawn(stop.wait())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    started = starting.done()
    await scope.close()
    if started:
        starting.result()
    return started


def _print_ready(console: Console, plan: Plan, data_dir: Path, *, temporary: bool, monitor: str | None) -> None:
    console.print("🎉 tidb-py playground is ready, enjoy!", markup=False)
    for server in plan.by_role("db"):
        host, port = server.address.rsplit(":", 1)
        console.print(f"  Connect:   mysql --host {host} --port {port} -u root", soft_wrap=True)
    first = plan.by_role("pd")[0].address
    console.print(f"  PD:        {plan.pd_address}", soft_wrap=True)
    console.print(
        f"  Operate:   pd-py ctl -u http://{first} store, or curl http://{first}/pd/api/v1/stores", soft_wrap=True
    )
    for instance in plan.instances:
        console.print(f"  Metrics:   http://{instance.status_address}/metrics  ({instance.name})", soft_wrap=True)
    if monitor:
        console.print(f"  Monitor:   {monitor}", soft_wrap=True)
    kept = (
        "temporary: removed when this stops; keep it with --tag NAME or --data-dir DIR"
        if temporary
        else "kept when this stops"
    )
    console.print(f"  Data:      {data_dir}  ({kept})", soft_wrap=True, markup=False)
    console.print(f"  Logs:      {data_dir}/*/*.log", soft_wrap=True, markup=False)
    console.print("  Stop:      Ctrl-C")
    sys.stdout.flush()
