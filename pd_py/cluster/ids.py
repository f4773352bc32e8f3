"""Ids for stores, regions, peers and operators: never given twice, over restarts and changes of the leader too.

A window of ids is made durable before the first of it is given; what is left of a window when the process ends is lost,
which costs nothing. Invariant: an id that was given is at most the durable end.
"""

from __future__ import annotations

import asyncio

from pd_py.metastore.port import Metadata

WINDOW = 1000


class IdAllocator:
    """Gives ids in rising order. `key` is where the durable end is kept."""

    def __init__(self, metastore: Metadata, key: str) -> None:
        self._metastore = metastore
        self._key = key
        self._opening = asyncio.Lock()
        self._next = self._end = int(metastore.get(key) or b"0")

    @property
    def at_hand(self) -> int:
        """How many ids can be given without waiting."""
        return self._end - self._next

    async def alloc(self, count: int = 1) -> int:
        """The last of `count` fresh ids in a row."""
        while self.at_hand < count:
            await self.ensure(count)
        self._next += count
        return self._next

    async def ensure(self, count: int) -> None:
        """Make at least `count` ids available; one caller at a time, so that the durable end never goes back."""
        async with self._opening:
            if self.at_hand >= count:
                return
            end = self._next + max(WINDOW, count)
            await self._metastore.write({self._key: str(end).encode()})
            self._end = end

    def take(self) -> int | None:
        """One id without waiting; None when the window is used up."""
        if not self.at_hand:
            return None
        self._next += 1
        return self._next
