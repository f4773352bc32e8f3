"""Flow control of one follower."""

from __future__ import annotations

from core_py.raft.progress import Inflights, Progress, ProgressState


def replicating(count: int = 2, size_bytes: int = 100) -> Progress:
    progress = Progress(5, count, size_bytes)
    progress.maybe_update(4)
    progress.become_replicate()
    return progress


def test_window_is_full_by_count_and_by_bytes() -> None:
    window = Inflights(2, 10)
    window.add(1, 1)
    assert not window.full
    window.add(2, 1)
    assert window.full
    window.free_to(1)
    assert not window.full
    window.add(3, 9)
    assert window.full
    window.free_first()
    window.free_to(9)
    assert len(window) == 0
    assert not window.full


def test_probe_sends_one_at_a_time() -> None:
    progress = Progress(5, 2, 100)
    progress.sent(6, 1)
    assert progress.paused
    assert not progress.maybe_decrease(9, 0)
    assert progress.maybe_decrease(4, 2)
    assert (progress.next, progress.paused) == (3, False)


def test_hint_never_goes_below_match() -> None:
    progress = Progress(9, 2, 100)
    progress.maybe_update(5)
    progress.become_probe()
    assert progress.maybe_decrease(5, 0)
    assert progress.next == 6
    progress.check_invariants()


def test_replicate_ignores_stale_rejections_and_falls_back_on_others() -> None:
    progress = replicating()
    progress.sent(6, 1)
    progress.sent(8, 1)
    assert (progress.next, progress.paused) == (9, True)
    assert not progress.maybe_decrease(4, 3)
    assert progress.maybe_decrease(6, 4)
    assert progress.next == 5


def test_delivered_snapshot_is_continued_behind() -> None:
    progress = replicating()
    progress.become_snapshot(20)
    assert progress.paused
    progress.report_snapshot(ok=True)
    assert (progress.state, progress.next, progress.paused) == (ProgressState.PROBE, 21, True)
    progress.check_invariants()


def test_failed_snapshot_starts_over() -> None:
    progress = replicating()
    progress.become_snapshot(20)
    progress.report_snapshot(ok=False)
    assert progress.next == 5
    progress.report_snapshot(ok=True)
    assert progress.next == 5
