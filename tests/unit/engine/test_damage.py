"""Damaged RocksDB files and failing disks: whatever is read is what was written, or there is a typed error."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core_py.errors import DataCorruption, StorageError
from tikv_py.engine.port import CF_DEFAULT, CF_WRITE, Range
from tikv_py.engine.rocks import RocksEngine
from tikv_py.engine.wal_check import BLOCK_BYTES, first_damage

KEYS = 6000


def key(number: int) -> bytes:
    return b"k%06d" % number


def fill(engine: RocksEngine, *, batches_of: int) -> dict[bytes, bytes]:
    rng = random.Random(5)
    written = {key(number): rng.randbytes(100) for number in range(KEYS)}
    batch = engine.batch()
    for number, (one, value) in enumerate(written.items(), 1):
        batch.put(CF_DEFAULT, one, value)
        batch.put(CF_WRITE, one, b"w")
        if number % batches_of == 0:
            engine.write(batch)
    engine.write(batch)
    engine.sync_wal()
    return written


def flip(path: Path, at: int, count: int = 16) -> None:
    data = bytearray(path.read_bytes())
    for position in range(at, at + count):
        data[position] ^= 0xFF
    path.write_bytes(data)


@pytest.fixture
def damaged_table(tmp_path: Path) -> tuple[Path, dict[bytes, bytes]]:
    """A database whose data lies in tables, one of which has a damaged block in its middle."""
    directory = tmp_path / "db"
    engine = RocksEngine(str(directory))
    written = fill(engine, batches_of=KEYS)
    engine.close()  # flushes
    table = max(directory.glob("*.sst"), key=lambda path: path.stat().st_size)
    flip(table, table.stat().st_size // 2)
    return directory, written


def test_a_damaged_block_is_an_error_of_every_way_to_read_it(
    damaged_table: tuple[Path, dict[bytes, bytes]],
) -> None:
    directory, written = damaged_table
    faults: list[StorageError] = []
    engine = RocksEngine(str(directory), on_fault=faults.append)
    failed = 0
    for one, value in written.items():
        try:
            assert engine.get(CF_DEFAULT, one) == value
        except DataCorruption:
            failed += 1
    assert 0 < failed < 200, "the keys of one block"
    assert len(faults) == failed
    assert all(str(directory) in fault.message and "replace this store" in fault.message for fault in faults)
    view = engine.snapshot([Range(CF_DEFAULT, b"", b""), Range(CF_WRITE, b"", b"")])
    cursor = engine.cursor(CF_DEFAULT)

    def walk() -> None:
        more = cursor.seek(b"")
        while more:
            more = cursor.next()

    ways: list[Callable[[], object]] = [
        lambda: engine.scan(CF_DEFAULT, b"", b""),
        lambda: engine.scan(CF_DEFAULT, key(1), key(KEYS)),
        lambda: engine.scan(CF_DEFAULT, b"", b"", KEYS),
        lambda: engine.scan_back(CF_DEFAULT, b"", b""),
        lambda: engine.scan_back(CF_DEFAULT, b"", key(KEYS)),
        lambda: engine.multi_get(CF_DEFAULT, list(written)),
        lambda: view.scan(CF_DEFAULT, b"", b""),
        lambda: view.scan_back(CF_DEFAULT, b"", b""),
        lambda: view.multi_get(CF_DEFAULT, list(written)),
        lambda: list(view.streams[0]),
        walk,
    ]
    for way in ways:
        with pytest.raises(DataCorruption):
            way()
    assert len(list(view.streams[1])) == KEYS, "another family is whole"
    assert engine.scan(CF_DEFAULT, b"", b"", 100) == list(written.items())[:100], "so is what lies before"
    engine.close()


def test_a_scan_into_a_damaged_first_block_finds_no_empty_range(damaged_table: tuple[Path, dict[bytes, bytes]]) -> None:
    directory, written = damaged_table
    engine = RocksEngine(str(directory))
    bad = []
    for one in written:
        try:
            engine.get(CF_DEFAULT, one)
        except DataCorruption:
            bad.append(one)
    inside = bad[len(bad) // 2]
    with pytest.raises(DataCorruption):
        engine.scan(CF_DEFAULT, inside, inside + b"\0")
    with pytest.raises(DataCorruption):
        engine.scan_back(CF_DEFAULT, inside, inside + b"\0")
    engine.close()


def test_compaction_does_not_carry_damage_on(damaged_table: tuple[Path, dict[bytes, bytes]]) -> None:
    """It must not write the damaged block anew under a right checksum."""
    directory, _ = damaged_table
    engine = RocksEngine(str(directory))
    engine.compact(CF_DEFAULT, b"", b"")
    with pytest.raises(DataCorruption):
        engine.scan(CF_DEFAULT, b"", b"")
    engine.close()


def crashed(directory: Path) -> tuple[Path, Path, dict[bytes, bytes]]:
    """(directory, log, written) of a database as the end of its process leaves it: everything in the write-ahead log."""
    engine = RocksEngine(str(directory))
    written = fill(engine, batches_of=1)
    left = directory.with_name("left")
    shutil.copytree(directory, left)
    engine.close()
    return left, max(left.glob("*.log"), key=lambda path: path.stat().st_size), written


def test_a_torn_end_of_the_log_is_cut_off(tmp_path: Path) -> None:
    directory, log, written = crashed(tmp_path / "db")
    log.write_bytes(log.read_bytes()[:-37])
    engine = RocksEngine(str(directory))
    assert engine.scan(CF_DEFAULT, b"", b"") == list(written.items())[:-1]
    assert len(engine.scan(CF_WRITE, b"", b"")) == KEYS - 1, "a batch is there as a whole or not at all"
    engine.close()


def test_zeros_behind_the_end_of_the_log_are_no_damage(tmp_path: Path) -> None:
    directory, log, written = crashed(tmp_path / "db")
    log.write_bytes(log.read_bytes() + bytes(5000))
    engine = RocksEngine(str(directory))
    assert engine.scan(CF_DEFAULT, b"", b"") == list(written.items())
    engine.close()


def _cut(data: bytes, at: int) -> bytes:
    return data[:at] + data[at + 5000 :]


def _zero(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(40_000) + data[at + 40_000 :]


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def _lose_block(data: bytes, _at: int) -> bytes:
    return data[: 3 * BLOCK_BYTES] + data[4 * BLOCK_BYTES :]


@pytest.mark.parametrize("damage", [_cut, _zero, _flip, _lose_block])
def test_a_hole_in_the_log_is_refused_and_not_cut_off(tmp_path: Path, damage: Callable[[bytes, int], bytes]) -> None:
    directory, log, _ = crashed(tmp_path / "db")
    data = log.read_bytes()
    log.write_bytes(damage(data, len(data) // 2))
    for _ in range(2):  # also after the first attempt
        with pytest.raises(DataCorruption, match="replace this store"):
            RocksEngine(str(directory))


def test_a_log_is_whole_wherever_it_is_torn(tmp_path: Path) -> None:
    _, log, _ = crashed(tmp_path / "db")
    data = log.read_bytes()
    rng = random.Random(3)
    for _ in range(200):
        assert first_damage(data[: rng.randrange(0, len(data))]) is None


FILL_A_SMALL_DISK = """
import os, resource, signal, sys
from core_py.errors import StorageError
from tikv_py.engine.rocks import RocksEngine
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
told = []
engine = RocksEngine(sys.argv[1], on_fault=told.append)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
failed = 0
for number in range(20):
    batch = engine.batch()
    batch.put("default", b"k%d" % number, os.urandom(20_000))
    try:
        engine.write(batch)
    except StorageError as error:
        assert sys.argv[1] in error.message, error.message
        assert engine.get("default", b"k%d" % number) is None
        failed += 1
    try:
        engine.sync_wal()
        assert not failed
    except StorageError:
        assert failed
assert failed and len(told) == 2 * failed
print("failed as it should")
"""


def test_a_write_that_the_disk_refuses_is_a_typed_error(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    done = subprocess.run(
        [sys.executable, "-c", FILL_A_SMALL_DISK, str(tmp_path / "db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "failed as it should" in done.stdout, done.stderr
