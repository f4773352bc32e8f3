"""The disk port in memory: appended bytes are lost by a crash unless they were synced, and the last piece may be torn."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class _File:
    content: bytearray = field(default_factory=bytearray)
    synced: int = 0


class MemoryDisk:
    """`core_py.ports.Disk` in memory."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self.syncs = 0

    def read(self, name: str) -> bytes | None:
        """The whole content, or None."""
        file = self._files.get(name)
        return None if file is None else bytes(file.content)

    def append(self, name: str, data: bytes) -> None:
        """Add to the end."""
        self._files.setdefault(name, _File()).content += data

    def sync(self, name: str) -> None:
        """What was appended is durable now."""
        file = self._files.get(name)
        if file is not None:
            file.synced = len(file.content)
            self.syncs += 1

    def replace(self, name: str, data: bytes) -> None:
        """Set the whole content, durably."""
        self._files[name] = _File(bytearray(data), len(data))

    def close(self) -> None:
        """Nothing is open."""

    def crash(self, torn_bytes: int = 0) -> MemoryDisk:
        """The disk after a loss of power; `torn_bytes` of each file's un-synced tail made it all the same."""
        survivor = MemoryDisk()
        for name, file in self._files.items():
            kept = min(len(file.content), file.synced + torn_bytes)
            survivor._files[name] = _File(file.content[:kept], kept)
        return survivor
