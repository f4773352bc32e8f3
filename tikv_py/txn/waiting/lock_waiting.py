"""Who waits for which lock on this store, and who is woken when.

A released lock wakes one waiter, that of the oldest transaction. It tries again, and either has the lock or is told of the
conflict and comes back with a newer timestamp. If the key is still free after `wake_up_delay_s` the next is woken, and so on, so
that a client which does not come back costs one delay, and a release never wakes a herd. (The public servers wake all others
after the delay; to a client both look like a wait that ended.) Nothing here walks a queue when a lock changes hands.

A request is told that its key is locked when its time is up; when the region moved or changed, it is sent on its way to find
that out. Who began to wait and who holds a key is reported to the deadlock detector, which may end a wait.

Invariant: requests look at a key and join its queue under its latch, and locks change under it, so no release is missed. A request
that joins a queue which is there already need not look: the queue hears of the next release.
What it does not do: take locks, or decide anything about them (`tikv_py.txn.waiting.requests` tries again).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from core_py.failpoints import FailPoints
from core_py.ports import Clock
from tikv_py.deadlock.wait_for_graph import Cycle, Wait
from tikv_py.engine.port import CF_LOCK
from tikv_py.mvcc import keys
from tikv_py.mvcc.errors import KeyIsLocked, TxnError
from tikv_py.mvcc.lock import Lock
from tikv_py.mvcc.txn import Modify
from tikv_py.txn.waiting.errors import DeadlockFound, LockWaitEnded
from tikv_py.txn.waiting.key_queue import Claim, KeyQueue, Waiter

WAITERS_MAX = 10_000  # more are answered at once that the key is locked; fewer than the commands that may run

KNOWN_FOR_S = 0.5


@dataclass(frozen=True, slots=True)
class WaitSettings:
    """`timeout_s` is the longest wait there is."""

    timeout_s: float = 1.0
    wake_up_delay_s: float = 0.02


class Detector(Protocol):
    """The deadlock detector, as far as waits go. It may call `LockWaiting.deadlock` at any time, also from these."""

    def wait_begins(self, wait: Wait) -> None:
        """A transaction waits, or waits still."""
        ...

    def wait_ends(self, wait: Wait) -> None:
        """It does not any more."""
        ...

    def holder_changed(self, key_hash: int, key: bytes, old_ts: int, new_ts: int) -> None:
        """A key that is waited for has another holder (0: none)."""
        ...


class NoDetector:
    """Deadlocks end by the wait's time limit."""

    def wait_begins(self, wait: Wait) -> None:
        """Nothing."""

    def wait_ends(self, wait: Wait) -> None:
        """Nothing."""

    def holder_changed(self, key_hash: int, key: bytes, old_ts: int, new_ts: int) -> None:
        """Nothing."""


def key_hash(key: bytes) -> int:
    """What names a (data) key between stores: 64 bits, the same on every store."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big")


class LockWaiting:
    """The waiters of all keys of a store."""

    def __init__(self, clock: Clock, fail: FailPoints, settings: WaitSettings | None = None) -> None:
        self.settings = settings or WaitSettings()
        self.detector: Detector = NoDetector()
        self.on_wait_ended: Callable[[float], None] = _ignore
        """Gets how long each wait took, in seconds."""
        self._clock = clock
        self._fail = fail
        self._queues: dict[bytes, KeyQueue] = {}
        self._by_region: dict[int, dict[Waiter, None]] = {}
        self._count = 0
        self.reported = 0
        """Waits that the deadlock detector has to know."""

    def __len__(self) -> int:
        return self._count

    def keys(self) -> int:
        """How many keys are waited for."""
        return len(self._queues)

    def waits(self) -> list[tuple[Wait, float]]:
        """All that wait, with the seconds since they began."""
        now = self._clock.monotonic()
        return [(_wait(waiter), now - waiter.began_at) for queue in self._queues.values() for waiter in queue]

    def reported_waits(self) -> list[Wait]:
        """Those that the deadlock detector has to know."""
        return [
            _wait(waiter)
            for queue in self._queues.values()
            if queue.reported
            for waiter in queue
            if not waiter.claim.is_first_lock
        ]

    def known_lock(self, key: bytes, start_ts: int) -> KeyIsLocked | None:
        """Another transaction's lock on a (data) key, if it is known without looking because the key changed hands just now.

        That is so while there is a queue, which sees every change. Only for a moment, so that nobody relies for long on what
        was seen when data went another way (a range that is deleted, a snapshot).
        """
        queue = self._queues.get(key)
        if queue is None or not queue.held or queue.changed_at is None or queue.lock.start_ts == start_ts:
            return None
        if self._clock.monotonic() - queue.changed_at > KNOWN_FOR_S:
            return None
        return KeyIsLocked(queue.user_key, queue.lock)

    async def wait(self, met: KeyIsLocked, claim: Claim, timeout_s: float) -> TxnError | None:
        """Wait in line for the key. None to try again, else what the request is refused with.

        To be called at once after the lock was seen or known, without an await between.
        """
        if self._count >= WAITERS_MAX:
            return met
        waiter = self._join(met, claim)
        timer = asyncio.get_running_loop().call_later(timeout_s, self._time_out, waiter)
        try:
            return await waiter.ended
        finally:
            timer.cancel()
            self._take_out(waiter)
            self.on_wait_ended(self._clock.monotonic() - waiter.began_at)

    def applied(self, modifies: Iterable[Modify]) -> None:
        """These changes are in the database: locks are released and taken."""
        queues = self._queues
        if not queues:
            return
        for modify in modifies:
            if modify.cf == CF_LOCK and (queue := queues.get(modify.key)) is not None:
                if modify.value is not None:
                    self._taken(queue, Lock.from_bytes(modify.value))
                elif not (self._fail.armed and self._fail.hit("lock_waiters_wake") is not None):
                    self._released(queue)

    def region_changed(self, region_id: int, version: int | None) -> None:
        """A region has this epoch version now, or (None) is led elsewhere or gone: whom that concerns tries again and is told."""
        for waiter in list(self._by_region.get(region_id, ())):
            if waiter.claim.region_version != version:
                self._end(waiter, None)

    def deadlock(self, cycle: Cycle) -> bool:
        """Refuse the wait that closes a cycle; False when it is over already."""
        wait = cycle.closing
        queue = self._queues.get(keys.data_key(wait.key))
        waiter = None if queue is None else queue.find(wait.txn)
        if waiter is None:
            return False
        self._end(waiter, DeadlockFound(cycle))
        return True

    # ---- one key's queue ----

    def _join(self, met: KeyIsLocked, claim: Claim) -> Waiter:
        key = keys.data_key(met.user_key)
        queue = self._queues.get(key)
        if queue is None:
            queue = KeyQueue(key, met.user_key, key_hash(key), met.lock)
        else:
            self._taken(queue, met.lock)
            older = queue.find(claim.start_ts)
            if older is not None:
                self._time_out(older)
        self._queues[key] = queue  # again, because those two may have ended the last wait
        waiter = Waiter(claim, queue, self._clock.monotonic())
        queue.add(waiter)
        self._by_region.setdefault(claim.region_id, {})[waiter] = None
        self._count += 1
        if not claim.is_first_lock:
            queue.reported += 1
            self.reported += 1
            self.detector.wait_begins(_wait(waiter))
        return waiter

    def _end(self, waiter: Waiter, outcome: TxnError | None) -> None:
        self._take_out(waiter)
        if not waiter.ended.done():
            waiter.ended.set_result(outcome)

    def _time_out(self, waiter: Waiter) -> None:
        """Tell the lock that is there now; while somebody else who was woken takes the free key, the one that was there last."""
        queue, since_change_ms = waiter.queue, 0
        if queue.changed_at is not None:
            since_change_ms = max(1, int((self._clock.monotonic() - queue.changed_at) * 1000))
        self._end(waiter, LockWaitEnded(queue.user_key, queue.lock, since_change_ms))

    def _take_out(self, waiter: Waiter) -> None:
        """Out of its queue, unless it was out already."""
        queue, claim = waiter.queue, waiter.claim
        if not queue.remove(waiter):
            return
        self._count -= 1
        of_region = self._by_region[claim.region_id]
        del of_region[waiter]
        if not of_region:
            del self._by_region[claim.region_id]
        if not claim.is_first_lock:
            queue.reported -= 1
            self.reported -= 1
            self.detector.wait_ends(_wait(waiter))
        if not queue:
            queue.cancel_timer()
            del self._queues[queue.key]

    def _taken(self, queue: KeyQueue, lock: Lock) -> None:
        """A transaction has the key, or has changed its lock."""
        if not queue.held or queue.lock.start_ts != lock.start_ts:
            old_ts = queue.lock.start_ts if queue.held else 0
            queue.held, queue.changed_at = True, self._clock.monotonic()
            queue.cancel_timer()
            if queue.reported:
                self.detector.holder_changed(queue.key_hash, queue.user_key, old_ts, lock.start_ts)
        queue.lock = lock

    def _released(self, queue: KeyQueue) -> None:
        queue.held, queue.changed_at = False, self._clock.monotonic()
        if queue.reported:
            self.detector.holder_changed(queue.key_hash, queue.user_key, queue.lock.start_ts, 0)
        self._wake_next(queue)

    def _wake_next(self, queue: KeyQueue) -> None:
        """Of a key that is free."""
        queue.cancel_timer()
        self._end(queue.oldest(), None)
        if queue:
            delay_s = self.settings.wake_up_delay_s
            queue.wake_timer = asyncio.get_running_loop().call_later(delay_s, self._wake_next, queue)


def _wait(waiter: Waiter) -> Wait:
    queue, claim = waiter.queue, waiter.claim
    holder = queue.lock.start_ts if queue.held else 0
    return Wait(claim.start_ts, holder, queue.key_hash, queue.user_key, claim.resource_group_tag)


def _ignore(_seconds: float) -> None:
    """Nobody counts."""
