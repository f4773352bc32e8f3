"""Short simulations of the whole storage cluster; `make sim SEEDS=...` runs many more."""

from __future__ import annotations

import pytest

from tests.sim.storage_sim import simulate


@pytest.mark.parametrize("seed", range(12))
def test_seed(seed: int) -> None:
    outcome = simulate(seed)
    assert outcome.writes > 20, "too little happened to prove anything"


def test_one_seed_gives_one_trace() -> None:
    assert simulate(3).trace_hash == simulate(3).trace_hash
