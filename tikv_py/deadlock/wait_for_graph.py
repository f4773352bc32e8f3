"""Who waits for whom: a graph of transactions that is kept free of cycles, because the wait that would close one is refused.

A transaction waits for a key, and a key is held by one transaction at a time. So the holder is remembered per key and not per
waiter: when a key goes to its next holder, one change moves all that wait for it, however many they are. The newest report of
a key's holder counts.

Invariant: there is no cycle after any call. Therefore a search begins only where something changed, at the new holder, and a
wait that is only said again needs none.

Every wait ends by itself `ttl_s` after it was last reported, since those who report may be lost. Time is passed in. No limits of
its own but `waits_max`; no wire format, no network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, replace

WAITS_MAX = 200_000


@dataclass(frozen=True, slots=True)
class Wait:
    """Transaction `txn` waits for `key`, which `wait_for_txn` holds. Transactions are named by their start_ts."""

    txn: int
    wait_for_txn: int
    key_hash: int
    key: bytes = b""
    resource_group_tag: bytes = b""


@dataclass(frozen=True, slots=True)
class Cycle:
    """A wait that closes a cycle and is refused, and the waits that lead from its holder back to its transaction, in order."""

    closing: Wait
    path: tuple[Wait, ...]

    @property
    def chain(self) -> tuple[Wait, ...]:
        """The whole cycle: each wait's holder is the next one's transaction; the closing wait is the last."""
        return (*self.path, self.closing)

    @property
    def closed_by(self) -> Wait:
        """The wait for the refused transaction: its key is the one that the refused transaction holds."""
        return self.path[-1]


class _Key:
    """Who holds a key and who waits for it."""

    __slots__ = ("holder", "waiters")

    def __init__(self, holder: int) -> None:
        self.holder = holder
        self.waiters: dict[int, None] = {}


class WaitForGraph:
    """The waits of all transactions."""

    def __init__(self, ttl_s: float, waits_max: int = WAITS_MAX) -> None:
        self._ttl_s = ttl_s
        self._waits_max = waits_max
        self._by_txn: dict[int, dict[int, Wait]] = {}
        self._keys: dict[int, _Key] = {}
        self._expires_at: dict[tuple[int, int], float] = {}
        """By (transaction, key hash), the soonest first: all live equally long, and one that is reported again goes to the end."""

    def __len__(self) -> int:
        return len(self._expires_at)

    def transactions(self) -> int:
        """How many transactions wait."""
        return len(self._by_txn)

    def waits(self) -> list[Wait]:
        """All waits, with the holders as they are now."""
        return [self._current(wait) for waits in self._by_txn.values() for wait in waits.values()]

    def detect(self, wait: Wait, now: float) -> list[Cycle]:
        """A transaction is to wait. Returns the cycles: its own, which is then not waited, and those of others if the key's
        holder is a new one. `now` is in seconds.
        """
        cycles = self.replace_holder(wait.key_hash, wait.wait_for_txn, now)
        if wait.txn == wait.wait_for_txn or any(cycle.closing.txn == wait.txn for cycle in cycles):
            return cycles
        known = wait.key_hash in self._by_txn.get(wait.txn, ())
        if not known:
            path = self._ways(wait.wait_for_txn, (wait.txn,)).get(wait.txn)
            if path is not None:
                return [*cycles, Cycle(wait, path)]
        if known or len(self) < self._waits_max:
            self._add(wait, now)
        return cycles

    def replace_holder(self, key_hash: int, holder: int, now: float) -> list[Cycle]:
        """A key has another holder (0: none). Returns the cycles that this closes; their closing waits are removed."""
        self._expire(now)
        key = self._keys.get(key_hash)
        if key is None or key.holder == holder:
            return []
        key.holder = holder
        ways = self._ways(holder, key.waiters)
        ways.pop(holder, None)  # it asked for the key again, which nobody has to wait for
        cycles = [Cycle(self._current(self._by_txn[txn][key_hash]), way) for txn, way in ways.items()]
        for cycle in cycles:
            self._remove(cycle.closing.txn, key_hash)
        return cycles

    def clean_up_wait_for(self, txn: int, key_hash: int) -> None:
        """A transaction waits for a key no more."""
        self._remove(txn, key_hash)

    def clean_up(self, txn: int) -> None:
        """A transaction waits for nothing more."""
        for key_hash in list(self._by_txn.get(txn, ())):
            self._remove(txn, key_hash)

    def clear(self) -> None:
        """Forget everything."""
        self._by_txn.clear()
        self._keys.clear()
        self._expires_at.clear()

    def _current(self, wait: Wait) -> Wait:
        holder = self._keys[wait.key_hash].holder
        return wait if wait.wait_for_txn == holder else replace(wait, wait_for_txn=holder)

    def _add(self, wait: Wait, now: float) -> None:
        key = self._keys.get(wait.key_hash)
        if key is None:
            key = self._keys[wait.key_hash] = _Key(wait.wait_for_txn)
        key.waiters[wait.txn] = None
        self._by_txn.setdefault(wait.txn, {})[wait.key_hash] = wait
        self._expires_at.pop((wait.txn, wait.key_hash), None)
        self._expires_at[wait.txn, wait.key_hash] = now + self._ttl_s

    def _remove(self, txn: int, key_hash: int) -> None:
        waits = self._by_txn.get(txn)
        if waits is None or waits.pop(key_hash, None) is None:
            return
        del self._expires_at[txn, key_hash]
        if not waits:
            del self._by_txn[txn]
        key = self._keys[key_hash]
        del key.waiters[txn]
        if not key.waiters:
            del self._keys[key_hash]

    def _expire(self, now: float) -> None:
        while self._expires_at:
            (txn, key_hash), expires_at = next(iter(self._expires_at.items()))
            if expires_at > now:
                return
            self._remove(txn, key_hash)

    def _ways(self, begin: int, wanted: Collection[int]) -> dict[int, tuple[Wait, ...]]:
        """The shortest ways to those of the `wanted` transactions that one waits for, directly or not."""
        if begin not in self._by_txn:
            return {}
        step_to: dict[int, tuple[int, Wait] | None] = {begin: None}
        pending = deque((begin,))
        found: dict[int, tuple[Wait, ...]] = {}
        while pending and len(found) < len(wanted):
            txn = pending.popleft()
            if txn in wanted:
                found[txn] = self._way(step_to, txn)
            for wait in self._by_txn.get(txn, {}).values():
                holder = self._keys[wait.key_hash].holder
                if holder not in step_to:
                    step_to[holder] = (txn, wait)
                    pending.append(holder)
        return found

    def _way(self, step_to: dict[int, tuple[int, Wait] | None], txn: int) -> tuple[Wait, ...]:
        way = []
        step = step_to[txn]
        while step is not None:
            before, wait = step
            way.append(self._current(wait))
            step = step_to[before]
        way.reverse()
        return tuple(way)
