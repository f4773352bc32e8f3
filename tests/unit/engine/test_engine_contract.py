"""The engine port's contract: one suite that RocksDB and memory both pass, plus what only one of them can show."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from core_py.errors import StorageError
from tikv_py.engine.memory import MemoryEngine
from tikv_py.engine.port import CF_DEFAULT, CF_LOCK, CF_WRITE, Engine, Pair, Pressure, Range
from tikv_py.engine.rocks import RocksEngine


@pytest.fixture(params=["rocks", "memory"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made: Engine = RocksEngine(str(tmp_path / "db")) if request.param == "rocks" else MemoryEngine()
    yield made
    made.close()


def put(engine: Engine, cf: str, *pairs: tuple[bytes, bytes]) -> None:
    batch = engine.batch()
    for key, value in pairs:
        batch.put(cf, key, value)
    engine.write(batch)


def test_families_are_apart_and_batches_are_atomic(engine: Engine) -> None:
    batch = engine.batch()
    batch.put(CF_DEFAULT, b"k", b"d")
    batch.put(CF_WRITE, b"k", b"w")
    batch.delete(CF_LOCK, b"k")
    assert len(batch) == 3
    assert engine.get(CF_WRITE, b"k") is None
    engine.write(batch)
    assert len(batch) == 0
    assert (engine.get(CF_DEFAULT, b"k"), engine.get(CF_LOCK, b"k"), engine.get(CF_WRITE, b"k")) == (b"d", None, b"w")
    assert engine.multi_get(CF_WRITE, [b"a", b"k"]) == [None, b"w"]


def keys(pairs: list[Pair]) -> list[bytes]:
    return [key for key, _ in pairs]


def test_scans_keep_bounds_in_both_directions(engine: Engine) -> None:
    put(engine, CF_WRITE, *((b"k%d" % i, b"v%d" % i) for i in range(6)))
    assert keys(engine.scan(CF_WRITE, b"k1", b"k4")) == [b"k1", b"k2", b"k3"]
    assert keys(engine.scan(CF_WRITE, b"k4", b"")) == [b"k4", b"k5"]
    assert keys(engine.scan(CF_WRITE, b"", b"", 2)) == [b"k0", b"k1"]
    assert keys(engine.scan(CF_WRITE, b"k4", b"k1")) == []
    assert keys(engine.scan_back(CF_WRITE, b"k1", b"k4")) == [b"k3", b"k2", b"k1"]
    assert keys(engine.scan_back(CF_WRITE, b"", b"", 2)) == [b"k5", b"k4"]
    assert keys(engine.scan_back(CF_WRITE, b"k2", b"k9", 9)) == [b"k5", b"k4", b"k3", b"k2"]


def test_bounds_survive_the_garbage_of_many_calls(engine: Engine) -> None:
    """rocksdict keeps a bare pointer to the bound; freed bytes would give wrong ends here."""
    put(engine, CF_WRITE, *((b"%05d" % i, b"") for i in range(2000)))
    rng = random.Random(1)
    for _ in range(300):
        low, size = rng.randrange(1900), rng.randrange(100)
        assert len(engine.scan(CF_WRITE, b"%05d" % low, b"%05d" % (low + size))) == size
        assert len(engine.scan_back(CF_WRITE, b"%05d" % low, b"%05d" % (low + size))) == size


def test_cursor_walks_both_ways(engine: Engine) -> None:
    put(engine, CF_WRITE, (b"a", b"1"), (b"c", b"3"))
    cursor = engine.cursor(CF_WRITE)
    assert cursor.seek(b"b")
    assert (cursor.key(), cursor.value()) == (b"c", b"3")
    assert cursor.prev()
    assert cursor.key() == b"a"
    assert not cursor.prev()
    assert cursor.seek_for_prev(b"b")
    assert cursor.key() == b"a"
    assert cursor.next()
    assert not cursor.next()
    assert not cursor.seek(b"d")
    put(engine, CF_WRITE, (b"d", b"4"))
    assert not cursor.seek(b"d"), "a cursor sees the state of when it was made"


def test_snapshot_is_frozen_across_families(engine: Engine) -> None:
    put(engine, CF_WRITE, (b"k", b"1"))
    put(engine, CF_LOCK, (b"j", b"0"))
    snapshot = engine.snapshot([Range(CF_WRITE, b"", b"l"), Range(CF_LOCK, b"z", b"a")])
    put(engine, CF_WRITE, (b"k", b"2"), (b"l", b"3"))
    put(engine, CF_LOCK, (b"k", b"x"))
    assert snapshot.get(CF_WRITE, b"k") == b"1"
    assert snapshot.get(CF_LOCK, b"k") is None
    assert snapshot.scan(CF_WRITE, b"", b"") == [(b"k", b"1")]
    assert snapshot.multi_get(CF_WRITE, [b"k", b"l"]) == [b"1", None]
    assert snapshot.scan_back(CF_LOCK, b"", b"") == snapshot.scan_back(CF_LOCK, b"j", b"k") == [(b"j", b"0")]
    assert snapshot.scan_back(CF_LOCK, b"", b"j") == []
    assert [list(stream) for stream in snapshot.streams] == [[(b"k", b"1")], []]
    assert snapshot.cursor(CF_WRITE).seek(b"k")
    assert engine.scan(CF_WRITE, b"", b"") == [(b"k", b"2"), (b"l", b"3")]
    snapshot.release()


def test_delete_range(engine: Engine) -> None:
    put(engine, CF_WRITE, *((b"k%d" % i, b"old") for i in range(5)))
    batch = engine.batch()
    batch.delete_range(CF_WRITE, b"k1", b"k3")
    engine.write(batch)
    assert [k for k, _ in engine.scan(CF_WRITE, b"", b"")] == [b"k0", b"k3", b"k4"]
    assert engine.approximate_size() > 0


def test_memory_knows_how_much_it_holds() -> None:
    rng, engine = random.Random(7), MemoryEngine()
    for number in range(400):
        batch = engine.batch()
        for _ in range(rng.randrange(4)):
            cf, key = rng.choice((CF_DEFAULT, CF_WRITE)), b"k%02d" % rng.randrange(40)
            if rng.random() < 0.6:
                batch.put(cf, key, b"v" * rng.randrange(9))
            elif rng.random() < 0.7:
                batch.delete(cf, key)
            else:
                batch.delete_range(cf, key, key + b"5")
        engine.write(batch)
        if number % 100 == 99:
            engine.sync_wal()
            engine = engine.crash()
        held = [pair for cf in (CF_DEFAULT, CF_WRITE) for pair in engine.items(cf)]
        assert engine.approximate_size() == sum(len(key) + len(value) for key, value in held)
    assert engine.approximate_size() > 0


def test_compaction_changes_nothing_that_can_be_read(engine: Engine) -> None:
    put(engine, CF_WRITE, *((b"k%03d" % i, b"v" * 100) for i in range(200)))
    batch = engine.batch()
    batch.delete_range(CF_WRITE, b"k050", b"k150")
    engine.write(batch)
    before = engine.scan(CF_WRITE, b"", b"")
    for start, end in ((b"k010", b"k170"), (b"", b""), (b"x", b"")):
        engine.compact(CF_WRITE, start, end)
        assert engine.scan(CF_WRITE, b"", b"") == before


def stage(engine: Engine, name: str, *slices: list[Pair]) -> None:
    run = engine.stage(name)
    for pairs in slices:
        run.add(pairs)
    run.finish()


def test_staged_runs_come_in_over_what_was_there(engine: Engine) -> None:
    put(engine, CF_WRITE, (b"k1", b"old"), (b"k9", b"old"))
    stage(engine, "a-write", [(b"k1", b"new")], [], [(b"k2", b"new"), (b"k3", b"new")])
    stage(engine, "a-lock", [(b"k1", b"lock")])
    assert engine.staged() == ["a-lock", "a-write"]
    assert engine.scan(CF_WRITE, b"", b"") == [(b"k1", b"old"), (b"k9", b"old")], "staging changes nothing"
    before = engine.snapshot()
    engine.ingest_staged([("a-write", CF_WRITE), ("a-lock", CF_LOCK)])
    assert engine.scan(CF_WRITE, b"", b"") == [(b"k1", b"new"), (b"k2", b"new"), (b"k3", b"new"), (b"k9", b"old")]
    assert engine.get(CF_LOCK, b"k1") == b"lock"
    assert before.get(CF_WRITE, b"k1") == b"old"
    before.release()
    put(engine, CF_WRITE, (b"k1", b"newer"))
    assert engine.get(CF_WRITE, b"k1") == b"newer"


def test_ingesting_can_be_repeated_until_the_run_is_dropped(engine: Engine) -> None:
    stage(engine, "run", [(b"k", b"v")])
    for _ in range(3):
        batch = engine.batch()
        batch.delete_range(CF_WRITE, b"a", b"z")
        engine.write(batch)
        assert engine.get(CF_WRITE, b"k") is None
        engine.ingest_staged([("run", CF_WRITE)])
        assert engine.get(CF_WRITE, b"k") == b"v"
    engine.drop_staged("run")
    engine.drop_staged("run")
    assert engine.staged() == []
    with pytest.raises(StorageError, match="run"):
        engine.ingest_staged([("run", CF_WRITE)])
    assert engine.get(CF_WRITE, b"k") == b"v"


@pytest.mark.parametrize("second", [b"k", b"j"])
def test_a_run_ascends_strictly(engine: Engine, second: bytes) -> None:
    run = engine.stage("run")
    run.add([(b"k", b"1")])
    with pytest.raises(StorageError):
        run.add([(second, b"2")])
    run.abandon()
    assert engine.staged() == []


def test_a_run_is_not_empty_and_its_name_is_its_own(engine: Engine) -> None:
    run = engine.stage("run")
    with pytest.raises(StorageError):
        engine.stage("run")
    with pytest.raises(StorageError):
        run.finish()
    run.abandon()
    stage(engine, "run", [(b"k", b"v")])
    with pytest.raises(StorageError):
        engine.stage("run")


def test_an_abandoned_run_is_gone_finished_or_not(engine: Engine) -> None:
    unfinished, finished = engine.stage("unfinished"), engine.stage("finished")
    for run in (unfinished, finished):
        run.add([(b"k", b"v")])
    assert engine.staged() == []
    finished.finish()
    for run in (unfinished, finished):
        run.abandon()
        run.abandon()
        with pytest.raises(StorageError):
            run.add([(b"l", b"v")])
    assert engine.staged() == []
    stage(engine, "unfinished", [(b"k", b"v")])


def test_rocksdb_keeps_synced_data_and_frees_its_lock_on_close(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    engine = RocksEngine(path)
    put(engine, CF_WRITE, (b"k", b"v"))
    engine.sync_wal()
    cursor, snapshot = engine.cursor(CF_WRITE), engine.snapshot()
    with pytest.raises(StorageError, match="cannot be opened"):
        RocksEngine(path)
    assert cursor.seek(b"k")
    engine.close()
    del cursor, snapshot
    again = RocksEngine(path)
    assert again.get(CF_WRITE, b"k") == b"v"
    again.close()


def test_memory_crash_loses_unsynced_batches_in_order() -> None:
    engine = MemoryEngine()
    put(engine, CF_WRITE, (b"a", b"1"))
    engine.sync_wal()
    put(engine, CF_WRITE, (b"a", b"2"), (b"b", b"2"))
    put(engine, CF_WRITE, (b"c", b"3"))
    assert engine.unsynced_batches() == 2
    torn = engine.crash(keep=1)
    assert list(torn.items(CF_WRITE)) == [(b"a", b"2"), (b"b", b"2")]
    assert list(torn.crash().items(CF_WRITE)) == [(b"a", b"2"), (b"b", b"2")]


def test_memory_crash_keeps_finished_runs_and_what_was_ingested() -> None:
    engine = MemoryEngine()
    stage(engine, "whole", [(b"b", b"ingested")])
    engine.stage("part").add([(b"c", b"3")])
    batch = engine.batch()
    batch.put(CF_WRITE, b"a", b"1")
    batch.delete_range(CF_WRITE, b"b", b"c")
    engine.write(batch)
    engine.ingest_staged([("whole", CF_WRITE)])
    put(engine, CF_WRITE, (b"b", b"later"))
    assert engine.unsynced_batches() == 2
    for keep, expected in enumerate(
        [{b"b": b"ingested"}, {b"a": b"1", b"b": b"ingested"}, {b"a": b"1", b"b": b"later"}]
    ):
        left = engine.image(keep)
        assert dict(left.items(CF_WRITE)) == expected
        assert left.staged() == ["whole"]


def test_rocksdb_keeps_finished_runs_and_removes_the_rest_when_it_opens(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    engine = RocksEngine(path)
    stage(engine, "whole", [(b"b", b"2")])
    engine.stage("part").add([(b"c", b"3")])
    directory = tmp_path / "db" / "snap"
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in directory.iterdir()} == {
        "whole.sst": "0o600",
        "part.tmp": "0o600",
    }
    (directory / "whole.ingest").touch()
    engine.close()
    again = RocksEngine(path)
    assert again.staged() == ["whole"]
    assert [file.name for file in directory.iterdir()] == ["whole.sst"]
    again.ingest_staged([("whole", CF_WRITE)])
    assert again.get(CF_WRITE, b"b") == b"2"
    with pytest.raises(StorageError, match="no name"):
        again.stage("../x")
    again.close()


def test_rocksdb_run_larger_than_its_sync_step_is_whole(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    run = engine.stage("run")
    value = random.Random(1).randbytes(1 << 16)
    for number in range(300):
        run.add([(b"%05d" % number, value)])
    run.finish()
    engine.ingest_staged([("run", CF_WRITE)])
    assert len(engine.scan(CF_WRITE, b"", b"")) == 300
    engine.close()


def test_a_database_tells_how_far_behind_it_is(engine: Engine) -> None:
    put(engine, CF_DEFAULT, (b"k", b"v"))
    pressure = engine.pressure()
    assert {CF_DEFAULT, CF_LOCK, CF_WRITE} <= set(pressure)
    assert pressure[CF_DEFAULT] == Pressure(0, 0, 0)


def test_rocks_counts_the_files_that_flushes_leave(tmp_path: Path) -> None:
    made = RocksEngine(str(tmp_path / "db"))
    for round_ in range(2):
        put(made, CF_DEFAULT, (b"k%d" % round_, b"v"))
        run = made.stage(f"run{round_}")
        run.add([(b"k%d" % round_, b"w")])
        run.finish()
        made.ingest_staged([(f"run{round_}", CF_DEFAULT)])
    assert made.pressure()[CF_DEFAULT].l0_files >= 2
    made.close()
    assert made.pressure() == {}
