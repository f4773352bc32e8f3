"""Operators that schedulers want but that do not run yet: taken out by weighted chance, so that no scheduler starves another.

Bounded per description: a scheduler that has many waiting gets no more in. The two operators of a merge stay together.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from core_py.ports import Random
from pd_py.schedule.operator import Operator, Priority

WEIGHTS = {Priority.LOW: 1.0, Priority.MEDIUM: 4.0, Priority.HIGH: 9.0, Priority.URGENT: 16.0}


@dataclass(frozen=True, slots=True)
class Waiting:
    """One operator, or the two of a merge, and since when it waits."""

    operators: tuple[Operator, ...]
    since: float


@dataclass(slots=True)
class WaitingQueue:
    """All that wait."""

    rng: Random
    _buckets: dict[Priority, deque[Waiting]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def count(self, description: str) -> int:
        """How many of a description wait."""
        return self._counts.get(description, 0)

    def put(self, operators: tuple[Operator, ...], now: float) -> None:
        """Let operators wait."""
        first = operators[0]
        self._buckets.setdefault(first.priority, deque()).append(Waiting(operators, now))
        self._counts[first.description] = self.count(first.description) + 1

    def take(self) -> Waiting | None:
        """The next one."""
        total = sum(WEIGHTS[priority] for priority, bucket in self._buckets.items() if bucket)
        point = self.rng.random() * total
        for priority in sorted(self._buckets, reverse=True):
            bucket = self._buckets[priority]
            point -= WEIGHTS[priority] if bucket else 0.0
            if bucket and point <= 0:
                taken = bucket.popleft()
                description = taken.operators[0].description
                self._counts[description] -= 1
                return taken
        return None

    def all(self) -> list[Operator]:
        """All that wait, the most urgent first."""
        return [
            operator
            for priority in sorted(self._buckets, reverse=True)
            for waiting in self._buckets[priority]
            for operator in waiting.operators
        ]
