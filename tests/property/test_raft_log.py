"""`RaftLog` against a plain list: any order of appends, cuts, snapshots, late writes, compactions and restarts.

The model knows the whole log as terms by index, and the disk as what finished writes left there. Whatever the order, the log
reads as the model does, counts as durable only what the disk holds in its last version, and hands out each committed
entry once, in order.
"""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core_py.raft.errors import LogCompacted, LogUnavailable
from core_py.raft.log import RaftLog
from core_py.raft.messages import ConfState, Entry, HardState, Snapshot, SnapshotMeta
from core_py.raft.storage import MemoryStorage

CONF = ConfState(voters=(1,))
SHORT = st.integers(1, 3)


class LogModel(RuleBasedStateMachine):
    """The model: `terms[i]` is the term of entry i + 1, from the beginning of the group, compacted or not."""

    def __init__(self) -> None:
        super().__init__()
        self.storage = MemoryStorage(CONF)
        self.log = RaftLog(self.storage, 0, 0)
        self.terms: list[int] = []
        self.term = 1
        self.number = 0
        self.committed = 0
        self.handed = 0
        self.writes: deque[tuple[int, Snapshot | None, tuple[Entry, ...], int]] = deque()
        self.disk: list[int] = []
        self.disk_committed = 0

    def entries(self, start: int, count: int) -> list[Entry]:
        return [Entry(self.term, index, b"x") for index in range(start, start + count)]

    @rule(count=SHORT)
    def append(self, count: int) -> None:
        self.log.append(self.entries(len(self.terms) + 1, count))
        self.terms += [self.term] * count

    @rule(count=SHORT, more=st.integers(0, 9), finished=st.integers(0, 2))
    def append_write_and_commit(self, count: int, more: int, finished: int) -> None:
        """The usual course, with a disk that is late."""
        self.append(count)
        self.take_write()
        if finished:
            self.finish_writes(finished)
        self.commit(more)
        self.hand_out(9)

    @rule(back=SHORT, count=SHORT)
    def cut_and_append(self, back: int, count: int) -> None:
        """A new leader's entries replace the uncommitted end of the log."""
        prev = max(len(self.terms) - back, self.committed)
        self.term += 1
        prev_term = self.terms[prev - 1] if prev else 0
        assert self.log.maybe_append(prev, prev_term, self.entries(prev + 1, count)) == prev + count
        del self.terms[prev:]
        self.terms += [self.term] * count

    @rule(back=SHORT)
    def append_what_is_there(self, back: int) -> None:
        """A repeated message changes nothing."""
        start = max(len(self.terms) - back, self.committed) + 1
        again = [Entry(self.terms[index - 1], index, b"x") for index in range(start, len(self.terms) + 1)]
        before = self.log.has_unpersisted()
        prev_term = self.terms[start - 2] if start > 1 else 0
        assert self.log.maybe_append(start - 1, prev_term, again) == len(self.terms)
        assert self.log.has_unpersisted() == before

    @rule(more=st.integers(1, 9))
    def commit(self, more: int) -> None:
        self.committed = min(self.committed + more, len(self.terms))
        self.log.commit_to(self.committed)

    @rule(ahead=SHORT)
    def restore(self, ahead: int) -> None:
        """A snapshot of a newer state replaces everything; it ends within a log of the newest term."""
        index = self.committed + ahead
        self.term += 1
        self.log.restore(Snapshot(SnapshotMeta(index, self.term, CONF)))
        self.terms = [*self.terms[: self.committed], *[self.term] * ahead]
        self.committed = self.handed = index

    @rule()
    def take_write(self) -> None:
        self.number += 1
        snapshot, taken = self.log.take_unpersisted(self.number, HardState(self.term, 0, self.committed))
        assert [entry.index for entry in taken] == list(range(len(self.terms) - len(taken) + 1, len(self.terms) + 1))
        self.writes.append((self.number, snapshot, taken, self.committed))

    @precondition(lambda self: bool(self.writes))
    @rule(count=SHORT)
    def finish_writes(self, count: int) -> None:
        for _ in range(min(count, len(self.writes))):
            number, snapshot, taken, committed = self.writes.popleft()
            if snapshot is not None:
                self.storage.apply_snapshot(snapshot)
                self.disk = [*[0] * (snapshot.meta.index - 1), snapshot.meta.term]
            self.storage.append(taken)
            if taken:
                self.disk[taken[0].index - 1 :] = [entry.term for entry in taken]
            self.disk_committed = committed
        self.log.stable_to(number)

    @rule(max_bytes=st.sampled_from((0, 1, 9)))
    def hand_out(self, max_bytes: int) -> None:
        given = self.log.take_committed(max_bytes)
        assert len(given) <= max(max_bytes, 1)
        assert [(entry.index, entry.term) for entry in given] == [
            (index, self.terms[index - 1]) for index in range(self.handed + 1, self.handed + len(given) + 1)
        ]
        self.handed += len(given)
        assert not given or (self.handed <= self.log.persisted and not self.log.has_pending_snapshot)
        if not self.log.has_pending_snapshot:
            self.log.applied_to(self.handed)

    @precondition(lambda self: not self.log.has_pending_snapshot and self.log.applied > self.storage.first_index())
    @rule(keep=SHORT)
    def compact(self, keep: int) -> None:
        self.storage.compact(max(self.log.applied - keep, self.storage.first_index() - 1))

    @rule()
    def restart(self) -> None:
        """Writes that had not finished are lost; the state machine is as durable as the log."""
        self.writes.clear()
        self.terms = [*self.terms[: self.storage.first_index() - 1], *self.disk[self.storage.first_index() - 1 :]]
        self.committed = max(self.disk_committed, self.storage.first_index() - 1)
        self.handed = min(self.log.applied, self.committed)
        self.log = RaftLog(self.storage, self.committed, self.handed)
        self.handed = self.log.handed

    @invariant()
    def reads_as_the_model(self) -> None:
        log = self.log
        log.check_invariants()
        first, last = log.first_index(), log.last_index()
        assert (last, log.committed) == (len(self.terms), self.committed)
        assert [entry.term for entry in log.entries(first, last + 1, None)] == self.terms[first - 1 :]
        assert [log.term(index) for index in range(first, last + 1)] == self.terms[first - 1 :]
        with pytest.raises(LogUnavailable):
            log.term(last + 1)
        if first > 1:
            with pytest.raises(LogCompacted):
                log.entries(first - 1, last + 1, None)

    @invariant()
    def counts_only_what_the_disk_holds(self) -> None:
        persisted = self.log.persisted
        if not self.writes and not self.log.has_unpersisted():
            assert persisted == len(self.terms)
        if not self.log.has_pending_snapshot:
            first = self.storage.first_index()
            assert self.disk[first - 1 : persisted] == self.terms[first - 1 : persisted]


LogModel.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
TestRaftLog = LogModel.TestCase
