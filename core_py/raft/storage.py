"""The port to the durable log, and a memory version of it for tests.

Why synchronous reads: the core decides in one step without waiting; the implementation keeps recent entries in memory.

Invariants: `first_index() <= last_index() + 1`; `term(first_index() - 1)` answers the term of the truncated position.

What it does not do: write. The driver writes what `Ready` names; the core learns of it by `RawNode.on_persist`, from
which moment on the storage must answer for what was written.
"""

from __future__ import annotations

from typing import Protocol

from core_py.raft.errors import LogCompacted, LogUnavailable, SnapshotTemporarilyUnavailable
from core_py.raft.messages import ConfState, Entry, HardState, Snapshot, SnapshotMeta

__all__ = ["LogCompacted", "LogUnavailable", "MemoryStorage", "RaftStorage", "SnapshotTemporarilyUnavailable"]


class RaftStorage(Protocol):
    """The durable log of one node, for reading."""

    def initial_state(self) -> tuple[HardState, ConfState]:
        """The hard state, and the configuration as of the applied index, at start."""

    def entries(self, low: int, high: int, max_bytes: int | None) -> list[Entry]:
        """Entries of [low, high), at least the first, then while their data sums up to at most `max_bytes`.

        Raises LogCompacted if low is before the first index, LogUnavailable if high is past the last plus one.
        """

    def term(self, index: int) -> int:
        """The term of the entry; also of the position just before the first. Raises LogCompacted, LogUnavailable."""

    def first_index(self) -> int:
        """The first index that `entries` can give."""

    def last_index(self) -> int:
        """The last index stored; first_index() - 1 if there is none."""

    def snapshot(self, request_index: int, to: int) -> Snapshot:
        """A snapshot at `request_index` or later, whose configuration contains the peer `to`.

        One that does not is not sent, so best make it at the applied index. Raises SnapshotTemporarilyUnavailable.
        """


def limit_bytes(entries: list[Entry], max_bytes: int | None) -> list[Entry]:
    """The longest prefix whose data sums up to at most `max_bytes`, but at least one entry."""
    if max_bytes is None:
        return entries
    total = 0
    for position, entry in enumerate(entries):
        total += len(entry.data)
        if total > max_bytes and position > 0:
            return entries[:position]
    return entries


class MemoryStorage:
    """A `RaftStorage` in memory with the writes a driver needs; the truncated position is (`_base_index`, term)."""

    def __init__(self, conf_state: ConfState | None = None, *, index: int = 0, term: int = 0) -> None:
        self._base_index = index
        self._base_term = term
        self._entries: list[Entry] = []
        self._hard_state = HardState(term=term, commit=index)
        self._conf_state = conf_state or ConfState()
        self._snapshot = Snapshot(SnapshotMeta(index, term, self._conf_state))
        self.snapshot_unavailable = False

    def initial_state(self) -> tuple[HardState, ConfState]:
        """See `RaftStorage`."""
        return self._hard_state, self._conf_state

    def entries(self, low: int, high: int, max_bytes: int | None) -> list[Entry]:
        """See `RaftStorage`."""
        if low <= self._base_index:
            raise LogCompacted(f"entry {low} is compacted; the log begins at {self._base_index + 1}")
        if high > self.last_index() + 1:
            raise LogUnavailable(f"entries up to {high} asked, the last one is {self.last_index()}")
        start = self._base_index + 1
        return limit_bytes(self._entries[low - start : high - start], max_bytes)

    def term(self, index: int) -> int:
        """See `RaftStorage`."""
        if index == self._base_index:
            return self._base_term
        if index < self._base_index:
            raise LogCompacted(f"term of {index} is compacted; the log begins at {self._base_index + 1}")
        if index > self.last_index():
            raise LogUnavailable(f"term of {index} asked, the last entry is {self.last_index()}")
        return self._entries[index - self._base_index - 1].term

    def first_index(self) -> int:
        """See `RaftStorage`."""
        return self._base_index + 1

    def last_index(self) -> int:
        """See `RaftStorage`."""
        return self._base_index + len(self._entries)

    def snapshot(self, request_index: int, to: int) -> Snapshot:
        """The last snapshot made; refuses while `snapshot_unavailable` or when it is older than asked."""
        if self.snapshot_unavailable or self._snapshot.meta.index < request_index:
            raise SnapshotTemporarilyUnavailable(f"no snapshot at {request_index} or later yet; ask again")
        return self._snapshot

    def append(self, entries: tuple[Entry, ...] | list[Entry]) -> None:
        """Store entries, cutting what was stored from the first of them on."""
        if entries:
            keep = entries[0].index - self._base_index - 1
            if not 0 <= keep <= len(self._entries):
                raise LogUnavailable(f"entry {entries[0].index} does not follow the log {self._base_index + 1}..")
            del self._entries[keep:]
            self._entries.extend(entries)

    def set_hard_state(self, hard_state: HardState) -> None:
        """Store the hard state."""
        self._hard_state = hard_state

    def set_conf_state(self, conf_state: ConfState) -> None:
        """Store the configuration a restart begins with."""
        self._conf_state = conf_state

    def create_snapshot(self, index: int, conf_state: ConfState, data: bytes = b"") -> Snapshot:
        """Make the snapshot that `snapshot` will give."""
        self._snapshot = Snapshot(SnapshotMeta(index, self.term(index), conf_state), data)
        return self._snapshot

    def compact(self, index: int) -> None:
        """Forget the entries up to and including `index`."""
        if index > self._base_index:
            term = self.term(index)
            del self._entries[: index - self._base_index]
            self._base_index, self._base_term = index, term

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the whole log by the snapshot's position."""
        self._entries = []
        self._base_index, self._base_term = snapshot.meta.index, snapshot.meta.term
        self._snapshot = snapshot
        self._conf_state = snapshot.meta.conf_state
