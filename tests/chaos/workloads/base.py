"""What all workloads share: clients, transactions in every mode, and the record of each operation.

An operation that the client library refuses with a typed error had no effect: that is what the library promises, and a
checker will see when it is not so. `UndeterminedError` and the time-out of the workload itself (which cancels the
operation wherever it is) are of unknown outcome; a process to which that happens gets a new number, because its
operation may still be on its way.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from core_py.errors import DbError
from tests.support.checkers.history import Operation, Outcome
from tikv_py.client.errors import UndeterminedError
from tikv_py.client.raw.client import RawClient
from tikv_py.client.txn.client import TxnClient
from tikv_py.client.txn.transaction import Transaction

OPERATION_S = 8.0
IMPATIENT_SHARE, IMPATIENT_S = 0.01, (0.002, 0.06)
"""Some operations are given up early, wherever they are: a client that goes away in the middle of a commit."""
PAUSE_S = (0.0, 0.03)
AFTER_FAILURE_S = (0.02, 0.1)
LOCK_WAIT_MS = 300
PESSIMISTIC_SHARE = 0.15
"""Where optimistic and pessimistic transactions meet on hot keys they wait for each other until a lock expires, after 3 s."""
FINAL_READ_WITHIN_S = 60.0
PROCESS_STEP = 1000
"""Added to the number of a process after an operation of unknown outcome."""
MODES: tuple[dict[str, bool], ...] = (
    {},
    {"use_async_commit": True},
    {"try_one_pc": True},
    {"try_one_pc": True, "use_async_commit": True},
)


@dataclass(slots=True)
class Attempt:
    """What is learned on the way of an operation."""

    start_ts: int = 0
    commit_ts: int = 0
    mode: str = ""
    value: Any = None
    """What was to be done, or what came of it."""
    fails_unknown: bool = False
    """Refusals say nothing: the client repeats the command by itself."""


class View:
    """The keys of one transaction: own writes, then what it locked, then its snapshot."""

    def __init__(self, txn: Transaction, locked: dict[bytes, bytes | None]) -> None:
        self._txn = txn
        self._known = locked

    async def get(self, key: bytes) -> bytes | None:
        """A value."""
        return self._known[key] if key in self._known else await self._txn.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Set a value."""
        self._txn.put(key, value)
        self._known[key] = value

    async def scan(self, low: bytes, high: bytes) -> list[tuple[bytes, bytes]]:
        """The pairs of a range."""
        return [pair async for pair in self._txn.scan(low, high)]


@dataclass(slots=True)
class Session:
    """One client task."""

    number: int
    rng: random.Random
    client: TxnClient
    raw: RawClient
    process: int = 0

    async def transact(
        self, attempt: Attempt, keys: Sequence[bytes], work: Callable[[View], Awaitable[None]], **mode: bool
    ) -> None:
        """Run and commit a transaction in some mode; a pessimistic one locks `keys` first and reads what it locked."""
        chosen = mode or self.rng.choice(MODES) | {"pessimistic": self.rng.random() < PESSIMISTIC_SHARE}
        attempt.mode = ", ".join(name.replace("_", " ") for name, on in chosen.items() if on) or "two phases"
        txn = await self.client.begin(**chosen)
        attempt.start_ts = txn.start_ts
        async with txn:
            locked: dict[bytes, bytes | None] = {}
            if txn.pessimistic and keys:
                # At a timestamp of its own a conflict is an error; without one the client locks what is newest.
                at = await self.client.timestamp() if self.rng.random() < 0.5 else None
                locked = await txn.lock_keys(keys, for_update_ts=at, return_values=True, wait_ms=LOCK_WAIT_MS)
                attempt.start_ts = txn.for_update_ts
            await work(View(txn, locked))
            attempt.commit_ts = await txn.commit()


@dataclass(slots=True)
class Recorder:
    """Writes the history."""

    file: IO[str]
    counts: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))

    async def run(
        self, session: Session, kind: str, attempt: Attempt, work: Awaitable[None], *, writes: bool = True
    ) -> Outcome:
        """Do one operation and record it."""
        called = time.monotonic()
        outcome, error = Outcome.OK, ""
        impatient = writes and session.rng.random() < IMPATIENT_SHARE
        try:
            async with asyncio.timeout(session.rng.uniform(*IMPATIENT_S) if impatient else OPERATION_S):
                await work
        except (UndeterminedError, TimeoutError) as failure:
            outcome, error = Outcome.INFO if writes else Outcome.FAIL, repr(failure)
        except DbError as failure:
            outcome, error = Outcome.INFO if attempt.fails_unknown else Outcome.FAIL, repr(failure)
        self.add(session, kind, attempt, (called, time.monotonic()), outcome, error)
        return outcome

    def add(
        self,
        session: Session,
        kind: str,
        attempt: Attempt,
        times: tuple[float, float],
        outcome: Outcome,
        error: str = "",
    ) -> None:
        """Record what was done."""
        operation = Operation(
            process=session.process,
            kind=kind,
            called=times[0],
            returned=times[1],
            outcome=outcome,
            value=attempt.value,
            start_ts=attempt.start_ts,
            commit_ts=attempt.commit_ts,
            mode=attempt.mode,
            error=error,
        )
        self.file.write(operation.to_line() + "\n")
        self.counts[outcome] += 1
        if outcome is Outcome.INFO:
            session.process += PROCESS_STEP


class Workload:
    """What a workload is made of; `step` is one operation of one client."""

    splits: tuple[bytes, ...] = ()
    """Where regions begin, below the prefix."""

    def __init__(self, prefix: bytes, recorder: Recorder, rng: random.Random) -> None:
        self.prefix, self.recorder, self.rng = prefix, recorder, rng
        self._numbers = 0

    def next_number(self) -> int:
        """A number that no other call gets."""
        self._numbers += 1
        return self._numbers

    async def prepare(self, session: Session) -> None:
        """Before the clients begin."""

    async def step(self, session: Session) -> Outcome:
        """One operation."""
        raise NotImplementedError

    async def finish(self, session: Session) -> None:
        """The last reads, when all faults are healed and all clients have ended."""

    async def until_done(self, operation: Callable[[], Awaitable[Outcome]]) -> None:
        """Repeat an operation until it is acknowledged. Raises TimeoutError."""
        async with asyncio.timeout(FINAL_READ_WITHIN_S):
            while await operation() is not Outcome.OK:  # noqa: ASYNC110 (nothing tells when the cluster is well)
                await asyncio.sleep(AFTER_FAILURE_S[1])

    async def work(self, session: Session, over: asyncio.Event) -> None:
        """One client: operations until it is over."""
        while not over.is_set():
            outcome = await self.step(session)
            await asyncio.sleep(session.rng.uniform(*(PAUSE_S if outcome is Outcome.OK else AFTER_FAILURE_S)))
