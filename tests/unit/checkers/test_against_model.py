"""The checkers against histories of a small store: none is reported while the store is right, and its bugs are found and named."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.checkers import bank, list_append, long_fork, register, unique_set
from tests.support.checkers.history import Operation, Verdict, read_history
from tests.unit.checkers import si_model
from tests.unit.checkers.si_model import Bug, Store

PROCESSES = 5


def run_append(store: Store) -> list[Operation]:
    store.run([si_model.appender(store, process, 12) for process in range(1, PROCESSES + 1)])
    return store.run([si_model.finally_read_lists(store)])


def run_bank(store: Store) -> list[Operation]:
    store.run([si_model.open_bank(store)])
    store.run([si_model.banker(store, process, 12) for process in range(1, PROCESSES + 1)])
    return store.run([si_model.finally_audit(store)])


def run_set(store: Store) -> list[Operation]:
    store.run([si_model.adder(store, process, 12) for process in range(1, PROCESSES + 1)])
    return store.run([si_model.finally_read_set(store)])


def run_long_fork(store: Store) -> list[Operation]:
    return store.run([si_model.forker(store, process, 16) for process in range(PROCESSES)])


def run_register(store: Store) -> list[Operation]:
    return store.run([si_model.writer(store, process, 12) for process in range(1, PROCESSES + 1)])


Run = Callable[[Store], list[Operation]]
Check = Callable[[Sequence[Operation]], Verdict]
WORKLOADS: dict[str, tuple[Run, Check]] = {
    "append": (run_append, list_append.check),
    "bank": (run_bank, bank.check),
    "set": (run_set, unique_set.check),
    "long-fork": (run_long_fork, long_fork.check),
    "register": (run_register, register.check),
}
PLANTED: dict[tuple[str, Bug], set[str]] = {
    ("append", Bug.NO_CONFLICT_CHECK): {"lost-update"},
    ("append", Bug.DIRTY_READS): {"G1a", "G1b"},
    ("append", Bug.READS_AT_NOW): {"G-single", "future-read"},
    ("append", Bug.OLD_SNAPSHOTS): {"G-single-realtime"},
    ("append", Bug.TORN_COMMIT): {"G-single"},
    ("append", Bug.LOST_WRITES): {"G-single-realtime"},
    ("append", Bug.ABORTED_WRITES_STAY): {"G1a"},
    ("bank", Bug.NO_CONFLICT_CHECK): {"wrong-balances", "wrong-total"},
    ("bank", Bug.DIRTY_READS): {"wrong-total"},
    ("bank", Bug.READS_AT_NOW): {"wrong-total"},
    ("bank", Bug.TORN_COMMIT): {"wrong-total"},
    ("bank", Bug.LOST_WRITES): {"lost-transfer"},
    ("bank", Bug.ABORTED_WRITES_STAY): {"G1a"},
    ("set", Bug.OLD_SNAPSHOTS): {"stale-read"},
    ("set", Bug.TORN_COMMIT): {"torn-write"},
    ("set", Bug.LOST_WRITES): {"lost-element"},
    ("long-fork", Bug.READS_AT_NOW): {"long-fork"},
    ("long-fork", Bug.OLD_SNAPSHOTS): {"stale-read"},
    ("long-fork", Bug.LOST_WRITES): {"stale-read"},
    ("register", Bug.NO_CONFLICT_CHECK): {"not-linearizable"},
    ("register", Bug.DIRTY_READS): {"not-linearizable"},
    ("register", Bug.OLD_SNAPSHOTS): {"not-linearizable"},
    ("register", Bug.LOST_WRITES): {"not-linearizable"},
    ("register", Bug.ABORTED_WRITES_STAY): {"not-linearizable"},
}
SEEDS = 30


@pytest.mark.parametrize("workload", WORKLOADS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_snapshot_isolation_is_never_reported(workload: str, seed: int) -> None:
    run, check = WORKLOADS[workload]
    verdict = check(run(Store(random.Random(seed))))
    assert verdict.valid, str(verdict)


@pytest.mark.parametrize(
    ("workload", "bug"), PLANTED, ids=lambda one: one.name.lower() if isinstance(one, Bug) else one
)
def test_a_planted_bug_is_found_and_named(workload: str, bug: Bug) -> None:
    run, check = WORKLOADS[workload]
    named: set[str] = set()
    for seed in range(SEEDS):
        named |= check(run(Store(random.Random(seed), bug))).names()
    assert PLANTED[workload, bug] <= named, f"found only {named}"


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_history_survives_its_file(workload: str) -> None:
    run, check = WORKLOADS[workload]
    history = run(Store(random.Random(1)))
    again = read_history([one.to_line() for one in history])
    assert [str(one) for one in again] == [str(one) for one in history]
    assert str(check(again)) == str(check(history))


def test_write_skew_is_allowed_and_told() -> None:
    notes = [list_append.check(run_append(Store(random.Random(seed)))).notes for seed in range(SEEDS)]
    assert any("G2 (write skew)" in note for found in notes for note in found)
