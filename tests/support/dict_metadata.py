"""PD's metadata as a dictionary, for tests of what is decided over it; `failing` makes every write fail and change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pd_py.metastore.errors import OutcomeUnknown


class DictMetadata:
    """`pd_py.metastore.port.Metadata` that is durable at once."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.failing = False
        self.revision = 0

    def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        return self.values.get(key)

    def prefix(self, prefix: str) -> list[tuple[str, bytes]]:
        """All pairs with the prefix, in key order."""
        return sorted((key, value) for key, value in self.values.items() if key.startswith(prefix))

    async def write(self, changes: Mapping[str, bytes | None]) -> int:
        """Set or remove keys, after giving way to other tasks."""
        await asyncio.sleep(0)
        if self.failing:
            raise OutcomeUnknown("the test says so")
        for key, value in changes.items():
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value
        self.revision += 1
        return self.revision
