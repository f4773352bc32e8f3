"""Waiting for locks: a pessimistic lock request that meets a lock waits here until the lock is released, or its time is up.

One queue per key; a release wakes all waiters of the key, who try again in the order they came (the latches keep it). The server
caps every wait at `WAIT_MAX_MS`, as TiKV does; clients that want to wait longer ask again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

WAIT_MAX_MS = 1000
WAITERS_MAX = 20_000  # more waiters are answered at once that the key is locked


class LockWaiting:
    """The waiters of all keys."""

    def __init__(self) -> None:
        self._waiters: dict[bytes, list[asyncio.Future[None]]] = {}
        self._count = 0

    async def wait(self, key: bytes, timeout_ms: float) -> bool:
        """Wait for a release of the key; False when the time passed or too many wait already."""
        if self._count >= WAITERS_MAX:
            return False
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(key, []).append(future)
        self._count += 1
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await future
        except TimeoutError:
            return False
        finally:
            self._count -= 1
            waiters = self._waiters.get(key)
            if waiters is not None and future in waiters:
                waiters.remove(future)
                if not waiters:
                    del self._waiters[key]
        return True

    def released(self, keys: Iterable[bytes]) -> None:
        """The locks on these keys are gone."""
        if not self._waiters:
            return
        for key in keys:
            for future in self._waiters.pop(key, ()):
                if not future.done():
                    future.set_result(None)
