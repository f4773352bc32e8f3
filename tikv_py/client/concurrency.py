"""Doing several things at once, with a bound, and with plain exceptions instead of groups of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from core_py.errors import RpcError
from core_py.ports import StreamCall

T = TypeVar("T")
DEFAULT_LIMIT = 16  # jobs at once; the others wait


async def run_all(jobs: Sequence[Callable[[], Awaitable[T]]], limit: int = DEFAULT_LIMIT) -> list[T]:
    """Results in the order of `jobs`. The first failure cancels the others, waits for them, and is raised as it is."""
    if len(jobs) == 1:
        return [await jobs[0]()]
    results: list[Any] = [None] * len(jobs)
    waiting = iter(enumerate(jobs))

    async def work() -> None:
        for number, job in waiting:
            results[number] = await job()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(limit, len(jobs))):
                group.create_task(work())
    except BaseExceptionGroup as failures:
        raise first_leaf(failures) from None
    return results


async def received(stream: StreamCall) -> Any:
    """The next message, or None at the end. Raises RpcError.

    A closed channel cancels its calls, and some transports show that as a cancellation of whoever reads: to a task that nobody
    cancelled it is a broken stream.
    """
    try:
        return await stream.receive()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RpcError("the connection was closed") from None


def first_leaf(failure: BaseException) -> BaseException:
    """The first plain exception in nested groups."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
