"""A transaction's own writes laid over a snapshot: what statements of a transaction read.

A transaction reads at its start timestamp, but a locking statement reads at a newer one; both see the transaction's own
writes. Scans merge the two sorted streams.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tidb_py.session.storage import Reader, Transaction


class OverlayReader:
    """Reads at a snapshot plus own writes."""

    def __init__(self, base: Reader, txn: Transaction) -> None:
        self._base = base
        self._txn = txn

    @property
    def ts(self) -> int:
        """The snapshot's timestamp."""
        return self._base.ts

    def _own(self, key: bytes) -> tuple[bool, bytes | None]:
        own = self._txn.own_writes(key, key + b"\0")
        return (True, own[0][1]) if own else (False, None)

    async def get(self, key: bytes) -> bytes | None:
        """One value."""
        mine, value = self._own(key)
        return value if mine else await self._base.get(key)

    async def batch_get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Many values."""
        out: dict[bytes, bytes] = {}
        missing = []
        for key in keys:
            mine, value = self._own(key)
            if not mine:
                missing.append(key)
            elif value is not None:
                out[key] = value
        if missing:
            out.update(await self._base.batch_get(missing))
        return out

    async def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> AsyncIterator[tuple[bytes, bytes]]:
        """Pairs in key order."""
        own = self._txn.own_writes(start, end)
        if reverse:
            own.reverse()
        at = 0
        async for key, value in self._base.scan(start, end, reverse=reverse):
            while at < len(own) and (own[at][0] > key if reverse else own[at][0] < key):
                mine = own[at][1]
                if mine is not None:
                    yield own[at][0], mine
                at += 1
            if at < len(own) and own[at][0] == key:
                mine = own[at][1]
                if mine is not None:
                    yield key, mine
                at += 1
            else:
                yield key, value
        for own_key, own_value in own[at:]:
            if own_value is not None:
                yield own_key, own_value
