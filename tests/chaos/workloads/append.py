"""Transactions that read lists and append to them, over a few keys; see `tests/support/checkers/list_append.py`."""

from __future__ import annotations

from typing import Any

from tests.chaos.workloads.base import Attempt, Session, View, Workload
from tests.support.checkers.history import Outcome

ACTIVE_KEYS = 8
USES_MAX = 60
"""After so many uses a key is replaced by a new one, so that lists stay short."""


class Append(Workload):
    """See the module's text."""

    splits = (b"k2", b"k5")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.used = [0] * ACTIVE_KEYS  # by key, all keys of the run

    def key(self, number: int) -> bytes:
        """Neighbours lie in different regions."""
        return self.prefix + b"k%d/%05d" % (number % ACTIVE_KEYS, number)

    def _choose(self, session: Session) -> int:
        number = session.rng.choice([key for key, used in enumerate(self.used) if used < USES_MAX])
        self.used[number] += 1
        if self.used[number] == USES_MAX:
            self.used.append(0)
        return number

    def _plan(self, session: Session) -> list[list[Any]]:
        plan: list[list[Any]] = []
        for _ in range(session.rng.randint(1, 3)):
            number = self._choose(session)
            plan.append(["r", number, None] if session.rng.random() < 0.5 else ["append", number, self.next_number()])
        return plan

    async def step(self, session: Session) -> Outcome:
        """One transaction."""
        return await self._one(session, self._plan(session))

    async def _one(self, session: Session, plan: list[list[Any]]) -> Outcome:
        attempt = Attempt(value=plan)
        done: list[list[Any]] = []

        async def work(view: View) -> None:
            for what, number, element in plan:
                key = self.key(number)
                found = await view.get(key) or b""
                if what == "r":
                    done.append(["r", number, [int(one) for one in found.split()]])
                else:
                    view.put(key, found + b" %d" % element)
                    done.append(["append", number, element])

        async def run() -> None:
            await session.transact(attempt, sorted({self.key(number) for _, number, _ in plan}), work)
            attempt.value = done

        writes = any(what == "append" for what, *_ in plan)
        return await self.recorder.run(session, "txn", attempt, run(), writes=writes)

    async def finish(self, session: Session) -> None:
        """Read every list."""
        for number in range(len(self.used)):
            await self.until_done(lambda number=number: self._one(session, [["r", number, None]]))  # type: ignore[misc]
