"""The disk port on a real directory. Files are private to the user; a rename is durable only after its directory is synced."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from core_py.errors import StorageError


class DirectoryDisk:
    """`core_py.ports.Disk` over one directory, which it locks against a second process."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        try:
            self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self._path / "LOCK", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StorageError(
                f"data directory {path} cannot be used: {error.strerror}; is another process running on it?"
            ) from error
        self._open: dict[str, int] = {}

    def read(self, name: str) -> bytes | None:
        """The whole content, or None."""
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None

    def append(self, name: str, data: bytes) -> None:
        """Add to the end."""
        descriptor = self._open.get(name)
        if descriptor is None:
            descriptor = os.open(self._path / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._open[name] = descriptor
            self._sync_directory()
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, name: str) -> None:
        """fdatasync what was appended."""
        descriptor = self._open.get(name)
        if descriptor is not None:
            os.fdatasync(descriptor)

    def replace(self, name: str, data: bytes) -> None:
        """Write a new file, sync it, rename it over the old one, sync the directory."""
        self._close_one(name)
        temporary = self._path / f"{name}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(self._path / name)
        self._sync_directory()

    def _sync_directory(self) -> None:
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _close_one(self, name: str) -> None:
        descriptor = self._open.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Close files and give the lock back."""
        for name in list(self._open):
            self._close_one(name)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
