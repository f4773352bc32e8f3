"""A model of snapshot isolation that knows only transactions and their outcomes, and a store that runs commands on one engine.

The model's truth about a key at a timestamp is the newest committed transaction at or below it that wrote the key. Outcomes come
from the commands' answers about primaries (or, with async commit, from all keys being prewritten), and may never change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from core_py.codec import ts as tso
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE
from tikv_py.mvcc import keys
from tikv_py.mvcc.actions.gc import VersionGc
from tikv_py.mvcc.actions.prewrite import Mutation, MutationOp
from tikv_py.mvcc.lock import Lock
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import Modify, MvccTxn
from tikv_py.mvcc.write import Write, WriteType

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class ModelTxn:
    """One transaction: what its client wants and has heard, and its outcome.

    `decided` is None while it is open, 0 when it was rolled back, else its commit_ts.
    """

    start_ts: int
    mutations: dict[bytes, Mutation]
    pessimistic: bool
    mode: str
    max_commit_ms: int
    ttl_ms: int
    phase: str = "open"
    locked: dict[bytes, int] = field(default_factory=dict)
    forced: set[bytes] = field(default_factory=set)
    asked_at: dict[bytes, int] = field(default_factory=dict)
    sent: set[bytes] = field(default_factory=set)
    prewritten: dict[bytes, int] = field(default_factory=dict)
    fell_back: bool = False
    failed: bool = False
    commit_timestamps: list[int] = field(default_factory=list)
    decided: int | None = None

    @property
    def keys(self) -> list[bytes]:
        """All its keys, the primary first."""
        return list(self.mutations)

    @property
    def primary(self) -> bytes:
        """Its primary key."""
        return self.keys[0]

    def snapshot_of(self, key: bytes) -> int:
        """Up to where it has seen the key."""
        return self.locked.get(key, self.start_ts) if self.pessimistic else self.start_ts


class Model:
    """All transactions there ever were."""

    def __init__(self) -> None:
        self.txns: dict[int, ModelTxn] = {}

    def decide(self, txn: ModelTxn, commit_ts: int) -> None:
        """An answer said how a transaction ended: it must be what was said before, and no lost update."""
        if txn.decided is not None:
            assert txn.decided == commit_ts, "the outcome of a transaction has changed"
            return
        txn.decided = commit_ts
        if not commit_ts:
            return
        assert commit_ts > txn.start_ts
        for other in self.txns.values():
            if other is txn or not other.decided:
                continue
            for key in set(other.keys) & set(txn.keys):
                assert other.decided != commit_ts, "two commits of a key at one timestamp"
                assert not txn.snapshot_of(key) < other.decided < commit_ts, "a commit was overlooked"
                assert not other.snapshot_of(key) < commit_ts < other.decided, "a commit slipped in"

    def value(self, key: bytes, ts: int) -> bytes | None:
        """What a key is at a timestamp."""
        newest, value = 0, None
        for txn in self.txns.values():
            mutation = txn.mutations.get(key)
            if mutation is None or not txn.decided or mutation.op is MutationOp.LOCK:
                continue
            if newest < txn.decided <= ts:
                newest, value = txn.decided, None if mutation.op is MutationOp.DELETE else mutation.value
        return value


class Store:
    """One engine; `max_ts` is the greatest timestamp read at, as async commit needs it."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.max_ts = 0
        self._now_ms = 10

    def ts(self, skip_ms: int = 0) -> int:
        """The next timestamp from PD."""
        self._now_ms += 1 + skip_ms
        return tso.compose(self._now_ms, 0)

    def run(self, start_ts: int, action: Callable[[MvccTxn, MvccReader], T]) -> T:
        """Decide and write; a raised refusal writes nothing."""
        txn = MvccTxn(start_ts)
        result = action(txn, self.reader())
        self.write(txn.modifies)
        return result

    def reader(self) -> MvccReader:
        """A reader of what is there now."""
        return MvccReader(self.engine)

    def write(self, modifies: list[Modify]) -> None:
        """All or none."""
        batch = self.engine.batch()
        for cf, key, value in modifies:
            if value is None:
                batch.delete(cf, key)
            else:
                batch.put(cf, key, value)
        self.engine.write(batch)

    def locks(self) -> dict[bytes, Lock]:
        """By user key."""
        return {keys.user_key(key): Lock.from_bytes(data) for key, data in self.engine.items(CF_LOCK)}

    def collect_garbage(self, safe_point: int) -> None:
        """Apply the removals in two pieces."""
        collector = VersionGc(safe_point)
        removals = [removal for key, value in self.engine.items(CF_WRITE) for removal in collector.feed(key, value)]
        removals += collector.finish()
        half = len(removals) // 2
        self.write(removals[:half])
        self.write(removals[half:])

    def orphans(self) -> set[bytes]:
        """Values that belong to no PUT record and no lock."""
        values = {key for key, _ in self.engine.items(CF_DEFAULT)}
        for key, data in self.engine.items(CF_WRITE):
            write = Write.from_bytes(data)
            if write.write_type is WriteType.PUT and write.short_value is None:
                values.remove(keys.versioned(keys.split_version(key)[0], write.start_ts))
        for key, data in self.engine.items(CF_LOCK):
            values.discard(keys.versioned(key, Lock.from_bytes(data).start_ts))
        return values
