"""A member's log on disk: what was synced survives any loss of power, and nothing else is believed."""

from __future__ import annotations

import pickle  # noqa: TID251 what an attacker would send

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_py.errors import StorageError
from core_py.raft.messages import ConfState, Entry, HardState, Snapshot, SnapshotMeta
from core_py.runtime.workers import InlineWorkers
from core_py.sim.disk import MemoryDisk
from core_py.sim.loop import run_virtual
from pd_py.metastore import journal
from pd_py.metastore.durable_log import LOG_FILE, DurableLog

VOTERS = ConfState((1, 2, 3))
INDEX, TERM = 5, 5


def begun(disk: MemoryDisk) -> DurableLog:
    log = DurableLog(disk, InlineWorkers())
    log.begin(VOTERS, INDEX, TERM, b"first")
    return log


def told(log: DurableLog) -> tuple[object, ...]:
    """Everything a restart begins with."""
    last = log.last_index()
    entries = tuple(log.entries(log.first_index(), last + 1, None)) if last >= log.first_index() else ()
    return log.hard_state, log.initial_state()[1], log.first_index(), entries, log.restored


step = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 4), st.integers(0, 3)),
    st.tuples(st.just("vote"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("commit"), st.just(0), st.just(0)),
    st.tuples(st.just("cut"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("install"), st.integers(1, 20), st.just(0)),
)


async def do(log: DurableLog, kind: str, number: int, back: int) -> None:
    hard = log.hard_state
    if kind == "append":
        first = max(hard.commit + 1, log.last_index() + 1 - back)
        term = max(hard.term, TERM) + (1 if back else 0)
        entries = tuple(Entry(term, first + at, b"%d" % (first + at)) for at in range(number))
        await log.write(None, entries, HardState(term, 0, hard.commit), sync=True)
    elif kind == "vote":
        await log.write(None, (), HardState(hard.term + 1, number, hard.commit), sync=True)
    elif kind == "commit":
        await log.write(None, (), HardState(hard.term, hard.vote, log.last_index()), sync=True)
    elif kind == "cut":
        index = max(log.first_index() - 1, hard.commit - number)
        await log.cut(Snapshot(SnapshotMeta(index, log.term(index), VOTERS), b"at %d" % index))
    else:
        index = log.last_index() + number
        snapshot = Snapshot(SnapshotMeta(index, hard.term, VOTERS), b"sent %d" % index)
        await log.write(snapshot, (), HardState(hard.term, hard.vote, index), sync=True)


@settings(max_examples=150, deadline=None)
@given(st.lists(step, max_size=12), st.integers(0, 60))
def test_a_restart_after_power_loss_finds_exactly_what_was_acknowledged(
    steps: list[tuple[str, int, int]], torn: int
) -> None:
    async def main() -> None:
        disk = MemoryDisk()
        log = begun(disk)
        for kind, number, back in steps:
            await do(log, kind, number, back)
        before = (
            log.hard_state,
            log.last_index(),
            log.entries(log.hard_state.commit, log.last_index() + 1, None)
            if log.first_index() <= log.hard_state.commit <= log.last_index()
            else (),
        )
        disk.append(LOG_FILE, journal.encode(b"never synced" * 5)[:torn])
        again = DurableLog(disk.crash(torn_bytes=torn), InlineWorkers())
        after = (
            again.hard_state,
            again.last_index(),
            again.entries(again.hard_state.commit, again.last_index() + 1, None)
            if again.first_index() <= again.hard_state.commit <= again.last_index()
            else (),
        )
        assert before[:2] == after[:2]
        assert not after[2] or before[2] == after[2]
        assert told(DurableLog(disk.crash(), InlineWorkers())) == told(again), "the torn end was cut off for good"

    run_virtual(main())


async def test_an_unsynced_vote_is_forgotten_and_a_synced_one_is_not() -> None:
    disk = MemoryDisk()
    log = begun(disk)
    await log.write(None, (), HardState(7, 2, INDEX), sync=True)
    await log.write(None, (), HardState(8, 3, INDEX), sync=False)
    assert DurableLog(disk.crash(), InlineWorkers()).hard_state == HardState(7, 2, INDEX)
    await log.write(None, (), HardState(8, 3, INDEX), sync=True)
    assert DurableLog(disk.crash(), InlineWorkers()).hard_state == HardState(8, 3, INDEX)


async def test_cutting_keeps_some_entries_for_members_that_were_away() -> None:
    log = begun(MemoryDisk())
    for index in range(INDEX + 1, INDEX + 20):
        await log.write(None, (Entry(TERM, index, b"x" * 100),), HardState(TERM, 0, index), sync=True)
    before = log.size_bytes
    index = log.last_index()
    await log.cut(Snapshot(SnapshotMeta(index, TERM, VOTERS), b"all"))
    assert log.size_bytes < before / 5
    assert log.first_index() == INDEX + 1
    await log.write(None, (Entry(TERM, index + 1, b"next"),), None, sync=True)
    assert log.last_index() == index + 1


def test_a_pickle_on_the_disk_is_refused() -> None:
    disk = MemoryDisk()
    disk.replace(LOG_FILE, pickle.dumps({"term": 9, "vote": 1}))
    with pytest.raises(StorageError, match="no log at all"):
        DurableLog(disk, InlineWorkers())


def test_a_pickle_in_a_whole_record_is_refused() -> None:
    disk = MemoryDisk()
    disk.replace(LOG_FILE, journal.encode(pickle.dumps({"term": 9, "vote": 1})))
    with pytest.raises(StorageError, match="not what a member writes"):
        DurableLog(disk, InlineWorkers())


def test_damage_with_valid_records_behind_it_is_refused() -> None:
    async def main() -> None:
        disk = MemoryDisk()
        log = begun(disk)
        for term in (6, 7, 8):
            await log.write(None, (), HardState(term, 1, INDEX), sync=True)
        data = bytearray(disk.read(LOG_FILE) or b"")
        first = len(journal.encode(journal.decode(bytes(data))[0][0]))
        data[first + 12] ^= 1
        disk.replace(LOG_FILE, bytes(data))
        with pytest.raises(StorageError, match="restore it from another member"):
            DurableLog(disk, InlineWorkers())

    run_virtual(main())
