"""Short simulations of the whole storage cluster; `python -m tests.sim --seeds N` runs many more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim import bank_sim, sql_sim, stale_sim, storage_sim

REPLAY = "replay: python -m tests.sim --workload {} --seeds 1 --start {} --log"


@pytest.mark.parametrize("seed", range(5))
def test_raw_data(seed: int) -> None:
    print(REPLAY.format("raw", seed))
    assert storage_sim.simulate(seed).writes > 20, "too little happened to prove anything"


@pytest.mark.parametrize("seed", range(5))
def test_bank(seed: int) -> None:
    print(REPLAY.format("bank", seed))
    outcome = bank_sim.simulate(seed)
    assert outcome.writes > 10
    assert outcome.reads > 10


@pytest.mark.parametrize("seed", range(5))
def test_stale_reads(seed: int) -> None:
    print(REPLAY.format("stale", seed))
    outcome = stale_sim.simulate(seed)
    assert outcome.writes > 5
    assert outcome.reads > 50, "answers of followers"


def test_sql() -> None:
    """One test for all seeds: how much a seed gets done depends on how hard its faults are, together they must do their share."""
    writes = reads = 0
    for seed in range(3):
        print(REPLAY.format("sql", seed))
        outcome = sql_sim.simulate(seed)
        writes, reads = writes + outcome.writes, reads + outcome.reads
    assert writes > 3 * 10
    assert reads > 3 * 10


def test_one_seed_gives_one_trace_whatever_the_hash_seed_is() -> None:
    traces = []
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.sim", "--seeds", "1", "--start", "3"]
        done = subprocess.run(
            command,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        )
        traces.append(done.stdout)
    assert traces[0] == traces[1]
