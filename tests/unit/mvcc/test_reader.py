"""How far reads walk: a chain of LOCK records that know the last change costs one seek, and other chains every step."""

from __future__ import annotations

import pytest

from core_py.errors import InvariantViolation
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_WRITE, Cursor
from tikv_py.mvcc import keys
from tikv_py.mvcc.last_change import NOT_EXIST, LastChange, last_change_above
from tikv_py.mvcc.reader import SEEK_BOUND, MvccReader
from tikv_py.mvcc.write import Write, WriteType

KEY = keys.data_key(b"k")


class CountingEngine(MemoryEngine):
    """Counts the steps of its cursors."""

    steps = 0

    def cursor(self, cf: str) -> Cursor:
        inner = super().cursor(cf)
        engine = self
        following = inner.next

        def step() -> bool:
            engine.steps += 1
            return following()

        class Counting:
            seek, seek_for_prev, prev = inner.seek, inner.seek_for_prev, inner.prev
            key, value = inner.key, inner.value
            next = staticmethod(step)

        return Counting()


def engine_with(*records: tuple[int, Write]) -> CountingEngine:
    engine = CountingEngine()
    batch = engine.batch()
    for commit_ts, write in records:
        batch.put(CF_WRITE, keys.versioned(KEY, commit_ts), write.to_bytes())
    engine.write(batch)
    return engine


def locks(count: int, *, known: bool) -> list[tuple[int, Write]]:
    """LOCK records at 20, 30, ... over the change at 10."""
    return [
        (
            10 * number + 10,
            Write(
                WriteType.LOCK,
                10 * number + 5,
                last_change_ts=10 if known else 0,
                versions_to_last_change=number if known else 0,
            ),
        )
        for number in range(1, count + 1)
    ]


PUT = (10, Write(WriteType.PUT, 5, b"v"))


@pytest.mark.parametrize(
    ("count", "known", "steps"),
    [(SEEK_BOUND - 1, True, SEEK_BOUND - 1), (SEEK_BOUND, True, 0), (50, True, 0), (50, False, 50)],
)
def test_steps_of_a_read(count: int, known: bool, steps: int) -> None:
    engine = engine_with(PUT, *locks(count, known=known))
    assert MvccReader(engine).get(KEY, 1000) == b"v"
    assert engine.steps == steps


def test_a_change_that_garbage_collection_took_is_none() -> None:
    engine = engine_with(*locks(20, known=True))
    assert MvccReader(engine).get(KEY, 1000) is None


def test_no_change_ends_the_read() -> None:
    lock = Write(WriteType.LOCK, 15, versions_to_last_change=1)
    engine = engine_with((20, lock), *((ts, Write.rollback(ts, protected=True)) for ts in range(1, 10)))
    assert MvccReader(engine).get(KEY, 1000) is None
    assert engine.steps == 0


def test_a_pointer_to_a_record_that_is_no_change_is_damage() -> None:
    lock = Write(WriteType.LOCK, 15, last_change_ts=10, versions_to_last_change=SEEK_BOUND)
    engine = engine_with((20, lock), (10, Write(WriteType.LOCK, 9)))
    with pytest.raises(InvariantViolation, match="LOCK record"):
        MvccReader(engine).get(KEY, 1000)


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        ([], NOT_EXIST),
        ([PUT], LastChange(10, 1)),
        ([(10, Write(WriteType.DELETE, 5))], LastChange(10, 1)),
        ([PUT, *locks(3, known=True)], LastChange(10, 4)),
        ([PUT, *locks(3, known=False)], LastChange(10, 4)),
        ([PUT, *locks(3, known=True), (60, Write.rollback(60, protected=True))], LastChange(10, 5)),
        ([(20, Write(WriteType.LOCK, 15, versions_to_last_change=1))], NOT_EXIST),
        ([(20, Write.rollback(20, protected=False))], NOT_EXIST),
        ([(0, Write.rollback(0, protected=False))], NOT_EXIST),
    ],
)
def test_what_a_new_lock_notes(records: list[tuple[int, Write]], wanted: LastChange) -> None:
    reader = MvccReader(engine_with(*records))
    assert last_change_above(reader, KEY, reader.seek_write(KEY, (1 << 64) - 1)) == wanted
