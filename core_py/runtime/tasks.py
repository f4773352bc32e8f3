"""Structured background work: a component owns a `TaskScope`, and no task outlives it or fails unseen.

Why not a bare TaskGroup: servers start components in one place and stop them in another, so the scope has `start`-like `spawn`
and an explicit `close`. The rules of a TaskGroup stay: a failed task ends the scope's owner (through `on_failure`), and
`close` waits until every task is gone. `InvariantViolation` ends the process at once: after it no answer can be trusted.

This module and the simulator are the only places that create tasks.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from core_py.errors import InvariantViolation
from core_py.runtime.log import get_logger

EXIT_INVARIANT = 70


def stop_process(error: BaseException) -> None:
    """Report a broken invariant and end the process without running any more of it."""
    traceback.print_exception(error, file=sys.stderr)
    print(f"stopping: a broken invariant: {error}", file=sys.stderr, flush=True)  # noqa: T201 the last words
    os._exit(EXIT_INVARIANT)


class TaskScope:
    """Owns tasks. `on_failure` gets the first unexpected exception; without one it is raised by `close`."""

    def __init__(
        self,
        name: str,
        *,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._name = name
        self._tasks: dict[asyncio.Task[Any], None] = {}  # in the order of their start: so they are cancelled, too
        self._on_failure = on_failure
        self._failure: BaseException | None = None
        self._closing = False

    def spawn(self, coroutine: Coroutine[Any, Any, Any], *, name: str = "") -> asyncio.Task[Any]:
        """Run a coroutine until it ends or the scope closes."""
        if self._closing:
            coroutine.close()
            raise RuntimeError(f"scope {self._name} is closed")
        task = asyncio.get_running_loop().create_task(coroutine, name=name or self._name)
        self._tasks[task] = None
        task.add_done_callback(self._done)
        return task

    def __len__(self) -> int:
        return len(self._tasks)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        if isinstance(error, InvariantViolation):
            stop_process(error)
        if self._on_failure is not None:
            self._on_failure(error)
            return
        get_logger().error(
            "background task failed", scope=self._name, task=task.get_name(), error=f"{type(error).__name__}: {error}"
        )
        if self._failure is None:
            self._failure = error

    async def join(self) -> None:
        """Wait until no task is left, without cancelling any."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    async def close(self) -> None:
        """Cancel all tasks and wait for them; raises the first failure nobody took."""
        self._closing = True
        current = asyncio.current_task()
        while tasks := [task for task in self._tasks if task is not current]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
