"""The log over writes that finish late."""

from __future__ import annotations

import pytest

from core_py.errors import InvariantViolation
from core_py.raft.errors import LogCompacted, LogUnavailable
from core_py.raft.log import RaftLog
from core_py.raft.messages import ConfState, Entry, HardState, Snapshot, SnapshotMeta
from core_py.raft.storage import MemoryStorage

CONF = ConfState(voters=(1,))


def entries(*terms: int, start: int = 1) -> list[Entry]:
    return [Entry(term, start + position, b"%d" % term) for position, term in enumerate(terms)]


def make(*terms: int, committed: int = 0) -> tuple[MemoryStorage, RaftLog]:
    storage = MemoryStorage(CONF)
    storage.append(entries(*terms))
    return storage, RaftLog(storage, committed, 0)


def test_reads_go_over_the_seam() -> None:
    _, log = make(1, 1)
    log.append(entries(2, 2, start=3))
    assert [entry.term for entry in log.entries(1, 5, None)] == [1, 1, 2, 2]
    assert len(log.entries(2, 5, 2)) == 2
    assert len(log.entries(1, 5, 0)) == 1
    assert log.term(4) == 2
    with pytest.raises(LogUnavailable):
        log.term(5)


def test_entries_count_as_durable_only_after_their_write() -> None:
    storage, log = make()
    log.append(entries(1, 1))
    _, first = log.take_unpersisted(1, None)
    log.append(entries(1, start=3))
    _, second = log.take_unpersisted(2, None)
    assert [len(first), len(second), log.persisted] == [2, 1, 0]
    assert not log.has_unpersisted()
    log.commit_to(3)
    assert not log.has_committed()
    storage.append(first)
    log.stable_to(1)
    assert log.persisted == 2
    assert [entry.index for entry in log.take_committed(1 << 20)] == [1, 2]
    storage.append(second)
    log.stable_to(2)
    assert [entry.index for entry in log.take_committed(1 << 20)] == [3]
    log.check_invariants()


def test_overwritten_and_restored_entries_are_not_durable_too_early() -> None:
    """Written, cut, and appended again with the same terms: the first write's end proves nothing for the third."""
    storage, log = make()
    log.append(entries(2, 2, 2))
    _, first = log.take_unpersisted(1, None)
    log.append(entries(3, start=2))
    _, second = log.take_unpersisted(2, None)
    log.append(entries(4, 4, start=2))
    _, third = log.take_unpersisted(3, None)
    log.check_invariants()
    storage.append(first)
    log.stable_to(1)
    assert log.persisted == 1
    storage.append(second)
    log.stable_to(2)
    assert log.persisted == 1
    assert [entry.term for entry in log.entries(1, 4, None)] == [2, 4, 4]
    storage.append(third)
    log.stable_to(3)
    assert log.persisted == 3
    log.check_invariants()


def test_one_write_may_end_several_readys() -> None:
    storage, log = make()
    log.append(entries(1))
    storage.append(log.take_unpersisted(1, HardState(1, 1, 0))[1])
    log.append(entries(1, start=2))
    storage.append(log.take_unpersisted(2, None)[1])
    assert log.stable_to(2) == HardState(1, 1, 0)
    assert log.persisted == 2


def test_maybe_append_finds_the_conflict() -> None:
    _, log = make(1, 1, 2, committed=1)
    assert log.maybe_append(5, 2, []) is None
    assert log.maybe_append(2, 3, []) is None
    assert log.maybe_append(1, 1, entries(1, 2, start=2)) == 3
    assert not log.has_unpersisted()
    assert log.maybe_append(1, 1, entries(1, 3, 3, start=2)) == 4
    assert [entry.term for entry in log.take_unpersisted(1, None)[1]] == [3, 3]
    assert log.persisted == 2


def test_a_committed_entry_is_never_overwritten() -> None:
    _, log = make(1, 1, committed=2)
    with pytest.raises(InvariantViolation):
        log.maybe_append(1, 1, entries(2, start=2))
    with pytest.raises(InvariantViolation):
        log.commit_to(3)


def test_conflict_by_term_skips_a_whole_term() -> None:
    _, log = make(1, 1, 3, 3, 3)
    assert log.find_conflict_by_term(5, 2) == (2, 1)
    assert log.find_conflict_by_term(9, 3) == (5, 3)
    assert log.find_conflict_by_term(9, 0) == (0, 0)


def test_snapshot_replaces_everything_until_it_is_durable() -> None:
    storage, log = make(1, 1, 1)
    log.append(entries(1, start=4))
    log.take_unpersisted(1, None)
    snapshot = Snapshot(SnapshotMeta(9, 4, CONF))
    log.restore(snapshot)
    assert (log.first_index(), log.last_index(), log.term(9)) == (10, 9, 4)
    with pytest.raises(LogCompacted):
        log.term(3)
    with pytest.raises(LogCompacted):
        log.entries(3, 5, None)
    log.append(entries(4, start=10))
    given, after = log.take_unpersisted(2, None)
    assert given is snapshot
    assert log.take_unpersisted(3, None) == (None, ())
    log.commit_to(10)
    log.stable_to(1)
    assert not log.has_committed()
    storage.apply_snapshot(snapshot)
    storage.append(after)
    log.stable_to(2)
    assert not log.has_pending_snapshot
    assert [entry.index for entry in log.take_committed(10)] == [10]
    log.check_invariants()


def test_applied_never_passes_what_was_handed_out() -> None:
    _, log = make(1, 1, committed=2)
    with pytest.raises(InvariantViolation):
        log.applied_to(1)
    assert [entry.index for entry in log.take_committed(0)] == [1]
    log.applied_to(1)
    log.applied_to(0)
    assert log.applied == 1


def test_a_log_that_lost_what_it_said_was_committed_is_not_used() -> None:
    with pytest.raises(InvariantViolation, match="past the stored log's end 2"):
        make(1, 1, committed=3)
