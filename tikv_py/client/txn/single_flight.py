"""One run for all who want the same thing at the same time.

The work runs in a task of its own, so a caller that is cancelled neither ends it nor fails the others. An expected failure
(`DbError`) reaches every caller. Nothing is remembered once the work has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from core_py.errors import DbError
from core_py.runtime.tasks import TaskScope

K = TypeVar("K")
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Runs under way, by key."""

    def __init__(self, scope: TaskScope, name: str) -> None:
        self._scope, self._name = scope, name
        self._running: dict[K, asyncio.Task[V | DbError]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._running

    async def run(self, key: K, job: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The result of the run under way for `key`, or of a new one."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = self._scope.spawn(self._guard(key, job), name=self._name)
        outcome = await asyncio.shield(task)
        if isinstance(outcome, DbError):
            raise outcome
        return outcome

    async def _guard(self, key: K, job: Callable[[], Coroutine[Any, Any, V]]) -> V | DbError:
        try:
            return await job()
        except DbError as error:
            return error
        finally:
            self._running.pop(key, None)
