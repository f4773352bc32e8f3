"""The workers port on virtual time: a disk sync takes a while, so that other things happen before it is done.

Without a delay every write would be durable in the moment it is made, and nothing could fall between a write and its sync.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from core_py.ports import Random


class DelayedWorkers:
    """`core_py.ports.Workers` without threads. Syncs run one after the other, each after up to `max_s` seconds."""

    def __init__(self, rng: Random, max_s: float) -> None:
        self._rng = rng
        self.max_s = max_s
        """May be changed at any time: the disk gets slow, or well again."""
        self._disk = asyncio.Lock()

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a little later."""
        await asyncio.sleep(self._rng.random() * self.max_s)
        return function(*args)

    async def sync(self, function: Callable[[], None]) -> None:
        """Run when the disk is free, and a little later."""
        async with self._disk:
            await asyncio.sleep(self._rng.random() * self.max_s)
            function()

    def close(self) -> None:
        """Nothing to end."""
