"""Runs a coroutine on virtual time: sleeping costs nothing, and a wait that nothing can end is an error, not a hang."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import async_solipsism

T = TypeVar("T")


def run_virtual(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to completion on a fresh virtual-time loop. Raises SleepForeverError when everything waits on nothing."""
    loop = async_solipsism.EventLoop()
    try:
        result: T = loop.run_until_complete(coroutine)
        return result
    finally:
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        if pending:
            loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.close()
