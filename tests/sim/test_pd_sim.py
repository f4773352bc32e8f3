"""PD's simulation: short runs that must hold, and bugs planted on purpose that must be found. `make sim` runs many more seeds."""

from __future__ import annotations

import pytest

from core_py.errors import invariant
from core_py.raft.messages import Entry, HardState, Snapshot
from pd_py.member.fenced import FencedStore
from pd_py.metastore.durable_log import DurableLog
from pd_py.metastore.lease import ClockLease
from pd_py.metastore.replicated import ReplicatedStore
from pd_py.tso.allocator import SAVE_AHEAD_MS, TsoAllocator
from tests.sim import pd_sim
from tests.sim.world import Options, SeedFailed

SHORT = Options("pd", run_s=5.0, pace_s=0.6)
SEEDS_TO_FIND = 40


@pytest.mark.parametrize("start", range(0, 60, 10))
def test_three_members_under_faults(start: int) -> None:
    outcomes = [pd_sim.simulate(seed, SHORT) for seed in range(start, start + 10)]
    assert sum(one.writes for one in outcomes) > 10 * 300
    assert sum(one.reads for one in outcomes) > 10 * 10
    assert len({fault for one in outcomes for fault in one.faults}) > 6


def test_one_seed_is_one_run() -> None:
    assert pd_sim.simulate(7, SHORT).trace_hash == pd_sim.simulate(7, SHORT).trace_hash


def finds(what: str) -> int:
    """The first seed that fails, and fails for the right reason."""
    for seed in range(SEEDS_TO_FIND):
        try:
            pd_sim.simulate(seed, pd_sim.OPTIONS)
        except SeedFailed as failed:
            told = failed.told(with_trace=False)
            assert any(word in told for word in what.split("|")), told
            return seed
    raise AssertionError(f"{SEEDS_TO_FIND} seeds found nothing")


def test_a_new_leader_that_ignores_the_durable_bound_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(self: TsoAllocator, wall_ms: int, _persisted_ms: int) -> int:
        self._physical_ms, self._logical = wall_ms, 0
        return wall_ms + SAVE_AHEAD_MS

    monkeypatch.setattr(TsoAllocator, "begin", begin)
    finds("went back|given twice")


def test_a_lease_that_does_not_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClockLease, "until", lambda _self, tick: 0.0 if tick is None else float("inf"))
    finds("serve at once|went back|was acknowledged")


def test_a_lease_counted_from_the_answer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the lease begins with is the moment before the round was sent, not the one in which its answers came."""

    def until(self: ClockLease, tick: int | None) -> float:
        return 0.0 if tick is None else self._ticked[-1][1] + 1.5 * self._worth_s

    monkeypatch.setattr(ClockLease, "until", until)
    finds("serve at once|went back|was acknowledged")


def test_a_log_that_is_not_synced_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    write = DurableLog.write

    async def unsynced(
        self: DurableLog, snapshot: Snapshot | None, entries: tuple[Entry, ...], hard: HardState | None, *, sync: bool
    ) -> None:
        invariant(sync or not entries, "entries are to be synced")
        await write(self, snapshot, entries, hard, sync=False)

    monkeypatch.setattr(DurableLog, "write", unsynced)
    finds("given|was acknowledged|went back|id |Invariant|commit|conflicts")


def test_a_read_without_asking_anybody_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_barrier(_self: ReplicatedStore) -> None:
        return

    monkeypatch.setattr(ReplicatedStore, "barrier", no_barrier)
    finds("was acknowledged")


def test_timestamps_without_asking_for_the_lease_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FencedStore, "is_valid", property(lambda self: self._store.term == self.term))
    finds("serve at once|went back")
