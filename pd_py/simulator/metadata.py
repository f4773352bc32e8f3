"""The metadata port over a dictionary: what a simulated PD stores is gone with it."""

from __future__ import annotations

from collections.abc import Mapping


class MemoryMetadata:
    """`pd_py.metastore.port.Metadata` without a disk."""

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self._values = dict(values)
        self._revision = 0

    def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        return self._values.get(key)

    def prefix(self, prefix: str) -> list[tuple[str, bytes]]:
        """All pairs whose key begins with `prefix`, in key order."""
        return sorted((key, value) for key, value in self._values.items() if key.startswith(prefix))

    async def write(self, changes: Mapping[str, bytes | None]) -> int:
        """Set or remove keys."""
        for key, value in changes.items():
            if value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value
        self._revision += 1
        return self._revision
