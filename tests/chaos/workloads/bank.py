"""Transfers between accounts, each with a record, and reads of all balances; see `tests/support/checkers/bank.py`."""

from __future__ import annotations

import time
from functools import partial

from tests.chaos.workloads.base import Attempt, Session, View, Workload
from tests.support.checkers.history import Outcome

ACCOUNTS, OPENING = 16, 100
READ_SHARE = 0.3


class Bank(Workload):
    """See the module's text."""

    splits = (b"a/06", b"a/11", b"t/")

    def account(self, number: int) -> bytes:
        """The key of a balance."""
        return self.prefix + b"a/%02d" % number

    async def prepare(self, session: Session) -> None:
        """Open the accounts."""
        called = time.monotonic()
        async with session.client.begin() as txn:
            for number in range(ACCOUNTS):
                txn.put(self.account(number), b"%d" % OPENING)
        opened = Attempt(value=[OPENING] * ACCOUNTS)
        self.recorder.add(session, "open", opened, (called, time.monotonic()), Outcome.OK)

    async def step(self, session: Session) -> Outcome:
        """A transfer or a read."""
        attempt = Attempt()
        if session.rng.random() < READ_SHARE:
            return await self.recorder.run(session, "read", attempt, self._read(session, attempt), writes=False)
        source, target = session.rng.sample(range(ACCOUNTS), 2)
        amount = session.rng.randint(1, 5)
        attempt.value = {"id": self.next_number(), "source": source, "target": target, "amount": amount}
        return await self.recorder.run(session, "transfer", attempt, self._transfer(session, attempt))

    async def _transfer(self, session: Session, attempt: Attempt) -> None:
        value = attempt.value
        source, target = self.account(value["source"]), self.account(value["target"])

        async def work(view: View) -> None:
            left = int(await view.get(source) or b"")
            value["amount"] = min(value["amount"], left)
            view.put(source, b"%d" % (left - value["amount"]))
            view.put(target, b"%d" % (int(await view.get(target) or b"") + value["amount"]))
            record = b"%d %d %d %d" % (value["id"], value["source"], value["target"], value["amount"])
            view.put(self.prefix + b"t/%08d" % value["id"], record)

        await session.transact(attempt, sorted([source, target]), work)

    async def _read(self, session: Session, attempt: Attempt) -> None:
        """All balances of one snapshot: by keys, by range, at any replica."""
        keys = [self.account(number) for number in range(ACCOUNTS)]
        attempt.start_ts = await session.client.timestamp()
        snapshot = session.client.snapshot(attempt.start_ts, replica_read=session.rng.random() < 0.3)
        if session.rng.random() < 0.5:
            found = await snapshot.batch_get(keys)
        else:
            found = {key: value async for key, value in snapshot.scan(keys[0], keys[-1] + b"\0")}
        attempt.value = [int(found[key]) for key in keys if key in found]

    async def finish(self, session: Session) -> None:
        """Balances and records."""
        attempt = Attempt()
        await self.until_done(partial(self._final, session, attempt))

    async def _final(self, session: Session, attempt: Attempt) -> Outcome:
        return await self.recorder.run(session, "final", attempt, self._look(session, attempt), writes=False)

    async def _look(self, session: Session, attempt: Attempt) -> None:
        async def work(view: View) -> None:
            balances = [int(value) for _, value in await view.scan(self.prefix + b"a/", self.prefix + b"a0")]
            records = [value.split() for _, value in await view.scan(self.prefix + b"t/", self.prefix + b"t0")]
            transfers = [[int(field) for field in record] for record in records]
            attempt.value = {"balances": balances, "transfers": transfers}

        await session.transact(attempt, [], work, pessimistic=False)
