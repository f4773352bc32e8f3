"""Keys written once, in groups, and reads of whole groups meanwhile; see `tests/support/checkers/long_fork.py`."""

from __future__ import annotations

from typing import Any

from tests.chaos.workloads.base import Attempt, Session, View, Workload
from tests.support.checkers.history import Outcome

GROUP = 4
ACTIVE_GROUPS = 3
READS_PER_WRITE = 2


class LongFork(Workload):
    """See the module's text."""

    splits = (b"k1", b"k2", b"k3")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.unwritten = [(group, key) for group in range(ACTIVE_GROUPS) for key in range(GROUP)]
        self.groups = ACTIVE_GROUPS
        self.rng.shuffle(self.unwritten)

    def key(self, group: int, key: int) -> bytes:
        """The keys of a group lie in different regions."""
        return self.prefix + b"k%d/%05d" % (key, group)

    async def step(self, session: Session) -> Outcome:
        """A write of a key that has none, or a read of a group."""
        if session.rng.randrange(READS_PER_WRITE + 1):
            low = max(0, self.groups - ACTIVE_GROUPS - 1)
            return await self._read(session, session.rng.randrange(low, self.groups))
        group, key = self.unwritten.pop()
        if len(self.unwritten) < GROUP * (ACTIVE_GROUPS - 1):
            self.unwritten += [(self.groups, one) for one in range(GROUP)]
            self.groups += 1
            self.rng.shuffle(self.unwritten)
        attempt = Attempt(value=[group, key])

        async def work(view: View) -> None:
            view.put(self.key(group, key), b"1")

        run = session.transact(attempt, [self.key(group, key)], work)
        return await self.recorder.run(session, "write", attempt, run)

    async def _read(self, session: Session, group: int) -> Outcome:
        attempt = Attempt(value=[group, []])
        keys = [self.key(group, key) for key in range(GROUP)]

        async def run() -> None:
            if session.rng.random() < 0.5:
                attempt.start_ts = await session.client.timestamp()
                snapshot = session.client.snapshot(attempt.start_ts, replica_read=session.rng.random() < 0.5)
                found = await snapshot.batch_get(keys)
            else:
                txn = await session.client.begin()
                attempt.start_ts = txn.start_ts
                async with txn:
                    found = {key: value for key in session.rng.sample(keys, GROUP) if (value := await txn.get(key))}
            attempt.value = [group, [number for number, key in enumerate(keys) if key in found]]

        return await self.recorder.run(session, "read", attempt, run(), writes=False)

    async def finish(self, session: Session) -> None:
        """Read every group."""
        for group in range(self.groups):
            await self.until_done(lambda group=group: self._read(session, group))  # type: ignore[misc]
