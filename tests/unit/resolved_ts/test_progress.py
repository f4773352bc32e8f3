"""What a replica may read by itself, as claims arrive and the log is applied."""

from __future__ import annotations

import random

import pytest

from tikv_py.resolved_ts.progress import Claim, ReadProgress


def test_a_claim_counts_when_its_entry_is_applied() -> None:
    progress = ReadProgress()
    progress.offer(Claim(5, 100))
    assert progress.safe_ts(4) == 0
    assert progress.safe_ts(5) == 100
    progress.offer(Claim(5, 90))
    assert progress.safe_ts(5) == 100


def test_a_replica_that_stays_behind_still_reaches_the_oldest_claim() -> None:
    progress = ReadProgress()
    for step in range(1, 20):
        progress.offer(Claim(step * 10, step * 100))
    assert progress.safe_ts(9) == 0
    assert progress.safe_ts(10) == 100
    assert progress.safe_ts(189) == 100
    assert progress.safe_ts(190) == 1900


def test_more_at_an_earlier_entry_replaces_what_waits() -> None:
    progress = ReadProgress()
    progress.offer(Claim(50, 100))
    progress.offer(Claim(60, 200))
    progress.offer(Claim(40, 300))
    assert (progress.front, progress.back) == (Claim(40, 300), None)


def test_a_merge_takes_the_lesser_half_and_forgets_what_waits() -> None:
    progress = ReadProgress()
    progress.offer(Claim(5, 100))
    progress.offer(Claim(9, 200))
    progress.merge(150, 10)
    assert progress.reached == Claim(10, 150)
    progress.offer(Claim(12, 300))
    progress.merge(0, 13)
    assert progress.safe_ts(99) == 0


def test_a_snapshot_begins_anew() -> None:
    progress = ReadProgress()
    progress.offer(Claim(5, 100))
    assert progress.safe_ts(5) == 100
    progress.offer(Claim(7, 120))
    progress.reset()
    assert progress.safe_ts(99) == 0


@pytest.mark.parametrize("seed", range(20))
def test_never_more_than_the_claims_reached_and_never_back(seed: int) -> None:
    rng = random.Random(seed)
    progress = ReadProgress()
    claims: list[Claim] = []
    applied = last = 0
    for _ in range(200):
        if rng.random() < 0.5:
            claims.append(Claim(applied + rng.randrange(6), last + rng.randrange(20)))
            progress.offer(claims[-1])
        else:
            applied += rng.randrange(4)
        safe = progress.safe_ts(applied)
        assert last <= safe <= max([ts for index, ts in claims if index <= applied], default=0)
        last = safe
