"""Running a server as a process: event loop, signals, orderly stop, exit codes.

SIGTERM and SIGINT ask for an orderly stop; a second one ends the process at once. An unexpected failure of a background task
stops the server and gives exit code 1, with the trace in the log: a server that limps on with half its parts helps nobody.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

import uvloop

from core_py.errors import DbError
from core_py.runtime.log import get_logger

SWITCH_INTERVAL_S = 0.0005  # a thread that comes back from RocksDB waits at most this long for the interpreter lock


class Server(Protocol):
    """What a process runs."""

    async def start(self) -> None:
        """Come up; raises DbError with a clear message when that is impossible."""
        ...

    async def stop(self) -> None:
        """Go down in order."""
        ...


class Stopper:
    """Lets any part of a process ask for its end."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.error: BaseException | None = None

    def request(self, error: BaseException | None = None) -> None:
        """Ask for the end; the first error decides the exit code."""
        if self.error is None:
            self.error = error
        self._event.set()

    async def wait(self) -> None:
        """Wait until somebody asked."""
        await self._event.wait()


async def serve(make: Callable[[Stopper], Awaitable[Server]]) -> int:
    """Start the server `make` builds, run it until a signal or a failure, stop it; return the exit code."""
    log = get_logger()
    stopper = Stopper()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _on_signal, stopper, number)
    try:
        server = await make(stopper)
        await server.start()
    except DbError as error:
        log.error("cannot start", error=str(error), code=error.code)
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 for whoever started it by hand
        return 1
    gc.collect()
    gc.freeze()
    await stopper.wait()
    if stopper.error is not None:
        log.error("stopping after a failure", error=repr(stopper.error), exc_info=stopper.error)
    await server.stop()
    return 1 if stopper.error is not None else 0


def _on_signal(stopper: Stopper, number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    stopper.request()


def run(make: Callable[[Stopper], Awaitable[Server]]) -> int:
    """Run `serve` on a fresh uvloop."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(make))
