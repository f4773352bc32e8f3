"""The Raft log as one sequence: what storage holds, followed by what it does not hold yet.

Why two parts: entries are handed to the driver by `Ready` and become durable later, perhaps many Readys later; until
`stable_to` they live here, and the copy here wins over the one in storage, which may be half overwritten.

    storage: first_index .. persisted |  unstable: offset .. last_index
                                          handed to a Ready: offset .. next_persist - 1

Invariants: applied <= handed <= committed; applied <= last_index; committed <= last_index; handed <= persisted or the
handed part is inside a snapshot; offset <= next_persist <= last_index + 1. A cut of the log shortens the records of
Readys in flight: an entry written and then overwritten by a later Ready is never counted as durable.

What it does not do: write; know terms of office or peers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from core_py.errors import InvariantViolation, invariant
from core_py.raft.errors import LogCompacted, LogUnavailable
from core_py.raft.messages import Entry, EntryType, HardState, Snapshot
from core_py.raft.storage import RaftStorage, limit_bytes


@dataclass(slots=True)
class PersistRecord:
    """What one Ready in flight will have made durable; `last_index` shrinks when the log is cut meanwhile."""

    number: int
    last_index: int
    snapshot_index: int
    hard_state: HardState | None


class RaftLog:
    """Stable and unstable log of one node."""

    __slots__ = (
        "_entries",
        "_next_persist",
        "_offset",
        "_records",
        "_snapshot",
        "_snapshot_given",
        "_storage",
        "applied",
        "committed",
        "handed",
        "persisted",
    )

    def __init__(self, storage: RaftStorage, committed: int, applied: int) -> None:
        self._storage = storage
        first, last = storage.first_index(), storage.last_index()
        self._entries: list[Entry] = []
        self._offset = last + 1
        self._next_persist = last + 1
        self._snapshot: Snapshot | None = None
        self._snapshot_given = False
        self._records: deque[PersistRecord] = deque()
        self.persisted = last
        self.applied = max(applied, first - 1)
        self.committed = max(committed, self.applied)
        self.handed = self.applied
        invariant(self.committed <= last, f"committed {self.committed} past the stored log's end {last}")

    @property
    def has_pending_snapshot(self) -> bool:
        """True from the receipt of a snapshot until it is durable."""
        return self._snapshot is not None

    def first_index(self) -> int:
        """The first index whose entry can be read."""
        return self._snapshot.meta.index + 1 if self._snapshot is not None else self._storage.first_index()

    def last_index(self) -> int:
        """The last index, durable or not."""
        if self._entries:
            return self._offset + len(self._entries) - 1
        return self._snapshot.meta.index if self._snapshot is not None else self._storage.last_index()

    def last_term(self) -> int:
        """The term of the last entry."""
        return self.term(self.last_index())

    def term(self, index: int) -> int:
        """The term of an entry. Raises LogCompacted, LogUnavailable."""
        if index >= self._offset:
            position = index - self._offset
            if position < len(self._entries):
                return self._entries[position].term
            raise LogUnavailable(f"term of {index} asked, the last entry is {self.last_index()}")
        if self._snapshot is not None:
            if index == self._snapshot.meta.index:
                return self._snapshot.meta.term
            raise LogCompacted(f"term of {index} is replaced by the snapshot at {self._snapshot.meta.index}")
        return self._storage.term(index)

    def term_or_zero(self, index: int) -> int:
        """The term of an entry, 0 if it cannot be known."""
        try:
            return self.term(index)
        except (LogCompacted, LogUnavailable):
            return 0

    def match_term(self, index: int, term: int) -> bool:
        """True if the entry is known and has this term."""
        try:
            return self.term(index) == term
        except (LogCompacted, LogUnavailable):
            return False

    def entries(self, low: int, high: int, max_bytes: int | None) -> list[Entry]:
        """Entries of [low, high), at least one, then up to `max_bytes` of data. Raises LogCompacted."""
        if low >= high:
            return []
        if low >= self._offset:
            return limit_bytes(self._entries[low - self._offset : high - self._offset], max_bytes)
        if self._snapshot is not None:
            raise LogCompacted(f"entry {low} is replaced by the snapshot at {self._snapshot.meta.index}")
        stored = self._storage.entries(low, min(high, self._offset), max_bytes)
        if high <= self._offset or low + len(stored) < self._offset:
            return stored
        return limit_bytes(stored + self._entries[: high - self._offset], max_bytes)

    def snapshot(self, request_index: int, to: int) -> Snapshot:
        """A snapshot for a peer. Raises SnapshotTemporarilyUnavailable."""
        return self._storage.snapshot(request_index, to)

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """True if a log ending so is at least as good as this one (paper 5.4.1)."""
        own_term = self.last_term()
        return last_term > own_term or (last_term == own_term and last_index >= self.last_index())

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The greatest index <= `index` whose term is <= `term`, with its term (0 if unknown).

        Both ends of a rejection use it to skip a whole diverging term at once (paper 5.3, end).
        """
        index = min(index, self.last_index())
        while True:
            own_term = self.term_or_zero(index)
            if own_term <= term:
                return index, own_term
            index -= 1

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries, cutting the log from the first of them on."""
        after = entries[0].index
        last = self.last_index()
        if after == last + 1:
            self._entries.extend(entries)
            return
        invariant(self.committed < after <= last, f"append at {after}: committed {self.committed}, last {last}")
        if after <= self._offset:
            self._offset = after
            self._entries = list(entries)
        else:
            self._entries[after - self._offset :] = entries
        self._next_persist = min(self._next_persist, after)
        self._forget_durable_from(after)

    def maybe_append(self, prev_index: int, prev_term: int, entries: Sequence[Entry]) -> int | None:
        """Take a leader's entries; the last index now common with it, None if the logs do not fit at `prev_index`."""
        if not self.match_term(prev_index, prev_term):
            return None
        for position, entry in enumerate(entries):
            if not self.match_term(entry.index, entry.term):
                if entry.index <= self.committed:
                    raise InvariantViolation(f"entry {entry.index} conflicts with the committed {self.committed}")
                self.append(entries[position:])
                break
        return prev_index + len(entries)

    def commit_to(self, index: int) -> bool:
        """Raise the commit index; False if that is not news."""
        if index <= self.committed:
            return False
        invariant(index <= self.last_index(), f"commit {index} past the log's end {self.last_index()}: was it lost?")
        self.committed = index
        return True

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the whole log by a snapshot."""
        index = snapshot.meta.index
        invariant(index >= self.committed, f"snapshot {index} behind the commit index {self.committed}")
        self._forget_durable_from(min(index, self.persisted))
        self._snapshot, self._snapshot_given = snapshot, False
        self._entries = []
        self._offset = self._next_persist = index + 1
        self.committed = self.handed = index

    def _forget_durable_from(self, index: int) -> None:
        self.persisted = min(self.persisted, index - 1)
        for record in self._records:
            record.last_index = min(record.last_index, index - 1)

    def has_unpersisted(self) -> bool:
        """True if a Ready has something of the log to persist."""
        return (self._snapshot is not None and not self._snapshot_given) or self._next_persist <= self.last_index()

    def take_unpersisted(self, number: int, hard_state: HardState | None) -> tuple[Snapshot | None, tuple[Entry, ...]]:
        """What Ready `number` must write; noted as in flight together with its hard state."""
        snapshot = None if self._snapshot_given else self._snapshot
        self._snapshot_given = self._snapshot is not None
        entries = tuple(self._entries[self._next_persist - self._offset :])
        self._next_persist = self._offset + len(self._entries)
        if snapshot is not None or entries or hard_state is not None:
            snapshot_index = snapshot.meta.index if snapshot is not None else 0
            last_index = entries[-1].index if entries else 0
            self._records.append(PersistRecord(number, last_index, snapshot_index, hard_state))
        return snapshot, entries

    def stable_to(self, number: int) -> HardState | None:
        """All Readys up to `number` are durable: read their part from storage; the last hard state among them."""
        hard_state: HardState | None = None
        while self._records and self._records[0].number <= number:
            record = self._records.popleft()
            hard_state = record.hard_state or hard_state
            if self._snapshot is not None and self._snapshot.meta.index == record.snapshot_index:
                self._snapshot, self._snapshot_given = None, False
            self.persisted = max(self.persisted, record.snapshot_index, record.last_index)
        durable = self.persisted + 1 - self._offset
        if durable > 0:
            del self._entries[:durable]
            self._offset = self.persisted + 1
        return hard_state

    def has_committed(self) -> bool:
        """True if committed entries can be handed out."""
        return self._snapshot is None and min(self.committed, self.persisted) > self.handed

    def take_committed(self, max_bytes: int) -> tuple[Entry, ...]:
        """Committed entries that are durable here and were not handed out yet, up to `max_bytes` of data."""
        if not self.has_committed():
            return ()
        entries = tuple(self.entries(self.handed + 1, min(self.committed, self.persisted) + 1, max_bytes))
        self.handed = entries[-1].index
        return entries

    def applied_to(self, index: int) -> None:
        """The state machine holds everything up to `index`; a smaller index than before is ignored."""
        invariant(index <= self.handed, f"applied {index} but handed out only {self.handed}")
        self.applied = max(self.applied, index)

    def has_unapplied_conf_change(self) -> bool:
        """True if a committed conf change waits to be applied; only asked when an election is about to begin."""
        low = max(self.applied + 1, self.first_index())
        while low <= self.committed:
            chunk = self.entries(low, self.committed + 1, _SCAN_BYTES)
            if any(entry.entry_type != EntryType.NORMAL for entry in chunk):
                return True
            low += len(chunk)
        return False

    def check_invariants(self) -> None:
        """Raise InvariantViolation if the state is impossible."""
        last = self.last_index()
        invariant(self.applied <= self.handed <= self.committed <= last, f"applied..last out of order: {self}")
        invariant(self._offset <= self._next_persist <= last + 1, f"unstable part out of order: {self}")
        invariant(self.persisted < self._offset, f"durable entries kept as unstable: {self}")
        for position, entry in enumerate(self._entries):
            invariant(entry.index == self._offset + position, f"hole in the unstable log at {entry.index}")

    def __repr__(self) -> str:
        return (
            f"RaftLog(first={self.first_index()} applied={self.applied} handed={self.handed} "
            f"committed={self.committed} persisted={self.persisted} last={self.last_index()})"
        )


_SCAN_BYTES = 1 << 20  # data looked at per read while searching for a conf change
