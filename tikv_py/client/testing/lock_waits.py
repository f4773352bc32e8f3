"""Who waits for whom: finds the circle that a further wait would close."""

from __future__ import annotations

from tikv_py.client.testing import refusals


class LockWaits:
    """One edge per waiting key: (waiter's start_ts, key) -> holder's start_ts."""

    def __init__(self) -> None:
        self._holders: dict[tuple[int, bytes], int] = {}

    def begin(self, waiter: int, key: bytes, holder: int) -> None:
        """Wait from now on. Raises Refused (deadlock) when the holder waits for the waiter, directly or not."""
        seen, ahead = {holder}, [holder]
        while ahead:
            owner = ahead.pop()
            if owner == waiter:
                raise refusals.deadlock(key, holder)
            further = {held for (who, _), held in self._holders.items() if who == owner} - seen
            seen |= further
            ahead += sorted(further)
        self._holders[waiter, key] = holder

    def end(self, waiter: int, key: bytes) -> None:
        """Wait no more."""
        self._holders.pop((waiter, key), None)
