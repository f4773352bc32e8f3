"""A store with snapshot isolation in a few lines, whose clients leave histories; and bugs it can be given, one at a time.

Clients are generators that yield wherever another client may go on; a seed chooses who does. Without a bug every
history is one of strong snapshot isolation: timestamps come from one counter, which is also the clock.
"""

from __future__ import annotations

import enum
import random
from collections import defaultdict
from collections.abc import Generator
from typing import Any

from tests.support.checkers.history import Operation, Outcome

Client = Generator[None, None, None]


class Bug(enum.Enum):
    """What the store does wrong."""

    NO_CONFLICT_CHECK = "the last committer of a key wins"
    DIRTY_READS = "reads see what is not committed"
    READS_AT_NOW = "each read has a snapshot of its own"
    OLD_SNAPSHOTS = "snapshots are older than the begin"
    TORN_COMMIT = "keys become visible one after the other"
    LOST_WRITES = "some acknowledged commits leave nothing"
    ABORTED_WRITES_STAY = "some refused commits leave their writes"


class Conflict(Exception):
    """Somebody committed the key first."""


class Store:
    """Versions by key."""

    def __init__(self, rng: random.Random, bug: Bug | None = None) -> None:
        self.rng, self.bug = rng, bug
        self.clock = 0
        self.versions: dict[Any, list[tuple[int, Any]]] = defaultdict(list)
        self.dirty: dict[Any, Any] = {}
        self.history: list[Operation] = []

    def now(self) -> int:
        """The next moment."""
        self.clock += 1
        return self.clock

    def read(self, key: Any, ts: int) -> Any:
        """The newest value at a timestamp."""
        if self.bug is Bug.DIRTY_READS and key in self.dirty:
            return self.dirty[key]
        return next((value for at, value in reversed(self.versions[key]) if at <= ts), None)

    def run(self, clients: list[Client]) -> list[Operation]:
        """Run all to their end; returns what they did."""
        while clients:
            client = self.rng.choice(clients)
            if next(client, self) is self:
                clients.remove(client)
        return self.history


class Txn:
    """A transaction of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.called = store.now()
        self.start_ts = store.now()
        if store.bug is Bug.OLD_SNAPSHOTS:
            self.start_ts = max(1, self.start_ts - store.rng.randrange(12))
        self.commit_ts = 0
        self.buffer: dict[Any, Any] = {}

    def read(self, key: Any) -> Any:
        """Own writes first."""
        if key in self.buffer:
            return self.buffer[key]
        return self.store.read(key, self.store.clock if self.store.bug is Bug.READS_AT_NOW else self.start_ts)

    def write(self, key: Any, value: Any) -> None:
        """Into the buffer."""
        self.buffer[key] = value
        self.store.dirty[key] = value

    def commit(self) -> Client:
        """Raises Conflict."""
        store = self.store
        for key in self.buffer:
            store.dirty.pop(key, None)
        newer = any(store.versions[key] and store.versions[key][-1][0] > self.start_ts for key in self.buffer)
        if newer and store.bug is not Bug.NO_CONFLICT_CHECK:
            if store.bug is not Bug.ABORTED_WRITES_STAY or store.rng.random() < 0.5:
                raise Conflict
            self._install(store.now())
            raise Conflict
        if not self.buffer:
            return
        self.commit_ts = store.now()
        if store.bug is Bug.LOST_WRITES and store.rng.random() < 0.1:
            return
        if store.bug is not Bug.TORN_COMMIT:
            self._install(self.commit_ts)
            return
        for key, value in self.buffer.items():
            store.versions[key].append((store.now(), value))
            for _ in range(3):
                yield

    def _install(self, ts: int) -> None:
        for key, value in self.buffer.items():
            self.store.versions[key].append((ts, value))

    def end(self, process: int, kind: str, value: Any) -> Client:
        """Commit and leave a record; sometimes the client does not learn the outcome, and the commit comes later or never."""
        store = self.store
        commit_ts = 0
        outcome = Outcome.OK
        unknown = bool(self.buffer) and store.rng.random() < 0.1
        if unknown:
            outcome = Outcome.INFO
        else:
            try:
                yield from self.commit()
                commit_ts = self.commit_ts
            except Conflict:
                outcome = Outcome.FAIL
        called, returned = float(self.called), float(store.now())
        store.history.append(Operation(process, kind, called, returned, outcome, value, self.start_ts, commit_ts))
        if unknown:
            for _ in range(store.rng.randrange(10)):
                yield
            if store.rng.random() < 0.6:
                try:
                    yield from self.commit()
                except Conflict:
                    return


# ---- clients ------------------------------------------------------------------------------------------------


def appender(store: Store, process: int, count: int, keys: int = 3) -> Client:
    """Transactions of reads and appends."""
    for number in range(count):
        txn = Txn(store)
        done: list[list[Any]] = []
        for position in range(store.rng.randint(1, 4)):
            key = store.rng.randrange(keys)
            yield
            if store.rng.random() < 0.5:
                done.append(["r", key, list(txn.read(key) or [])])
            else:
                element = process * 100_000 + number * 10 + position
                if store.rng.random() < 0.3:
                    done.append(["r", key, list(txn.read(key) or [])])
                txn.write(key, [*(txn.read(key) or []), element])
                done.append(["append", key, element])
        yield from txn.end(process, "txn", done)
        yield


def finally_read_lists(store: Store, keys: int = 3) -> Client:
    """One last look."""
    txn = Txn(store)
    yield from txn.end(999, "txn", [["r", key, list(txn.read(key) or [])] for key in range(keys)])


ACCOUNTS, OPENING = 4, 10


def open_bank(store: Store) -> Client:
    """The opening balances."""
    called = store.now()
    for account in range(ACCOUNTS):
        store.versions[account].append((called, OPENING))
    yield
    store.history.append(Operation(0, "open", float(called), float(store.now()), Outcome.OK, [OPENING] * ACCOUNTS))


def banker(store: Store, process: int, count: int) -> Client:
    """Transfers and audits."""
    for number in range(count):
        txn = Txn(store)
        yield
        if store.rng.random() < 0.4:
            balances = []
            for account in range(ACCOUNTS):
                balances.append(txn.read(account))
                yield
            yield from txn.end(process, "read", balances)
            continue
        source, target = store.rng.sample(range(ACCOUNTS), 2)
        value = {"id": process * 1000 + number, "source": source, "target": target, "amount": 1}
        if txn.read(source) < 1:
            continue
        txn.write(source, txn.read(source) - 1)
        yield
        txn.write(target, txn.read(target) + 1)
        txn.write(f"transfer {value['id']}", [value["id"], source, target, 1])
        yield
        yield from txn.end(process, "transfer", value)


def finally_audit(store: Store) -> Client:
    """One last look."""
    txn = Txn(store)
    records = [txn.read(key) for key in list(store.versions) if isinstance(key, str)]
    value = {
        "balances": [txn.read(account) for account in range(ACCOUNTS)],
        "transfers": [one for one in records if one],
    }
    yield from txn.end(999, "final", value)


def adder(store: Store, process: int, count: int) -> Client:
    """Unique elements, two at a time, and reads of all."""
    for number in range(count):
        txn = Txn(store)
        yield
        if store.rng.random() < 0.3:
            yield from txn.end(process, "read", members(txn))
            continue
        elements = [process * 1000 + number * 2, process * 1000 + number * 2 + 1]
        for element in elements:
            txn.write(element, True)
            yield
        yield from txn.end(process, "add", elements)


def members(txn: Txn) -> list[int]:
    """All elements at a transaction's timestamp."""
    known = sorted({*txn.store.versions, *txn.store.dirty})
    return [element for element in known if txn.read(element)]


def finally_read_set(store: Store) -> Client:
    """One last look."""
    txn = Txn(store)
    yield from txn.end(999, "final", members(txn))


def forker(store: Store, process: int, count: int, groups: int = 3, size: int = 3) -> Client:
    """Keys written once, and groups read."""
    for number in range(count):
        group = store.rng.randrange(groups)
        txn = Txn(store)
        yield
        if number % 4 == 0 and process < size and number // 4 < groups:
            txn.write((number // 4, process), True)
            yield from txn.end(process, "write", [number // 4, process])
            continue
        seen = []
        for key in range(size):
            if txn.read((group, key)):
                seen.append(key)
            yield
        yield from txn.end(process, "read", [group, seen])


def writer(store: Store, process: int, count: int) -> Client:
    """Reads, writes and compare-and-sets of one register."""
    for number in range(count):
        txn = Txn(store)
        yield
        kind = store.rng.choice(["read", "write", "cas"])
        value: dict[str, Any] = {"key": 0, "value": process * 1000 + number}
        found = txn.read("register")
        if kind == "read":
            value["value"] = found
        elif kind == "write":
            txn.write("register", value["value"])
        else:
            expected = found if store.rng.random() < 0.7 else -1
            value |= {"expected": expected, "found": found, "swapped": found == expected}
            if found == expected:
                txn.write("register", value["value"])
        yield
        yield from txn.end(process, kind, value)
