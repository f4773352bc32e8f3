"""Every planted bug is found within a bounded number of seeds, and the seed that finds it passes without the bug."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.sim import divergence, overlap, raft_sim, test_raft_safety
from tests.sim.planted import BUGS
from tests.sim.world import Options

SEEDS = 40


def cluster(options: Options) -> Callable[[int], object]:
    return lambda seed: raft_sim.simulate(seed, options)


def core(seed: int) -> object:
    return test_raft_safety.run(seed)


@dataclass(frozen=True)
class Hunt:
    """Where to look for a bug: which simulation, and from which seed on (a seed that found it when this was written)."""

    simulate: Callable[[int], object]
    start: int = 0


HUNTS = {
    "vote_is_not_persisted": Hunt(cluster(raft_sim.SHORT)),
    "votes_twice_in_a_term": Hunt(divergence.simulate),
    "commits_older_terms_by_counting": Hunt(divergence.simulate, 2),
    "lease_outlives_transfer": Hunt(cluster(raft_sim.LEASES), 29),
    "reads_without_asking_a_quorum": Hunt(divergence.simulate),
    "lease_ignores_a_pause": Hunt(cluster(raft_sim.PAUSES)),
    "acknowledges_before_sync": Hunt(cluster(raft_sim.SHORT)),
    "applies_before_persisting": Hunt(cluster(raft_sim.SNAPSHOTS), 23),
    "applies_writes_of_an_older_epoch": Hunt(cluster(raft_sim.SHORT), 17),
    "snapshot_is_not_synced": Hunt(cluster(raft_sim.SNAPSHOTS), 5),
    "log_is_truncated_before_data_is_durable": Hunt(cluster(raft_sim.SHORT), 4),
    "several_voters_change_at_once": Hunt(overlap.simulate),
    "new_members_count_late": Hunt(core),
    "changes_members_before_the_last_change_is_applied": Hunt(overlap.simulate),
}


def test_every_bug_is_hunted() -> None:
    assert set(HUNTS) == set(BUGS)


@pytest.mark.parametrize("name", HUNTS)
def test_planted_bug_is_found(name: str) -> None:
    hunt = HUNTS[name]
    for seed in range(hunt.start, hunt.start + SEEDS):
        try:
            with BUGS[name]():
                hunt.simulate(seed)
        except AssertionError as error:
            print(f"seed {seed}: {error}")
            hunt.simulate(seed)  # and without the bug all is well
            return
    pytest.fail(f"{name} is not found by {SEEDS} seeds from {hunt.start} on")
