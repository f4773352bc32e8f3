"""Reading garbage piece by piece from views that change in between, beside records that are no transaction's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE
from tikv_py.gc import collect
from tikv_py.gc.collect import OrphanScan, VersionScan, is_orphan
from tikv_py.mvcc import keys
from tikv_py.mvcc.lock import Lock, LockType
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.write import Write, WriteType

KEYS = [keys.data_key(b"k%d" % number) for number in range(4)]
LOW, HIGH = b"z", b"{"

Record = tuple[int, WriteType, bool]
"""(commit_ts, what it did, whether its value is long)"""

HISTORIES = st.lists(
    st.lists(
        st.tuples(st.integers(1, 60), st.sampled_from(WriteType), st.booleans()),
        unique_by=lambda one: one[0],
        max_size=12,
    ),
    min_size=4,
    max_size=4,
)


def put(engine: MemoryEngine, cf: str, key: bytes, value: bytes) -> None:
    batch = engine.batch()
    batch.put(cf, key, value)
    engine.write(batch)


def write(engine: MemoryEngine, key: bytes, record: Record) -> None:
    """A record whose start_ts is half a step before its commit_ts; timestamps are doubled for that."""
    ts, kind, is_long = record
    start_ts = 2 * ts if kind is WriteType.ROLLBACK else 2 * ts - 1
    short = None if kind is not WriteType.PUT or is_long else b"%d" % ts
    put(engine, CF_WRITE, keys.versioned(key, 2 * ts), Write(kind, start_ts, short).to_bytes())
    if kind is WriteType.PUT and is_long:
        put(engine, CF_DEFAULT, keys.versioned(key, start_ts), b"long %d" % ts)


def collect_all(engine: MemoryEngine, safe_point: int, max_pairs: int, late: list[tuple[bytes, Record]]) -> None:
    """A pass in pieces; what is written between two pieces is newer than the safe point."""
    scan = VersionScan(LOW, HIGH, safe_point)
    piece = None
    while piece is None or not piece.is_last:
        view = engine.snapshot()
        piece = scan.read(view, max_pairs, max_removals=5)
        view.release()
        if late:
            write(engine, *late.pop())
        batch = engine.batch()
        for one in piece.removals:
            assert one.value is None
            batch.delete(one.cf, one.key)
        engine.write(batch)


@given(HISTORIES, st.integers(1, 120), st.integers(1, 40), st.integers(1, 3))
def test_readers_at_and_above_the_safe_point_see_no_difference(
    histories: list[list[Record]], safe_point: int, max_pairs: int, slice_pairs: int
) -> None:
    engine = MemoryEngine()
    for key, history in zip(KEYS, histories, strict=True):
        for record in history:
            write(engine, key, record)
    raw = (b"z", b"z!", b"z\x01raw key of some length")
    for key in raw:
        put(engine, CF_WRITE, key, b"P anything")
    late = [(key, (60 + number, WriteType.PUT, True)) for number, key in enumerate(KEYS, 1)]
    reader = MvccReader(engine)
    before = {(key, ts): reader.get(key, ts) for key in KEYS for ts in range(safe_point, 121)}
    collect.SLICE, normal = slice_pairs, collect.SLICE
    try:
        collect_all(engine, safe_point, max_pairs, late)
    finally:
        collect.SLICE = normal
    reader = MvccReader(engine)
    assert {(key, ts): reader.get(key, ts) for key in KEYS for ts in range(safe_point, 121)} == before
    for key in KEYS:
        old = engine.scan(CF_WRITE, keys.versioned(key, safe_point), key + b"\xff" * 9)
        assert len(old) <= 1
        assert all(data[:1] == b"P" for _, data in old)
    assert sum(key in raw for key, _ in engine.items(CF_WRITE)) == 3


def test_the_newest_timestamp_of_a_pass_is_known() -> None:
    engine = MemoryEngine()
    for ts in (3, 9, 5):
        write(engine, KEYS[0], (ts, WriteType.PUT, False))
    scan = VersionScan(LOW, HIGH, 100)
    assert scan.newest_ts == 0
    scan.read(engine.snapshot(), 100, 100)
    assert (scan.newest_ts, scan.records) == (18, 3)


def test_an_orphan_has_neither_lock_nor_record_nor_is_it_raw() -> None:
    engine = MemoryEngine()
    key = KEYS[0]
    write(engine, key, (10, WriteType.PUT, True))  # of transaction 19
    put(engine, CF_LOCK, key, Lock(LockType.PUT, b"k0", 30, 3000).to_bytes())
    owned = [keys.versioned(key, ts) for ts in (19, 30)]
    for ts in (19, 30, 5, 21, 90):
        put(engine, CF_DEFAULT, keys.versioned(key, ts), b"v")
    put(engine, CF_DEFAULT, b"zraw key of 17 b.", b"v")
    assert not any(is_orphan(engine, one, 50) for one in owned)
    scan = OrphanScan(LOW, HIGH, 50)
    found = []
    piece = None
    while piece is None or not piece.is_last:
        piece = scan.read(engine.snapshot(), 2)
        found += [keys.split_version(one.key)[1] for one in piece.removals]
    assert found == [21, 5]
