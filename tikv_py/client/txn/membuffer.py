"""A transaction's buffered writes: a sorted map with an undo journal, so that a statement or savepoint can be taken back.

Pure. Invariants: `_keys` is the sorted list of the map's keys; undoing the journal down to a checkpoint restores the map of
that moment exactly; `size` is the sum of keys and values held.
"""

from __future__ import annotations

import enum
from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import NamedTuple

from tikv_py.client.errors import EntryTooLarge, KeyExistsError, TxnTooLarge

MAX_ENTRY_BYTES = 6 << 20
MAX_TXN_BYTES = 100 << 20


class BufferedOp(enum.Enum):
    """What will be done with a key."""

    PUT = "put"
    INSERT = "insert"  # a put that fails when the key exists
    DELETE = "delete"
    CHECK_NOT_EXISTS = "check not exists"  # inserted and deleted again: only the check remains


class Entry(NamedTuple):
    """A buffered write. `existed` is what its writer knows about the committed key it replaces; None = nothing."""

    op: BufferedOp
    value: bytes = b""
    existed: bool | None = None

    @property
    def is_live(self) -> bool:
        """Whether a reader of the transaction sees a value."""
        return self.op is BufferedOp.PUT or self.op is BufferedOp.INSERT


class MemBuffer:
    """Buffered writes by key."""

    def __init__(self, *, max_entry_bytes: int = MAX_ENTRY_BYTES, max_txn_bytes: int = MAX_TXN_BYTES) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._keys: list[bytes] = []
        self._journal: list[tuple[bytes, Entry | None]] = []
        self._max_entry, self._max_txn = max_entry_bytes, max_txn_bytes
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def get(self, key: bytes) -> Entry | None:
        """The buffered write of a key."""
        return self._entries.get(key)

    def put(self, key: bytes, value: bytes, existed: bool | None = None) -> None:
        """Set a key. `existed` = whether it has a committed value, where that is known. Raises EntryTooLarge, TxnTooLarge."""
        known = self._entries.get(key)
        kept = known is not None and known.op in (BufferedOp.INSERT, BufferedOp.CHECK_NOT_EXISTS)
        op = BufferedOp.INSERT if kept else BufferedOp.PUT
        self._set(key, Entry(op, value, existed if known is None else known.existed))

    def insert(self, key: bytes, value: bytes) -> None:
        """Set a key that must not exist; the store checks it at prewrite. Raises KeyExistsError when buffered already."""
        known = self._entries.get(key)
        if known is not None and known.is_live:
            raise KeyExistsError(key)
        deleted = known is not None and known.op is BufferedOp.DELETE
        if known is not None and deleted:
            self._set(key, Entry(BufferedOp.PUT, value, known.existed))
        else:
            self._set(key, Entry(BufferedOp.INSERT, value, existed=False))

    def delete(self, key: bytes, existed: bool | None = None) -> None:
        """Remove a key. `existed` = whether it has a committed value, where that is known."""
        known = self._entries.get(key)
        inserted = known is not None and known.op in (BufferedOp.INSERT, BufferedOp.CHECK_NOT_EXISTS)
        op = BufferedOp.CHECK_NOT_EXISTS if inserted else BufferedOp.DELETE
        self._set(key, Entry(op, b"", existed if known is None else known.existed))

    def _set(self, key: bytes, entry: Entry) -> None:
        added = len(key) + len(entry.value)
        if added > self._max_entry:
            raise EntryTooLarge(f"entry of {added} bytes is above the limit of {self._max_entry}")
        known = self._entries.get(key)
        size = self.size + added - (0 if known is None else len(key) + len(known.value))
        if size > self._max_txn:
            raise TxnTooLarge(f"transaction of {size} bytes is above the limit of {self._max_txn}: commit in parts")
        self._journal.append((key, known))
        if known is None:
            self._add_key(key)
        self._entries[key] = entry
        self.size = size

    def _add_key(self, key: bytes) -> None:
        if not self._keys or key > self._keys[-1]:
            self._keys.append(key)
        else:
            insort(self._keys, key)

    def checkpoint(self) -> int:
        """A mark to roll back to; marks nest."""
        return len(self._journal)

    def rollback_to(self, mark: int) -> None:
        """Undo everything since the mark. Marks taken later are void."""
        while len(self._journal) > mark:
            key, before = self._journal.pop()
            now = self._entries.pop(key)
            self.size -= len(key) + len(now.value)
            if before is None:
                del self._keys[bisect_left(self._keys, key)]
            else:
                self._entries[key] = before
                self.size += len(key) + len(before.value)

    def items(self) -> Iterator[tuple[bytes, Entry]]:
        """All writes in key order."""
        return ((key, self._entries[key]) for key in list(self._keys))

    def first(self, low: bytes, high: bytes, *, reverse: bool) -> tuple[bytes, Entry] | None:
        """The first write of [low, high) in the direction; `high` empty = no bound. Sees writes made meanwhile."""
        if reverse:
            at = (bisect_left(self._keys, high) if high else len(self._keys)) - 1
            found = self._keys[at] if at >= 0 else None
            inside = found is not None and found >= low
        else:
            at = bisect_left(self._keys, low)
            found = self._keys[at] if at < len(self._keys) else None
            inside = found is not None and (not high or found < high)
        return (found, self._entries[found]) if found is not None and inside else None

    def check_invariants(self) -> None:
        """For tests."""
        assert self._keys == sorted(self._entries)
        assert self.size == sum(len(key) + len(entry.value) for key, entry in self._entries.items())
