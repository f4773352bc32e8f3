"""The locks of one region, as far as they tell which timestamps can still be committed at.

Why: whoever holds a lock commits above the lock's own timestamp. So below the oldest lock nothing changes any more, apart
from transactions whose locks are still to come; `tikv_py.server.safe_ts_worker` says why those come out above a fresh
timestamp.

Which locks count, and where: a pessimistic lock not at all, because nothing is committed before a prewrite has replaced it; a
lock with async commit just below its `min_commit_ts`, under which no commit of it is accepted; any other at its start_ts.
What is in the lock family and is no lock (raw clients may write there) belongs to no transaction.

A resolver is attached to a replica's apply in the moment in which a view of its lock family is frozen. From then on it is
given every applied change; what the view held is loaded when it has been read. Changes are only kept, the last one of each
key, and looked at when somebody asks: most locks are gone by then, and apply does not pay for decoding.

Invariants: `resolve` never gives more than the oldest lock allows, and is not asked before `load`. At most `limit` keys are
held; a region with more locks gets no answer (`overflowed`) until somebody begins anew.

What it does not do: scan, know regions and leaders, or remember what it answered. Tests:
tests/unit/resolved_ts/test_resolver.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from core_py.errors import CodecError, invariant
from tikv_py.engine.port import CF_LOCK
from tikv_py.mvcc.lock import Lock
from tikv_py.mvcc.txn import Modify

LOCKS_MAX = 1 << 18  # keys of one region, about 60 MB
LOOK_AT = 4096  # kept changes that are looked at without being asked, once the view is loaded


def lock_bound(data: bytes) -> int | None:
    """The greatest timestamp that the lock's owner cannot commit at any more; None when the value holds nothing back."""
    try:
        lock = Lock.from_bytes(data)
    except CodecError:
        return None
    if lock.is_pessimistic:
        return None
    return max(lock.start_ts, lock.min_commit_ts - 1) if lock.use_async_commit else lock.start_ts


class Resolver:
    """See the module's text. `version` is the region's: after a split or merge another range is to be watched."""

    __slots__ = ("_bounds", "_changes", "_cleared", "_counts", "_limit", "overflowed", "ready", "version")

    def __init__(self, version: int, limit: int = LOCKS_MAX) -> None:
        self.version = version
        self.ready = False
        self.overflowed = False
        self._limit = limit
        self._bounds: dict[bytes, int] = {}
        self._counts: dict[int, int] = {}
        """How many keys are held at each timestamp."""
        self._changes: dict[bytes, bytes | None] = {}
        self._cleared: list[tuple[bytes, bytes]] = []
        """Ranges deleted since the view was frozen."""

    def __len__(self) -> int:
        return len(self._bounds) + len(self._changes)

    def held(self) -> tuple[int, int]:
        """How many locks, of how many transactions, hold the region back as far as was looked."""
        return len(self._bounds), len(self._counts)

    def apply(self, modifies: Iterable[Modify], ranges: Iterable[tuple[str, bytes, bytes]]) -> None:
        """Changes were applied to the region, ranges deleted first."""
        if self.overflowed:
            return
        changes = self._changes
        for cf, start, end in ranges:
            if cf == CF_LOCK:
                self._clear(start, end)
        for cf, key, value in modifies:
            if cf == CF_LOCK:
                changes[key] = value
        if len(changes) >= LOOK_AT and self.ready:
            self._look()
        elif len(changes) + len(self._cleared) > self._limit:
            self.overflow()

    def _clear(self, start: bytes, end: bytes) -> None:
        for key in [key for key in self._changes if start <= key < end]:
            del self._changes[key]
        for key in [key for key in self._bounds if start <= key < end]:
            self._release(key)
        if not self.ready:
            self._cleared.append((start, end))

    def load(self, bounds: dict[bytes, int]) -> None:
        """What the view held, by key: the locks from before all changes."""
        invariant(not self.ready, "a resolver is loaded twice")
        self.ready = True
        if self.overflowed:
            return
        cleared, self._cleared = self._cleared, []
        for key, bound in bounds.items():
            if not any(start <= key < end for start, end in cleared):
                self._hold(key, bound)
        self._look()

    def is_current(self) -> bool:
        """Whether every lock is known; looks at the changes since the last question."""
        if self.ready and self._changes:
            self._look()
        return self.ready and not self.overflowed

    def resolve(self, ts: int) -> int:
        """`ts`, or what the oldest lock leaves of it; only while `is_current`."""
        invariant(self.is_current(), "a resolver is asked that does not know all locks")
        return min([ts, *self._counts])

    def overflow(self) -> None:
        """Forget everything: there is more than may be remembered."""
        self.overflowed = True
        self._bounds, self._counts, self._changes, self._cleared = {}, {}, {}, []

    def _look(self) -> None:
        changes, self._changes = self._changes, {}
        for key, data in changes.items():
            if key in self._bounds:
                self._release(key)
            bound = None if data is None else lock_bound(data)
            if bound is not None:
                self._hold(key, bound)
        if len(self._bounds) > self._limit:
            self.overflow()

    def _hold(self, key: bytes, bound: int) -> None:
        self._bounds[key] = bound
        self._counts[bound] = self._counts.get(bound, 0) + 1

    def _release(self, key: bytes) -> None:
        bound = self._bounds.pop(key)
        left = self._counts[bound] - 1
        if left:
            self._counts[bound] = left
        else:
            del self._counts[bound]
