"""The replicated-store port: what PD must not forget goes through it, and is durable when the call returns.

Keys are texts in the public layout (`/pd/<cluster id>/...`, wire facts 2.3), values are bytes. A change of several keys is atomic.
Reads are local and see every change that was acknowledged. A store that is replicated over several members sits
behind the same port.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class MetaStore(Protocol):
    """A small ordered key-value store."""

    def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        ...

    def prefix(self, prefix: str) -> list[tuple[str, bytes]]:
        """All pairs whose key begins with `prefix`, in key order."""
        ...

    async def write(self, changes: Mapping[str, bytes | None]) -> int:
        """Set (or with None remove) keys, atomically; durable on return. Returns the revision.

        Raises StorageError when the disk fails; nothing may be assumed about the change then.
        """
        ...

    async def close(self) -> None:
        """Finish and close."""
        ...
