"""Which regions a store reads for garbage again."""

from __future__ import annotations

from tikv_py.gc.progress import ORPHANS_EVERY, GcProgress, Pass


def is_due(
    progress: GcProgress, safe_point: int, *, written_keys: int = 50, peer_id: int = 2, version: int = 3
) -> bool:
    return progress.is_due(1, peer_id, version, written_keys, safe_point)


def test_a_region_is_due_until_it_was_read_and_after_new_writes() -> None:
    progress = GcProgress()
    assert is_due(progress, 100)
    progress.finish(1, Pass(2, 3, safe_point=100, newest_ts=90, written_keys=50))
    assert not is_due(progress, 100)
    assert not is_due(progress, 200)
    assert is_due(progress, 200, written_keys=51)
    assert not is_due(progress, 100, written_keys=51)


def test_versions_above_the_safe_point_are_garbage_of_the_next() -> None:
    progress = GcProgress()
    progress.finish(1, Pass(2, 3, safe_point=100, newest_ts=101, written_keys=50))
    assert is_due(progress, 200)


def test_another_replica_or_range_begins_anew() -> None:
    progress = GcProgress()
    progress.finish(1, Pass(2, 3, safe_point=100, newest_ts=90, written_keys=50))
    assert is_due(progress, 200, peer_id=9)
    assert is_due(progress, 200, version=4)
    progress.keep({7})
    assert is_due(progress, 200)


def test_orphans_are_looked_for_at_first_and_now_and_then() -> None:
    progress = GcProgress()
    wanted = []
    for number in range(2 * ORPHANS_EVERY + 1):
        wanted.append(progress.wants_orphans(1, 2, 3))
        progress.finish(1, Pass(2, 3, number, 0, 0))
    assert [at for at, one in enumerate(wanted) if one] == [0, ORPHANS_EVERY, 2 * ORPHANS_EVERY]
