"""Reads of versions against a dumb oracle: point reads, scans in both directions, and the coprocessor's vectorised scan agree."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tikv_py.coprocessor.scan import RowScan
from tikv_py.coprocessor.visible import user_keys
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_WRITE, Range
from tikv_py.mvcc import keys, scanner
from tikv_py.mvcc.reader import MvccReader
from tikv_py.mvcc.write import Write, WriteType

user_key = st.one_of(st.sampled_from([b"", b"a", b"ab", b"abcdefgh", b"abcdefghi"]), st.binary(max_size=10))
version = st.tuples(
    user_key, st.integers(1, 40), st.sampled_from(list(WriteType)), st.binary(max_size=4), st.booleans()
)
Chain = tuple[bytes, int, int, int]
chain = st.tuples(user_key, st.integers(0, 8), st.integers(0, 12), st.integers(0, 130))


def build(
    versions: list[tuple[bytes, int, WriteType, bytes, bool]],
) -> tuple[MemoryEngine, dict[bytes, dict[int, bytes | None]]]:
    """An engine, and by key and commit_ts what a commit made of the key (None: deleted)."""
    engine = MemoryEngine()
    batch = engine.batch()
    oracle: dict[bytes, dict[int, bytes | None]] = {}
    for key, slot, kind, value, long in versions:
        start_ts, commit_ts = slot * 10 + (1 << 58), slot * 10 + 5 + (1 << 58)
        data_key = keys.data_key(key)
        short = value if kind is WriteType.PUT and not long else None
        batch.put(CF_WRITE, keys.versioned(data_key, commit_ts), Write(kind, start_ts, short).to_bytes())
        if kind is WriteType.PUT:
            if long:
                batch.put(CF_DEFAULT, keys.versioned(data_key, start_ts), value)
            oracle.setdefault(key, {})[commit_ts] = value
        elif kind is WriteType.DELETE:
            oracle.setdefault(key, {})[commit_ts] = None
        else:
            oracle.get(key, {}).pop(commit_ts, None)
    engine.write(batch)
    return engine, oracle


def expected(oracle: dict[bytes, dict[int, bytes | None]], ts: int) -> dict[bytes, bytes]:
    out = {}
    for key, commits in oracle.items():
        seen = [commit_ts for commit_ts in commits if commit_ts <= ts]
        value = commits[max(seen)] if seen else None
        if value is not None:
            out[key] = value
    return dict(sorted(out.items()))


@given(st.lists(version, max_size=30), st.integers(0, 450), st.integers(1, 5), st.booleans())
def test_all_readers_agree_with_the_oracle(
    versions: list[tuple[bytes, int, WriteType, bytes, bool]], at: int, piece: int, desc: bool
) -> None:
    engine, oracle = build(versions)
    read_ts = at + (1 << 58)
    wanted = expected(oracle, read_ts)
    reader = MvccReader(engine)
    assert {key: value for key in oracle if (value := reader.get(keys.data_key(key), read_ts)) is not None} == wanted

    request = scanner.ScanRequest(b"z", b"{", read_ts, 1000, reverse=desc)
    scanned = {item.user_key: item.value for item in scanner.scan(engine, request)}
    assert list(scanned.items()) == (list(wanted.items())[::-1] if desc else list(wanted.items()))

    ranges = ((b"z", keys.data_key(b"ab")), (keys.data_key(b"ab"), b"{"))
    view = engine.snapshot([] if desc else [Range(CF_WRITE, start, end) for start, end in ranges])
    rows = []
    for batch in RowScan(view, ranges, read_ts, desc=desc).batches(piece):
        rows += list(zip(user_keys(batch.rows.keys), batch.rows.values(), strict=True))
    assert rows == (list(wanted.items())[::-1] if desc else list(wanted.items()))


@given(st.lists(chain, max_size=6, unique_by=lambda entry: entry[0]), st.integers(0, 1 << 32))
def test_long_chains_of_lock_records_and_fences(chains: list[Chain], late: int) -> None:
    """A PUT at 5, and over it LOCK records each of which may know the last change, or a GC fence that may be passed."""
    engine = MemoryEngine()
    batch = engine.batch()
    base = 1 << 58
    wanted: dict[bytes, bytes] = {}
    read_ts = base + 1000 + late
    for key, unknown, known, fence in chains:
        data_key = keys.data_key(key)
        put = Write(
            WriteType.PUT,
            base,
            b"v",
            gc_fence=base + fence if fence > 100 else None,
            has_overlapped_rollback=fence > 100,
        )
        batch.put(CF_WRITE, keys.versioned(data_key, base + 5), put.to_bytes())
        for number in range(unknown + known):
            versions = 0 if number < unknown else number + 1
            write = Write(
                WriteType.LOCK,
                base + 10 * number + 200,
                None,
                last_change_ts=base + 5 if versions else 0,
                versions_to_last_change=versions,
            )
            batch.put(CF_WRITE, keys.versioned(data_key, base + 10 * number + 205), write.to_bytes())
        if fence <= 100:
            wanted[key] = b"v"
    engine.write(batch)
    reader = MvccReader(engine)
    assert {entry[0]: value for entry in chains if (value := reader.get(keys.data_key(entry[0]), read_ts))} == wanted
    request = scanner.ScanRequest(b"z", b"{", read_ts, 1000)
    assert {item.user_key: item.value for item in scanner.scan(engine, request)} == wanted
    rows = [
        row
        for batch in RowScan(engine.snapshot(), [(b"z", b"{")], read_ts, desc=False).batches()
        for row in zip(user_keys(batch.rows.keys), batch.rows.values(), strict=True)
    ]
    assert dict(rows) == wanted
    for key, *_ in chains:  # a reader from before the fence still sees what was
        assert reader.get(keys.data_key(key), base + 100) == b"v"
