"""Unique elements, a few in one transaction, and reads of all; see `tests/support/checkers/unique_set.py`."""

from __future__ import annotations

from functools import partial

from tests.chaos.workloads.base import Attempt, Session, View, Workload
from tests.support.checkers.history import Outcome

READ_SHARE = 0.02
SHARDS = 4


class UniqueSet(Workload):
    """See the module's text."""

    splits = (b"s1", b"s2", b"s3")

    def key(self, element: int) -> bytes:
        """Neighbours lie in different regions."""
        return self.prefix + b"s%d/%08d" % (element % SHARDS, element)

    async def step(self, session: Session) -> Outcome:
        """An add or a read."""
        if session.rng.random() < READ_SHARE:
            return await self._read(session, "read")
        attempt = Attempt(value=[self.next_number() for _ in range(session.rng.randint(1, 3))])

        async def work(view: View) -> None:
            for element in attempt.value:
                view.put(self.key(element), b"%d" % element)

        keys = [self.key(element) for element in attempt.value]
        return await self.recorder.run(session, "add", attempt, session.transact(attempt, keys, work))

    async def _read(self, session: Session, kind: str) -> Outcome:
        attempt = Attempt()

        async def work(view: View) -> None:
            attempt.value = sorted([int(value) for _, value in await view.scan(self.prefix + b"s", self.prefix + b"t")])

        run = session.transact(attempt, [], work, pessimistic=False)
        return await self.recorder.run(session, kind, attempt, run, writes=False)

    async def finish(self, session: Session) -> None:
        """All elements."""
        await self.until_done(partial(self._read, session, "final"))
