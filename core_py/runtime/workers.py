"""Threads for what must not block the loop: disk syncs on a thread of their own, everything else on a small pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class ThreadWorkers:
    """`core_py.ports.Workers` over threads."""

    def __init__(self, threads: int = 2) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="worker")
        self._sync = ThreadPoolExecutor(1, thread_name_prefix="wal-sync")

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run in the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    async def sync(self, function: Callable[[], None]) -> None:
        """Run on the sync thread."""
        await asyncio.get_running_loop().run_in_executor(self._sync, function)

    def close(self) -> None:
        """Wait for what runs and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._sync.shutdown(wait=True, cancel_futures=True)


class InlineWorkers:
    """`core_py.ports.Workers` without threads, for memory engines; gives way to the loop once, as a thread would."""

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run at once."""
        await asyncio.sleep(0)
        return function(*args)

    async def sync(self, function: Callable[[], None]) -> None:
        """Run at once."""
        await asyncio.sleep(0)
        function()

    def close(self) -> None:
        """Nothing to end."""
