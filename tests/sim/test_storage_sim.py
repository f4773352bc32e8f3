"""Short simulations of the whole storage cluster; `make sim SEEDS=n START=s` runs many more and longer ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.sim import bank_sim, raft_sim, sql_sim, stale_sim
from tests.sim.world import Options, Outcome


def together(outcomes: list[Outcome]) -> tuple[int, int, Counter[str], Counter[str]]:
    """Writes, reads, faults and checks of several runs: a single one gets done what its faults let it."""
    faults: Counter[str] = Counter()
    checks: Counter[str] = Counter()
    for outcome in outcomes:
        faults.update(outcome.faults)
        checks.update(outcome.checks)
    return sum(one.writes for one in outcomes), sum(one.reads for one in outcomes), faults, checks


@pytest.mark.parametrize("start", range(0, 200, 10))
def test_registers(start: int) -> None:
    outcomes = [raft_sim.simulate(seed, raft_sim.SHORT) for seed in range(start, start + 10)]
    writes, reads, faults, checks = together(outcomes)
    assert writes > 10 * 10
    assert reads > 10 * 10
    assert len(faults) > 10
    assert min(checks.values()) > 10, checks


@pytest.mark.parametrize(
    "options",
    [raft_sim.LEASES, raft_sim.PAUSES, raft_sim.SNAPSHOTS, raft_sim.LAGGARDS],
    ids=lambda options: str(options.name),
)
def test_registers_under_aimed_faults(options: Options) -> None:
    writes, reads, *_ = together([raft_sim.simulate(seed, options) for seed in range(10)])
    assert writes > 10 * 10
    assert reads > 10 * 10


def test_registers_for_longer() -> None:
    writes, reads, *_ = together([raft_sim.simulate(seed, Options("raft")) for seed in range(5)])
    assert writes > 5 * 50
    assert reads > 5 * 50


def test_bank() -> None:
    writes, reads, *_ = together([bank_sim.simulate(seed, Options("bank")) for seed in range(5)])
    assert writes > 5 * 10
    assert reads > 5 * 10


def test_stale_reads() -> None:
    writes, reads, *_ = together([stale_sim.simulate(seed, Options("stale")) for seed in range(5)])
    assert writes > 5 * 5
    assert reads > 5 * 50, "answers of followers"


def test_sql() -> None:
    writes, reads, *_ = together([sql_sim.simulate(seed, Options("sql")) for seed in range(3)])
    assert writes > 3 * 10
    assert reads > 3 * 10


def test_one_seed_gives_one_trace_whatever_the_hash_seed_is() -> None:
    traces = []
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.sim", "--seeds", "1", "--start", "3", "--trace"]
        done = subprocess.run(
            command,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        )
        traces.append(done.stdout.splitlines())
    assert traces[0] == traces[1]
    assert len(traces[0]) > 1000
