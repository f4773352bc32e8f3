"""What async commit and one-phase commit need from readers: the greatest timestamp read at, and locks not yet in the log.

Such a commit's timestamp is fixed by the stores, not by PD, so it must lie above every read that missed it. Two rules make it so
(they are TiKV's): a reader raises `max_ts` first, looks at the locks in memory second, and at the database last; a writer takes
`max_ts` and publishes its lock in one moment, under the key's latch, before it proposes. So a reader either raised `max_ts` before
the writer took it, and is below the commit, or meets the lock, in memory or in the database.

Timestamps that PD cannot have given yet are refused: one of them would push all later commits into the future. The limit is PD's
last known time and what has passed since, and `ALLOWANCE_MS`; before PD's time is known there is none. Should PD's clock have been
set forward by more, the refusal makes the store ask PD at once.

Invariants: `max_ts` never goes back; a lock is in memory from its publication until its write is applied or has failed.
All of one store, whatever the region; everything runs on the loop.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Container, Iterable

from core_py.codec import ts as tso
from core_py.codec.ts import TS_MAX
from core_py.ports import Clock
from tikv_py.mvcc import keys
from tikv_py.mvcc.errors import MaxTsRefused
from tikv_py.mvcc.lock import Lock
from tikv_py.mvcc.reader import check_read_lock

ALLOWANCE_MS = 120_000


class ConcurrencyManager:
    """See the module's text."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.max_ts = 0
        self._locks: dict[bytes, Lock] = {}
        self._sorted: list[bytes] = []
        self.on_refused: Callable[[], object] = lambda: None
        """A timestamp was refused: PD should be asked how late it is."""
        self._pd_ms = 0
        self._pd_seen_at = 0.0

    def __len__(self) -> int:
        return len(self._locks)

    # ---- readers ----

    def read_at(self, ts: int) -> None:
        """A read at `ts` begins (or a rollback of the transaction `ts`). Raises MaxTsRefused."""
        if ts > self.max_ts and ts != TS_MAX:
            limit = self._limit()
            if limit and ts > limit:
                self.on_refused()
                raise MaxTsRefused(ts, limit)
            self.max_ts = ts

    def _limit(self) -> int:
        if not self._pd_ms:
            return 0
        passed_ms = int((self._clock.monotonic() - self._pd_seen_at) * 1000)
        return tso.compose(self._pd_ms + passed_ms + ALLOWANCE_MS, 0)

    def check_key(self, key: bytes, user_key: bytes, read_ts: int, resolved: Container[int] = frozenset()) -> None:
        """Raise KeyIsLocked when a read of a data key at `read_ts` must wait for a lock in memory."""
        if self._locks:
            check_read_lock(self._locks.get(key), user_key, read_ts, resolved)

    def check_range(self, start: bytes, end: bytes, read_ts: int, resolved: Container[int] = frozenset()) -> None:
        """The same for the data keys of [start, end)."""
        if self._locks:
            for key in self._in_range(start, end):
                check_read_lock(self._locks[key], keys.user_key(key), read_ts, resolved)

    def _in_range(self, start: bytes, end: bytes) -> list[bytes]:
        return self._sorted[bisect_left(self._sorted, start) : bisect_left(self._sorted, end)]

    def least_commit_ts(self, start: bytes, end: bytes) -> int:
        """The least timestamp that a lock in memory of [start, end) may be committed at; TS_MAX without any."""
        if not self._locks:
            return TS_MAX
        return min([self._locks[key].min_commit_ts for key in self._in_range(start, end)], default=TS_MAX)

    def oldest_lock(self, start: bytes, end: bytes, max_start_ts: int) -> tuple[bytes, Lock] | None:
        """(user key, lock) in memory of [start, end) of a transaction not newer than `max_start_ts`."""
        for key in self._in_range(start, end) if self._locks else ():
            if self._locks[key].start_ts <= max_start_ts:
                return keys.user_key(key), self._locks[key]
        return None

    # ---- writers ----

    def publish(self, locks: Iterable[tuple[bytes, Lock]]) -> None:
        """Show locks that are about to be proposed; their keys are latched."""
        for key, lock in locks:
            if key not in self._locks:
                insort(self._sorted, key)
            self._locks[key] = lock

    def withdraw(self, locks: Iterable[tuple[bytes, Lock]]) -> None:
        """Their write is applied, or has failed."""
        for key, _ in locks:
            if self._locks.pop(key, None) is not None:
                del self._sorted[bisect_left(self._sorted, key)]

    # ---- PD ----

    def learn_pd_ts(self, ts: int) -> None:
        """A timestamp fresh from PD: reads up to it may have been served anywhere."""
        self.max_ts = max(self.max_ts, ts)
        self._pd_ms, self._pd_seen_at = max(self._pd_ms, tso.physical_ms(ts)), self._clock.monotonic()
