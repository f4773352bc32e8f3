"""Latches: commands that write the same key run one after the other, in order of arrival.

A command takes all its keys at once, in a queue per key, so there is no deadlock: it owns its latch when it is at the front of
every queue. Readers take none. Everything runs on the loop; an uncontended latch costs dictionary operations only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable


class Latch:
    """One command's claim on its keys."""

    __slots__ = ("keys", "owned", "waiting")

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self.keys = keys
        self.waiting = 0
        self.owned: asyncio.Future[None] | None = None


class Latches:
    """The queues of all keys with a claim."""

    def __init__(self) -> None:
        self._queues: dict[bytes, deque[Latch]] = {}

    async def acquire(self, keys: Iterable[bytes]) -> Latch:
        """Wait until this command is first on all of `keys`."""
        latch = Latch(tuple(sorted(set(keys))))
        queues = self._queues
        for key in latch.keys:
            queue = queues.get(key)
            if queue is None:
                queues[key] = deque((latch,))
            else:
                queue.append(latch)
                latch.waiting += 1
        if latch.waiting:
            latch.owned = asyncio.get_running_loop().create_future()
            try:
                await latch.owned
            except asyncio.CancelledError:
                self.release(latch)
                raise
        return latch

    def release(self, latch: Latch) -> None:
        """Give the keys to the next in line; also for a claim that never came to be owned."""
        for key in latch.keys:
            queue = self._queues[key]
            was_first = queue[0] is latch
            queue.remove(latch)
            if not queue:
                del self._queues[key]
            elif was_first:
                following = queue[0]
                following.waiting -= 1
                if following.waiting == 0 and following.owned is not None and not following.owned.done():
                    following.owned.set_result(None)

    def __len__(self) -> int:
        return len(self._queues)
