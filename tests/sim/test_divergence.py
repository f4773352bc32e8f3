"""Nothing committed is lost or overlooked, and the schedules do come to the points they aim at."""

from __future__ import annotations

from tests.sim import divergence, overlap

SEEDS = range(100, 120)


def test_nothing_is_lost_or_overlooked() -> None:
    checks = [divergence.simulate(seed).checks for seed in SEEDS]
    assert sum(one["strikes"] for one in checks) > 2 * len(SEEDS), "leaders with a majority for an older entry only"
    assert sum(one["left behind"] for one in checks) > 3 * len(SEEDS), (
        "leaders asked after their successors have committed"
    )
    assert sum(one["cut off"] for one in checks) > 10 * len(SEEDS)
    assert all(one["applied"] > 0 for one in checks)


def test_changes_of_several_members_do_no_harm() -> None:
    checks = [overlap.simulate(seed).checks for seed in SEEDS]
    assert sum(one["refused"] for one in checks) > 2 * len(SEEDS), "changes before the last one is applied"
    assert sum(one["together"] for one in checks) > len(SEEDS)
    assert sum(one["parted"] for one in checks) > 8 * len(SEEDS)
    assert sum(one["confs"] for one in checks) > 20 * len(SEEDS)


def test_same_seed_same_trace() -> None:
    assert divergence.simulate(7).trace_hash == divergence.simulate(7).trace_hash
    assert divergence.simulate(7).trace_hash != divergence.simulate(8).trace_hash
