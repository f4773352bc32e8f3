"""Staged sorted runs of the RocksDB engine: SST files in a directory beside the database's own.

A run is written as `<name>.tmp`; when it is complete and synced it is renamed to `<name>.sst` and the directory is synced.
So a name with `.sst` is a whole file, and whatever else lies there at start is left over from a crash and removed. For ingestion
a hard link is given away, because RocksDB unlinks what it has taken.

rocksdict holds the interpreter lock in every call, also while `finish` syncs the file: the file is synced through a descriptor
of our own first, which lets other threads run, and `finish` finds little left to do. The files hold user data: mode 0600.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from core_py.errors import StorageError
from tikv_py.engine.port import Pair

_NAME = re.compile(r"[A-Za-z0-9_-]+")
SYNC_EVERY_BYTES = 8 << 20  # written back while the run grows, so that its end does not have to wait for all of it


class FileWriter(Protocol):
    """Writes one SST file; raises StorageError."""

    def add(self, pairs: Sequence[Pair]) -> None:
        """Append pairs in ascending order of keys."""
        ...

    def finish(self) -> None:
        """Complete the file."""
        ...


OpenWriter = Callable[[str], FileWriter]


class SstRun:
    """`tikv_py.engine.port.SortedRun` in one SST file."""

    def __init__(self, directory: Path, name: str, open_writer: OpenWriter) -> None:
        self._directory = directory
        self._name = name
        self._path = directory / f"{name}.tmp"
        self._final = directory / f"{name}.sst"
        self._unsynced_bytes = 0
        self._open = True
        if self._final.exists():
            raise StorageError(f"a staged run {name} is there already")
        try:
            self._descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except OSError as error:
            raise StorageError(f"staged run {name} cannot be begun: {error}") from error
        self._writer: FileWriter | None = None
        try:
            self._writer = open_writer(str(self._path))
        except StorageError:
            self.abandon()
            raise

    def add(self, pairs: Sequence[Pair]) -> None:
        """Append pairs."""
        self._writing().add(pairs)
        self._unsynced_bytes += sum([len(key) + len(value) for key, value in pairs])
        if self._unsynced_bytes >= SYNC_EVERY_BYTES:
            self._sync()

    def finish(self) -> None:
        """Complete the file, sync it, give it its name, sync the directory."""
        writer = self._writing()
        self._sync()
        writer.finish()
        self._sync()
        self._writer = None
        self._close()
        try:
            self._path.rename(self._final)
            sync_directory(self._directory)
        except OSError as error:
            raise StorageError(f"staged run {self._name} cannot be finished: {error}") from error

    def abandon(self) -> None:
        """Remove the file, under either name."""
        self._writer = None
        self._close()
        self._path.unlink(missing_ok=True)
        self._final.unlink(missing_ok=True)

    def _sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise StorageError(f"staged run {self._name} cannot be synced: {error}") from error
        self._unsynced_bytes = 0

    def _writing(self) -> FileWriter:
        if self._writer is None:
            raise StorageError(f"staged run {self._name} is finished or was abandoned")
        return self._writer

    def _close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._descriptor)


class SstStage:
    """The directory of staged runs. What an unfinished run left there is removed when it is opened. Raises StorageError."""

    def __init__(self, directory: Path, open_writer: OpenWriter) -> None:
        self._directory = directory
        self._open_writer = open_writer
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            sync_directory(directory.parent)
            for left in directory.iterdir():
                if left.suffix != ".sst":
                    left.unlink()
        except OSError as error:
            raise StorageError(f"directory {directory} cannot be used: {error}") from error

    def begin(self, name: str) -> SstRun:
        """A new run."""
        if not _NAME.fullmatch(name):
            raise StorageError(f"{name!r} is no name for a staged run")
        return SstRun(self._directory, name, self._open_writer)

    def names(self) -> list[str]:
        """Finished runs."""
        return sorted(path.stem for path in self._directory.iterdir() if path.suffix == ".sst")

    def link(self, name: str) -> str:
        """The path of a new hard link to a finished run. Raises OSError when there is no such run."""
        path = self._directory / f"{name}.ingest"
        path.unlink(missing_ok=True)
        os.link(self._directory / f"{name}.sst", path)
        return str(path)

    def drop(self, name: str) -> None:
        """Remove a finished run."""
        (self._directory / f"{name}.sst").unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
