"""Local latches: optimistic transactions of one client that write the same keys commit one after the other, not against each other.

Keys are hashed to slots. A commit takes the slots of its keys in slot order (so no two can wait for each other in a circle) and
waits its turn; the newest commit timestamp of each key is kept, so a transaction that began before the last local commit of one
of its keys is refused before it sends anything.

Invariants: a slot has at most one holder; waiters are served in the order they came; a slot remembers at most MAX_KEYS_PER_SLOT
keys (the one with the oldest commit is dropped: its conflict is then found by the store). A latch is a saving, never what
correctness rests on. Off by default, as most work does not meet on few keys.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tikv_py.client.errors import WriteConflictError, local_conflict

MAX_KEYS_PER_SLOT = 8


@dataclass(slots=True)
class _Slot:
    held: bool = False
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    newest: dict[bytes, int] = field(default_factory=dict)


class LocalLatches:
    """The latches of one client."""

    def __init__(self, slots: int = 4096) -> None:
        self._slots = [_Slot() for _ in range(slots)]

    def slots_of(self, keys: Iterable[bytes]) -> list[int]:
        """The slots of keys, in the order they are taken."""
        return sorted({zlib.crc32(key) % len(self._slots) for key in keys})

    async def acquire(self, keys: Sequence[bytes], start_ts: int) -> list[int]:
        """Take the slots of keys; returns them for `release`.

        Raises WriteConflictError when a key was committed here after `start_ts`; nothing is held then.
        """
        taken: list[int] = []
        try:
            for number in self.slots_of(keys):
                await self._take(self._slots[number])
                taken.append(number)
            self._check(keys, start_ts)
        except BaseException:
            self._give_back(taken)
            raise
        return taken

    async def _take(self, slot: _Slot) -> None:
        if not slot.held:
            slot.held = True
            return
        turn = asyncio.get_running_loop().create_future()
        slot.waiting.append(turn)
        try:
            await turn  # the holder hands the slot over, which stays held
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._hand_on(slot)
            else:
                slot.waiting.remove(turn)
            raise

    def _check(self, keys: Sequence[bytes], start_ts: int) -> None:
        for key in keys:
            committed = self._slots[zlib.crc32(key) % len(self._slots)].newest.get(key, 0)
            if committed > start_ts:
                raise WriteConflictError(local_conflict(key, start_ts, committed))

    def release(self, taken: Sequence[int], keys: Iterable[bytes], commit_ts: int) -> None:
        """Give slots back after a commit at `commit_ts` (0 = it failed)."""
        if commit_ts:
            for key in keys:
                newest = self._slots[zlib.crc32(key) % len(self._slots)].newest
                newest[key] = max(commit_ts, newest.get(key, 0))
                if len(newest) > MAX_KEYS_PER_SLOT:
                    del newest[min(newest, key=newest.__getitem__)]
        self._give_back(taken)

    def _give_back(self, taken: Iterable[int]) -> None:
        for number in taken:
            self._hand_on(self._slots[number])

    @staticmethod
    def _hand_on(slot: _Slot) -> None:
        while slot.waiting:
            turn = slot.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        slot.held = False
