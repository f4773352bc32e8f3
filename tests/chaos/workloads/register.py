"""Single keys that are read, written and compared-and-set, raw or in transactions; see `tests/support/checkers/register.py`.

A key is raw or transactional for its whole life. Raw clients are `atomic`: their writes are in turn with compare-and-sets. The
client repeats a plain write when the transport fails, so a refusal of one says nothing; a compare-and-set is not repeated.
"""

from __future__ import annotations

from typing import Any

from core_py.codec.ts import TS_MAX
from tests.chaos.workloads.base import Attempt, Session, View, Workload
from tests.support.checkers.history import Outcome

ACTIVE_KEYS = 6
OPERATIONS_MAX = 150
"""After so many operations a key is replaced by a new one: the judge's search grows with a key's history."""


class Register(Workload):
    """See the module's text."""

    splits = (b"txn3", b"txn5")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.used = [0] * ACTIVE_KEYS
        self.newest: dict[int, int | None] = {}
        """By key: what somebody saw or wrote last, a good guess for what is there."""

    def key(self, number: int) -> bytes:
        """Even numbers are raw keys."""
        return self.prefix + b"%s%d/%05d" % (b"txn" if number % 2 else b"raw", number % ACTIVE_KEYS, number)

    async def step(self, session: Session) -> Outcome:
        """One operation on one key."""
        number = session.rng.choice([key for key, used in enumerate(self.used) if used < OPERATIONS_MAX])
        self.used[number] += 1
        if self.used[number] == OPERATIONS_MAX:
            self.used.append(0)
        return await self._one(session, number, session.rng.choice(["read", "write", "cas", "cas"]))

    async def _one(self, session: Session, number: int, kind: str) -> Outcome:
        value: dict[str, Any] = {"key": number, "value": None if kind == "read" else self.next_number()}
        if kind == "cas":
            value["expected"] = self.newest.get(number)
        attempt = Attempt(value=value, fails_unknown=kind == "write" and not number % 2)
        work = self._transactional(session, kind, attempt) if number % 2 else self._raw(session, kind, attempt)
        outcome = await self.recorder.run(session, kind, attempt, work, writes=kind != "read")
        if outcome is Outcome.OK:
            swapped = value.get("swapped", True)
            self.newest[number] = value["value"] if swapped else value["found"]
        return outcome

    async def _raw(self, session: Session, kind: str, attempt: Attempt) -> None:
        value, key = attempt.value, self.key(attempt.value["key"])
        if kind == "read":
            value["value"] = number_of(await session.raw.get(key))
        elif kind == "write":
            await session.raw.put(key, b"%d" % value["value"])
        else:
            expected = None if value["expected"] is None else b"%d" % value["expected"]
            result = await session.raw.compare_and_swap(key, expected, b"%d" % value["value"])
            value["swapped"], value["found"] = result.swapped, number_of(result.previous)

    async def _transactional(self, session: Session, kind: str, attempt: Attempt) -> None:
        value, key = attempt.value, self.key(attempt.value["key"])
        if kind == "read" and session.rng.random() < 0.5:  # what an autocommit point query does
            value["value"] = number_of(await session.client.snapshot(TS_MAX).get(key))
            return

        async def work(view: View) -> None:
            if kind == "write":
                view.put(key, b"%d" % value["value"])
                return
            found = number_of(await view.get(key))
            if kind == "read":
                value["value"] = found
                return
            value["found"], value["swapped"] = found, found == value["expected"]
            if value["swapped"]:
                view.put(key, b"%d" % value["value"])

        await session.transact(attempt, [key], work)

    async def finish(self, session: Session) -> None:
        """Read every key."""
        for number in range(len(self.used)):
            await self.until_done(lambda number=number: self._one(session, number, "read"))  # type: ignore[misc]


def number_of(value: bytes | None) -> int | None:
    """What is stored."""
    return None if value is None else int(value)
