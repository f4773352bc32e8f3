"""The waiters of one key in the order in which they are woken: the transaction that began first goes first.

Why not in the order of arrival: a request waits a second at most and is sent again, and a transaction that has waited long must
not begin at the end of the line each time. One transaction waits for a key once; its newer request takes the older one's place.

Costs: joining and leaving are a binary search and a move of pointers, the oldest is taken from the end. Nothing walks the queue.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

from tikv_py.mvcc.errors import TxnError
from tikv_py.mvcc.lock import Lock


@dataclass(frozen=True, slots=True)
class Claim:
    """Who wants a lock. A transaction's first lock cannot be part of a deadlock, because nobody can wait for it yet."""

    start_ts: int
    region_id: int
    region_version: int
    is_first_lock: bool
    resource_group_tag: bytes = b""


class Waiter:
    """One lock request in its queue."""

    __slots__ = ("began_at", "claim", "ended", "queue")

    def __init__(self, claim: Claim, queue: KeyQueue, began_at: float) -> None:
        self.claim = claim
        self.queue = queue
        self.began_at = began_at
        self.ended: asyncio.Future[TxnError | None] = asyncio.get_running_loop().create_future()
        """With what the request is refused with, or None when it is to try again."""


class KeyQueue:
    """The waiters of one key, and the lock they wait for."""

    __slots__ = (
        "_order",
        "_waiters",
        "changed_at",
        "held",
        "key",
        "key_hash",
        "lock",
        "reported",
        "user_key",
        "wake_timer",
    )

    def __init__(self, key: bytes, user_key: bytes, key_hash: int, lock: Lock) -> None:
        self.key, self.user_key, self.key_hash = key, user_key, key_hash
        self.lock = lock
        """As it is, or was last."""
        self.held = True
        self.changed_at: float | None = None
        """When it was last taken or released, in monotonic seconds; None when that was before anybody waited."""
        self.reported = 0
        """Waiters that the deadlock detector knows."""
        self.wake_timer: asyncio.TimerHandle | None = None
        self._waiters: dict[int, Waiter] = {}
        self._order: list[int] = []
        """Negated start timestamps, so that the oldest is last."""

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters.values())

    def find(self, start_ts: int) -> Waiter | None:
        """A transaction's waiter."""
        return self._waiters.get(start_ts)

    def add(self, waiter: Waiter) -> None:
        """Join; the transaction must not be here already."""
        self._waiters[waiter.claim.start_ts] = waiter
        insort(self._order, -waiter.claim.start_ts)

    def remove(self, waiter: Waiter) -> bool:
        """Leave; False when it is not here any more."""
        start_ts = waiter.claim.start_ts
        if self._waiters.get(start_ts) is not waiter:
            return False
        del self._waiters[start_ts]
        del self._order[bisect_left(self._order, -start_ts)]
        return True

    def oldest(self) -> Waiter:
        """Who is next; the queue must not be empty."""
        return self._waiters[-self._order[-1]]

    def cancel_timer(self) -> None:
        """Wake nobody by time."""
        if self.wake_timer is not None:
            self.wake_timer.cancel()
            self.wake_timer = None
