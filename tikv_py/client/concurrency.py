"""Doing several things at once, with a bound, and with plain exceptions instead of groups of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
DEFAULT_LIMIT = 16  # jobs at once; the others wait


async def run_all(jobs: Sequence[Callable[[], Awaitable[T]]], limit: int = DEFAULT_LIMIT) -> list[T]:
    """Results in the order of `jobs`. The first failure cancels the others, waits for them, and is raised as it is."""
    if len(jobs) == 1:
        return [await jobs[0]()]
    room = asyncio.Semaphore(limit)

    async def run(job: Callable[[], Awaitable[T]]) -> T:
        async with room:
            return await job()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(job)) for job in jobs]
    except BaseExceptionGroup as failures:
        raise first_leaf(failures) from None
    return [task.result() for task in tasks]


def first_leaf(failure: BaseException) -> BaseException:
    """The first plain exception in nested groups."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
