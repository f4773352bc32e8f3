"""Up to where the log is cut, and what is counted for that."""

from __future__ import annotations

import pytest

from core_py.raft.messages import Entry, EntryType
from core_py.sim.loop import run_virtual
from tests.unit.raftstore.support import LEADER_TERM, bench
from tikv_py.raftstore.log_gc import Follower, LogLimits, compact_index

LIMITS = LogLimits(threshold=50, count=1000, size_bytes=1 << 20)


def decide(applied: int, *followers: Follower, first: int = 101, log_bytes: int = 0) -> int | None:
    return compact_index(first=first, applied=applied, log_bytes=log_bytes, followers=list(followers), limits=LIMITS)


@pytest.mark.parametrize(("matched", "expected"), [(149, None), (150, 150), (180, 180), (300, 200), (0, None)])
def test_within_the_limits_everybody_is_waited_for(matched: int, expected: int | None) -> None:
    assert decide(200, Follower(matched), Follower(250)) == expected
    assert decide(200, Follower(matched, active=False), Follower(250)) == expected


def test_a_log_without_followers_is_cut_to_what_is_applied() -> None:
    assert decide(200) == 200


def test_beyond_the_count_an_absent_follower_is_left_behind() -> None:
    away = Follower(110, active=False)
    assert decide(1099, away, Follower(1090)) is None
    assert decide(1100, away, Follower(1090)) == 850, "a quarter of the count is kept"
    assert decide(1500, away, Follower(1490)) == 1250


def test_beyond_the_size_an_absent_follower_is_left_behind() -> None:
    away = Follower(110, active=False)
    assert decide(500, away, log_bytes=(1 << 20) - 1) is None
    assert decide(500, away, log_bytes=1 << 20) == 400, "a quarter of the size is kept"
    assert decide(500, away, log_bytes=4 << 20) == 475


def test_a_slow_follower_is_waited_for_up_to_twice_the_limits() -> None:
    assert decide(1900, Follower(300)) == 300
    assert decide(2100, Follower(300)) == 1850
    assert decide(500, Follower(130), log_bytes=2 << 20) == 450
    assert decide(500, Follower(160), log_bytes=(2 << 20) - 1) == 160


@pytest.mark.parametrize("log_bytes", [0, 1 << 20, 8 << 20])
def test_what_follows_a_snapshot_on_its_way_is_kept(log_bytes: int) -> None:
    assert decide(500, Follower(0, snapshot_index=180), Follower(490), log_bytes=log_bytes) == 180
    assert decide(500, Follower(0, snapshot_index=120, active=False), log_bytes=log_bytes) is None


def test_what_everybody_has_is_cut_also_beyond_the_limits() -> None:
    assert decide(2000, Follower(1990), Follower(1980)) == 1980


def test_log_bytes_follow_appends_cuts_and_replaced_entries() -> None:
    async def main() -> None:
        async with bench() as one:
            storage = one.peer.storage
            await one.append([bytes(100)] * 10, 5)
            assert storage.log_bytes == 1000
            storage.compact(9, LEADER_TERM)
            assert storage.log_bytes == 600
            assert (storage.first_index(), storage.term(9)) == (10, LEADER_TERM)
            replaced = Entry(LEADER_TERM + 1, 14, bytes(50), EntryType.NORMAL, b"")
            storage.append(one.raft_db.batch(), (replaced,))
            assert storage.log_bytes == 450
            storage.reset_to_snapshot(one.raft_db.batch(), 20, LEADER_TERM)
            assert storage.log_bytes == 0

    run_virtual(main())
