"""Garbage collection of versions against reading them: every read at or above the safe point stays what it was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core_py.codec.ts import TS_MAX
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_WRITE, Reader
from tikv_py.mvcc import keys
from tikv_py.mvcc.actions.gc import VersionGc
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.txn import Modify
from tikv_py.mvcc.write import Write, WriteType

BASE = 1 << 58
Versions = list[tuple[bytes, int, WriteType, bytes, bool]]
record = st.tuples(st.integers(1, 6), st.sampled_from(list(WriteType)), st.booleans())


@st.composite
def histories(draw: st.DrawFn) -> Versions:
    """Several versions each of a few keys: (key, slot in time, kind, value, whether the value is in the default family)."""
    out: Versions = []
    for key in (b"", b"a", b"abcdefghi"):
        slot = 0
        for gap, kind, long in draw(st.lists(record, max_size=7)):
            slot += gap
            out.append((key, slot, kind, b"%d" % slot, long))
    return out


def build(versions: Versions) -> MemoryEngine:
    """Records as commits leave them: LOCK and ROLLBACK records know the change before them."""
    engine = MemoryEngine()
    batch = engine.batch()
    last: dict[bytes, tuple[int, int]] = {}
    unique = {(key, slot): (kind, value, long) for key, slot, kind, value, long in versions}
    for (key, slot), (kind, value, long) in sorted(unique.items()):
        start_ts, commit_ts = slot * 10 + BASE, slot * 10 + 5 + BASE
        data_key = keys.data_key(key)
        change_ts, skipped = last.get(key, (0, 1))
        if kind is WriteType.ROLLBACK:
            write, commit_ts = Write.rollback(start_ts, protected=long), start_ts
        elif kind is WriteType.LOCK:
            write = Write(kind, start_ts, last_change_ts=change_ts, versions_to_last_change=skipped)
        else:
            write = Write(kind, start_ts, value if kind is WriteType.PUT and not long else None)
        if kind in (WriteType.PUT, WriteType.DELETE):
            last[key] = (commit_ts, 1)
        else:
            last[key] = (change_ts, skipped + 1 if change_ts else 1)
        batch.put(CF_WRITE, keys.versioned(data_key, commit_ts), write.to_bytes())
        if kind is WriteType.PUT and long:
            batch.put(CF_DEFAULT, keys.versioned(data_key, start_ts), value)
    engine.write(batch)
    return engine


def apply(engine: MemoryEngine, modifies: list[Modify]) -> None:
    batch = engine.batch()
    for cf, key, value in modifies:
        assert value is None
        batch.delete(cf, key)
    engine.write(batch)


def reads(engine: Reader, user_keys: set[bytes], timestamps: list[int]) -> dict[tuple[bytes, int], bytes | None]:
    reader = MvccReader(engine)
    return {(key, ts): reader.get(keys.data_key(key), ts) for key in user_keys for ts in timestamps}


@given(histories(), st.integers(0, 450), st.integers(1, 7))
def test_reads_at_and_above_the_safe_point_stay_the_same_after_every_removal(
    versions: Versions, at: int, piece: int
) -> None:
    engine = build(versions)
    safe_point = at + BASE
    user_keys = {entry[0] for entry in versions}
    timestamps = [safe_point, *range(safe_point + 1, BASE + 451, 5), TS_MAX]
    before = reads(engine, user_keys, timestamps)

    collector = VersionGc(safe_point)
    modifies: list[Modify] = []
    start, end = b"z", b"{"
    while chunk := engine.scan(CF_WRITE, start, end, piece):
        for key, value in chunk:
            modifies += collector.feed(key, value)
        start = chunk[-1][0] + b"\x00"
    modifies += collector.finish()

    for modify in modifies:
        apply(engine, [modify])
        changed = keys.user_key(keys.split_version(modify.key)[0])
        assert all(before[at_ts] == value for at_ts, value in reads(engine, {changed}, timestamps).items())
    assert reads(engine, user_keys, timestamps) == before

    old: dict[bytes, list[Write]] = {}
    values = {key for key, _ in engine.items(CF_DEFAULT)}
    for key, data in engine.items(CF_WRITE):
        data_key, commit_ts = keys.split_version(key)
        write = Write.from_bytes(data)
        if write.write_type is WriteType.PUT and write.short_value is None:
            values.remove(keys.versioned(data_key, write.start_ts))
        if commit_ts <= safe_point:
            old.setdefault(data_key, []).append(write)
    assert not values, "a value without its write record"
    assert all(len(rest) == 1 and rest[0].write_type is WriteType.PUT for rest in old.values())
    assert collector.deleted_versions == sum(modify.cf == CF_WRITE for modify in modifies)
