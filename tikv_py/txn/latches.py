"""Latches: commands that write the same key run one after the other, in order of arrival.

A command claims the slots of all its keys at once, without giving up the loop in between, so whoever is ahead of another in one
slot is ahead of it in every slot they share: there is no deadlock. It owns its latch when it is first in all its slots. Readers
take none. Slots are a power of two, picked by a hash that is the same in every process, so that a simulated run repeats; two
keys of one slot wait for each other without need, which is rare and harmless.

A slot with one claim is one dictionary entry; a queue is made when a second claim comes. A claim that was given up while it
waited stays in its queues as a dead one and is passed over when its turn comes, so every release costs O(keys).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any
from zlib import crc32

DEFAULT_SLOTS = 1 << 19  # storage.scheduler-concurrency


class Latch:
    """One command's claim on the slots of its keys."""

    __slots__ = ("dead", "owned", "slots", "waiting")

    def __init__(self, slots: tuple[int, ...]) -> None:
        self.slots = slots
        self.waiting = 0
        """In how many slots another claim is ahead."""
        self.owned: asyncio.Future[None] | None = None
        self.dead = False


class Latches:
    """All slots with a claim. `slots` is rounded up to a power of two."""

    def __init__(self, slots: int = DEFAULT_SLOTS) -> None:
        self._mask = (1 << max(slots - 1, 0).bit_length()) - 1
        self._claims: dict[int, Latch | deque[Latch]] = {}

    def __len__(self) -> int:
        """Slots with a claim."""
        return len(self._claims)

    async def acquire(self, keys: Iterable[bytes]) -> Latch:
        """Wait until this command is first on all of `keys`. Cancelling gives the claim up."""
        latch = self._claim(keys)
        if latch.waiting:
            latch.owned = asyncio.get_running_loop().create_future()
            try:
                await latch.owned
            except asyncio.CancelledError:
                self.release(latch)
                raise
        return latch

    def try_acquire(self, keys: Iterable[bytes]) -> Latch | None:
        """The latch when nobody is ahead; None, and no claim, when somebody is."""
        latch = self._claim(keys)
        if not latch.waiting:
            return latch
        self.release(latch)
        return None

    def _claim(self, keys: Iterable[bytes]) -> Latch:
        mask, claims = self._mask, self._claims
        slots = [crc32(key) & mask for key in keys]
        latch = Latch(tuple(slots if len(slots) < 2 else dict.fromkeys(slots)))
        for slot in latch.slots:
            ahead = claims.get(slot)
            if ahead is None:
                claims[slot] = latch
                continue
            latch.waiting += 1
            if isinstance(ahead, Latch):
                claims[slot] = deque((ahead, latch))
            else:
                ahead.append(latch)
        return latch

    def release(self, latch: Latch) -> None:
        """Give the slots to the next in line; also for a claim that never came to be owned. Once per latch."""
        latch.dead = True
        claims = self._claims
        for slot in latch.slots:
            queue = claims[slot]
            if queue is latch:
                del claims[slot]
            elif isinstance(queue, deque) and queue[0] is latch:
                self._pass_on(slot, queue)

    def release_when_done(self, latch: Latch, written: asyncio.Future[Any]) -> None:
        """Release when the write that the latch guards has ended, however it did, and also when its caller is gone."""

        def release(done: asyncio.Future[Any]) -> None:
            self.release(latch)
            if not done.cancelled():
                done.exception()  # seen, though perhaps nobody waits for it any more

        written.add_done_callback(release)

    def _pass_on(self, slot: int, queue: deque[Latch]) -> None:
        """The first claim of a queue has ended: drop it and the dead ones behind it, and let the next one know."""
        while queue and queue[0].dead:
            queue.popleft()
        if not queue:
            del self._claims[slot]
            return
        following = queue[0]
        following.waiting -= 1
        if following.waiting == 0 and following.owned is not None and not following.owned.done():
            following.owned.set_result(None)
